"""A turned head as one piece: the photograph bent, instead of taken apart and put together again.

The head model says where the face goes. Hair, ears and neck follow: between the face, the outline of the head and the shoulders,
which stay, the motion goes on smoothly (a harmonic field), so that nothing is torn and no outline has to be found. The far side of
the face hides what lies behind it, and where the near side would be stretched too far the layered head is seen (`passes`). The
background goes along around the head; where its straight lines would show that, or frames of a video have to agree, it stays.

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
from ..carry.options import BendOptions, CutoutOptions
from ..carry.state import Maps, Move, Outline, PosedHead, Source
from ..common.pixels import (
    dilate,
    erode,
    flow_determinant,
    flow_grid,
    gather,
    gaussian_blur,
    gradient_norm,
    harmonic_fill,
    nearest_inside,
    odd,
    opened,
    pixel_grid,
    pull_push,
    relit,
)
from .rims import MovedPerson, person_of

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


def bend(source: Source, target: PosedHead, surface: Surface, resting: Tensor, turned: Tensor) -> Bend:
    """Bend photographs to turned heads.

    Args:
        source: the photographs, of which layers tell an outline, with options of the bend.
        target: the target's head.
        surface: what its mesh shows.
        resting: (B,2,H,W) offset of what rests on the shoulders.
        turned: (B,1,1,1) how far the skulls moved, as in `Move`.
    """
    o, u, head = _options(source), source.unit, source.head
    pixels = pixel_grid(*source.size, source.image)
    seen = seen_by_source(source, target, surface, flow_grid(surface.offset)) > o.seen
    face = _face(source, target, surface, pixels, seen)
    index, _ = nearest_inside(face[:, 0] > 0.5)
    moved = gather(surface.offset, index)
    # one side of the face goes away from the neck and hides what is behind it, the other uncovers
    neck = target.points[:, head.vertex_mask("neck"), 0].mean(1)[:, None, None, None]
    away = -moved[:, :1] * (pixels[..., 0] - neck).sign() / (o.sideways * u)
    far, near = away.clamp(0, 1), (-away).clamp(0, 1)
    motion, extent, beyond, from_down = _outline_motion(source, target, pixels)
    ring = ramp(from_down, *o.jaw) * ((extent > o.ring[0]) & (extent < o.ring[1])) * (1 - erode(face, odd(8 * u)))
    # where the square ends the photograph goes on
    border = ((pixels.abs().amax(-1) > 1 - 4 / 128) & (_maps(source).matte < 0.1)).to(face)
    ring = ring * (1 - border)
    core = erode(face, odd(3 * u))
    leads = torch.where(far > 0.5, erode(face, odd(o.hidden * u)), core) * (1 - ring)
    motion = motion * half_size(source)[:, None, None]
    farthest = (ring * motion).norm(dim=1).amax((1, 2))[:, None, None, None] / source.side
    beyond = beyond / 2 - o.strands - (o.reach_of_motion * farthest).clamp_min(o.reach)
    stays, waits = _stays(source, target, pixels, (beyond, far, dilate(face, 3)))
    free = (1 - face) * (ring < 0.05)
    value = leads * surface.offset + ring * motion + free * waits * resting
    under = harmonic_fill(value, (leads + ring + free * stays.maximum(waits).maximum(border)).clamp(max=1))
    # a side of the face that comes into view, but for what hair goes on covering there
    skin = head.part_mask(target.raster, "face")[:, None].to(face)
    bare = 1 - F.grid_sample(_maps(source).hair, flow_grid(under), padding_mode="border", align_corners=False)
    new = skin * bare * ~seen
    unseen = new.sum((1, 2, 3), keepdim=True) / skin.sum((1, 2, 3), keepdim=True).clamp_min(1)
    share = (3 * turned).clamp(max=1) * (1 - ramp(unseen, *o.unseen)) * (1 - ramp(farthest, *o.farthest))
    back = (flow_determinant(under) < 0.2) & (extent > 1)
    # beside what rests on the shoulders it is clothes that are seen twice, and no background lies behind them
    clothes = gaussian_blur(dilate((_maps(source).resting > 0.3).to(face), odd(13 * u)), 2 * u)
    folded = gaussian_blur(dilate(back.to(face), odd(7 * u)), 1.5 * u) * ramp(extent, 1.0, 1.05) * (1 - clothes) * ramp(from_down, 25.0, 45.0)
    over = torch.lerp(gaussian_blur(moved, 1.5 * u), surface.offset, core)
    rim, front = gaussian_blur(core, 2 * u), ((gaussian_blur(face, 2.5 * u) - 0.5) * 4 + 0.5).clamp(0, 1)
    soft = gaussian_blur(far, 2 * u)
    return Bend(under, over, torch.lerp(rim, front, soft), gaussian_blur(core, 2 * u), gaussian_blur(near, 2 * u), folded, opened(new, odd(3 * u)), share)


def _options(source: Source) -> BendOptions:
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
    skin = mesh * (1 - head.part_mask(target.raster, "scalp", "neck", "shoulders")[:, None].to(mesh))
    face = skin * erode(mesh, odd(3 * u)) * (seen & bare)
    return erode(dilate(face, odd(9 * u)), odd(10 * u))


def _maps(source: Source) -> Maps:
    assert source.person is not None
    return source.person.maps


def _outline_motion(source: Source, target: PosedHead, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How what lies around a head goes with its outline.

    Returns:
        (B,2,H,W) source minus target position in -1..1; and of the target's pixels, each (B,1,H,W): the distance from the skull's middle as
        a share of the outline's, how far they lie beyond the outline (-1..1 wide), and degrees from straight down.
    """
    o, now = _options(source), head_outline(source.head, target.points[..., :2])
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
    o, head = _options(source), source.head
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


def bent_person(move: Move, layered: MovedPerson, near: Tensor) -> MovedPerson:
    """The bent photograph, and what the layers show where it would be torn or stretched too far.

    Args:
        move: of turned heads.
        layered: everything, put together from layers.
        near: (B,1,H,W) 1 where the person moves nearby.
    """
    assert move.bend is not None
    source, told, o, u = move.source, person_of(move), _options(move.source), move.source.unit
    shown = _shown(move.bend, torch.cat([source.image, told.maps.colours, told.maps.matte, 1 - source.validity], 1))
    whole, colours, alpha, unknown = shown.split([3, 3, 1, 1], 1)
    alpha = alpha * (1 - move.bend.folded)
    whole, colours = relit(whole, move.light_ratio), relit(colours, move.light_ratio)
    person = torch.lerp(colours, whole, ((alpha - 0.9) / 0.1).clamp(0, 1))
    apart = torch.lerp(torch.lerp(move.resting_image, told.backdrop.filled, told.vacated), person, alpha)
    plain = gaussian_blur(told.backdrop.validity, 4 * u) / CutoutOptions().fill_validity
    # what can be made up behind the head is not as good as the background itself, gone along, but for lines that would be crooked
    busy = ((0.8 - plain) / 0.2).clamp(0, 1) * ramp(told.backdrop.lines, *o.lines)
    if source.options.still_background:
        busy = torch.ones_like(busy)
    busy = busy.maximum(move.bend.folded)
    stretch = gaussian_blur(gradient_norm(move.bend.under), 1.5 * u)
    low, high = o.stretched
    strained = ((stretch - low) / (high - low)).clamp(0, 1)
    dragged = (move.bend.offset.norm(dim=1, keepdim=True) - 0.5).clamp(0, 0.5) * 2
    gone_along = torch.lerp(torch.ones_like(alpha), torch.full_like(alpha, o.background_validity), dragged)
    guess = told.backdrop.validity * told.vacated + (1 - told.vacated)
    behind = torch.lerp(gone_along, guess, busy)
    guessed = torch.lerp(behind, torch.ones_like(alpha), alpha)
    valid = (1 - unknown) * guessed * (1 - 0.5 * strained * alpha * (1 - move.bend.core))
    bent = MovedPerson(torch.lerp(whole, apart, busy), valid, alpha)
    for share, image, validity in _given_way(move, layered, bent, person, strained):
        bent = MovedPerson(
            torch.lerp(bent.image, image, share), torch.lerp(bent.validity, validity, share), torch.lerp(bent.alpha, layered.alpha, share)
        )
    share = near * move.bend.share
    image = torch.lerp(layered.image, bent.image, share)
    return MovedPerson(image, torch.lerp(layered.validity, bent.validity, share), torch.lerp(layered.alpha, bent.alpha, share))


def _shown(bend: Bend, picture: Tensor) -> Tensor:
    """The photograph, its person's colours and alpha, and what is unknown (B,8,H,W), bent.

    Where it is pressed together the face lies before the rest, with a rim that has no stairs.
    """
    sharp = F.grid_sample(picture, flow_grid(bend.offset), mode="bicubic", padding_mode="border", align_corners=False)
    pressed = gaussian_blur(((gradient_norm(bend.under) - 0.3) / 0.3).clamp(0, 1), 1.0)
    # beside sharp outlines cubic weights ring
    pressed = pressed.maximum((-1000 * sharp[:, 6:7]).clamp(0, 1))
    # on the face's rim both are mixed, not looked for at a place between them
    rim = (8 * bend.face * (1 - bend.face)).clamp(max=1)
    pressed = pressed.maximum(((bend.over - bend.under).norm(dim=1, keepdim=True) - 0.5).clamp(0, 1) * rim)
    under, over = (
        F.grid_sample(picture, flow_grid(offset), padding_mode="border", align_corners=False) for offset in (bend.under, bend.over)
    )
    return torch.lerp(sharp.clamp(0, 1), torch.lerp(under, over, bend.face), pressed)


def _given_way(
    move: Move, layered: MovedPerson, bent: MovedPerson, person: Tensor, strained: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Where the layers are seen: share (B,1,H,W), picture and validity of each, one over the other.

    Args:
        move: the move.
        layered: what they show.
        bent: the bent photograph.
        person: (B,3,H,W) its person's own colours.
        strained: (B,1,H,W) where it is stretched too far.
    """
    assert move.bend is not None
    u, mesh, near = move.source.unit, move.posed.mesh.to(strained), move.bend.near
    head, pixels = move.source.head, pixel_grid(*move.source.size, strained)
    rests = 1 - person_of(move).resting[:, :1]
    deep, inside = (gaussian_blur(erode(mesh, odd(size * u)), u * size / 6) for size in (13, 3))
    ears = move.posed.points[:, head.vertex_mask("ears"), 1]
    middle, lobe = ears.mean(1)[:, None, None, None], ears.amax(1)[:, None, None, None]
    low = ramp((pixels[..., 1] - middle) / (lobe - middle).clamp_min(1e-4), 0.3, 1.0)
    shown = (bent.alpha > 0.5).to(low)
    neck = torch.lerp(torch.ones_like(low), shown, low)
    beside = 1 - gaussian_blur(move.bend.core, u)
    # holes of the head, such as between an ear and the hair above it
    holes = torch.lerp(layered.image, person, bent.alpha)
    # the neck that comes into view is like the skin around it
    maps = _maps(move.source)
    maps_bent_hair = gather_bent(move.bend, maps.hair.maximum(maps.resting))
    bare = maps_bent_hair < 0.1
    under_ear = neck_in_view(move, shown * (maps_bent_hair < 0.5))
    sure = erode(((bent.alpha > 0.95) & bare).to(low), odd(3 * u))
    gap = (erode(dilate(shown, odd(11 * u)), odd(11 * u)) - shown).clamp(0, 1)
    shape = pull_push(layered.image, erode(mesh, odd(3 * u)) * (1 - maps_bent_hair)).clamp_min(0.02)
    skin = (shape * pull_push(person.clamp_min(0.02) / shape, sure)).clamp(0, 1)
    lift = move.source.hair_offsets.norm(dim=-1).amax(1) * move.source.face.camera[:, 0]
    close = 1 - ramp(lift, *_options(move.source).voluminous)[:, None, None, None]
    torn = gaussian_blur(dilate(strained, odd(3 * u)), 2 * u) * near * deep * beside * close
    # close hair pressed together behind the face's far side leaves a tuft beyond the fold: its outline is told by the layers
    above = (1 - low) * mesh
    folds = ((move.bend.folded > 0.3) * (1 - near)).maximum(above * (flow_determinant(move.bend.under) < 0.2))
    over_fold = gaussian_blur(dilate(folds, odd(21 * u)), 2 * u) * beside * close * (1 - low)
    inner = erode(move.bend.core, odd(4 * u))
    return [
        (gaussian_blur(near * deep.maximum(low * inside) * rests * neck, 0.7), holes, bent.validity.minimum(layered.validity)),
        (gaussian_blur(near * under_ear * rests * (1 - erode(shown, odd(3 * u))), 0.7), skin, bent.validity * 0.45),
        (gaussian_blur(near * gap * (1 - under_ear), 0.7), pull_push(person, erode((bent.alpha > 0.95).to(low), odd(3 * u))), bent.validity * 0.45),
        (torn, layered.image, layered.validity),
        (gaussian_blur(dilate(move.bend.new, odd(3 * u)), 2 * u), layered.image, layered.validity),
        (over_fold, layered.image, layered.validity),
        (inner, layered.image, layered.validity),
    ]


def gather_bent(bend: Bend, picture: Tensor) -> Tensor:
    return F.grid_sample(picture, flow_grid(bend.offset), padding_mode="border", align_corners=False)


def neck_in_view(move: Move, skin: Tensor) -> Tensor:
    """Where a neck may come into view: under an ear that turns to the camera, inwards of a line from its lobe to the neck's side.

    Args:
        move: of turned heads.
        skin: (B,1,H,W) 1 on the bare skin of the bent photograph's person, whose neck kept its place.

    Returns:
        (B,1,H,W) 0 or 1.
    """
    o, head, points, (height, width) = _options(move.source), move.source.head, move.posed.points, move.source.size
    size = points.new_tensor([width, height])
    ears, face = (((points[:, head.vertex_mask(part), :2] + 1) * size - 1) / 2 for part in ("ears", "face"))
    bottom = face[..., 1].amax(1, keepdim=True)
    rows, columns = (torch.arange(count, device=points.device) for count in (height, width))
    at_bottom = bottom.round().long().clamp(0, height - 1)
    inside = torch.ones_like(skin[:, 0], dtype=torch.bool)
    for side in (1, -1):
        # the lowest point of the ear on this side
        place = ears[..., 0] * side
        middle = place.mean(1, keepdim=True)
        lowest = torch.where(place < middle, ears[..., 1], -1).argmax(1, keepdim=True)
        begins, top = place.gather(1, lowest), ears[..., 1].gather(1, lowest)
        down = (rows - top) / (bottom - top).clamp_min(1)  # (B,H): 0 at the lobe, 1 at the chin
        first = torch.where(skin[:, 0] > 0.5, columns * side, width).amin(-1).gather(1, at_bottom)
        # the ear is seen, not hair over it
        ear = F.grid_sample(gaussian_blur(skin, 2 * move.source.unit), points[:, head.vertex_mask("ears"), None, :2], align_corners=False)
        bare = (ear[:, 0, :, 0] * (place < middle)).sum(1, keepdim=True) / (place < middle).sum(1, keepdim=True) > o.bare_ear
        # a neck stands a little further in than the ear above it
        begins = torch.lerp(begins, first.maximum(begins), o.neck_begins)
        ends = first.maximum(begins - o.neck_leans * (bottom - top))
        line = begins + down.clamp_min(0) * (ends - begins)
        inside = inside & (columns * side >= line[..., None]) & (bare & (down >= -o.lobe) & (down <= 1))[..., None]
    return inside.to(skin)[:, None]
