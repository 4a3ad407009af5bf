"""A reference's body under a source's head.

Neck, chest, collar, clothes and their outline are one piece of the reference's photograph: made as large as the heads' sizes tell, chin
under chin and neck under head, and narrowed or widened only where the neck meets the jaw. What hair, face or frame hid of it goes on:
outlines smoothly, below the frame along its own lines (`longer`), beside it along the source's shoulders.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..common.pixels import closed, dilate, erode, gather, gaussian_blur, harmonic_fill, nearest_inside, odd, opened, sampled
from .dressed import Dressed, foreground, like_skin, some, whole_face
from .longer import longer

# shares of the face's side
# how far below the chin and on how much of the square a chest is bare, by how much arms differ from it, and how broad they are
CHEST, ALIKE, BROAD = (0.12, 0.03), 0.05, 0.08
CORE, WIDEST = 0.1, 0.24  # half the width that a neck has at least and at most
FRAME = 0.02  # what lies so near to the reference's frame is not read
HOLES, STRANDS = 0.06, 0.05  # width of gaps in a body that are none, and of what is none of it
UNDER = 0.1  # height under the chin in which nothing of its colours is clothes
ENTRY = (-0.06, 0.1)  # rows, below the chin, in which necks are compared
ABOVE, LEVEL = 0.3, 0.03  # how far above the chin bodies end, and how far below it hidden shoulders begin
WIDER, LONG, ASIDE = 0.06, 0.22, 0.3  # by how much a neck's edge is moved at most, and down to and out to where that reaches
BEYOND = 0.08  # how far beyond the frame outlines are joined with the source's
# rows per column of outlines that are no shoulders, and of shoulders that are not seen; how round these are
STEEP, SLOPE, ROUND = 1.5, 0.6, 0.4
RAISED = 0.4  # by how much the source's shoulders are moved at most
SHOULDERS = (0.28, 0.5)  # how far beside the neck shoulders' heights are compared
NATURAL, CLEAR, LOWERED = 0.05, 0.05, 0.08  # difference that is left, what stays of a bare neck, and how much lower bodies are put
MIRRORED = 0.1  # how far from what is seen clothes are mirrored
SOFTER = ((0.05, 0.002), (0.15, 0.02), (0.4, 0.05))  # how far from what is seen clothes are how much smoother
LONGEST = 4.0  # how much of a picture is added below it at most
FEWEST = 0.003  # of the square: less than that of clothes is none


@dataclass(frozen=True, eq=False)
class Fitted:
    """A reference's body under a source's head, each (1,C,H,W) of the source.

    Attributes:
        alpha: share of the body, which goes on behind the head.
        colours: of clothes and of skin.
        cloth: 1 where there are clothes rather than skin.
        skin: 1 where the reference itself shows bare skin.
        guessed: 1 where it shows nothing of the body.
    """

    alpha: Tensor
    colours: Tensor
    cloth: Tensor
    skin: Tensor
    guessed: Tensor


def fitted_clothes(reference: Dressed, source: Dressed) -> Fitted | None:
    """A reference's body under a source's head.

    Args:
        reference: whose clothes they are.
        source: who shall wear them.

    Returns:
        the body, None if the reference shows no clothes.
    """
    side = source.square.side
    u = max(1.0, 0.01 * side)
    if (reference.cloth * reference.alpha > 0.9).sum() < FEWEST * reference.square.side**2:
        return None
    there, inside, own_frame = _laid_over(reference, source)
    colours, alpha, cloth, hair, face, skin = there.split((3, 1, 1, 1, 1, 1), 1)
    hidden = dilate((hair > 0.2).to(hair), odd(5 * u)).maximum(dilate((face > 0.5).to(face), odd(3 * u)))
    seen = inside * (1 - hidden)
    body = _outline(source, alpha, hidden, inside * own_frame, inside)
    kinds = cloth * alpha * seen, (1 - cloth) * skin * alpha * seen
    sure, bare = (erode(kind, odd(u)) > 0.9 for kind in kinds)
    if not bool(sure.any()):
        return None
    to_cloth, to_bare = (nearest_inside(kind[:, 0] > 0.5)[1][:, None] for kind in kinds)
    likely = torch.sigmoid(3 * (to_bare.clamp(max=1e6) - to_cloth) / u)
    shown = gaussian_blur(seen * (alpha > 0.5), max(0.5, 0.5 * u)).minimum(seen * alpha)
    dressed = torch.lerp(gaussian_blur(likely, max(0.5, u)), cloth, ((shown - 0.3) / 0.4).clamp(0, 1)).clamp(0, 1)
    for dim in (-1, -2):  # no line of skin along the reference's outline
        dressed = closed(dressed, odd(2 * u), dim)
    guess = _going_on(colours, sure, side)
    if bool(bare.any()):
        guess = torch.lerp(_going_on(colours, bare, side), guess, dressed)
    guessed = 1 - ((shown - 0.6) / 0.4).clamp(0, 1)
    return Fitted(body, torch.lerp(colours, guess, guessed), dressed, bare.to(alpha), guessed)


def _laid_over(reference: Dressed, source: Dressed) -> tuple[Tensor, Tensor, Tensor]:
    """The reference's maps (1,8,H,W) in the source's frame: its person's colours, alpha, cloth, hair, face and what is like skin; where
    they show it or what goes on below it (1,1,H,W), and where its own picture is (1,1,H,W)."""
    cloth = ((reference.cloth - 0.3) / 0.4).clamp(0, 1)
    low, margin = reference.below_chin(), FRAME * reference.square.side
    rows = torch.arange(cloth.shape[-2], device=cloth.device, dtype=cloth.dtype)[:, None].expand_as(cloth)
    # what has the chin's colours right under it is skin
    under = reference.column(CORE) * (1 - (rows - reference.chin) / (UNDER * reference.square.side)).clamp(0, 1).ceil()
    cloth = cloth * (1 - under * like_skin(reference)) * (1 - _bare_arms(reference))
    crisp = torch.lerp(reference.alpha, ((reference.alpha - 0.25) / 0.5).clamp(0, 1), low * (1 - reference.hair))
    # narrow holes below the shoulders are none, nor are strands beside them
    crisp = crisp.maximum(closed(crisp, odd(HOLES * reference.square.side), -1) * (crisp * low).cummax(-2).values)
    broad = dilate(opened((crisp > 0.5).to(crisp), odd(STRANDS * reference.square.side)), 5)
    crisp = crisp * torch.lerp(torch.ones_like(broad), gaussian_blur(broad, 1.0), low)
    x, y = _places(reference, source)
    height, width = reference.picture.shape[-2:]
    more = min(float(y.max()) - height + 2 + 2 * margin, LONGEST * height)
    full = longer(replace(reference, alpha=crisp, cloth=cloth), max(2, round(more) // 2 * 2))
    front = foreground(full.picture, full.alpha)
    front = torch.cat([front[..., :height, :], full.picture[..., height:, :]], -2)
    places = torch.stack([x, y], -1)[None] - 0.5
    face = whole_face(full)
    rows = torch.arange(face.shape[-2], device=x.device)[:, None].expand_as(face)
    face = torch.where(rows < reference.chin - ABOVE * reference.square.side, full.alpha, face)
    maps = torch.cat([full.alpha, full.cloth, full.hair, face, like_skin(full)], 1)
    maps = torch.cat([sampled(front, places).clamp(0, 1), sampled(maps, places, "bilinear")], 1)
    inside = ((x > margin) & (x < width - margin) & (y > margin) & (y < full.picture.shape[-2] - margin)).to(maps)[None, None]
    return maps, inside, (y < height - margin).to(maps)[None, None]


def _bare_arms(one: Dressed) -> Tensor:
    """(1,1,H,W): what is said to be clothes, but has the colours of a chest that is bare far down."""
    side = one.square.side
    rows = torch.arange(one.alpha.shape[-2], device=one.alpha.device)[:, None]
    low = (one.alpha * (1 - one.hair) * one.below_chin() > 0.9) & (rows > one.chin + CHEST[0] * side)
    bare, worn = low & (erode(1 - one.cloth, odd(0.02 * side)) > 0.9), low & (one.cloth > 0.5)
    arms = torch.zeros_like(one.alpha)
    if float(bare.sum()) < CHEST[1] * side**2 or not bool(worn.any()):
        return arms
    picture = gaussian_blur(one.picture, max(0.5, 0.01 * side))[0].permute(1, 2, 0)
    known = some(picture[bare[0, 0]])
    cost = torch.cat([torch.cdist(part, known).kthvalue(min(5, len(known)), 1).values for part in picture[worn[0, 0]].split(4096)])
    arms[worn] = (cost < ALIKE).to(arms)
    arms = opened(arms, odd(BROAD * side))
    return gaussian_blur(dilate(arms, odd(0.05 * side)), max(0.5, 0.008 * side))


def _outline(source: Dressed, alpha: Tensor, hidden: Tensor, frame: Tensor, inside: Tensor) -> Tensor:
    """The body (1,1,H,W): what an alpha (1,1,H,W) shows in the reference's picture (1,1,H,W) where nothing hides it (1,1,H,W), and what
    goes on smoothly behind that and beyond; `inside` (1,1,H,W) is the picture with what was added below it."""
    side = source.square.side
    own = frame * (1 - hidden)
    body = _signed(alpha, side)
    goes_on, joined, there = _beyond(source, alpha, own)
    added = (inside * (1 - hidden) * (1 - frame) > 0.5) & ~joined
    body = torch.where((own > 0.5) | added, body, goes_on).maximum(torch.where(added, goes_on, -torch.inf))
    known = own.maximum((1 - dilate(frame, odd(2 * BEYOND * side))) * there)
    below = ((torch.arange(alpha.shape[-2], device=alpha.device, dtype=alpha.dtype) + 0.5 - source.chin) / side)[:, None].expand_as(alpha)
    aside = (((torch.arange(alpha.shape[-1], device=alpha.device, dtype=alpha.dtype) + 0.5 - source.middle) / side).abs()).expand_as(alpha)
    hides = (own < 0.5) & (frame > 0.5)
    core = hides & (aside < CORE) & (below > -ABOVE / 2)
    none = (below < -ABOVE) | (hides & (below < LEVEL) & (aside > WIDEST))
    body = torch.where(core, (CORE - aside) * side, torch.where(none, -CORE * side, body))
    known = torch.where(core | none, 1.0, known)
    guess = gaussian_blur(harmonic_fill(body * known, known), max(0.5, 0.01 * side))
    guess = (guess / max(1.0, 0.006 * side) + 0.5).clamp(0, 1)
    return torch.lerp(guess, alpha, gaussian_blur(erode(own, odd(0.02 * side)), max(0.5, 0.005 * side))) * (below >= -ABOVE)


def _signed(alpha: Tensor, side: float) -> Tensor:
    """How far inside a mask (1,1,H,W) pixels are, less than 0 outside, at most 0.2 of the side."""
    inner = (alpha > 0.5)[:, 0]
    return (nearest_inside(~inner)[1] - nearest_inside(inner)[1])[:, None].clamp(-0.2 * side, 0.2 * side)


def _beyond(source: Dressed, alpha: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The source's body, moved up or down so that its shoulders go on those that an alpha (1,1,H,W) shows in the reference's picture
    (1,1,H,W) where these end.

    Returns:
        how far inside it pixels are (1,1,H,W), where shoulders go on (1,1,H,W) bool, and 1 where no hair is before them (1,1,H,W).
    """
    side = source.square.side
    height, width = alpha.shape[-2:]
    rows = torch.arange(height, device=alpha.device, dtype=alpha.dtype)[:, None]
    columns = torch.arange(width, device=alpha.device, dtype=alpha.dtype)
    top = torch.where((own * alpha * source.below_chin())[0, 0] > 0.5, rows, height).amin(0)
    known = (top < height) & (own[0, 0, (top - 2).clamp(0, height - 1).long(), columns.long()] > 0.5)
    mine, wide = source.tops(), max(2, round(0.06 * side))
    y, sloping = rows.expand(-1, width), torch.full_like(alpha[0, 0], -torch.inf)
    joined = torch.zeros_like(sloping, dtype=torch.bool)
    for sign in (-1, 1):
        offset = sign * (columns + 0.5 - source.middle)
        at = (known & (offset > CORE * 2 * side)).nonzero()[:, 0]
        if not len(at):
            continue
        end = int(at[offset[at].argmax()])
        inner = min(max(end - sign * wide, 0), width - 1)
        outer = (offset > float(offset[end])).expand(height, -1)
        if abs(float(top[end] - top[inner])) > STEEP * wide:  # an arm's outline
            y = torch.where(outer, -torch.inf, y)
            continue
        joined = joined | outer
        if bool(mine[end].isfinite()):
            y = torch.where(outer, rows - (top[end] - mine[end]).clamp(-RAISED * side, RAISED * side), y)
        else:
            y = torch.where(outer, -torch.inf, y)
            far = offset - offset[end]
            sloping = torch.where(outer, rows - top[end] - SLOPE * far - far.square() / (ROUND * side), sloping)
    places = torch.stack([columns.expand(height, -1), y.clamp_min(-1)], -1)[None]
    moved = sampled(torch.cat([_signed(source.alpha * source.below_chin(), side), source.hair], 1), places, "bilinear")
    free = 1 - dilate((moved[:, 1:] > 0.2).to(alpha), odd(0.05 * side))
    return moved[:, :1].maximum(sloping.clamp(max=0.2 * side)), joined[None, None], free


def _going_on(colours: Tensor, sure: Tensor, side: float) -> Tensor:
    """Colours (1,3,H,W) everywhere of what is sure (1,1,H,W bool)."""
    index, away = nearest_inside(sure[:, 0])
    away = away[:, None] / side
    nearest = gather(colours, index)
    close = (1 - away / MIRRORED).clamp(0, 1)
    result = torch.lerp(nearest, _mirrored(colours, sure, index, 0.01 * side), (2 * close).clamp(max=1))
    begin = 0.0
    for distance, blur in SOFTER:
        result = torch.lerp(result, gaussian_blur(nearest, max(0.5, blur * side)), ((away - begin) / (distance - begin)).clamp(0, 1))
        begin = distance
    return result.clamp(0, 1)


def _mirrored(colours: Tensor, sure: Tensor, index: Tensor, blur: float) -> Tensor:
    """Colours (1,3,H,W) of the nearest (1,H,W) sure pixel (1,1,H,W bool), or of what lies as far behind it, where that is sure as well."""
    height, width = colours.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height, device=index.device), torch.arange(width, device=index.device), indexing="ij")
    there = torch.stack([torch.div(index, width, rounding_mode="floor") - rows, index % width - columns], 1).to(colours)
    there = gaussian_blur(there, max(0.5, blur))  # one smooth border, or what is behind it is torn
    y = (rows + 2 * there[:, 0]).round().long().clamp(0, height - 1)
    x = (columns + 2 * there[:, 1]).round().long().clamp(0, width - 1)
    mirror = y * width + x
    share = gaussian_blur(gather(sure.to(colours), mirror), max(0.5, blur / 2))
    return torch.lerp(gather(colours, index), gather(colours, mirror), ((share - 0.5) * 2).clamp(0, 1))


def _places(reference: Dressed, source: Dressed) -> tuple[Tensor, Tensor]:
    """Where the reference shows what lies under the source's head: x and y (H,W) in its pixels."""
    height, width = source.picture.shape[-2:]
    side = source.square.side
    columns = torch.arange(width, dtype=source.picture.dtype, device=source.picture.device).expand(height, -1) + 0.5
    rows = torch.arange(height, dtype=source.picture.dtype, device=source.picture.device)[:, None].expand(-1, width) + 0.5
    scale = float(side * source.camera[0] / (reference.square.side * reference.camera[0]))
    own, theirs = _neck(source), _neck(reference)
    middle, their_middle = source.middle, reference.middle
    if own is not None and theirs is not None:
        middle, their_middle = sum(own) / 2, sum(theirs) / 2
        # the neck is as wide as the source's where it meets the jaw
        down = ((rows - source.chin) / (LONG * side)).clamp(0, 1)
        fades = 1 - down * down * (3 - 2 * down)
        offset = columns - middle
        half, wider = (own[1] - own[0]) / 2, (theirs[1] - theirs[0]) / 2 * scale - (own[1] - own[0]) / 2
        share = (offset / half).clamp(-1, 1) * (1 - (offset.abs() - half) / (ASIDE * side)).clamp(0, 1)
        columns = columns + min(max(wider, -WIDER * side), WIDER * side) * share * fades
    return their_middle + (columns - middle) / scale, reference.chin + (rows - _lower(reference, source, scale) - source.chin) / scale


def _lower(reference: Dressed, source: Dressed, scale: float) -> float:
    """By how many rows a reference's body is put lower than chin under chin, because its shoulders are so much higher under its head than
    the source's; less than 0 if they are lower, as far as its bare neck is long enough. Its pixels are `scale` of the source's."""
    side, heights = source.square.side, []
    for one, unit in ((source, 1.0), (reference, 1 / scale)):
        aside = (torch.arange(one.alpha.shape[-1], device=one.alpha.device) + 0.5 - one.middle).abs() / unit / side
        tops = one.tops()[(aside > SHOULDERS[0]) & (aside < SHOULDERS[1])]
        tops = tops[tops.isfinite()]
        if len(tops) < 0.05 * unit * side:
            return 0.0
        heights.append((float(tops.median()) - one.chin) / unit)
    differs = heights[0] - heights[1]
    moved = max(differs - NATURAL * side, 0.0) + min(differs + NATURAL * side, 0.0)
    return min(max(moved, -max(_bare_neck(reference) * scale - CLEAR * side, 0.0)), LOWERED * side)


def _bare_neck(one: Dressed) -> float:
    """How many rows of a neck are bare below the chin."""
    rows = torch.arange(one.face.shape[-2], device=one.face.device)[:, None]
    middle = one.column(CORE / 2) > 0.5
    bare = ((one.cloth < 0.5) & (one.hair < 0.5) & (one.alpha > 0.5) & middle & (rows > one.chin))[0, 0]
    return float(bare.sum()) / float(middle[0, 0, 0].sum().clamp_min(1))


def _neck(one: Dressed) -> tuple[float, float] | None:
    """Columns of a neck's left and right edge under the chin; None where that is not bare before the background."""
    side = one.square.side
    columns = torch.arange(one.alpha.shape[-1], device=one.alpha.device, dtype=one.alpha.dtype)
    first, last = (min(max(round(one.chin + share * side), 0), one.alpha.shape[-2]) for share in ENTRY)
    body, worn = (one.alpha > 0.5)[0, 0], (dilate(one.hair.maximum(one.cloth), odd(0.03 * side)) > 0.5)[0, 0]
    near = (columns - one.middle).abs() < WIDEST * side
    edges: list[list[float]] = [[], []]
    for row in range(first, last, max(1, round(0.01 * side))):
        at = (body[row] & near).nonzero()[:, 0]
        for found, end in zip(edges, (at[:1], at[-1:]), strict=True):
            if len(end) and abs(float(end) + 0.5 - one.middle) < WIDEST * side - 2 and not bool(worn[row, end]):
                found.append(float(end) + 0.5)
    if min(map(len, edges)) < 3:
        return None
    left, right = (float(one.alpha.new_tensor(found).median()) for found in edges)
    return (left, right) if right - left > 2 * CORE * side else None
