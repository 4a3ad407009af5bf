"""The volume of hair and hats around the head model: a bald head that turns would tear the hair it
moves.

Shape letters: B batch, V vertices, H and W picture sides, A directions around the head, R radii
along each of them. Positions in pictures are x right, y down, -1..1; directions are 0 up,
clockwise.

The outline of the hair in the source picture says how far the hair stands out there, in every
direction around the head. The scalp of the unposed head is pushed outwards by as much, so that the
hair turns as one body with the head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import gather, nearest_inside
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import Raster
from ..head.shading import project
from .options import HairOptions
from .state import Outline

OUTER = ("face", "scalp", "neck", "ears")


def hair_offsets(head: HeadModel, source: FaceAttributes, vertices: Tensor, hair: Tensor, options: HairOptions | None = None) -> Tensor:
    """How far hair lifts the unposed head's vertices.

    Args:
        head: the head model.
        source: B faces, the picture's.
        vertices: (B,V,3) the head posed by them.
        hair: (B,1,H,W) in 0..1, where the picture shows hair or a hat.
        options: of the volume.

    Returns:
        (B,V,3) in the head's unit, to add to the unposed vertices. All zeros for a head without
        labels for scalp and ears, or where no hair stands out from the scalp.
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
    lift = (skin + beyond - scalp_edge).clamp(0, 2 * o.farthest) * ramp(beyond, 0, 2 * o.gap) * (scalp_edge > 0)
    lift = _smooth_around(lift, o.smoothing * o.angles / 360)
    return outwards * (_at(lift, place) / source.camera[:, :1] * weight)[..., None]


def head_outline(head: HeadModel, points: Tensor, options: HairOptions | None = None) -> Outline:
    """The outline of a head above its shoulders.

    Args:
        head: a head model with a scalp.
        points: (B,V,2) projected vertices.
        options: for the number of directions.
    """
    angles = (options or HairOptions()).angles
    middle = middle_of_skull(head, points)
    upright = points[:, head.vertex_mask("scalp")].mean(1, keepdim=True) - middle
    distance, place = _polar(points - middle, angles)
    reach = _outline(distance, place, _above_shoulders(head).expand_as(distance), angles)
    return Outline(middle, torch.atan2(upright[..., 0], -upright[..., 1]), _smooth_around(reach, 1.0))


def motion_around(source: Outline, target: Outline, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """How what lies beside a head moves with its outline: what was d outside the source's is d
    outside the target's.

    Args:
        source: of the source's head.
        target: of the target's head.
        pixels: (H,W,2) positions of the target's pixels.

    Returns:
        (B,2,H,W) source minus target position in -1..1, zero where nothing moves; and how far that
        holds (B,1,H,W): 1 around the head, 0 below the chin.
    """
    angles = source.reach.shape[1]
    away = pixels.flatten(0, 1)[None] - target.middle
    _, place = _polar(away, angles)
    turn = source.turn - target.turn
    source_place = (place + turn / (2 * math.pi) * angles).remainder(angles)
    ahead = _at(source.reach, source_place) - _at(target.reach, place)
    x, y = away.unbind(-1)
    c, s = turn.cos() - 1, turn.sin()
    # differences, so that they are exactly zero where nothing changes
    rotated = torch.stack([c * x - s * y, s * x + c * y], -1)
    motion = source.middle - target.middle + rotated + F.normalize(away + rotated, dim=-1) * ahead[..., None]
    below = (place - angles / 2).abs() * (360 / angles)  # degrees from straight down
    h, w = pixels.shape[:2]
    return motion.transpose(1, 2).unflatten(2, (h, w)), ramp(below, 40, 75).unflatten(1, (h, w))[:, None]


def below_chin(head: HeadModel, points: Tensor, pixels: Tensor) -> Tensor:
    """Which pixels lie below the chin.

    Args:
        head: the head model.
        points: (B,V,2) projected vertices.
        pixels: (H,W,2) positions.

    Returns:
        (B,1,H,W): 1 below the chin, 0 above the ears' lobes, smooth in between; all zeros for a
        head without labels for ears and scalp.
    """
    if not has_scalp(head):
        return points.new_zeros(len(points), 1, *pixels.shape[:2])
    chin, lobes = (points[:, head.vertex_mask(name), 1].amax(1)[:, None, None, None] for name in ("face", "ears"))
    low = torch.minimum(lobes, chin - 0.05)
    return ramp((pixels[..., 1] - low) / (chin - low), 0, 1)


def shoulder_motion(head: HeadModel, raster: Raster, motion: Tensor) -> Tensor:
    """How the shoulders move, carried on beyond them; where the raster shows no shoulders, how the
    surface moves.

    Args:
        head: the head model.
        raster: of the posed head.
        motion: (B,2,H,W) how its surface moves.

    Returns:
        (B,2,H,W).
    """
    shoulders = head.part_mask(raster, "shoulders")
    some = shoulders.flatten(1).any(1)[:, None, None]
    return gather(motion, nearest_inside(torch.where(some, shoulders, raster.face >= 0))[0])


def _above_shoulders(head: HeadModel) -> Tensor:
    return ~head.vertex_mask("shoulders")


def _polar(away: Tensor, angles: int) -> tuple[Tensor, Tensor]:
    """(B,N,2) -> distance (B,N), and direction (B,N) in 0..angles: 0 up, clockwise."""
    return away.norm(dim=-1), (torch.atan2(away[..., 0], -away[..., 1]) / (2 * math.pi) * angles).remainder(angles)


def _at(x: Tensor, place: Tensor) -> Tensor:
    """x (B,A) read at directions (B,N), linear in between."""
    a, low = x.shape[1], place.floor().long()
    return torch.lerp(x.gather(1, low % a), x.gather(1, (low + 1) % a), place - low)


def has_scalp(head: HeadModel) -> bool:
    """Whether the head's vertices are labelled, so that its scalp is known."""
    return all(bool(head.vertex_mask(name).any()) for name in ("ears", "scalp"))


def middle_of_skull(head: HeadModel, places: Tensor) -> Tensor:
    """A point above the ears, inside the head: places (B,V,K) of its vertices in any space ->
    (B,1,K).
    """
    ears, scalp = (places[:, head.vertex_mask(name)].mean(1, keepdim=True) for name in ("ears", "scalp"))
    return torch.lerp(ears, scalp, 0.35)


def hair_weight(head: HeadModel, rest: Tensor) -> Tensor:
    """Where hair may stand out.

    Args:
        head: a head model with a scalp.
        rest: (B,V,3) its unposed vertices, y up and z to the front.

    Returns:
        (B,V): 1 on scalp, ears and nape, 0 on face and throat, smooth in between.
    """
    away = rest - middle_of_skull(head, rest)
    radius = away[..., 1].amax(1, keepdim=True)
    across, down = away[..., 0].abs(), -away[..., 1] / radius
    front = F.normalize(away, dim=-1) @ away.new_tensor([0.0, -0.25, 0.97])
    crown = ramp(torch.rad2deg(front.clamp(-1, 1).acos()), 50, 85)
    nape = ramp(torch.rad2deg(torch.atan2(across, away[..., 2])), 75, 115)
    outer = head.vertex_mask(*OUTER)
    return torch.lerp(crown, nape, ramp(down, 0.2, 0.9)) * (1 - ramp(down, 1.1, 1.9)) * outer


def ramp(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """0 below low, 1 above high, smooth in between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _outline(distance: Tensor, place: Tensor, counts: Tensor, angles: int) -> Tensor:
    """Farthest projected vertex per angle, of those that count: distance and place (in angles)
    (B,V), counts (B,V) bool -> (B,A).
    """
    far = torch.where(counts, distance, torch.zeros_like(distance))
    out = distance.new_zeros(len(distance), angles)
    for shift in (0, 1):
        out = out.scatter_reduce(1, (place.floor().long() + shift) % angles, far, "amax")
    return out


def _stands_out(hair: Tensor, middle: Tensor, reach: Tensor, o: HairOptions) -> Tensor:
    """How far hair goes on beyond the outline reach (B,A) of the head around its middle (B,1,2):
    (B,A), in units of half the side.
    """
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
