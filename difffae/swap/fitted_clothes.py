"""A reference's clothes put on a source's body.

The reference is laid over the source so that the heads meet, its collar with the neck and its shoulders on the source's shoulders: then
outline and background stay the source's but around the neck, where collars have their own outline. Below its frame the reference goes on
along its own lines (`longer`), beside it and under its hair in the colours of what is nearest.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import closed, connected, dilate, erode, gather, gaussian_blur, nearest_inside, odd, opened
from .dressed import Dressed, foreground, like_skin
from .longer import longer

# shares of the face's side
NECK = 0.17  # half the width in which a neck may be bare where that is not seen
FRAME = 0.02  # what lies so near to the reference's frame is not read
HOLES = 0.06  # width of gaps in a body that are none
ENTRY = (-0.10, 0.16)  # rows, below the chin, in which necks go into collars
SHOULDERS, STEP, STEEP = (0.3, 0.85), 0.1, 1.5  # how far beside the neck shoulders are compared, in which steps, and how steep they are
BEYOND = 0.3  # how far shoulders are taken to slope on beyond what is seen
RAISED, LOWERED, OUTER = 0.35, 0.04, 0.5  # by how much clothes are raised and lowered at most, and lowered more per width beside the collar
FARTHEST = 0.08  # by which a collar is moved to the neck
RISE = 0.8  # of shoulders towards a neck, below which they are no collars
WIDE = 0.06  # width in which a shoulder's height is read
COLLAR = (0.3, 0.42)  # half the width in which the outline is the reference's, and from which on the source's
MIRRORED = 0.16  # how far from what is seen clothes are mirrored
SOFTER = ((0.1, 0.001), (0.2, 0.01), (0.5, 0.03))  # how far from what is seen clothes are how much smoother
FOLDS, DEEPEST = 0.05, 0.15  # width over which the source's folds are measured, and how much darker or lighter they may be
SLOPE = 0.7  # of shoulders towards the reference's frame, if they are higher than the source's
LONGEST = 4.0  # how much of a picture is added below it at most
FEWEST = 0.003  # of the square: less than that of clothes is none


@dataclass(frozen=True, eq=False)
class Fitted:
    """A reference's clothes on a source's body, each (1,C,H,W) of the source.

    Attributes:
        alpha: share of the body; the head's own place is not told.
        colours: of clothes, which go on everywhere, and of skin where `neck` shows it.
        cloth: 1 where there are clothes rather than skin; goes on everywhere.
        neck: 1 where the reference shows what is not its face; there bare colours are those of its neck and chest.
    """

    alpha: Tensor
    colours: Tensor
    cloth: Tensor
    neck: Tensor


def fitted_clothes(reference: Dressed, source: Dressed) -> Fitted | None:
    """A reference's clothes on a source's body.

    Args:
        reference: whose clothes they are.
        source: who shall wear them.

    Returns:
        the clothes, None if the reference shows none.
    """
    side = source.square.side
    u = max(1.0, 0.01 * side)
    if (reference.cloth * reference.alpha > 0.9).sum() < FEWEST * reference.square.side**2:
        return None
    there, grid = _laid_over(reference, source)
    colours, alpha, cloth, hair, face, skin, own_frame = there.split((3, 1, 1, 1, 1, 1, 1), 1)
    size = grid.new_tensor([reference.picture.shape[-1], reference.picture.shape[-2]])
    inside = (grid.abs() < 1 - 2 * FRAME * reference.square.side / size).all(-1)[:, None].to(alpha)
    seen = inside * (1 - dilate(hair, odd(4 * u))).clamp(0, 1)
    sure, bare = (erode(share * alpha * seen, odd(u)) > 0.9 for share in (cloth, 1 - cloth))
    if not bool(sure.any()):
        return None
    to_cloth, to_bare = (nearest_inside(mask[:, 0])[1][:, None] for mask in (sure, bare))
    likely = torch.sigmoid(3 * (to_bare.clamp(max=1e6) - to_cloth) / u)
    likely = torch.lerp(torch.ones_like(likely), likely, source.column(NECK))
    dressed = torch.lerp(gaussian_blur(likely, max(0.5, u / 2)), cloth, ((seen * alpha - 0.5) / 0.4).clamp(0, 1)).clamp(0, 1)
    for dim in (-1, -2):  # no line of skin along the reference's outline
        dressed = closed(dressed, odd(2 * u), dim)
    chin = gaussian_blur(dilate(face, odd(6 * u)), max(0.5, 2 * u))
    neck = (seen * alpha * (1 - 1.25 * chin)).clamp(0, 1) * torch.lerp(gaussian_blur(skin, max(0.5, u)), torch.ones_like(skin), dressed)
    body = _outline(source, alpha * (1 - hair), dressed, seen * own_frame, inside)  # below the frame outlines are guesses
    shown = gaussian_blur(erode(sure.to(colours), 3), 0.7).maximum(neck * (1 - dressed))
    return Fitted(body, torch.lerp(_going_on(colours, sure, source), colours, shown), dressed, neck)


def _laid_over(reference: Dressed, source: Dressed) -> tuple[Tensor, Tensor]:
    """The reference's maps (1,9,H,W) in the source's frame, and where they were read (1,H,W,2) in -1..1 of its picture, which goes on as
    far down as it is needed. The maps are its person's colours, alpha, cloth, hair, face and what is like skin, and 1 where the picture
    is its own."""
    cloth = ((reference.cloth - 0.3) / 0.4).clamp(0, 1)
    low = reference.below_chin()
    crisp = torch.lerp(reference.alpha, ((reference.alpha - 0.25) / 0.5).clamp(0, 1), low * (1 - reference.hair))
    # narrow holes below the shoulders are none
    crisp = crisp.maximum(closed(crisp, odd(HOLES * reference.square.side), -1) * (crisp * low).cummax(-2).values)
    x, y = _places(reference, source)
    height, width = reference.picture.shape[-2:]
    more = min(float(y.max()) - height + 2 + 2 * FRAME * reference.square.side, LONGEST * height)
    full = replace(reference, alpha=crisp, cloth=cloth)
    full = longer(full, max(2, round(more) // 2 * 2))
    front = foreground(full.picture, full.alpha)
    front = torch.cat([front[..., :height, :], full.picture[..., height:, :]], -2)
    grid = (torch.stack([x, y], -1) * 2 / x.new_tensor([width, full.picture.shape[-2]]) - 1)[None]
    colours = F.grid_sample(front, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    own_rows = torch.arange(full.picture.shape[-2], device=x.device)[:, None] < height
    maps = torch.cat([full.alpha, full.cloth, full.hair, full.face, like_skin(full), own_rows.to(x).expand_as(full.face)], 1)
    maps = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return torch.cat([colours, maps], 1), grid


def _outline(source: Dressed, alpha: Tensor, cloth: Tensor, seen: Tensor, inside: Tensor) -> Tensor:
    """The body (1,1,H,W): around the neck the reference's outline, beside that the source's, and collars of the reference anywhere."""
    side = source.square.side
    away = (torch.arange(alpha.shape[-1], device=alpha.device, dtype=alpha.dtype) + 0.5 - source.middle).abs() / side
    near = (1 - (away - COLLAR[0]) / (COLLAR[1] - COLLAR[0])).clamp(0, 1) * gaussian_blur(seen, max(0.5, 0.01 * side))
    own = source.alpha * source.below_chin()
    # a wider neck than the source's shows only where it is in a collar
    cover = opened((cloth * alpha * seen > 0.5).to(alpha), odd(0.02 * side))
    cover = cover.cummax(-1).values.minimum(cover.flip(-1).cummax(-1).values.flip(-1))
    theirs = alpha * torch.lerp(source.alpha, torch.ones_like(alpha), gaussian_blur(cover, max(0.5, 0.005 * side)))
    # where the source is bare, clothes follow its shoulders up to the neck
    bare = gaussian_blur(opened(like_skin(source) * own * (1 - source.cloth), odd(0.03 * side)), 1.0)
    own = torch.lerp(own, own.minimum(theirs.maximum(bare)), near * seen)
    rows = torch.arange(alpha.shape[-2], device=alpha.device, dtype=alpha.dtype)[:, None]
    below = ((rows - _shoulder_line(source)) / max(1.0, 0.01 * side)).clamp(0, 1)
    own = own.minimum(theirs.maximum(bare).maximum(below))
    # what stands out of that are clothes that hang together with the body
    out = (theirs * cloth.maximum(cover) * seen > 0.5).to(alpha) * _no_step(source.alpha * source.below_chin(), inside)
    out = connected(out * (own > 0.5), out, 3)
    return own.maximum(theirs * gaussian_blur(dilate(out, 3), 0.7) * seen)


def _shoulder_line(source: Dressed) -> Tensor:
    """(W,): the rows to which a source's shoulders rise beside its neck at most, above which there are collars; 0 farther out."""
    side, tops = source.square.side, source.tops()
    offset = (torch.arange(len(tops), device=tops.device, dtype=tops.dtype) + 0.5 - source.middle) / side
    line = torch.zeros_like(tops)
    for sign in (-1, 1):
        last = min(COLLAR[1], float((sign * offset).max()) - FRAME)
        at = (sign * offset > last - WIDE) & (sign * offset <= last) & tops.isfinite()
        if last > COLLAR[0] and bool(at.any()):
            inner = (sign * offset > 0) & (sign * offset < last - WIDE / 2)
            line = torch.where(inner, tops[at].median() - RISE * side * (last - WIDE / 2 - sign * offset), line)
    return line


def _no_step(body: Tensor, inside: Tensor) -> Tensor:
    """(1,1,H,W): 1 no higher above a body (1,1,H,W) than a slope reaches from the sides of a frame (1,1,H,W), beyond which it goes on."""
    height, width = body.shape[-2:]
    rows = torch.arange(height, device=body.device, dtype=body.dtype)[:, None]
    columns = torch.arange(width, device=body.device, dtype=body.dtype)
    top = torch.where(body[0, 0] > 0.5, rows, height).amin(0)
    ends = torch.cat([columns[inside[0, 0].amax(0) < 0.5], columns.new_tensor([-torch.inf, torch.inf])])
    away = (columns[:, None] - ends).abs().amin(1)
    return (rows > top - SLOPE * away).to(body)[None, None]


def _going_on(colours: Tensor, sure: Tensor, source: Dressed) -> Tensor:
    """Colours (1,3,H,W) everywhere of what is sure (1,1,H,W bool), with the source's folds."""
    side = source.square.side
    index, away = nearest_inside(sure[:, 0])
    away = away[:, None] / side
    nearest = gather(colours, index)
    close = (1 - away / MIRRORED).clamp(0, 1)
    result = torch.lerp(nearest, _mirrored(colours, sure, index, 0.01 * side), (2 * close).clamp(max=1))
    begin = 0.0
    for distance, blur in SOFTER:
        result = torch.lerp(result, gaussian_blur(nearest, max(0.5, blur * side)), ((away - begin) / (distance - begin)).clamp(0, 1))
        begin = distance
    worn = (source.cloth * (1 - source.hair) * source.alpha).clamp(0, 1)
    solid = (erode(worn, odd(0.02 * side)) > 0.95).to(worn)
    light = source.picture.mean(1, keepdim=True) + 0.2
    level = gaussian_blur(light * solid, FOLDS * side) / gaussian_blur(solid, FOLDS * side).clamp_min(1e-3)
    folds = light / level.clamp_min(0.02) - 1
    folds = folds * erode((folds.abs() < DEEPEST).to(folds), odd(0.02 * side))  # what differs more is no fold
    folds = 1 + folds * gaussian_blur(solid, 1.0) * (away / 0.06).clamp(0, 1)
    return (result * folds).clamp(0, 1)


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
    """Where the reference shows what lies on the source's body: x and y (H,W) in its pixels."""
    height, width = source.picture.shape[-2:]
    columns = torch.arange(width, dtype=source.picture.dtype, device=source.picture.device) + 0.5
    rows = torch.arange(height, dtype=source.picture.dtype, device=source.picture.device)[:, None] + 0.5
    offset = columns - source.middle
    for sign, (at, shift) in zip((-1, 1), _necks(reference, source), strict=True):
        # the collar goes with the neck's edge, the shoulder with the collar
        share = ((sign * offset) / max(sign * (at - source.middle), 1.0)).clamp(0, 1)
        columns = columns + shift * share
    rows = rows + _lower(reference, source, columns)
    return _across(source, reference, columns.expand(height, -1), rows.expand(-1, width))


def _across(source: Dressed, reference: Dressed, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of the source as the reference's camera sees the same places."""
    (s, tx, ty), (s2, tx2, ty2) = source.camera.tolist(), reference.camera.tolist()
    one, other = source.square, reference.square
    world_x = ((x - one.left) / one.side * 2 - 1) / s - tx
    world_y = (1 - (y - one.top) / one.side * 2) / s - ty
    return (
        other.left + (s2 * (world_x + tx2) + 1) / 2 * other.side,
        other.top + (1 - s2 * (world_y + ty2)) / 2 * other.side,
    )


def _lower(reference: Dressed, source: Dressed, columns: Tensor) -> Tensor:
    """(W,): by how much the reference's shoulders lie below the source's, in the source's pixels, by columns (W,), which look at others.

    Between the shoulders it goes evenly from one to the other, beyond what is seen of both it stays.
    """
    side, theirs = source.square.side, reference.tops().maximum(_shoulder_line(reference))
    tops = _sloping(source.tops().maximum(_shoulder_line(source)), BEYOND * side)
    x, y = _across(source, reference, columns, tops)
    at = x.floor().long().clamp(0, len(theirs) - 1)
    scale = side * source.camera[0] / (reference.square.side * reference.camera[0])
    down = (theirs[at] - y) * scale
    down = torch.where((x >= 0) & (x < len(theirs)), down, torch.nan)
    wide = max(1, round(0.02 * side))
    for one in (tops, theirs[at] * scale):  # where arms hang down, rows say nothing
        slope = (one.roll(-wide) - one.roll(wide)).abs() / (2 * wide)
        down = torch.where(slope < STEEP, down, torch.nan)
    offset = (torch.arange(len(tops), device=tops.device, dtype=tops.dtype) + 0.5 - source.middle) / side
    places, found = [], []
    for sign in (-1, 1):
        first = SHOULDERS[0]
        while first < SHOULDERS[1]:
            part = down[(sign * offset >= first) & (sign * offset < first + STEP)]
            if part.isfinite().sum() > 0.3 * STEP * side:
                places.append(sign * (first + STEP / 2))
                found.append(float(part.nanmedian()))
            first += STEP
    if not found:
        return torch.zeros_like(tops)
    lowest = LOWERED + _bare_neck(source) + OUTER * (offset.abs() - COLLAR[0]).clamp_min(0)
    return _between_places(offset, places, found).clamp(max=RAISED * side).maximum(-lowest.clamp(max=RAISED) * side)


def _sloping(tops: Tensor, reach: float) -> Tensor:
    """Rows (W,) that go on like shoulders beyond the known ones, so many columns far; nan elsewhere."""
    known = tops.isfinite().nonzero()[:, 0]
    if not len(known):
        return tops
    at = torch.arange(len(tops), device=tops.device, dtype=tops.dtype)
    first, last = known[0], known[-1]
    left, right = tops[first] + SLOPE * (first - at), tops[last] + SLOPE * (at - last)
    tops = torch.where((at < first) & (at > first - reach), left, tops)
    return torch.where((at > last) & (at < last + reach), right, tops)


def _bare_neck(one: Dressed) -> float:
    """How far below the chin a neck is bare, as a share of the face's side."""
    rows = torch.arange(one.face.shape[-2], device=one.face.device)[:, None]
    middle = one.column(0.3 * NECK) > 0.5
    bare = ((one.cloth < 0.5) & (one.hair < 0.5) & (one.alpha > 0.5) & middle & (rows > one.chin))[0, 0]
    return float(bare.sum()) / float(middle[0, 0, 0].sum().clamp_min(1)) / one.square.side


def _between_places(at: Tensor, places: list[float], values: list[float]) -> Tensor:
    """Values known in some places, at others (W,): linear between them, level beyond."""
    order = sorted(range(len(places)), key=places.__getitem__)
    x, y = (at.new_tensor([one[i] for i in order]) for one in (places, values))
    if len(order) == 1:
        return y.expand_as(at).clone()
    right = torch.searchsorted(x, at.contiguous()).clamp(1, len(order) - 1)
    share = ((at - x[right - 1]) / (x[right] - x[right - 1])).clamp(0, 1)
    return torch.lerp(y[right - 1], y[right], share)


def _necks(reference: Dressed, source: Dressed) -> list[tuple[float, float]]:
    """For the left and the right: the column of the source's neck where it goes into the reference's collar, and how far to the right
    of it the reference's neck is, in the source's pixels."""
    found = []
    for sign in (-1, 1):
        theirs, own = _entry(reference, sign), _edges(source, sign)
        at, shift = source.middle + sign * NECK * source.square.side, 0.0
        if theirs is not None:
            x, y = _across(reference, source, *(source.picture.new_tensor(value) for value in theirs))
            row = round(float(y))
            entry = _entry(source, sign)
            if entry is not None:
                row = min(row, round(entry[1]))
            edge = float(own[min(max(row, 0), len(own) - 1)])
            if edge == edge:
                limit = FARTHEST * source.square.side
                at, shift = edge, min(max(float(x) - edge, -limit), limit)
        found.append((at, shift))
    return found


def _edges(one: Dressed, sign: int) -> Tensor:
    """(H,): the column at which the bare neck ends to the left (-1) or right (1), by rows; nan where it does not, or in hair."""
    side = one.square.side
    columns = torch.arange(one.alpha.shape[-1], device=one.alpha.device, dtype=one.alpha.dtype)
    near = (sign * (columns - one.middle) > 0) & (sign * (columns - one.middle) < 0.3 * side)
    bare = ((one.alpha * (1 - one.hair) * (1 - one.cloth))[0, 0] > 0.5) & near
    edge = (sign * torch.where(bare, sign * columns, -torch.inf)).amax(1) if sign > 0 else torch.where(bare, columns, torch.inf).amin(1)
    hair = dilate(one.hair, odd(0.03 * side))[0, 0]
    inside = edge.isfinite() & ((edge - one.middle).abs() < 0.29 * side)
    at = torch.where(inside, edge, 0).long()
    rows = torch.arange(len(edge), device=edge.device)
    return torch.where(inside & (hair[rows, at] < 0.5), edge, torch.nan)


def _entry(one: Dressed, sign: int) -> tuple[float, float] | None:
    """Column and row where the neck goes into the clothes on the left (-1) or right (1); None where that is not seen."""
    side, edges = one.square.side, _edges(one, sign)
    first, last = (round(one.chin + share * side) for share in ENTRY)
    step = max(2, round(0.01 * side))
    for row in range(max(first, 0), min(last, len(edges))):
        edge = float(edges[row])
        out = round(edge + sign * step) if edge == edge else -1
        if 0 <= out < one.cloth.shape[-1] and float(one.cloth[0, 0, row, out] * one.alpha[0, 0, row, out]) > 0.5:
            return edge, float(row)
    return None
