"""Where every pixel of a moved photograph comes from, and how well the source's camera saw it.

Shape letters: B batch, V vertices, H and W picture height and width, K rows of a neck. Positions are x right, y down,
in -1..1 over the picture; offsets are source minus target position, in pixels. What is interpolated
over the mesh are differences, so that they are exactly zero where nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import gather, gaussian_blur, gradient_norm, pixel_grid
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import Raster, interpolate, rasterize
from ..head.shading import project, vertex_normals
from .expression import lid_offsets
from .hair_volume import at_direction, has_scalp, head_outline, motion_around, nape, ramp
from .state import Move, PosedHead, Source

NOTHING = -1e3  # a depth in front of everything, for pixels beside the mesh
NECK_ROWS = 48  # heights at which a neck is measured
NECK_ROW = 0.04  # half the height of a row's vertices
NECK_STAYS = 0.8  # share of what the model's neck leaves that is given back: of a round neck all, but tendons and muscles turn
TURNS = (0.0, 10.0)  # degrees of a turn from which, and at which, a head turns around the joints of its new expression
NECK_LEANS = (4.0, 12.0)  # degrees of roll from which a neck leans with its head, and at which all of it does


def pose_head(head: HeadModel, face: FaceAttributes, hair_offsets: Tensor, size: tuple[int, int]) -> PosedHead:
    """Pose, project and rasterise a head with its hair.

    Args:
        head: the head model.
        face: B faces.
        hair_offsets: (B,V,3) how far hair lifts the unposed vertices, in the head's unit.
        size: height and width of the picture in pixels.
    """
    vertices = _vertices(head, face, hair_offsets)
    return _seen(head, vertices, project(vertices, face.camera), size)


def turn_head(source: Source, target: FaceAttributes) -> PosedHead:
    """The source's head with its hair, posed as a target, on a neck that stays.

    Args:
        source: the source.
        target: B faces.
    """
    head = source.head
    vertices = _vertices(head, target, source.offsets, _resting_joints(source, target))
    points = project(vertices, target.camera)
    turned = (source.face.pose[:, :2] != target.pose[:, :2]).flatten(1).any(1)[:, None, None]
    if bool(turned.any()):
        # where the target's camera would see the source's head
        scale, shift = target.camera[:, None, :1], (target.camera - source.face.camera)[:, None, 1:]
        before = source.posed.points * (scale / source.face.camera[:, None, :1])
        before = before + F.pad(scale * shift * shift.new_tensor([1.0, -1.0]), (0, 1))
        points = points + torch.where(turned, steady_neck(head, before, points), 0)
    return _seen(head, vertices, points, source.size)


def _resting_joints(source: Source, target: FaceAttributes) -> Tensor | None:
    """(B,5,3) rest joints of a target: its own as far as it turns (`TURNS`), else the source's; None if all are its own. Those of an opened
    mouth lie elsewhere, which would move the skull of a head that faces aside."""
    head, face = source.head, source.face
    turned = ramp((target.pose[:, :2] - face.pose[:, :2]).flatten(1).norm(dim=1) * (180 / math.pi), *TURNS)
    if bool((turned == 1).all()):
        return None
    before, after = (head.joints(one.shape, one.expression) for one in (face, target))
    return torch.lerp(before, after, turned[:, None, None])


def _vertices(head: HeadModel, face: FaceAttributes, hair_offsets: Tensor, joints: Tensor | None = None) -> Tensor:
    return head(face.shape, face.expression, face.pose, hair_offsets + lid_offsets(head, face.expression), joints)


def _seen(head: HeadModel, vertices: Tensor, points: Tensor, size: tuple[int, int]) -> PosedHead:
    raster = rasterize(points, head.faces, *size)
    return PosedHead(points, vertex_normals(vertices, head.faces), raster, head.label_map(raster).to(torch.int8))


def steady_neck(head: HeadModel, before: Tensor, points: Tensor) -> Tensor:
    """What keeps a neck as wide as it was on either side.

    A neck is round and turns around its own middle, so that its outline hardly changes. The head model's turns with the skull, around a
    joint behind it, and leaves its place on the side that comes into view.

    Args:
        head: the head model.
        before: (B,V,3) projected vertices before the head turned.
        points: (B,V,3) the same afterwards.

    Returns:
        (B,V,3) to add to the points; zero where nothing turned, and for a head without labels for scalp and ears.
    """
    moved = torch.zeros_like(points)
    neck = head.vertex_mask("neck")
    if not has_scalp(head) or not bool(neck.any()):
        return moved
    back = neck | nape(head, before * before.new_tensor([1.0, -1.0, 1.0]))  # (B,V)
    ears = head.vertex_mask("ears")
    axis = before[:, neck, 0].mean(1, keepdim=True)
    top, low = points[:, ears, 1].mean(1, keepdim=True), points[:, neck, 1].quantile(0.9, dim=1, keepdim=True)
    lobe = points[:, ears, 1].amax(1, keepdim=True)
    share = torch.linspace(0, 1, NECK_ROWS, device=points.device, dtype=points.dtype)
    rows = torch.lerp(top, low, share)
    place = ((points[..., 1] - top) / (low - top) * (NECK_ROWS - 1)).clamp(0, NECK_ROWS - 1.001)
    chin = points[:, head.vertex_mask("face"), 1].amax(1, keepdim=True)
    for side in (-1, 1):
        was, now = (_reach(side * (at[..., 0] - axis), at[..., 1], rows, back) for at in (before, points))
        # up from the chin, where nothing was seen of it, a neck grows no wider
        hidden = torch.where(rows < chin, was, was.amax(1, keepdim=True))
        was = torch.where(rows < chin, hidden.flip(1).cummin(1).values.flip(1), was)
        missing = NECK_STAYS * (was - now).clamp_min(0) * ((was > 0) & (now > 0))
        missing = F.avg_pool1d(F.pad(missing[:, None], (6, 6), mode="replicate"), 13, 1)[:, 0]
        out = side * (points[..., 0] - axis) / at_direction(now, place).clamp_min(1e-3)
        moved[..., 0] += side * at_direction(missing, place) * out.clamp(0, 1) * back
    weight = ramp(points[..., 1], top, lobe) * (1 - ramp((roll_of(head, before) - roll_of(head, points)).abs(), *NECK_LEANS))
    return moved * weight[..., None]


def _reach(out: Tensor, y: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """How far the vertices that count (B,V) reach to one side, out (B,V), at the heights of rows (B,K), y (B,V): (B,K)."""
    near = ((y[:, None] - rows[..., None]).abs() < NECK_ROW) & counts[:, None]
    return torch.where(near, out[:, None], 0.0).amax(-1)


def roll_of(head: HeadModel, points: Tensor) -> Tensor:
    """(B,1) degrees of the line through both ears."""
    ears = points[:, head.vertex_mask("ears"), :2]
    left = (ears[..., :1] < ears[..., :1].mean(1, keepdim=True)).to(ears)
    one, other = ((ears * share).sum(1) / share.sum(1) for share in (left, 1 - left))
    along = other - one
    return torch.atan2(along[:, 1:], along[:, :1]) * (180 / math.pi)


@dataclass(frozen=True, eq=False)
class Surface:
    """What the target's mesh shows at each of its pixels; all but the last two are zero beside it.

    Attributes:
        offset: (B,2,H,W) source minus target position, in pixels.
        log_ratio: (B,3,H,W) logarithm of the light ratio, RGB.
        source_depth: (B,1,H,W) depth of the same point on the source's head.
        source_facing: (B,1,H,W) cosine between its normal and the direction to the source's camera.
        facing: (B,1,H,W) the same on the target's head.
        nearest: (B,H,W) flat index of the nearest pixel of the mesh.
        distance: (B,H,W) distance to it in pixels.
    """

    offset: Tensor
    log_ratio: Tensor
    source_depth: Tensor
    source_facing: Tensor
    facing: Tensor
    nearest: Tensor
    distance: Tensor


@dataclass(frozen=True, eq=False)
class Bend:
    """Where every pixel of a bent photograph comes from; offsets are source minus target position, in pixels.

    Attributes:
        under: (B,2,H,W) of what a head goes before, and of all that is not below a jaw.
        over: (B,2,H,W) of the head.
        face: (B,1,H,W) share of `over`.
        core: (B,1,H,W) 1 on what both cameras see well of the face, where it moves as the mesh does.
        hides: (B,1,H,W) 1 on the side to which the face goes, where it hides the background that was there.
        rolls: (B,1,1,1) 1 if the head rolls by more than what a background can follow.
        gone: (B,1,H,W) 1 where the photograph shows an ear that the turned head hides.
        share: (B,1,1,1) how far the bent photograph is seen, before what the layers show.
    """

    under: Tensor
    over: Tensor
    face: Tensor
    core: Tensor
    hides: Tensor
    rolls: Tensor
    gone: Tensor
    share: Tensor

    @property
    def offset(self) -> Tensor:
        """(B,2,H,W): of what is seen."""
        return torch.lerp(self.under, self.over, self.face)


def follow_surface(source: Source, target: PosedHead, log_ratio: Tensor) -> Surface:
    """Interpolate over the target's mesh what its vertices know of the source.

    Args:
        source: the source.
        target: the target's head.
        log_ratio: (B,V,3) logarithm of the light ratio on its vertices.
    """
    offset = (source.posed.points - target.points)[..., :2] * half_size(source)
    depth, facing_s, facing_t = source.posed.points[..., 2:3], source.posed.normals[..., 2:3], target.normals[..., 2:3]
    per_vertex = torch.cat([offset, log_ratio, depth, facing_s, facing_t], -1)
    shown = interpolate(target.raster, source.head.faces, per_vertex)
    nearest, distance = target.nearest
    offset, log_ratio, depth, facing_s, facing_t = shown.split([2, 3, 1, 1, 1], dim=1)
    return Surface(offset, log_ratio, depth, facing_s, facing_t, nearest, distance)


def half_size(source: Source) -> Tensor:
    """(2,): half the picture's width and height in pixels, the unit of positions in -1..1."""
    height, width = source.size
    return torch.tensor([width / 2, height / 2], device=source.image.device, dtype=source.image.dtype)


def fading(source: Source, distance: Tensor, reach: float) -> Tensor:
    """exp(-(distance / reach)^2): distance (B,H,W) in pixels, reach as a share of the side ->
    (B,1,H,W).
    """
    return torch.exp(-((distance / source.pixels(reach)) ** 2))[:, None]


def resting_offset(source: Source, target: PosedHead, surface: Surface) -> Tensor:
    """How the shoulders move, carried on beyond them: (B,2,H,W) in pixels, for what rests on them; zero without layers. Arguments as
    `spread_offset`."""
    if source.person is None:
        return torch.zeros_like(surface.offset)
    return gather(surface.offset, target.nearest_shoulders[0]) * fading(source, surface.distance, source.options.reach)


def spread_offset(source: Source, target: PosedHead, surface: Surface, resting: Tensor) -> Tensor:
    """The mesh's displacement, carried on beside the mesh.

    Beside the mesh it fades with the distance. With layers, what is around the head moves with the
    head's outline, and what lies on the shoulders stays with them while the head turns.

    Args:
        source: the source.
        target: the target's head.
        surface: what its mesh shows.
        resting: (B,2,H,W) offset of what rests on the shoulders, in pixels.

    Returns:
        (B,2,H,W) offset of every pixel, in pixels.
    """
    o, distance = source.options, surface.distance
    fade = fading(source, distance, o.reach)
    # far from the mesh the field is smooth, near it it meets the mesh's own
    extended = gather(surface.offset, surface.nearest)
    near = fading(source, distance, 1.5 * o.motion_blur)
    blur = source.pixels(o.motion_blur)
    spread = torch.lerp(gaussian_blur(extended, blur), gaussian_blur(extended, blur / 4), near) * fade
    person = source.person
    if person is not None and person.outline is not None:
        pixels = pixel_grid(*source.size, source.image)
        beside, holds = motion_around(person.outline, head_outline(source.head, target.points[..., :2]), pixels)
        beside = beside * half_size(source)[:, None, None] * fading(source, distance, o.hair_reach)
        spread = torch.lerp(spread, beside, holds)
    if person is not None:
        spread = torch.lerp(spread, resting, person.hanging)
    return torch.where(target.mesh, surface.offset, spread)


def seen_depth(raster: Raster) -> Tensor:
    """Farthest depth in the 3x3 pixels around, so that silhouettes do not hide their own surface.

    Returns:
        (B,1,H,W); NOTHING where no mesh is.
    """
    depth = torch.where(raster.mask, raster.depth, torch.full_like(raster.depth, NOTHING))[:, None]
    return F.max_pool2d(depth, 3, 1, 1)


def seen_by_source(source: Source, target: PosedHead, surface: Surface, grid: Tensor) -> Tensor:
    """How well the source's camera saw the surface point that the target shows.

    Args:
        source: the source.
        target: the target's head.
        surface: what its mesh shows.
        grid: (B,H,W,2) source positions of the target's pixels.

    Returns:
        (B,1,H,W): 0 if it did not, else how many of the source's pixels stand for one of the
        target's, up to 1.
    """
    o = source.options
    farthest = F.grid_sample(source.depth, grid, mode="nearest", padding_mode="border", align_corners=False)
    in_frame = (grid.abs() <= 1).all(-1)[:, None]
    seen = (surface.source_depth <= farthest + o.depth_tolerance) & (farthest > NOTHING / 10) & in_frame & target.mesh
    return seen.to(grid.dtype) * (surface.source_facing / surface.facing.clamp_min(0.05) / o.grazing).clamp(0, 1)


def moved_validity(move: Move) -> Tensor:
    """Validity of a picture moved as a whole, without regard to what is person and what background.

    Returns:
        (B,1,H,W) in 0..1; exactly that of the source in rows where nothing moves.
    """
    source, grid = move.source, move.grid
    if move.all_still:
        return source.validity
    stretched = torch.exp(-((gradient_norm(move.offset) / source.options.stretch) ** 2))
    covered = F.grid_sample(source.posed.mesh.to(grid.dtype), grid, padding_mode="border", align_corners=False)
    # a pixel of the background that samples the source's head is a smear
    beside = stretched * (1 - covered * (1 - move.fade * 0.5))
    valid = torch.where(move.posed.mesh, move.seen * stretched.sqrt(), beside)
    if source.inside_picture is not None:
        valid = valid * F.grid_sample(source.inside_picture, grid, padding_mode="zeros", align_corners=False)
    return torch.where(move.still, source.validity, valid)
