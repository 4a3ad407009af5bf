"""What is seen of a bent photograph, and what stands in where it would be torn, folded, stretched too far, or was never seen.

Shape letters: B batch, H and W picture height and width. Lengths named u are 1/256 of the side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.hair_volume import ramp
from ..carry.light import hidden_shading
from ..carry.motion import Bend
from ..carry.options import CutoutOptions
from ..carry.state import Move
from ..common.pixels import (
    closed,
    dilate,
    erode,
    flow_grid,
    flow_length,
    gaussian_blur,
    gradient_norm,
    odd,
    opened,
    pixel_grid,
    pull_push,
    relit,
)
from .bending import bend_options
from .rims import MovedPerson, person_of

GUESS = 0.45  # validity of what fills holes


def bent_person(move: Move, layered: MovedPerson, near: Tensor) -> MovedPerson:
    """The bent photograph, and what the layers show where it would be torn or stretched too far.

    Args:
        move: of turned heads.
        layered: everything, put together from layers.
        near: (B,1,H,W) 1 where the person moves nearby.
    """
    assert move.bend is not None
    source, told, o, u = move.source, person_of(move), bend_options(move.source), move.source.unit
    back = told.backdrop
    shown = _shown(move.bend, torch.cat([source.image, told.maps.colours, told.maps.matte, 1 - source.validity, back.filled], 1))
    whole, colours, alpha, unknown, dragged_wall = shown.split([3, 3, 1, 1, 3], 1)
    alpha = alpha * (1 - move.bend.folded)
    whole, colours = relit(whole, move.light_ratio), relit(colours, move.light_ratio)
    person = torch.lerp(colours, whole, ((alpha - 0.9) / 0.1).clamp(0, 1))
    dragged = (flow_length(move.bend.offset) - 0.5).clamp(0, 0.5) * 2
    # while the skull stays, what hardly moves uncovers nothing
    vacated = told.vacated * dragged.maximum((3 * move.turned).clamp(max=1))
    apart = torch.lerp(torch.lerp(move.resting_image, back.filled, vacated), person, alpha)
    # a plain wall stays, to the bit, and what the photograph shows before it goes: the person with strands and light that no matte holds
    dragged_wall = relit(dragged_wall, move.light_ratio)
    before_wall = back.filled + (whole - dragged_wall) + alpha * (dragged_wall - back.filled)
    whole = torch.lerp(whole, before_wall, back.wall)
    plain = gaussian_blur(back.validity, 4 * u) / CutoutOptions().fill_validity
    # what can be made up behind the head is not as good as the background itself, gone along, but for lines that would be crooked
    busy = ((0.8 - plain) / 0.2).clamp(0, 1) * ramp(back.lines, *o.lines)
    if source.options.still_background:
        busy = torch.ones_like(busy)
    busy = busy.maximum(move.bend.folded)
    stretch = gaussian_blur(gradient_norm(move.bend.under), 1.5 * u)
    low, high = o.stretched
    strained = ((stretch - low) / (high - low)).clamp(0, 1)
    gone_along = torch.lerp(torch.ones_like(alpha), torch.full_like(alpha, o.background_validity), dragged)
    left = torch.lerp(told.vacated, back.place, back.wall)
    behind = torch.lerp(gone_along, torch.lerp(torch.ones_like(left), back.validity, left), busy.maximum(back.wall))
    guessed = torch.lerp(behind, torch.ones_like(alpha), alpha)
    valid = (1 - unknown) * guessed * (1 - 0.5 * strained * alpha * (1 - move.bend.core))
    bent = MovedPerson(torch.lerp(whole, apart, busy), valid, alpha)
    side = _Side.of(move)
    patches = [*_filled(move, side, bent, person, layered), *_given_way(move, side, bent, layered, strained)]
    for share, patch in patches:
        bent = _over(bent, patch, share)
    return _over(layered, bent, near * move.bend.share)


def _over(below: MovedPerson, above: MovedPerson, share: Tensor) -> MovedPerson:
    return MovedPerson(
        torch.lerp(below.image, above.image, share),
        torch.lerp(below.validity, above.validity, share),
        torch.lerp(below.alpha, above.alpha, share),
    )


def _shown(bend: Bend, picture: Tensor) -> Tensor:
    """The photograph, its person's colours and alpha, what is unknown, and the empty background (B,11,H,W), bent.

    Where it is pressed together the face lies before the rest, with a rim that has no stairs.
    """
    sharp = F.grid_sample(picture, flow_grid(bend.offset), mode="bicubic", padding_mode="border", align_corners=False)
    pressed = gaussian_blur(((gradient_norm(bend.under) - 0.3) / 0.3).clamp(0, 1), 1.0)
    # beside sharp outlines cubic weights ring
    pressed = pressed.maximum((-1000 * sharp[:, 6:7]).clamp(0, 1))
    # on the face's rim both are mixed, not looked for at a place between them
    rim = (8 * bend.face * (1 - bend.face)).clamp(max=1)
    pressed = pressed.maximum((flow_length(bend.over - bend.under) - 0.5).clamp(0, 1) * rim)
    return _softened(sharp.clamp(0, 1), bend, picture, pressed)


def _softened(sharp: Tensor, bend: Bend, picture: Tensor, share: Tensor) -> Tensor:
    """What is shown (B,11,H,W), where it is pressed together (B,1,H,W) without ringing: only there is it looked for again."""
    rows = []
    for row, there in enumerate(share[:, 0] > 0):
        places = [flow_grid(offset[row : row + 1])[:, there][:, None] for offset in (bend.under, bend.over)]
        under, over = (F.grid_sample(picture[row : row + 1], at, padding_mode="border", align_corners=False)[0, :, 0] for at in places)
        soft = torch.lerp(under, over, bend.face[row][:, there])
        mixed = sharp[row].clone()
        mixed[:, there] = torch.lerp(mixed[:, there], soft, share[row][:, there])
        rows.append(mixed)
    return torch.stack(rows)


@dataclass(frozen=True, eq=False)
class _Side:
    """Places of the target's head, each (B,1,H,W) in 0..1.

    mesh    the head model
    deep    the same away from its rim
    inner   the same but for its very rim
    low     below the ears' middle, 1 from the lobes on
    beside  not the middle of the face
    hair    of the bent photograph
    loose   the same, and what rests on its shoulders
    """

    mesh: Tensor
    deep: Tensor
    inner: Tensor
    low: Tensor
    beside: Tensor
    hair: Tensor
    loose: Tensor

    @classmethod
    def of(cls, move: Move) -> _Side:
        assert move.bend is not None
        u, mesh = move.source.unit, move.posed.mesh.to(move.offset)
        deep, inner = (gaussian_blur(erode(mesh, odd(size * u)), u * size / 6) for size in (13, 3))
        ears = move.posed.points[:, move.source.head.vertex_mask("ears"), 1]
        middle, lobe = ears.mean(1)[:, None, None, None], ears.amax(1)[:, None, None, None]
        down = pixel_grid(*move.source.size, mesh)[..., 1]
        low = ramp((down - middle) / (lobe - middle).clamp_min(1e-4), 0.3, 1.0)
        maps = person_of(move).maps
        both = F.grid_sample(
            torch.cat([maps.hair, maps.hair.maximum(maps.resting)], 1),
            flow_grid(move.bend.offset),
            padding_mode="border",
            align_corners=False,
        )
        return cls(mesh, deep, inner, low, 1 - gaussian_blur(move.bend.core, u), both[:, :1], both[:, 1:])


def _voluminous(move: Move) -> Tensor:
    """(B,1,1,1) 1 for hair and hats that stand out far."""
    lift = move.source.hair_offsets.norm(dim=-1).amax(1) * move.source.face.camera[:, 0]
    return ramp(lift, *bend_options(move.source).voluminous)[:, None, None, None]


def _filled(move: Move, side: _Side, bent: MovedPerson, person: Tensor, layered: MovedPerson) -> list[tuple[Tensor, MovedPerson]]:
    """Holes of the side that turns to the camera: their shares and what fills them, one over the other.

    Args:
        move: the move.
        side: of the target.
        bent: the bent photograph.
        person: (B,3,H,W) its person's own colours.
        layered: what the layers show.
    """
    assert move.bend is not None
    u, near = move.source.unit, move.bend.near
    if not bool(near.any()):
        return []
    shown, known = (bent.alpha > 0.5).to(person), erode((bent.alpha > 0.95).to(person), odd(3 * u))
    under_ear, under_hair = neck_in_view(move, shown * (side.loose < 0.5))
    free = 1 - person_of(move).resting[:, :1]
    # a hole of the head, such as between an ear and the hair above it, shows the layers; below the ears only what is the person's,
    # and, of voluminous hair and hats, whose shell is a guess, gaps alone
    far_out = side.low.maximum(_voluminous(move) * (1 - closed(shown, odd(21 * u), -2)))
    hole = near * side.deep.maximum(side.low * side.inner) * free * torch.lerp(torch.ones_like(shown), shown, far_out)
    filled = bent.validity.minimum(layered.validity)
    holes = MovedPerson(torch.lerp(layered.image, person, bent.alpha), torch.lerp(filled, bent.validity, bent.alpha), layered.alpha)
    # a neck that comes into view is the layers', with its outline and its collar: bent, it would be as wide as the head
    over_neck = gaussian_blur(dilate(near, odd(24 * u)), 4 * u) * under_ear * (1 - erode(move.bend.face * shown, odd(5 * u)))
    seen_cloth, made_cloth = person_of(move).resting[:, :2].split(1, 1)
    over_neck = over_neck * (1 - dilate(ramp(made_cloth - seen_cloth, 0.1, 0.4), odd(5 * u)))
    over_neck = over_neck * dilate((bent.alpha.maximum(layered.alpha) > 0.05).to(person), odd(9 * u))
    guess, all_of_it = bent.validity * GUESS, torch.ones_like(shown)
    # a gap between an ear and the hair over it, a hole in hair, and any hole before the head under hair have what is around them
    between, within = closed(shown, odd(11 * u), -2), closed(bent.alpha, odd(21 * u), -1).minimum(closed(bent.alpha, odd(21 * u), -2))
    within = ((within - bent.alpha) / (1 - bent.alpha).clamp_min(0.05)).clamp(0, 1)
    gap = (within.maximum(between - shown) * (1 - under_ear)).maximum(under_hair * side.deep * (1 - shown))
    return [
        (gaussian_blur(hole, 0.7), holes),
        (gaussian_blur(over_neck * (1 - dilate(ramp(side.hair, 0.3, 0.6), odd(9 * u))), u), layered),
        (gaussian_blur(near * gap, 0.7), MovedPerson(pull_push(person, known), guess, all_of_it)),
    ]


def _skin_going_on(move: Move, side: _Side, bent: MovedPerson, layered: MovedPerson, hole: Tensor) -> MovedPerson:
    """The layers, but for the skin of a side of the face that comes into view: that goes on from what is well seen beside it.

    Where the photograph shows a cheek at a grazing angle, the layers' map of it holds what hung or shone there, in blotches.
    """
    u = move.source.unit
    face = move.posed.part("face").to(hole)
    bare = face * (1 - ramp(side.hair, 0.2, 0.5))
    known = erode(face * (side.loose < 0.1) * (bent.alpha > 0.95), odd(3 * u)) * (1 - hole)
    share = gaussian_blur(bare, 2 * u) * layered.alpha
    # under the light that falls there: a jaw turns away below its edge
    shading = hidden_shading(move.source.head, move.posed.raster, move.posed.normals, move.target.light, move.source.options)
    return MovedPerson(
        torch.lerp(layered.image, (pull_push(bent.image / shading, known) * shading).clamp(0, 1), share),
        torch.lerp(layered.validity, bent.validity.minimum(layered.validity) * GUESS, share),
        layered.alpha,
    )


def _new_skin(move: Move, side: _Side) -> Tensor:
    """(B,1,H,W) 1 on skin of the face that the photograph did not show, or only as its rim, which has something of the background."""
    assert move.bend is not None
    firm = F.grid_sample(person_of(move).maps.firm, flow_grid(move.bend.offset), padding_mode="border", align_corners=False)
    rim = (move.bend.near > 0.5) & move.posed.part("face") & (firm < 0.5) & (side.hair < 0.1)
    return move.bend.new.maximum(opened(rim.to(firm), odd(3 * move.source.unit)))


def _given_way(move: Move, side: _Side, bent: MovedPerson, layered: MovedPerson, strained: Tensor) -> list[tuple[Tensor, MovedPerson]]:
    """Where the layers are seen: their shares, one over the other.

    Args:
        move: the move.
        side: of the target.
        bent: the bent photograph.
        layered: what they show.
        strained: (B,1,H,W) where the bent photograph is stretched too far.
    """
    bend, u, o = move.bend, move.source.unit, bend_options(move.source)
    assert bend is not None
    close = (_voluminous(move) < 0.5).to(strained)
    torn = gaussian_blur(dilate(strained, odd(3 * u)), 2 * u) * bend.near * side.deep * side.beside
    # close hair pressed together behind the far side leaves a tuft beyond the fold, and above the forehead a second hairline
    folded = closed(ramp(bend.folded, 0.1, 0.5), odd(o.tuft * u), -2) * (1 - bend.near)
    sideways = bend.near.amax((1, 2, 3), keepdim=True)  # not where a head nods
    folds = folded, bend.folds * side.mesh * (1 - side.low) * sideways
    beyond, above = (gaussian_blur(dilate(fold, odd(o.fold * u)), 2 * u) for fold in folds)
    # the far side of close hair ends where the layers' does: what the bend lays beyond are wisps, and what it leaves out are notches
    differ = dilate(((layered.alpha - bent.alpha).abs() > 0.1).to(strained), odd(3 * u))
    ends = gaussian_blur(differ, u) * (1 - bend.near) * (1 - side.low) * sideways
    # high above the face are hats
    face, rows = move.posed.points[:, move.source.head.vertex_mask("face"), 1], pixel_grid(*move.source.size, beyond)[..., 1]
    top, height = face.amin(1)[:, None, None, None], (face.amax(1) - face.amin(1))[:, None, None, None]
    beyond = beyond * (1 - ramp((top - rows) / height, *o.hats))
    there = gaussian_blur(erode((layered.alpha > 0.98).to(strained), odd(5 * u)), u)
    new_skin = _new_skin(move, side)
    new = gaussian_blur(dilate(new_skin, odd(3 * u)), 2 * u) * there
    # a hat that is pressed together stays the hat that it is
    above = above * side.deep * side.beside * (1 - side.low) * gaussian_blur(dilate(1 - side.hair, odd(13 * u)), u)
    hole = dilate(new_skin, odd(5 * u)).maximum((strained > 0.3).to(strained) * bend.near)
    skin = _skin_going_on(move, side, bent, layered, hole)
    # eyes and mouths are the layers'; where a cheek was hardly seen they show their map
    well = gaussian_blur(erode(ramp(move.seen, 0.3, 0.6), odd(3 * u)), 1.5 * u)
    seen = erode(bend.core, odd(4 * u)) * well * (1 - new)
    return [(torn * close, skin), (new, skin), (beyond.maximum(above).maximum(ends) * close, layered), (seen, layered)]


def neck_in_view(move: Move, skin: Tensor) -> tuple[Tensor, Tensor]:
    """Where a neck may come into view: on both sides under the ears, down to the collar.

    Args:
        move: of turned heads.
        skin: (B,1,H,W) 1 on the bare skin of the bent photograph's person.

    Returns:
        (B,1,H,W) in 0..1, as far as the ear is bare; and the same as far as hair covers it, down to the chin.
    """
    o, head, points, (height, width) = bend_options(move.source), move.source.head, move.posed.points, move.source.size
    size = points.new_tensor([width, height])
    ears, face = (((points[:, head.vertex_mask(part), :2] + 1) * size - 1) / 2 for part in ("ears", "face"))
    bottom = face[..., 1].amax(1, keepdim=True)
    rows, columns = (torch.arange(count, device=points.device) for count in (height, width))
    seen = F.grid_sample(gaussian_blur(skin, 2 * move.source.unit), points[:, head.vertex_mask("ears"), None, :2], align_corners=False)
    inside = covered = torch.zeros_like(skin[:, 0])
    for side in (1, -1):  # seen from the left, and from the right
        place, across = ears[..., 0] * side, columns * side
        middle = place.mean(1, keepdim=True)
        half = (across < middle)[:, None]
        mine = (place < middle).to(points)
        top = torch.where(place < middle, ears[..., 1], -height).amax(1, keepdim=True)
        down = (rows - top) / (bottom - top).clamp_min(1)  # (B,H): 0 at the lobe, 1 at the chin
        bare = ramp((seen[:, 0, :, 0] * mine).sum(1, keepdim=True) / mine.sum(1, keepdim=True).clamp_min(1), *o.bare_ear)[..., None]
        inside = inside + bare * half * ((down >= -o.lobe) * (1 - ramp(down, *o.collar)))[..., None]
        covered = covered + (1 - bare) * (half & ((down >= 0) & (down <= 1))[..., None])
    return inside[:, None], covered[:, None]
