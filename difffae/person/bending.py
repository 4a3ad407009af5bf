"""A turned head as one piece: the photograph bent, instead of taken apart and put together again.

The head model says where what the camera saw of the head goes. The photograph follows by a smooth field, which may press the side that
turns away and draw the side that turns to the camera, but never tears or folds: whatever is seen was seen, hair beside temples, an ear, the
line of a jaw and the shade below it included. Clothes and shoulders stay. Where a jaw goes over a neck, a collar or hanging hair it hides
them: there two such fields are laid over each other, the head's, which ignores what rests on the shoulders, and that of the whole picture.
A face of which the camera saw too little, such as one that turns from a half profile to the viewer, is put together from layers instead
(`passes`). The background goes along around the head; where its straight lines would show that, before a plain wall, behind a head that
rolls, or where frames of a video have to agree, it stays.

Shape letters: B batch, A directions around the head, H and W picture height and width, n cells along a side of the coarse picture on which
fields are solved. Lengths named u are 1/256 of the side. Motions are target minus source position, in cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.hair_volume import along, around_circle, at_direction, head_outline, motion_around, polar, ramp
from ..carry.motion import Bend, Surface, half_size, roll_of, seen_by_source, seen_depth
from ..carry.options import BendOptions
from ..carry.state import Outline, PosedHead, Source
from ..common.pixels import closed, dilate, erode, flow_grid, flow_length, gaussian_blur, inverse_flow, odd, pixel_grid, smoothest
from ..head.rasterizer import interpolate

RADII = 91  # along each direction in which the matte's end is looked for
STILL = 0.02  # cells by which what stays may move; what moves twice as far does not stay
LOOSE = 0.1  # how stiff a background that does not matter is, as a share
LEAST = 1e-4  # how much it matters anywhere that nothing moves
SOFT = 0.05  # around limits of cosines and shares of the face's width


def matte_outline(outline: Outline, matte: Tensor, options: BendOptions | None = None) -> Outline:
    """Where the person ends in the directions around the skull.

    Args:
        outline: of the head model.
        matte: (B,1,H,W) share of the person.
        options: of the bend.

    Returns:
        the same outline, with a reach that is the matte's where it ends near the model's.
    """
    o = options or BendOptions()
    share = torch.linspace(1 / o.widest, o.widest, RADII, device=matte.device, dtype=matte.dtype)
    inside = along(matte, outline.middle, outline.reach[..., None] * share) > 0.5
    count = inside.to(matte).cumprod(-1).sum(-1)
    step = (o.widest - 1 / o.widest) / (RADII - 1)
    ratio = torch.where((count > 0) & (count < RADII), 1 / o.widest + (count - 0.5) * step, 1.0)
    return replace(outline, reach=outline.reach * around_circle(ratio, ratio.shape[1] / 72))


@dataclass(frozen=True, eq=False)
class _Coarse:
    """What a source shows, on the coarse picture; each (B,1,n,n), motions (B,2,n,n).

    Attributes:
        motion: of the surface that the source's camera saw.
        depth: of that surface, -1..1.
        skull: 1 on the head without its neck.
        core: 1 on what both cameras see well of the face.
        matte: share of the person.
        ears: 1 on ears.
        yields: how far hair is drawn out where its side comes into view.
        ring: 1 where the outline of the head leads, on the side that comes into view.
        outline: motion of the head's outline.
        stays: 1 where nothing moves but what rests: clothes, shoulders, parts of the head that do not move.
        resting: motion of what rests.
        far: 1 below the jaw on the side to which the face goes.
        hides: 1 on the side to which the face goes.
        behind: how far the background stays.
        border: how far the picture's border stays.
        free: how far the background does not matter to the head, since it stays.
        rolls: (B,1,1,1) 1 if the head rolls by more than what a background can follow.
    """

    motion: Tensor
    depth: Tensor
    skull: Tensor
    core: Tensor
    matte: Tensor
    ears: Tensor
    yields: Tensor
    ring: Tensor
    outline: Tensor
    stays: Tensor
    resting: Tensor
    far: Tensor
    hides: Tensor
    behind: Tensor
    border: Tensor
    free: Tensor
    rolls: Tensor


def bend(source: Source, target: PosedHead, surface: Surface, resting: Tensor, moved: Tensor) -> Bend:
    """Bend photographs to turned heads, and to faces whose outline moves.

    Args:
        source: the photographs, of which layers tell an outline, with options of the bend.
        target: the target's head.
        surface: what its mesh shows.
        resting: (B,2,H,W) offset of what rests on the shoulders.
        moved: (B,1,1,1) how far the skulls moved, or the outlines of the faces, 0..1.
    """
    o, count = bend_options(source), len(source)
    coarse = _coarse(source, target, resting)
    head, all_of_it = _fields(o, coarse, coarse.stays * (1 - coarse.far), coarse.stays)
    all_of_it = torch.lerp(head, all_of_it, coarse.far)
    offsets = inverse_flow(torch.cat([head, all_of_it]) * (2 / o.cells))
    offsets = F.interpolate(offsets, source.size, mode="bicubic", align_corners=False) * half_size(source)[:, None, None]
    offsets = offsets * ramp(flow_length(offsets), *o.resting)
    over, under = offsets[:count], offsets[count:]
    sides = F.interpolate(torch.cat([coarse.far, coarse.hides], 1), source.size, mode="bilinear", align_corners=False)
    low, hides = F.grid_sample(sides, flow_grid(under), padding_mode="border", align_corners=False).split(1, 1)
    face = torch.where(low > 0, _before_the_rest(source, over), 1.0)
    # eyes and lips move as the mesh does, more finely than cells tell
    core = _core(source, target, surface)
    over = torch.lerp(over, surface.offset, core)
    share = (3 * moved).clamp(max=1) * (1 - ramp(_unseen(source, target, surface, under), *o.unseen))
    return Bend(under, over, face.maximum(core), core, hides, coarse.rolls, _hidden_ears(source, target), share)


def face_reshaped(source: Source, target: PosedHead, still: Tensor) -> Tensor:
    """How far so much of a face moves that its outline does, as of an opened mouth; 0 for lids, eyes and brows.

    Args:
        source: the source.
        target: the target's head.
        still: (B,1,1,1) bool, rows in which nothing moves.

    Returns:
        (B,1,1,1) in 0..1.
    """
    face = source.head.vertex_mask("face")
    if not bool(face.any()):
        return torch.zeros_like(still, dtype=target.points.dtype)
    moved = (source.posed.points - target.points)[:, face, :2].norm(dim=-1).quantile(0.9, dim=1) * 128
    return (moved - 1).clamp(0, 1)[:, None, None, None] * ~still


def bend_options(source: Source) -> BendOptions:
    """Of photographs that are bent."""
    assert source.options.bend is not None
    return source.options.bend


def _coarse(source: Source, target: PosedHead, resting: Tensor) -> _Coarse:
    assert source.person is not None
    o, head, told, was = bend_options(source), source.head, source.person, source.posed
    points, size = was.points, (o.cells, o.cells)

    def small(x: Tensor) -> Tensor:
        return F.interpolate(x.to(points), size, mode="area")

    normals = [posed.normals[..., 2:] for posed in (was, target)]
    per_vertex = torch.cat([(target.points - points)[..., :2] * (o.cells / 2), points[..., 2:], *normals], -1)
    covered = small(was.mesh)
    seen = small(interpolate(was.raster, head.faces, per_vertex)) / covered.clamp_min(1e-3)
    motion, depth, facing, facing_now = seen.split([2, 1, 1, 1], 1)
    skull = ((covered > 0.9) & (small(was.part("neck", "shoulders")) < 0.05)).to(points)
    ears = small(was.part("ears"))
    beside = ears <= 0.2
    core = skull * ramp(facing.minimum(facing_now), o.facing - SOFT, o.facing + SOFT) * (beside & (small(was.part("scalp")) < 0.5))
    pixels = pixel_grid(*size, points)
    matte, hair = small(told.maps.matte), small(told.maps.hair)
    ahead, down, reach, outline = _around(source, target, pixels)
    rolls = ramp((roll_of(head, target.points) - roll_of(head, points)).abs(), *o.rolls)[..., None, None]
    # little by little, so that frames of a video agree
    near = ramp(-ahead, -SOFT, SOFT)
    ring = ((reach > o.ring[0]) & (reach < o.ring[1]) & (matte > 0.5) & beside) * ramp(down, *o.jaw) * near
    # where the square ends the photograph goes on
    border = (pixels.abs().amax(-1) > 1 - 2 / o.cells) * (1 - skull)
    rests = ((small(told.resting[:, :1]) > 0.5) | (small(told.hanging) > 0.95) | (small(was.part("shoulders")) > 0.5)).to(points)
    rests = rests * (1 - dilate(skull, odd(o.collar * o.cells)))
    unmoved = skull * (2 - motion.norm(dim=1, keepdim=True) / STILL).clamp(0, 1)
    free = (1 - matte) * rolls
    around = gaussian_blur(dilate(skull, odd(o.reach * o.cells)), 0.02 * o.cells)
    return _Coarse(
        motion=motion,
        depth=depth,
        skull=skull,
        core=core,
        matte=matte,
        ears=ears,
        yields=hair * ramp(0.1 - ahead, -SOFT, SOFT),
        ring=ring,
        outline=outline * (o.cells / 2),
        stays=rests.maximum(unmoved),
        resting=small(resting) * (-o.cells / 2) / half_size(source)[:, None, None] * (1 - unmoved),
        far=ramp(ahead, *o.far) * (1 - ramp(down, *o.low)),
        hides=ramp(ahead, *o.hides),
        behind=(matte < 0.1) * (1 - around) * (1 - free),
        border=border * (1 - free),
        free=free,
        rolls=rolls,
    )


def _around(source: Source, target: PosedHead, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where pixels (n,n,2) of the source lie.

    Returns:
        each (B,1,n,n): how far to the side to which the face goes, in halves of its width; degrees from straight down, from the skull's
        middle; distance from there as a share of the person's outline's; and (B,2,n,n) the motion of the head's outline there, -1..1.
    """
    assert source.person is not None
    assert source.person.outline is not None
    assert source.person.own_outline is not None
    outline, own = source.person.outline, source.person.own_outline
    face = source.head.vertex_mask("face")
    before, after = (posed.points[:, face, :2] for posed in (source.posed, target))
    way = F.normalize((after - before).mean(1), dim=-1)[:, None, None]
    middle = before.mean(1)[:, None, None]
    half = (before[..., 0].amax(1) - before[..., 0].amin(1))[:, None, None] / 2
    ahead = ((pixels - middle) * way).sum(-1) / half.clamp_min(1e-4)
    motion, _ = motion_around(head_outline(source.head, target.points[..., :2]), outline, pixels)
    angles, size = outline.reach.shape[1], pixels.shape[:2]
    distance, place = polar(pixels.flatten(0, 1)[None] - outline.middle, angles)
    reach = (distance / at_direction(own.reach, place).clamp_min(1e-4)).unflatten(1, size)
    down = ((place - angles / 2).abs() * (360 / angles)).unflatten(1, size)
    return ahead[:, None], down[:, None], reach[:, None], motion


def _fields(o: BendOptions, coarse: _Coarse, *stays: Tensor) -> tuple[Tensor, ...]:
    """The motions (B,2,n,n) of all of the picture, if these parts of it (B,1,n,n) stay.

    Where the camera saw one surface, neighbours keep the difference of their motions, saturating where that would press or draw them too
    far; elsewhere they move alike. Where they would still be pressed or drawn too far they are held.
    """
    count = len(stays)
    rows, columns = ([torch.cat([one] * count) for one in _slopes(o, coarse, dim)] for dim in (-1, -2))
    weights, values = [], []
    for stay in stays:
        stay = stay.maximum(coarse.border)
        held, free = o.held_weight * stay, 1 - stay
        core, ring = o.core_weight * coarse.core * free, o.ring_weight * coarse.ring * free
        weight = held + core + ring + o.background_weight * coarse.behind + LEAST
        weights.append(weight)
        values.append((held * coarse.resting + core * coarse.motion + ring * coarse.outline) / weight)
    value, weight = torch.cat(values), torch.cat(weights)
    field = smoothest((rows[0], columns[0]), (rows[1], columns[1]), value, weight)
    for _ in range(o.rounds):
        rows, columns = _held(o, coarse, field, -1, *rows), _held(o, coarse, field, -2, *columns)
        field = smoothest((rows[0], columns[0]), (rows[1], columns[1]), value, weight)
    return field.chunk(count)


def _neighbours(x: Tensor, dim: int) -> Tensor:
    """The lesser of two neighbours along a dimension."""
    size = x.shape[dim] - 1
    return x.narrow(dim, 0, size).minimum(x.narrow(dim, 1, size))


def _bounds(o: BendOptions, slope: Tensor, dim: int) -> Tensor:
    """How far neighbours along a dimension may be pressed, drawn or sheared, with the sign of what they are."""
    bound = torch.full_like(slope, o.shear).copysign(slope)
    # along the dimension itself they press or draw the picture, across it they shear it
    bound[:, -1 - dim] = torch.where(slope[:, -1 - dim] < 0, -o.pressed, o.drawn)
    return bound


def _slopes(o: BendOptions, coarse: _Coarse, dim: int) -> tuple[Tensor, Tensor]:
    """Wanted differences of the motions of neighbours along a dimension, -1 (along rows) or -2, and how much they matter."""
    slope = coarse.motion.diff(dim=dim)
    bound = _bounds(o, slope, dim)
    core, skull = _neighbours(coarse.core, dim), _neighbours(coarse.skull, dim)
    slope = slope * (1 - o.ears * _neighbours(coarse.ears, dim))
    one = skull * (2 - coarse.depth.diff(dim=dim).abs() / o.step).clamp(0, 1)
    slope = torch.lerp(bound * torch.tanh(slope / bound), slope, core) * one
    loose = o.background * (1 - (1 - LOOSE) * _neighbours(coarse.free, dim))
    loose = loose + (o.person - loose) * _neighbours(coarse.matte, dim)
    firm = 1 - (1 - o.hair) * _neighbours(coarse.yields, dim)
    return slope, torch.lerp(loose, firm, one)


def _held(o: BendOptions, coarse: _Coarse, field: Tensor, dim: int, slope: Tensor, stiffness: Tensor) -> list[Tensor]:
    """The same where a field keeps the bounds; where it does not, the bounds, which matter as much as a surface."""
    now = field.diff(dim=dim)
    bound = _bounds(o, now, dim) * o.slack
    core = _neighbours(coarse.core.maximum(coarse.free), dim).repeat(len(field) // len(coarse.core), 1, 1, 1)
    # little by little, so that no last bit decides
    beyond = ((now / bound).amax(1, keepdim=True) - 1).clamp(0, 0.1) * 10 * (1 - core)
    kept = torch.where(now.abs() > bound.abs(), bound, now)
    return [torch.lerp(slope, kept, beyond), torch.lerp(stiffness, (3 * stiffness).clamp_min(1.0), beyond)]


def _before_the_rest(source: Source, offset: Tensor) -> Tensor:
    """(B,1,H,W) 1 where the head, whose offset is given, hides what rests on the shoulders."""
    assert source.person is not None
    u = source.unit
    skull = source.posed.mesh.to(offset) * (1 - source.posed.part("neck", "shoulders").to(offset))
    # parts of the mesh end in saw teeth
    skull = ((gaussian_blur(skull, 2 * u) - 0.5) * 3 + 0.5).clamp(0, 1) * (1 - source.person.hanging)
    return F.grid_sample(skull, flow_grid(offset), padding_mode="border", align_corners=False)


def _core(source: Source, target: PosedHead, surface: Surface) -> Tensor:
    """(B,1,H,W) 1 on what both cameras see well of the face."""
    o, u = bend_options(source), source.unit
    bare = target.mesh & ~target.part("scalp", "ears", "neck", "shoulders")
    well = bare & (surface.facing.minimum(surface.source_facing) > o.facing)
    return gaussian_blur(erode(closed(well.to(surface.offset), odd(5 * u), -2), odd(9 * u)), 2.5 * u)


def _hidden_ears(source: Source, target: PosedHead) -> Tensor:
    """(B,1,H,W) 1 on the photograph's ear on the side that turns away, as far as it is bare and the turned head hides it: pressed together
    it would be a second cheek."""
    assert source.person is not None
    o, head, was, u = bend_options(source), source.head, source.posed, source.unit
    ears, face = head.vertex_mask("ears"), head.vertex_mask("face")
    x = was.points[:, ears, 0]
    middle, goes = x.mean(1, keepdim=True), (target.points - was.points)[:, face, 0].mean(1).sign()[:, None]
    far = (goes * (x - middle) > 0).to(x)
    seen, left = ((_in_sight(posed, ears, source.options.depth_tolerance) * far).sum(1) for posed in (was, target))
    hidden = (1 - ramp(left / seen.clamp_min(1), *o.hidden)) * (seen > 0)
    mask = was.part("ears").to(x)
    if not bool((hidden > 0).any()):
        return torch.zeros_like(mask)
    around = dilate(mask, odd(13 * u)) * (1 - erode((was.mesh & ~was.part("ears", "neck")).to(mask), odd(3 * u)))
    pixels = pixel_grid(*source.size, mask)[..., 0]
    there = around * (goes[..., None] * (pixels - middle[..., None]) > 0)[:, None]
    # where hair is beside an ear there would be a hole in it
    bare = 1 - ramp((there * source.person.maps.hair).sum((1, 2, 3)) / there.sum((1, 2, 3)).clamp_min(1), 0.1, 0.3)
    # half an ear is no ear
    return gaussian_blur(there * ramp(hidden * bare, 0.4, 0.6)[:, None, None, None], 0.7 * u)


def _in_sight(posed: PosedHead, part: Tensor, tolerance: float) -> Tensor:
    """(B,N): 1 for the vertices of a part (V,) that the camera sees."""
    points = posed.points[:, part]
    farthest = F.grid_sample(seen_depth(posed.raster), points[:, None, :, :2], mode="nearest", align_corners=False)[:, 0, 0]
    return ((points[..., 2] <= farthest + tolerance) & (posed.normals[:, part, 2] > 0)).to(points)


def _unseen(source: Source, target: PosedHead, surface: Surface, offset: Tensor) -> Tensor:
    """(B,1,1,1) the share of the target's face that the source's camera did not see, but for what hair goes on covering there."""
    assert source.person is not None
    seen = seen_by_source(source, target, surface, flow_grid(surface.offset)) > bend_options(source).seen
    skin = target.part("face").to(offset)
    bare = 1 - F.grid_sample(source.person.maps.hair, flow_grid(offset), padding_mode="border", align_corners=False)
    return (skin * bare * ~seen).sum((1, 2, 3), keepdim=True) / skin.sum((1, 2, 3), keepdim=True).clamp_min(1)
