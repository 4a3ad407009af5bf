"""The volume of hair and hats around the head model, for `carry`: a bald head that turns would tear the hair it moves.

Shape letters: B batch, V vertices, H and W picture sides, A angles around the head, R radii along each of them.

The outline of the hair in the source picture says how far the hair stands out there, in every direction around the head. The scalp of the
unposed head is pushed outwards by as much, so that the hair turns as one body with the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import gather, nearest_inside
from ..head.attributes import FaceAttributes
from ..head.morphable import LABELS, HeadModel
from ..head.rasterizer import Raster
from ..head.shading import project

OUTER = ("face", "scalp", "neck", "ears")


@dataclass(frozen=True)
class HairOptions:
    """Lengths are fractions of the crop's side."""

    angles: int = 72
    radii: int = 96
    farthest: float = 0.3  # that hair stands out from the head model
    gap: float = 0.03  # between head model and hair, left by a fit that is not exact
    smoothing: float = 10.0  # standard deviation over angles, in degrees


def hair_offsets(head: HeadModel, source: FaceAttributes, vertices: Tensor, hair: Tensor, options: HairOptions | None = None) -> Tensor:
    """How far the hair lifts the unposed head's vertices: (B,V,3) in the head's unit, for HeadModel.forward.

    source: the picture's attributes (B faces); vertices (B,V,3) the head posed by them; hair (B,1,H,W) in 0..1 where the picture shows hair
    or a hat. All zeros for a head without labels for scalp and ears, or where no hair stands out from the scalp.
    """
    o = options or HairOptions()
    rest = head.unposed(source.shape, source.expression)
    if not has_scalp(head):
        return torch.zeros_like(rest)
    centre = middle_of_skull(head, rest)
    weight = hair_weight(head, rest)
    # hair below the middle of the skull hangs down: it stands out to the sides and to the back
    outwards = (rest - centre) * torch.stack(
        [torch.ones_like(weight), (rest[..., 1] > centre[..., 1]).to(rest), torch.ones_like(weight)], -1
    )
    outwards = F.normalize(outwards, dim=-1)

    points = project(vertices, source.camera)[..., :2]  # -1..1, x right, y down
    middle = middle_of_skull(head, points)
    distance, place = _polar(points - middle, o.angles)
    skin = _outline(distance, place, _above_shoulders(head).expand_as(distance), o.angles)
    scalp_edge = _outline(distance, place, weight > 0.5, o.angles)
    beyond = _stands_out(hair, middle, skin, o)  # (B,A)
    lift = (skin + beyond - scalp_edge).clamp(0, 2 * o.farthest) * _ramp(beyond, 0, 2 * o.gap) * (scalp_edge > 0)
    lift = _smooth_around(lift, o.smoothing * o.angles / 360)
    return outwards * (_at(lift, place) / source.camera[:, :1] * weight)[..., None]


def motion_around(
    head: HeadModel, source: Tensor, target: Tensor, pixels: Tensor, options: HairOptions | None = None
) -> tuple[Tensor, Tensor]:
    """How what lies beside the head moves with its outline: whatever was d outside the source's outline is d outside the target's.

    source, target (B,V,2) the projected vertices, -1..1; pixels (H,W,2) -> source minus target position (B,2,H,W) in -1..1, and how far it
    holds (B,1,H,W): 1 around the head, 0 below the chin. Zero where nothing moves.
    """
    o = options or HairOptions()
    outlines = []
    for points in (source, target):
        middle = middle_of_skull(head, points)
        upright = points[:, head.labels == LABELS.index("scalp")].mean(1, keepdim=True) - middle
        distance, place = _polar(points - middle, o.angles)
        outline = _outline(distance, place, _above_shoulders(head).expand_as(distance), o.angles)
        outlines.append((middle, torch.atan2(upright[..., 0], -upright[..., 1]), _smooth_around(outline, 1.0)))
    (middle_s, up_s, outline_s), (middle_t, up_t, outline_t) = outlines
    away = pixels.flatten(0, 1)[None] - middle_t
    distance, place = _polar(away, o.angles)
    turn = up_s - up_t  # in the plane of the picture
    ahead = _at(outline_s, (place + turn / (2 * math.pi) * o.angles).remainder(o.angles)) - _at(outline_t, place)
    x, y = away.unbind(-1)
    c, s = turn.cos() - 1, turn.sin()
    # differences, so that they are exactly zero where nothing changes
    rotated = torch.stack([c * x - s * y, s * x + c * y], -1)
    motion = middle_s - middle_t + rotated + F.normalize(away + rotated, dim=-1) * ahead[..., None]
    below = (place - o.angles / 2).abs() * (360 / o.angles)  # degrees from straight down
    h, w = pixels.shape[:2]
    return motion.transpose(1, 2).unflatten(2, (h, w)), _ramp(below, 40, 75).unflatten(1, (h, w))[:, None]


def below_chin(head: HeadModel, source: Tensor, pixels: Tensor) -> Tensor:
    """1 below the chin, 0 above the ears' lobes, smooth in between: (B,1,H,W), all zeros for a head without labels for ears and scalp.

    source (B,V,2) the projected vertices, -1..1; pixels (H,W,2).
    """
    if not has_scalp(head):
        return source.new_zeros(len(source), 1, *pixels.shape[:2])
    chin, lobes = (source[:, head.labels == LABELS.index(name), 1].amax(1)[:, None, None, None] for name in ("face", "ears"))
    low = torch.minimum(lobes, chin - 0.05)
    return _ramp((pixels[..., 1] - low) / (chin - low), 0, 1)


def shoulder_motion(head: HeadModel, raster: Raster, motion: Tensor) -> Tensor:
    """How the shoulders move, beyond them too: motion (B,2,H,W) of the head model's surface on a raster -> (B,2,H,W).

    Where the raster shows no shoulders, how the surface moves.
    """
    shoulders = head.part_mask(raster, "shoulders")
    some = shoulders.flatten(1).any(1)[:, None, None]
    return gather(motion, nearest_inside(torch.where(some, shoulders, raster.face >= 0))[0])


def _above_shoulders(head: HeadModel) -> Tensor:
    return head.labels != LABELS.index("shoulders")


def _polar(away: Tensor, angles: int) -> tuple[Tensor, Tensor]:
    """(B,N,2) -> distance (B,N), and direction (B,N) in 0..angles: 0 up, clockwise."""
    return away.norm(dim=-1), (torch.atan2(away[..., 0], -away[..., 1]) / (2 * math.pi) * angles).remainder(angles)


def _at(x: Tensor, place: Tensor) -> Tensor:
    """x (B,A) read at directions (B,N), linear in between."""
    a, low = x.shape[1], place.floor().long()
    return torch.lerp(x.gather(1, low % a), x.gather(1, (low + 1) % a), place - low)


def has_scalp(head: HeadModel) -> bool:
    """Whether the head's vertices are labelled, so that its scalp is known."""
    return all(bool((head.labels == LABELS.index(name)).any()) for name in ("ears", "scalp"))


def middle_of_skull(head: HeadModel, places: Tensor) -> Tensor:
    """Above the ears, inside the head: places (B,V,K) of its vertices in any space -> (B,1,K)."""
    ears, scalp = (places[:, head.labels == LABELS.index(name)].mean(1, keepdim=True) for name in ("ears", "scalp"))
    return torch.lerp(ears, scalp, 0.35)


def hair_weight(head: HeadModel, rest: Tensor) -> Tensor:
    """Where hair may stand out: 1 on scalp, ears and nape, 0 on face and throat, smooth in between: (B,V).

    rest (B,V,3) unposed vertices of a head with a scalp, y up and z to the front.
    """
    away = rest - middle_of_skull(head, rest)
    radius = away[..., 1].amax(1, keepdim=True)
    across, down = away[..., 0].abs(), -away[..., 1] / radius
    front = F.normalize(away, dim=-1) @ away.new_tensor([0.0, -0.25, 0.97])
    crown = _ramp(torch.rad2deg(front.clamp(-1, 1).acos()), 50, 85)
    nape = _ramp(torch.rad2deg(torch.atan2(across, away[..., 2])), 75, 115)
    outer = torch.isin(head.labels, torch.tensor([LABELS.index(name) for name in OUTER], device=rest.device))
    return torch.lerp(crown, nape, _ramp(down, 0.2, 0.9)) * (1 - _ramp(down, 1.1, 1.9)) * outer


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    """0 below low, 1 above high, smooth in between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _outline(distance: Tensor, place: Tensor, counts: Tensor, angles: int) -> Tensor:
    """Farthest projected vertex per angle, of those that count: distance and place (in angles) (B,V), counts (B,V) bool -> (B,A)."""
    far = torch.where(counts, distance, torch.zeros_like(distance))
    out = distance.new_zeros(len(distance), angles)
    for shift in (0, 1):
        out = out.scatter_reduce(1, (place.floor().long() + shift) % angles, far, "amax")
    return out


def _stands_out(hair: Tensor, middle: Tensor, reach: Tensor, o: HairOptions) -> Tensor:
    """How far hair goes on beyond the outline reach (B,A) of the head around its middle (B,1,2): (B,A), in units of half the side."""
    a = reach.shape[1]
    angle = torch.arange(a, device=hair.device, dtype=hair.dtype) * (2 * math.pi / a)
    step = 2 * o.farthest / o.radii
    radius = reach[..., None] + step * torch.arange(o.radii, device=hair.device, dtype=hair.dtype)  # (B,A,R)
    grid = torch.stack([torch.sin(angle)[None, :, None] * radius, -torch.cos(angle)[None, :, None] * radius], -1) + middle[:, :, None]
    found = F.grid_sample(hair, grid, padding_mode="zeros", align_corners=False)[:, 0] > 0.5  # (B,A,R)
    slack = max(1, round(2 * o.gap / step))
    # the first radii may miss the hair; from there on it has to go on without a gap
    first = found[..., :slack].to(torch.uint8).argmax(-1, keepdim=True)
    some = found[..., :slack].any(-1)
    going_on = (found | (torch.arange(o.radii, device=hair.device) < first)).to(hair.dtype).cumprod(-1)
    return going_on.sum(-1) * step * some * (reach > 0)


def _smooth_around(x: Tensor, sigma: float) -> Tensor:
    """(B,A) blurred around the circle."""
    radius = math.ceil(2.5 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    return F.conv1d(F.pad(x[:, None], (radius, radius), mode="circular"), (taps / taps.sum())[None, None])[:, 0]
