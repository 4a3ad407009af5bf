"""A turned head as one piece: the photograph bent, instead of taken apart and put together again.

The head model says where the face goes. Hair, ears and neck follow: between the face, the outline of the head and the shoulders,
which stay, the motion goes on smoothly (a harmonic field), so that nothing is torn and no outline has to be found. The far side of
the face hides what lies behind it, and where the near side would be stretched too far the layered head is seen (`passes`). The
background goes along around the head; where its straight lines would show that, before a plain wall, or where frames of a video have to
agree, it stays.

Shape letters: B batch, A directions around the head, H and W picture height and width. Lengths named u are 1/256 of the side.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.hair_volume import along, around_circle, at_direction, below_chin, head_outline, polar, ramp
from ..carry.motion import Bend, Surface, half_size, seen_by_source
from ..carry.options import BendOptions
from ..carry.state import Maps, Outline, PosedHead, Source
from ..common.pixels import (
    dilate,
    erode,
    flow_determinant,
    flow_grid,
    flow_length,
    gather,
    gaussian_blur,
    gradient_norm,
    harmonic_fill,
    nearest_inside,
    odd,
    opened,
    pixel_grid,
)
from .mouth import INNER

SLIP = 0.4  # difference of the motions of neighbouring pixels of which one lies before the other
STEP = 6.0  # and of their depths, in pixels
RADII = 91  # along each direction in which the matte's end is looked for


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


def bend(source: Source, target: PosedHead, surface: Surface, resting: Tensor, turned: Tensor, moved_whole: Tensor) -> Bend:
    """Bend photographs to turned heads, and to faces whose outline moves.

    Args:
        source: the photographs, of which layers tell an outline, with options of the bend.
        target: the target's head.
        surface: what its mesh shows.
        resting: (B,2,H,W) offset of what rests on the shoulders.
        turned: (B,1,1,1) how far the skulls moved, as in `Move`.
        moved_whole: (B,1,1,1) how far they did, or the outline of the face.
    """
    o, u, head = bend_options(source), source.unit, source.head
    pixels = pixel_grid(*source.size, source.image)
    seen = seen_by_source(source, target, surface, flow_grid(surface.offset)) > o.seen
    face = _face(source, target, surface, pixels, seen)
    if bool((turned < 1).any()):
        face = face * (1 - (1 - turned) * _slips(source, target, surface))
    index, _ = nearest_inside(face[:, 0] > 0.5)
    moved = gather(surface.offset, index)
    # as a head turns one side of the face goes away from the neck and hides what is behind it, the other uncovers
    neck = target.points[:, head.vertex_mask("neck"), 0].mean(1)[:, None, None, None]
    away = -moved[:, :1] * (pixels[..., 0] - neck).sign() / (o.sideways * u) * (3 * turned).clamp(max=1)
    far, near = away.clamp(0, 1), (-away).clamp(0, 1)
    motion, extent, beyond, from_down = _outline_motion(source, target, pixels)
    ring = ramp(from_down, *o.jaw) * ((extent > o.ring[0]) & (extent < o.ring[1])) * (1 - erode(face, odd(8 * u)))
    # where the square ends the photograph goes on
    border = ((pixels.abs().amax(-1) > 1 - 4 / 128) & (_maps(source).matte < 0.1)).to(face)
    ring = ring * (1 - border)
    core = erode(face, odd(3 * u))
    leads = torch.where(far > 0.5, erode(face, odd(o.hidden * u)), core) * (1 - ring)
    motion = motion * half_size(source)[:, None, None]
    farthest = flow_length(ring * motion).amax((1, 2, 3), keepdim=True) / source.side
    beyond = beyond / 2 - o.strands - (o.reach_of_motion * farthest).clamp_min(o.reach)
    stays, waits = _stays(source, target, pixels, (beyond, far, dilate(face, 3)))
    free = (1 - face) * (ring < 0.05)
    value = leads * surface.offset + ring * motion + free * waits * resting
    under = harmonic_fill(value, (leads + ring + free * stays.maximum(waits).maximum(border)).clamp(max=1))
    # a side of the face that comes into view, but for what hair goes on covering there
    skin = target.part("face").to(face)
    bare = 1 - F.grid_sample(_maps(source).hair, flow_grid(under), padding_mode="border", align_corners=False)
    new = skin * bare * ~seen
    unseen = new.sum((1, 2, 3), keepdim=True) / skin.sum((1, 2, 3), keepdim=True).clamp_min(1)
    share = (3 * moved_whole).clamp(max=1) * (1 - ramp(unseen, *o.unseen)) * (1 - ramp(farthest, *o.farthest))
    folds = folds_in(under)
    back = folds * (extent > 1)
    # beside what rests on the shoulders it is clothes that are seen twice, and no background lies behind them
    clothes = gaussian_blur(dilate((_maps(source).resting > 0.3).to(face), odd(13 * u)), 2 * u)
    folded = gaussian_blur(dilate(back, odd(7 * u)), 1.5 * u) * ramp(extent, 1.0, 1.05) * (1 - clothes) * ramp(from_down, 25.0, 45.0)
    over = torch.lerp(gaussian_blur(moved, 1.5 * u), surface.offset, core)
    rim, front = gaussian_blur(core, 2 * u), ((gaussian_blur(face, 2.5 * u) - 0.5) * 4 + 0.5).clamp(0, 1)
    soft = gaussian_blur(far, 2 * u)
    return Bend(
        under,
        over,
        folds,
        torch.lerp(rim, front, soft),
        gaussian_blur(core, 2 * u),
        gaussian_blur(near, 2 * u),
        folded,
        opened(new, odd(3 * u)),
        share,
    )


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


def folds_in(offset: Tensor) -> Tensor:
    """(B,1,H,W) 1 where a motion (B,2,H,W) turns back or nearly does, which comes little by little as a head turns."""
    return ramp(0.3 - flow_determinant(offset), 0.0, 0.2)


def bend_options(source: Source) -> BendOptions:
    """Of photographs that are bent."""
    assert source.options.bend is not None
    return source.options.bend


def _outlines_of(source: Source) -> tuple[Outline, Outline]:
    """The head model's and the person's own."""
    assert source.person is not None
    assert source.person.outline is not None
    assert source.person.own_outline is not None
    return source.person.outline, source.person.own_outline


def _face(source: Source, target: PosedHead, surface: Surface, pixels: Tensor, seen: Tensor) -> Tensor:
    """(B,1,H,W): 1 on the face and the ears of the target that the source's camera saw, without hair that hangs beside them."""
    head, u, grid = source.head, source.unit, flow_grid(surface.offset)
    mesh = target.mesh.to(surface.offset)
    hair = F.grid_sample(_maps(source).hair, grid, padding_mode="border", align_corners=False)
    above = pixels[..., 1] < target.points[:, head.vertex_mask("ears"), 1].amin(1)[:, None, None, None]
    bare = (gaussian_blur(hair, 2 * u) < 0.4) | above
    skin = mesh * (1 - target.part("scalp", "neck", "shoulders").to(mesh))
    face = skin * erode(mesh, odd(3 * u)) * (seen & bare)
    return erode(dilate(face, odd(9 * u)), odd(10 * u))


def _slips(source: Source, target: PosedHead, surface: Surface) -> Tensor:
    """(B,1,H,W) 1 where one part of the mesh slips before another, such as a cheek before an ear, but for lips and jaws, which hide
    what lies behind them."""
    u, mesh = source.unit, target.mesh.to(surface.offset)
    hide = dilate(target.part(*INNER, "neck", "shoulders").to(mesh), odd(13 * u))
    depth = target.raster.depth[:, None] * (source.side / 2)
    before = (gradient_norm(surface.offset) > SLIP) & (gradient_norm(depth.where(target.mesh, 0.0)) > STEP)
    return dilate(before.to(mesh) * erode(mesh, odd(7 * u)) * (1 - hide), odd(5 * u))


def _maps(source: Source) -> Maps:
    assert source.person is not None
    return source.person.maps


def _outline_motion(source: Source, target: PosedHead, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How what lies around a head goes with its outline.

    Returns:
        (B,2,H,W) source minus target position in -1..1; and of the target's pixels, each (B,1,H,W): the distance from the skull's middle as
        a share of the outline's, how far they lie beyond the outline (-1..1 wide), and degrees from straight down.
    """
    o, now = bend_options(source), head_outline(source.head, target.points[..., :2])
    was, person = _outlines_of(source)
    angles = was.reach.shape[1]
    away = pixels.flatten(0, 1)[None] - now.middle
    distance, place = polar(away, angles)
    turn = was.turn - now.turn
    before = (place + turn / (2 * math.pi) * angles).remainder(angles)
    wider = at_direction(now.reach, place) / at_direction(was.reach, before).clamp_min(1e-4)
    room = o.widen - 1
    wider = torch.where(wider > 1, 1 + room * torch.tanh((wider - 1) / room), wider)
    reach = at_direction(person.reach, before) * wider
    x, y = away.unbind(-1)
    c, s = turn.cos(), turn.sin()
    motion = was.middle + torch.stack([c * x - s * y, s * x + c * y], -1) / wider[..., None] - pixels.flatten(0, 1)
    size = pixels.shape[:2]
    shares = (distance / reach.clamp_min(1e-4), (distance - reach).clamp_min(0), (place - angles / 2).abs() * (360 / angles))
    share, beyond, from_down = (value.unflatten(1, size)[:, None] for value in shares)
    return motion.transpose(1, 2).unflatten(2, size), share, beyond, from_down


def _stays(source: Source, target: PosedHead, pixels: Tensor, around: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """What does not go with the head.

    Args:
        source: the photographs.
        target: the target's head.
        pixels: (H,W,2) positions.
        around: how far each pixel lies beyond what goes along with the outline, which lie on the face's far side, and the face with what
            is around it.

    Returns:
        (B,1,H,W) where the background stays, and where what rests on the shoulders does.
    """
    beyond, far, face = around
    o, head = bend_options(source), source.head
    assert source.person is not None
    distance = target.nearest_above[1][:, None] / source.side
    bare = _maps(source).matte < 0.1
    stays = ((beyond > 0) & (distance > o.strands + o.reach)).to(face)
    # a jaw goes over its neck, which keeps its place
    below = below_chin(head, target.points[..., :2], pixels) > 0.4
    behind = bare & below & (far > 0.5)
    stays = stays.maximum(behind * (1 - face))
    low = below_chin(head, source.posed.points[..., :2], pixels, 1.6) > 0.6
    cloth = erode((((source.person.resting[:, :1] > 0.5) & low) | (source.person.hanging > 0.95)).to(face), 3)
    return stays, cloth.maximum(target.shoulders[:, None].to(face))
