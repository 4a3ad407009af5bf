"""Last step of an edit: the photograph's sharp pixels over what the model painted, back in the whole picture.

Shape letters: B faces, H and W picture height and width, S side of the square crops, N side of a square in its picture's own pixels,
C side of the canvas on which the photograph was moved (N without a wider one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.compositing import composite_weight, is_grey, keep_grey, native_detail, with_reference_detail
from ..carry.transparency import moved_alpha, without_plate
from ..common.batches import common_batch, expanded, slices
from ..faces.crop import extract, put_square
from ..faces.crop import paste as paste_squares
from ..faces.quarter_turns import turned
from ..vocabulary import FEATHER
from .description import Faces
from .moved_photo import MovedPhoto
from .native import native_rows, padded, ramp, resize, widened

CHUNK = 4  # faces at a time, which bounds the memory


def in_pictures(faces: Faces, pictures: Tensor) -> Faces:
    """The same faces with other pictures (B or 1,3,H,W) around them, as these are given: not turned upright, and without a plate."""
    upright = turned(pictures, faces.turns)
    if faces.transparency is None:
        return replace(faces, original=upright)
    transparency = replace(faces.transparency, colours=upright)
    return replace(faces, original=transparency.on_plate, transparency=transparency)


def paste(
    faces: Faces,
    drawn: Tensor,
    moved: MovedPhoto | None,
    mask: Tensor | None = None,
    feather: float = FEATHER,
    chunks: Callable[[int, int], Iterator[slice]] = slices,
) -> tuple[Tensor, Tensor]:
    """The edited squares, and the whole pictures with them.

    Rows of which nothing was asked, and those that do not show the face, stay bit for bit; a grey photograph stays grey. Faces of one
    picture go into it one after another.

    Args:
        faces: the squares as they were, with `original`, of 1 or B rows.
        drawn: (B or 1,3,s,s) what the model painted, or the moved photograph itself; of any side s. Without moved photographs more pixels
            than S count as far as the pictures have them.
        moved: the moved photographs. Their pixels win wherever they are valid and agree with `drawn` at low frequencies. None: every
            pixel is `drawn`'s.
        mask: (B or 1,1,S,S), 1 where the edit counts, or None for all of the square.
        feather: width of the soft border, as a share of S.
        chunks: gives slices of at most so many of so many rows, which bounds the memory.

    Returns:
        Pictures (B,3,H,W), as they were given (not turned upright), one for the faces of one picture; and squares (B,3,S,S).

    Raises:
        ImageError: batches that do not go together.
        ConfigError: `original` has another size than the squares were made for.
    """
    faces = faces if moved is None or moved.stage is None else moved.stage.applied(faces)
    assert faces.original is not None
    sizes = {"original": len(faces.original), "edited": len(drawn), "crop": len(faces)}
    sizes |= {} if moved is None else {"carry": len(moved)}
    batch = common_batch(sizes if mask is None else sizes | {"mask": len(mask)})
    size = faces.picture.shape[-1]
    drawn = expanded(drawn, batch)
    side, margin, weight = max(size, min(drawn.shape[-1], max((square.side for square in faces.squares), default=size))), 0, None
    if moved is not None:
        side, margin = moved.side, moved.margin
        weight = _kept_share(resize(drawn, size).clamp(0, 1), moved)
    grey = _grey_rows(faces, moved, batch).to(drawn.device)
    pictures: list[Tensor] = []
    squares: list[Tensor] = []
    for part in chunks(batch, 1 if faces.one_picture else CHUNK):
        before = native_rows(faces, side, batch, part, margin)[0].to(drawn)
        edited = resize(drawn[part], side).clamp(0, 1)
        edited = padded(edited, margin) if margin else edited
        if moved is not None and weight is not None:
            edited = _composited(edited, before, moved, weight[part], part)
        shown = torch.tensor([faces.shows_face(row) for row in range(part.start, part.stop)], device=edited.device)[:, None, None, None]
        edited = torch.where(shown, keep_grey(edited, grey[part]), before)
        around = (faces.original if len(faces.original) == 1 else faces.original[part]).to(edited)
        if faces.one_picture:
            around = pictures.pop() if pictures else around
        whole = keep_grey(_pasted(faces, around, edited, before, part, (mask, moved, weight, feather)), grey[part])
        whole = whole if moved is None else _with_kept(faces, around, whole, moved, part)
        pictures.append(whole if faces.one_picture else torch.where(shown, whole, around))
        inner = (edited, before) if moved is None else (moved.square(edited), moved.square(before))
        squares.append(_as_squares(faces, *inner, part, mask))
    return turned(torch.cat(pictures), -faces.turns), torch.cat(squares)


def _with_kept(faces: Faces, before: Tensor, pictures: Tensor, moved: MovedPhoto, part: slice) -> Tensor:
    """Some rows of the finished pictures (b,3,H,W), with what keeps its pixels as it was before (b or 1,3,H,W), to the last bit."""
    if moved.kept is None:
        return pictures
    kept = expanded(moved.kept.to(pictures), max(len(moved.kept), part.stop))
    shares = torch.zeros_like(pictures[:, :1])
    for index, row in enumerate(range(part.start, part.stop)):
        square = widened(faces.square(row), moved.side, moved.margin)
        shares[index : index + 1] = put_square(shares[index : index + 1], resize(kept[row : row + 1], square.side, "bilinear"), square)
    return torch.lerp(pictures, before.expand_as(pictures), shares)


def unseen(faces: Faces, moved: MovedPhoto | None, mask: Tensor | None = None) -> Tensor:
    """Where edited pictures show what no photograph showed.

    Args:
        faces, moved, mask: as for `paste`; without moved photographs nothing is known, and all that was edited counts as unseen.

    Returns:
        (B,1,H,W) of the pictures as they were given (not turned upright), one for the faces of one picture; 0 outside the squares.

    Raises:
        ImageError: batches that do not go together.
    """
    sizes = {"crop": len(faces)} | ({} if moved is None else {"carry": len(moved)}) | ({} if mask is None else {"mask": len(mask)})
    batch = common_batch(sizes)
    side, margin = (faces.picture.shape[-1], 0) if moved is None else (moved.side, moved.margin)
    shares = faces.picture.new_ones(1, 1, side, side) if moved is None else moved.unseen
    if mask is not None:
        limit = resize(mask.to(shares), side, "bilinear")
        shares = shares * (padded(limit, margin) if margin else limit)
    found: list[Tensor] = []
    for row in range(batch):
        square = widened(faces.square(row), side, margin)
        whole = shares.new_zeros(1, 1, square.height, square.width)
        if faces.shows_face(row) and not (moved is not None and bool(moved.unchanged[row if len(moved) > 1 else 0])):
            one = shares[row if len(shares) > 1 else 0][None]
            whole = put_square(whole, resize(one, square.side, "bilinear").clamp(0, 1), square)
        if faces.one_picture and found:
            whole = found.pop().maximum(whole)
        found.append(whole)
    return turned(torch.cat(found), -faces.turns)


def cut_again(faces: Faces, pictures: Tensor, moved: MovedPhoto | None, feather: float = FEATHER) -> tuple[Tensor, Tensor | None]:
    """Take the plate away from edited pictures.

    Args:
        faces: as they were before the edit.
        pictures: (B,3,H,W) of `paste`, not turned upright.
        moved: the photographs that were pasted, or None: alpha stays as it is.
        feather: as there.

    Returns:
        Pictures (B,3,H,W) and alpha (B,1,H,W); the pictures themselves and None for faces without transparency, and where another
        background made them opaque.
    """
    if faces.transparency is None or (moved is not None and moved.stage is not None and moved.stage.opaque):
        return pictures, None
    if not faces.transparency.cuts_out:
        stays = turned(faces.transparency.alpha.to(pictures), -faces.turns)
        return pictures, stays.expand(len(pictures), -1, -1, -1)
    results, pictures = [], turned(pictures, faces.turns)
    for row in range(len(pictures)):
        before = faces.transparency.row(row)
        now = alpha = before.alpha.to(pictures)
        if moved is not None and moved.person_before is not None and moved.person_after is not None and not bool(moved.unchanged[row]):
            square = widened(faces.square(row), moved.side, moved.margin)
            after, first = (v[row if len(v) > 1 else 0][None].to(alpha) for v in (moved.person_after, moved.person_before))
            now = moved_alpha(alpha, after, first, square, feather * moved.side / moved.image.shape[-1])
        results.append((without_plate(pictures[row : row + 1], now, before), now))
    colours, alpha = (turned(torch.cat(values), -faces.turns) for values in zip(*results, strict=True))
    return colours, alpha


def _as_squares(faces: Faces, edited: Tensor, before: Tensor, part: slice, mask: Tensor | None) -> Tensor:
    """Edited squares (b,3,N,N) at the side of the faces' own; those in which nothing changed stay bit for bit."""
    batch = part.stop - part.start
    own = faces.picture.to(edited)
    own = own[part] if len(own) > 1 else own.expand(batch, -1, -1, -1)
    small = resize(edited, own.shape[-1]).clamp(0, 1)
    same = (edited == before).flatten(1).all(1)[:, None, None, None]
    small = torch.where(same, own, small)
    return small if mask is None else torch.lerp(own, small, mask[part] if len(mask) > 1 else mask)


def mask_of_squares(faces: Faces, mask: Tensor) -> Tensor:
    """A mask of the whole pictures, or of the squares, as one of the squares: (B or 1,1,h,w) -> (B or 1,1,S,S) in 0..1."""
    side = faces.picture.shape[-1]
    square = faces.square(0)
    size = (square.height, square.width)
    if tuple(mask.shape[-2:]) != (side, side):
        mask = turned(mask, faces.turns)
    if tuple(mask.shape[-2:]) != size or size == (side, side):
        same = tuple(mask.shape[-2:]) == (side, side)
        return mask if same else F.interpolate(mask, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
    if len(mask) == 1:
        mask = expanded(mask, len(faces.squares))
    return extract(mask, faces.squares if len(faces.squares) == len(mask) else square)[0]


def _kept_share(drawn: Tensor, moved: MovedPhoto) -> Tensor:
    """How much the moved photographs count beside what was painted in the squares (B,3,S,S): (B,1,S,S), or as the maps of a canvas, on
    which they alone count around the squares."""
    size = drawn.shape[-1]
    image, validity = (moved.square(values).to(drawn) for values in (moved.image, moved.validity))
    image, validity = resize(image, size).clamp(0, 1), resize(validity, size, "bilinear")
    # hair of a photograph is no guess that what was painted could overrule
    how = {"tolerance": math.inf} if moved.references else {}
    weight = composite_weight(drawn, expanded(image, len(drawn)), expanded(validity, len(drawn)), **how)
    if not moved.margin:
        return weight
    around = (moved.offset_to_source.shape[-1] - size) // 2
    return 1 - ramp(weight, around) * padded(1 - weight, around)


def _composited(painted: Tensor, before: Tensor, moved: MovedPhoto, weight: Tensor, part: slice) -> Tensor:
    """Some rows of the moved photographs over what was painted (b,3,C,C). weight of `_kept_share`: how much they count."""

    def rows(values: Tensor) -> Tensor:
        return values[part if len(values) > 1 else slice(None)].to(painted.device)

    share = F.interpolate(weight, tuple(painted.shape[-2:]), mode="bilinear", align_corners=False)
    unchanged = rows(moved.unchanged)[:, None, None, None]
    return torch.where(unchanged, before, torch.lerp(painted, rows(moved.image).to(painted), share))


def _grey_rows(faces: Faces, moved: MovedPhoto | None, batch: int) -> Tensor:
    """(B,) bool: rows that must have no colours, because their photograph has none. Unchanged rows stay as they are: a file may have left
    a little colour in a grey photograph."""
    assert faces.original is not None
    # one photograph at a time: those of a video may not fit into memory twice
    grey = expanded(torch.cat([is_grey(picture) for picture in faces.original.split(1)]), batch)
    return grey if moved is None else grey & ~expanded(moved.unchanged.to(grey.device), batch)


def _pasted(
    faces: Faces,
    whole: Tensor,
    edited: Tensor,
    before: Tensor,
    part: slice,
    how: tuple[Tensor | None, MovedPhoto | None, Tensor | None, float],
) -> Tensor:
    """Some rows (b,3,C,C) in their pictures (b or 1,3,H,W)."""
    mask, moved, weight, feather = how
    wide, rows = edited.shape[-1], range(part.start, part.stop)
    margin = 0 if moved is None else moved.margin
    side = wide - 2 * margin
    squares = [widened(faces.square(row), side, margin) for row in rows]
    cut = None
    if mask is not None:
        cut = resize(mask[part] if len(mask) > 1 else mask.expand(len(rows), -1, -1, -1), side, "bilinear")
        cut = padded(cut, margin) if margin else cut
    detail = None
    if moved is not None and weight is not None:
        detail = [_fine_detail(faces, moved, weight, row) for row in rows]
    own = None
    if moved is not None:
        share = moved.owner_share[part] if len(moved) > 1 else moved.owner_share.expand(len(rows), -1, -1, -1)
        own = resize(share.to(edited), wide, "bilinear")
        own = torch.where(own > 0.999, 1, own)  # sums of ones round
    return paste_squares(whole, edited, before, squares, cut, feather * (side / wide), detail, own)


def _fine_detail(faces: Faces, moved: MovedPhoto, weight: Tensor, row: int) -> Tensor | None:
    """Detail (3,side,side) of one row that squares of N pixels cannot hold: of its own photograph where that shows, and of references
    where they do. None where its square has none to show. weight of `_kept_share`: how much the moved photographs count."""
    one = slice(row, row + 1)

    def rows(values: Tensor) -> Tensor:
        return expanded(values.to(weight), len(weight))[one]

    share = weight[one] * rows(moved.owner_share)
    offset, ratio, alpha = (rows(values) for values in (moved.offset_to_source, moved.light_ratio, moved.person_alpha))
    square = widened(faces.square(row), moved.side, moved.margin)
    detail = native_detail(faces.picture_around(row).to(weight), square, offset, ratio, alpha, share)
    if detail is not None:
        for reference in moved.references:
            square = widened(reference.faces.square(row), moved.side, moved.margin)
            detail = with_reference_detail(detail, native_detail(*reference.detail(row, weight, square)))
    return detail
