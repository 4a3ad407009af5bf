"""A reference's body laid under a source's head, and what its photograph does not show of it.

Below and beside its frame and under its hair the outline goes on like the source's own, and clothes in the colours of what is nearest,
with the folds and the grain of the source's.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import closed, dilate, erode, gather, gaussian_blur, nearest_inside, odd, opened, pull_push
from .dressed import Dressed, foreground, inner_face, like_skin

# shares of the face's side
NECK = 0.17  # half the width in which a neck may be bare where that is not seen
OWN = 0.3  # half the width in which a body may be narrower than the source's
JAW = 0.012  # clothes keep so far from the reference's face
FRAME = 0.02  # what lies so near to the reference's frame is not read
HOLES = 0.06  # width of gaps in a body that are none
NARROW = 0.05  # skin that is reached through less than this is none: it has the colour of skin, like some ties
ENTRY = (-0.10, 0.16)  # rows, below the chin, in which necks go into collars
SHOULDERS = (0.17, 0.6)  # how far beside the neck shoulders are compared
LITTLE, RAISED = 0.01, 0.3  # how much lower than the source's they may be, and by how much a body is raised at most
FARTHEST = 0.08  # by which a collar is moved to the neck
SOFTER = ((0.03, 0.003), (0.15, 0.01), (0.5, 0.03))  # how far from what is seen clothes are how much smoother
FOLDS, DEEPEST = 0.05, 0.15  # width over which the source's folds are measured, and how much darker or lighter they may be
SLOPE = 0.6  # of shoulders beyond what is seen of any
CLOSING = 1.4  # an opening that the frame cuts closes: clothes reach so many times as far as skin
FEWEST = 0.003  # of the square: less than that of clothes is none


@dataclass(frozen=True, eq=False)
class Fitted:
    """A reference's body under a source's head, each (1,C,H,W) of the source.

    Attributes:
        alpha: share of the body; the head's own place is not told.
        colours: of the clothes, which go on everywhere.
        cloth: 1 where there are clothes rather than skin; goes on everywhere.
        skin: its skin in the source's colour, which goes on everywhere.
    """

    alpha: Tensor
    colours: Tensor
    cloth: Tensor
    skin: Tensor


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
    there, grid = _laid_over(reference, source)
    colours, alpha, cloth, hair, face = there.split((3, 1, 1, 1, 1), 1)
    size = grid.new_tensor([reference.picture.shape[-1], reference.picture.shape[-2]])
    margin = 1 - 2 * FRAME * reference.square.side / size
    inside = (grid.abs() < margin).all(-1)[:, None].to(alpha)
    below = (grid[..., 1] >= margin[1])[:, None] & (grid[..., 0].abs() < margin[0])[:, None]
    seen = inside * (1 - dilate(hair, odd(2 * u))).clamp(0, 1)
    sure, bare = (erode(share * alpha * seen, odd(u)) > 0.9 for share in (cloth, 1 - cloth))
    if sure.sum() < FEWEST * side**2:
        return None
    body = _outline(source, alpha, seen, inside, below)
    to_cloth, to_bare = (nearest_inside(mask[:, 0])[1][:, None] for mask in (sure, bare))
    likely = torch.sigmoid(3 * (CLOSING * to_bare.clamp(max=1e6) - to_cloth) / u)
    likely = torch.lerp(torch.ones_like(likely), likely, source.column(NECK).maximum(below.to(likely)))
    dressed = torch.lerp(gaussian_blur(likely, max(0.5, u / 2)), cloth, ((seen * alpha - 0.5) / 0.4).clamp(0, 1)).clamp(0, 1)
    for dim in (-1, -2):  # no line of skin along the reference's outline
        dressed = closed(dressed, odd(2 * u), dim)
    going_on = torch.lerp(_going_on(colours, sure, source), colours, gaussian_blur(sure.to(colours), 0.7))
    # a wider neck than the source's shows only where it is in a collar
    cover = opened((dressed * body > 0.5).to(body), odd(2 * u))
    cover = gaussian_blur(_between(cover), max(0.5, u / 2)).maximum(dilate(cover, 3))
    body = body * torch.lerp(source.alpha, torch.ones_like(body), cover)
    neck = bare & (dilate(face, odd(2 * JAW * side)) < 0.5)
    neck = neck if bool(neck.any()) else bare
    return Fitted(body, going_on, dressed, pull_push(colours, neck.to(colours)))


def _laid_over(reference: Dressed, source: Dressed) -> tuple[Tensor, Tensor]:
    """The reference's maps (1,7,H,W) in the source's frame: its person's colours, alpha, cloth, hair and face; and where they were read
    (1,H,W,2) in -1..1."""
    front = foreground(reference.picture, reference.alpha)
    cloth = ((_without_islands(reference) - 0.3) / 0.4).clamp(0, 1)
    grid = _grid(reference, source)
    colours = F.grid_sample(front, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    low = reference.below_chin()
    crisp = torch.lerp(reference.alpha, ((reference.alpha - 0.25) / 0.5).clamp(0, 1), low * (1 - reference.hair))
    # narrow holes below the shoulders are none
    crisp = crisp.maximum(closed(crisp, odd(HOLES * reference.square.side), -1) * (crisp * low).cummax(-2).values)
    solid = (crisp > 0.5).to(crisp)
    mine = _grown((reference.face > 0.5).to(crisp) * solid, solid, 3)
    crisp = crisp * gaussian_blur(dilate(mine, 5), 0.7)
    maps = torch.cat([crisp, cloth, reference.hair, reference.face], 1)
    return torch.cat([colours, F.grid_sample(maps, grid, padding_mode="border", align_corners=False)], 1), grid


def _without_islands(one: Dressed) -> Tensor:
    """Clothes (1,1,H,W) without holes: skin hangs together with the face, and broadly."""
    side = one.square.side
    other = opened((like_skin(one) < 0.5).to(one.alpha), odd(NARROW * side))  # a shadow below the chin is narrow
    bare = one.alpha * (1 - one.hair) * (1 - one.cloth) * (1 - other)
    core = (erode(bare.maximum(one.face), odd(NARROW * side)) > 0.5).to(bare)
    found = (erode(one.face, odd(2 * NARROW * side)) > 0.5).to(bare) * core
    found = _grown(found, core, odd(0.02 * side))
    skin = dilate(found, odd(1.7 * NARROW * side)).maximum(dilate(one.face, odd(NARROW * side)))
    skin = gaussian_blur(skin, max(0.5, 0.006 * side))
    skin = skin * torch.maximum(bare, inner_face(one))
    return torch.lerp((one.alpha * (1 - one.hair) * one.below_chin()).maximum(one.cloth), one.cloth, skin)


def _grown(found: Tensor, within: Tensor, window: int) -> Tensor:
    """What hangs together in a mask (1,1,H,W) with a part of it that is found (1,1,H,W), by steps of an odd window."""
    for _ in range(500):
        grown = dilate(found, window) * within
        if torch.equal(grown, found):
            break
        found = grown
    return found


def _outline(source: Dressed, alpha: Tensor, seen: Tensor, inside: Tensor, below: Tensor) -> Tensor:
    """The body (1,1,H,W) of a reference everywhere.

    Args:
        source: on which it lies.
        alpha: (1,1,H,W) of the reference.
        seen: (1,1,H,W) where its photograph shows its body, or that there is none.
        inside: (1,1,H,W) its frame.
        below: (1,1,H,W) bool, straight below the frame.
    """
    height, width = alpha.shape[-2:]
    rows = torch.arange(height, device=alpha.device, dtype=alpha.dtype)[:, None]
    columns = torch.arange(width, device=alpha.device, dtype=alpha.dtype)
    low = source.below_chin()[0, 0] > 0.5
    there = (alpha * seen)[0, 0].gt(0.5) & low
    first = torch.where(there, rows, height).amin(0)
    above = (first - max(2, 0.02 * source.square.side)).clamp(0, height - 1).long()
    open_above = (seen[0, 0, above, columns.long()] > 0.5) & (alpha[0, 0, above, columns.long()] < 0.5)
    beside = (columns - source.middle).abs() > NECK * source.square.side
    top = torch.where((first < height) & open_above & beside, first.to(alpha), torch.nan)
    top, own = _gone_on(top, torch.where(beside, source.tops(), torch.nan), source, low)
    # where the frame shows nothing of the body it begins below that
    empty = ~there.any(0) & (inside[0, 0] > 0.5).any(0) & (seen[0, 0] > 0.5).any(0)
    bottom = torch.where(inside[0, 0] > 0.5, rows, 0).amax(0)
    bodies = there.any(0).nonzero()[:, 0]
    if len(bodies):
        away = (columns[:, None] - bodies).abs().amin(1)
        top = torch.where(empty, top.maximum(bottom + 2 * SLOPE * away), top)
    guess = _moved_down(source.alpha, top - own) * (rows > top - 3)
    visible = source.tops().isfinite() & beside
    guess = torch.where(visible, guess, (rows - top + 0.5).clamp(0, 1))
    down = ((_nearest(alpha, inside > 0.5) - 0.3) / 0.4).clamp(0, 1)
    guess = torch.where(below & there.any(0), down, guess)
    guess = closed(guess, odd(max(5, 0.02 * source.square.side)), -1)
    dressed = ((source.alpha[0, 0] > 0.5) & low).any(0)
    # beside the neck it begins nowhere lower than the source's: the background behind that is not known
    lower = (top - own).clamp_min(0) * source.column(OWN)[0, 0, 0]
    whole = _moved_down(source.alpha, lower) * (1 - source.hair) * (rows > own + lower - 3)
    whole = torch.where(visible, whole, (rows - own - lower + 0.5).clamp(0, 1) * dressed) * beside
    broad = opened((whole > 0.5).to(whole), odd(0.1 * source.square.side))  # strands are none
    whole = whole * dilate(broad, 3)
    return torch.lerp(guess, alpha, seen).maximum(whole * low)


def _gone_on(top: Tensor, own: Tensor, source: Dressed, low: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in which a body begins by columns (W,), nan where that is not seen, with the shoulders of the source going on at the same
    distance; and those of the source (W,), nan where they are hidden, gone on, too."""
    height = source.alpha.shape[-2]
    known, columns = top.isfinite().nonzero()[:, 0], torch.arange(len(top), device=top.device, dtype=top.dtype)
    aside = (columns - source.middle).abs() > NECK * source.square.side
    hidden = aside & ~own.isfinite() & ((source.alpha[0, 0] > 0.5) & low).any(0)
    right = columns > source.middle
    hidden = torch.where(right, (hidden & right).cummax(0).values, (hidden & ~right).flip(0).cummax(0).values.flip(0))
    seen = own.isfinite().nonzero()[:, 0]
    own = _sloping(own, float(height))
    top = own + _filled_up(top - own, 0.0)
    if not len(known) or not len(seen):
        return top, own
    # they go on at least so far where, or beyond where, hair hides the source's, and not lower than the source's beyond these
    beyond = (known.min() - columns).clamp_min(0) + (columns - known.max()).clamp_min(0)
    level = torch.where(columns < known.min(), top[known.min()], top[known.max()]) + SLOPE * beyond
    top = torch.where((beyond > 0) & hidden, top.minimum(level), top)
    last = torch.where(columns < seen.min(), own[seen.min()], torch.where(columns > seen.max(), own[seen.max()], torch.inf))
    return torch.where((beyond > 0) & (top >= last), float(height), top), own


def _moved_down(values: Tensor, by: Tensor) -> Tensor:
    """Values (1,1,H,W) moved down by some pixels in each column (W,); the uppermost and lowest rows go on."""
    height, width = values.shape[-2:]
    at = torch.arange(height, device=values.device, dtype=values.dtype)[:, None] - by
    at = at.clamp(0, height - 1).expand(height, width)
    low = at.floor().long()
    upper, lower = (values[0, 0].gather(0, row.clamp(max=height - 1)) for row in (low, low + 1))
    return torch.lerp(upper, lower, at - low)[None, None]


def _filled_up(values: Tensor, otherwise: float) -> Tensor:
    """Values (W,) with nan filled in: linear between known ones, level beyond them."""
    known = values.isfinite().nonzero()[:, 0]
    if not len(known):
        return torch.full_like(values, otherwise)
    at = torch.arange(len(values), device=values.device)
    after = torch.searchsorted(known, at).clamp(max=len(known) - 1)
    right, left = known[after], known[(after - 1).clamp_min(0)]
    left = torch.where(at > known[-1], known[-1], left)
    share = ((at - left) / (right - left).clamp_min(1)).clamp(0, 1).to(values)
    return torch.where(values.isfinite(), values, torch.lerp(values[left], values[right], share))


def _sloping(values: Tensor, otherwise: float) -> Tensor:
    """Rows (W,) with nan filled in: linear between known ones, beyond them like shoulders."""
    known = values.isfinite().nonzero()[:, 0]
    if not len(known):
        return torch.full_like(values, otherwise)
    at = torch.arange(len(values), device=values.device, dtype=values.dtype)
    return _filled_up(values, otherwise) + SLOPE * ((known.min() - at).clamp_min(0) + (at - known.max()).clamp_min(0))


def _between(cloth: Tensor) -> Tensor:
    """(1,1,H,W): what has clothes (1,1,H,W) on both sides in its row."""
    return cloth.cummax(-1).values.minimum(cloth.flip(-1).cummax(-1).values.flip(-1))


def _going_on(colours: Tensor, sure: Tensor, source: Dressed) -> Tensor:
    """Colours (1,3,H,W) of clothes everywhere: those of the nearest place that is sure (1,1,H,W), with the source's folds and grain."""
    side = source.square.side
    index, away = nearest_inside(sure[:, 0])
    away = away[:, None] / side
    result = nearest = gather(colours, index)
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


def _nearest(values: Tensor, where: Tensor) -> Tensor:
    """Every pixel's nearest value of those where a mask (1,1,H,W) is set: (1,C,H,W)."""
    return gather(values, nearest_inside(where[:, 0])[0])


def _grid(reference: Dressed, source: Dressed) -> Tensor:
    """Where the reference shows what lies under the source's head: (1,H,W,2) in -1..1 of its picture."""
    height, width = source.picture.shape[-2:]
    columns = torch.arange(width, dtype=source.picture.dtype, device=source.picture.device) + 0.5
    rows = torch.arange(height, dtype=source.picture.dtype, device=source.picture.device)[:, None] + 0.5
    offset = columns - source.middle
    for sign, (at, shift) in zip((-1, 1), _necks(reference, source), strict=True):
        # the collar goes with the neck's edge, the shoulder with the collar
        share = ((sign * offset) / max(sign * (at - source.middle), 1.0)).clamp(0, 1)
        columns = columns + shift * share
    rows = rows + _lower(reference, source)
    x, y = _across(source, reference, columns.expand(height, -1), rows.expand(-1, width))
    size = x.new_tensor([reference.picture.shape[-1], reference.picture.shape[-2]])
    return (torch.stack([x, y], -1) * 2 / size - 1)[None]


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


def _lower(reference: Dressed, source: Dressed) -> Tensor:
    """(W,): by how much more than a little the reference's shoulders lie below the source's, in the source's pixels, by columns: there
    its background would have to be guessed."""
    side, tops, theirs = source.square.side, source.tops(), reference.tops()
    columns = torch.arange(len(tops), device=tops.device, dtype=tops.dtype) + 0.5
    beside = (columns - source.middle).abs() / side
    x, y = _across(source, reference, columns, tops)
    at = x.floor().long()
    seen = (at >= 0) & (at < len(theirs)) & (beside > SHOULDERS[0]) & (beside < SHOULDERS[1])
    down = torch.where(seen, (theirs[at.clamp(0, len(theirs) - 1)] - y) * side / reference.square.side, torch.nan)
    sides = [down[columns < source.middle], down[columns > source.middle]]
    found = [float(one.nanmedian()) for one in sides if one.isfinite().sum() > 0.1 * side]
    if not found:
        return torch.zeros_like(columns)
    left, right = ((value - LITTLE * side) for value in (found[0], found[-1]))
    share = ((columns - source.middle) / (2 * SHOULDERS[0] * side) + 0.5).clamp(0, 1)
    return (left + (right - left) * share).clamp(0, RAISED * side)


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
