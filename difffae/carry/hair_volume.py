"""The volume of hair and hats around the head model, and the outline of the person: a bald head that
turns would tear the hair it moves, and a head wider than the person's drags background along.

Shape letters: B batch, V vertices, H and W picture sides, A directions around the head, R radii
along each of them, K rows of the neck. Positions in pictures are x right, y down, -1..1; directions
are 0 up, clockwise.

The outline of the hair in the source picture says how far the hair stands out there, in every
direction around the head. The scalp of the unposed head is pushed outwards by as much, so that the
hair turns as one body with the head (`hair_offsets`). What then still stands beyond the person, or
leaves bare skin beside the mesh, is fitted to the matte in both ways (`outline_offsets`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import silhouette
from ..head.shading import project
from ..source.regions import Layers
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
    distance, place = polar(points - middle, o.angles)
    skin = _outline(distance, place, _above_shoulders(head).expand_as(distance), o.angles)
    scalp_edge = _outline(distance, place, weight > 0.5, o.angles)
    beyond = _stands_out(hair, middle, skin, o)  # (B,A)
    lift = (skin + beyond - scalp_edge).clamp(0, 2 * o.farthest) * ramp(beyond, 0, 2 * o.gap) * (scalp_edge > 0)
    lift = around_circle(lift, o.smoothing * o.angles / 360)
    return outwards * (at_direction(lift, place) / source.camera[:, :1] * weight)[..., None]


def outline_offsets(head: HeadModel, source: FaceAttributes, hair: Tensor, layers: Layers, options: HairOptions | None = None) -> Tensor:
    """What brings the outline of the head with its hair to that of the person in the picture.

    Args:
        head: the head model.
        source: B faces, the picture's.
        hair: (B,V,3) offsets by `hair_offsets`.
        layers: what the picture shows where.
        options: of the fit.

    Returns:
        (B,V,3) in the head's unit, to add to the unposed vertices and to `hair`. All zeros for a
        head without labels for scalp and ears, and where the picture shows no person.
    """
    o = options or HairOptions()
    fitted = torch.zeros_like(hair)
    if not has_scalp(head):
        return fitted
    rest = head.unposed(source.shape, source.expression)
    # the brim of a hat is no outline that goes around smoothly
    close = 1 - ramp(hair.norm(dim=-1, keepdim=True) * source.camera[:, :1, None], 0.2, 0.4)
    # the first step is wrong by what the outline is foreshortened, and by its smoothing
    for _ in range(o.fit_steps):
        points = project(head(source.shape, source.expression, source.pose, hair + fitted), source.camera)
        fitted = fitted + close * _outline_step(head, rest, points, layers, o) / source.camera[:, :1, None]
    points = project(head(source.shape, source.expression, source.pose, hair + fitted), source.camera)
    return fitted + _neck_offsets(head, rest + fitted, points, layers, o)


def _outline_step(head: HeadModel, rest: Tensor, points: Tensor, layers: Layers, o: HairOptions) -> Tensor:
    """How far the unposed vertices have to go to bring the outline of the projected ones (B,V,3) to
    the person's: (B,V,3) in units of half the side.
    """
    middle = middle_of_skull(head, points[..., :2])
    distance, place = polar(points[..., :2] - middle, o.angles)
    reach = _silhouette(head, points, middle, (layers.person.shape[-2], layers.person.shape[-1]), o)
    upright = points[:, head.vertex_mask("scalp"), :2].mean(1, keepdim=True) - middle
    up = torch.atan2(upright[..., 0], -upright[..., 1])  # (B,1)
    around = torch.arange(o.angles, device=rest.device, dtype=rest.dtype) * (2 * math.pi / o.angles)
    from_up = torch.rad2deg(((around - up + math.pi).remainder(2 * math.pi) - math.pi).abs())  # (B,A)
    crown = 1 - ramp(from_up, 95, 115)
    step = _beyond_outline(layers, middle, reach, crown, o) * (1 - ramp(from_up, *o.jaw))
    step = at_direction(around_circle(step, o.fit_smoothing * o.angles / 360), place)
    # the scalp keeps its shape, of the face only the rim moves; ears fold to the head
    rim = ramp(distance / at_direction(reach, place).clamp_min(1e-6), 0.6, 1.0) * head.vertex_mask("face", "ears", "neck")
    scalp = torch.where(head.vertex_mask("ears"), 0, hair_weight(head, rest))
    outwards = F.normalize(rest - middle_of_skull(head, rest), dim=-1)
    return outwards * (step * scalp.maximum(rim))[..., None]


def _silhouette(head: HeadModel, points: Tensor, middle: Tensor, size: tuple[int, int], o: HairOptions) -> Tensor:
    """How far the projected head above its shoulders (B,V,3) reaches in each direction around its
    middle (B,1,2): (B,A). size: of the picture.
    """
    outer = head.vertex_mask(*OUTER)[head.faces].any(-1)
    mesh = silhouette(points, head.faces[outer], *size)[:, None].to(points)
    distance, _ = polar(points[..., :2] - middle, o.angles)
    farthest = (distance * _above_shoulders(head)).amax(1, keepdim=True).expand(-1, o.angles)
    share = torch.linspace(0, 1, 3 * o.radii, device=points.device, dtype=points.dtype)
    inside = along(mesh, middle, farthest[..., None] * share) > 0.5
    return (inside * share).amax(-1) * farthest


def _beyond_outline(layers: Layers, middle: Tensor, reach: Tensor, crown: Tensor, o: HairOptions) -> Tensor:
    """How far the person goes on beyond the outline reach (B,A) of the mesh, negative where the
    person ends before: (B,A) in units of half the side. crown: (B,A) 1 in directions of the
    scalp.
    """
    inner, outer = o.core * reach, reach + 2 * o.widest
    share = torch.linspace(0, 1, 2 * o.radii, device=reach.device, dtype=reach.dtype)
    radius = torch.lerp(inner[..., None], outer[..., None], share)
    spacing = (outer - inner) / (2 * o.radii - 1)
    person = along(layers.person, middle, radius) > 0.5
    # beside the face only bare skin is the head's: hair and clothes lie before it
    bare = along(layers.person * (1 - layers.loose), middle, radius) > 0.5
    ours = torch.where((crown > 0.5)[..., None], person, bare) | (radius < reach[..., None])
    going_on = (person & ours).to(reach).cumprod(-1).sum(-1)
    end = inner + (going_on - 0.5) * spacing
    least = -torch.lerp(torch.full_like(reach, 2 * o.narrowest), reach, crown)
    # where the person does not begin the matte is wrong, and what does not end is no head's outline
    found = (going_on > 1) & (going_on < 2 * o.radii) & (reach > 0)
    # hair or clothes that begin at the mesh hide the end
    hidden = ours.to(reach).cumprod(-1).sum(-1) < person.to(reach).cumprod(-1).sum(-1)
    found = found & ~(hidden & (end < reach + spacing))
    return ((end - reach).maximum(least)) * found


def _neck_offsets(head: HeadModel, rest: Tensor, points: Tensor, layers: Layers, o: HairOptions) -> Tensor:
    """What brings the neck to its width in the picture: rest (B,V,3) unposed and points (B,V,3)
    projected vertices -> (B,V,3) in the head's unit.
    """
    neck, face, ears = (head.vertex_mask(name) for name in ("neck", "face", "ears"))
    if not bool(neck.any()):
        return torch.zeros_like(rest)
    chin, high = points[:, face, 1].amax(1), points[:, ears, 1].amax(1)
    low = points[:, neck, 1].quantile(0.9, dim=1)
    share = torch.linspace(0, 1, o.neck_rows, device=rest.device, dtype=rest.dtype)
    rows = torch.lerp(torch.lerp(chin, high, 0.5)[:, None], low[:, None], share)  # (B,K)
    axis = points[:, neck, 0].mean(1, keepdim=True)
    x, y = points[..., 0] - axis, points[..., 1]
    mesh = silhouette(points, head.faces[neck[head.faces].all(-1)], layers.person.shape[-2], layers.person.shape[-1])
    pictures = torch.cat([mesh[:, None].to(points), layers.person, layers.loose], dim=1)
    place = ((y - rows[:, :1]) / (rows[:, -1:] - rows[:, :1]) * (o.neck_rows - 1)).clamp(0, o.neck_rows - 1.001)
    left, right = (at_direction(_neck_ratios(head, x * side, y, rows, axis, side, pictures, o), place) for side in (-1, 1))
    across = rest[..., 0] - rest[:, neck, 0].mean(1, keepdim=True)
    ratio = torch.where(across < 0, left, right)
    # it ends at the shoulders, and the nape below the ears' lobes
    bottom, jaw, lobes = (rest[:, part, 1].amin(1, keepdim=True) for part in (neck, face, ears))
    height = (rest[..., 1] - bottom) / (jaw - bottom)
    weight = ramp(height, 0.15, 0.5) * (1 - ramp((rest[..., 1] - jaw) / (lobes - jaw).clamp_min(1e-6), 0.6, 1.4))
    wider = (ratio - 1) * across * weight * neck
    return torch.stack([wider, torch.zeros_like(wider), torch.zeros_like(wider)], -1)


def _neck_ratios(
    head: HeadModel, out: Tensor, y: Tensor, rows: Tensor, axis: Tensor, side: int, pictures: Tensor, o: HairOptions
) -> Tensor:
    """Width of the person's neck over the mesh's on one side: vertices' distances from the axis
    (B,1) to that side and heights (B,V), rows (B,K), pictures (B,3,H,W) of the mesh's neck, the
    person and what lies before skin -> (B,K), 1 where too few rows tell.
    """
    near = (y[:, None] - rows[..., None]).abs() < 0.04  # (B,K,V)
    jaw, shoulders = (
        torch.where(near & part, out[:, None], -1.0).amax(-1) for part in (head.vertex_mask("face", "ears"), ~_above_shoulders(head))
    )
    count = 3 * o.radii
    share = torch.linspace(0, 1, count, device=out.device, dtype=out.dtype)
    distance = (1.5 * out[:, head.vertex_mask("neck")].amax(1, keepdim=True) * share)[:, None]  # (B,1,R)
    x = (axis[..., None] + side * distance).expand(-1, o.neck_rows, -1)
    grid = torch.stack([x, rows[..., None].expand_as(x)], -1)
    mesh, person, loose = (F.grid_sample(pictures, grid, padding_mode="border", align_corners=False) > 0.5).unbind(1)
    width = (mesh * distance).amax(-1)
    core, rim = (distance < part * width[..., None] for part in (0.5, 0.98))
    going_on = (person | core).to(out).cumprod(-1)
    ratio = (going_on * distance).amax(-1) / width.clamp_min(1e-6)
    # a collar or hair beside the mesh hides where the neck ends, and so do shoulders and the jaw
    told = (width > 0.05) & (ratio > 0.5) & (going_on[..., -1] == 0) & ~((going_on > 0) & loose & ~rim).any(-1)
    told = told & (shoulders < 1.02 * width) & (jaw < width * ratio.clamp_min(1) - 0.01)
    middle = torch.where(told, ratio, torch.nan).nanmedian(1, keepdim=True).values
    enough = told.sum(1, keepdim=True) >= o.neck_rows // 8
    # nothing is widened under a collar; beside the jaw the neck goes on as below it
    below = rows > torch.where(told, rows, -torch.inf).amax(1, keepdim=True)
    ratio = torch.where(told, ratio, torch.where(below, middle.clamp(max=1), middle)).where(enough, 1.0).clamp(*o.neck)
    radius = o.neck_rows // 6
    return F.avg_pool1d(F.pad(ratio[:, None], (radius, radius), mode="replicate"), 2 * radius + 1, 1)[:, 0]


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
    distance, place = polar(points - middle, angles)
    reach = _outline(distance, place, _above_shoulders(head).expand_as(distance), angles)
    return Outline(middle, torch.atan2(upright[..., 0], -upright[..., 1]), around_circle(reach, 1.0))


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
    _, place = polar(away, angles)
    turn = source.turn - target.turn
    source_place = (place + turn / (2 * math.pi) * angles).remainder(angles)
    ahead = at_direction(source.reach, source_place) - at_direction(target.reach, place)
    x, y = away.unbind(-1)
    c, s = turn.cos() - 1, turn.sin()
    # differences, so that they are exactly zero where nothing changes
    right, down = c * x - s * y, s * x + c * y
    outwards = ahead / torch.hypot(x + right, y + down).clamp_min(1e-12)
    middle = (source.middle - target.middle).unbind(-1)
    motion = torch.stack([middle[0] + right + (x + right) * outwards, middle[1] + down + (y + down) * outwards], 1)
    below = (place - angles / 2).abs() * (360 / angles)  # degrees from straight down
    h, w = pixels.shape[:2]
    return motion.unflatten(2, (h, w)), ramp(below, 40, 75).unflatten(1, (h, w))[:, None]


def nape(head: HeadModel, rest: Tensor) -> Tensor:
    """(B,V) bool: the scalp's vertices below the lobes of the ears, a neck's rather than a head's. rest: (B,V,3) unposed, y up."""
    if not has_scalp(head):
        return torch.zeros_like(rest[..., 0], dtype=torch.bool)
    lobes = rest[:, head.vertex_mask("ears"), 1].amin(1, keepdim=True)
    return head.vertex_mask("scalp") & (rest[..., 1] < lobes)


def below_chin(head: HeadModel, points: Tensor, pixels: Tensor, reach: float = 1.0) -> Tensor:
    """Which pixels lie below the chin.

    Args:
        head: the head model.
        points: (B,V,2) projected vertices.
        pixels: (H,W,2) positions.
        reach: where it is 1, as a multiple of the way from the lobes to the chin.

    Returns:
        (B,1,H,W): 1 below the chin, 0 above the ears' lobes, smooth in between; all zeros for a
        head without labels for ears and scalp.
    """
    if not has_scalp(head):
        return points.new_zeros(len(points), 1, *pixels.shape[:2])
    chin, lobes = (points[:, head.vertex_mask(name), 1].amax(1)[:, None, None, None] for name in ("face", "ears"))
    low = torch.minimum(lobes, chin - 0.05)
    return ramp((pixels[..., 1] - low) / (chin - low), 0, reach)


def _above_shoulders(head: HeadModel) -> Tensor:
    return ~head.vertex_mask("shoulders")


def polar(away: Tensor, angles: int) -> tuple[Tensor, Tensor]:
    """(B,N,2) -> distance (B,N), and direction (B,N) in 0..angles: 0 up, clockwise."""
    x, y = away.unbind(-1)
    return torch.hypot(x, y), (torch.atan2(x, -y) / (2 * math.pi) * angles).remainder(angles)


def at_direction(x: Tensor, place: Tensor) -> Tensor:
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


def along(picture: Tensor, middle: Tensor, radius: Tensor) -> Tensor:
    """A picture (B,1,H,W) along the directions around a middle (B,1,2) at radii (B,A,R): (B,A,R)."""
    a = radius.shape[1]
    angle = torch.arange(a, device=radius.device, dtype=radius.dtype) * (2 * math.pi / a)
    grid = torch.stack([torch.sin(angle)[None, :, None] * radius, -torch.cos(angle)[None, :, None] * radius], -1) + middle[:, :, None]
    return F.grid_sample(picture, grid, padding_mode="zeros", align_corners=False)[:, 0]


def _stands_out(hair: Tensor, middle: Tensor, reach: Tensor, o: HairOptions) -> Tensor:
    """How far hair goes on beyond the outline reach (B,A) of the head around its middle (B,1,2):
    (B,A), in units of half the side.
    """
    step = 2 * o.farthest / o.radii
    radius = reach[..., None] + step * torch.arange(o.radii, device=hair.device, dtype=hair.dtype)
    found = along(hair, middle, radius) > 0.5  # (B,A,R)
    slack = max(1, round(2 * o.gap / step))
    # the first radii may miss the hair; from there on it has to go on without a gap
    first = found[..., :slack].to(torch.uint8).argmax(-1, keepdim=True)
    some = found[..., :slack].any(-1)
    going_on = (found | (torch.arange(o.radii, device=hair.device) < first)).to(hair.dtype).cumprod(-1)
    return going_on.sum(-1) * step * some * (reach > 0)


def around_circle(x: Tensor, sigma: float) -> Tensor:
    """(B,A) blurred around the circle."""
    radius = math.ceil(2.5 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    return F.conv1d(F.pad(x[:, None], (radius, radius), mode="circular"), (taps / taps.sum())[None, None])[:, 0]
