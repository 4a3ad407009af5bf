"""Last step of an edit: the photograph's sharp pixels over what the model painted, back in the whole picture.

Shape letters: B faces, H and W picture height and width, S side of the square crops, N side of a square in its picture's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.compositing import composite_weight, is_grey, keep_grey, native_detail, with_reference_detail
from ..common.batches import common_batch, expanded, slices
from ..faces.crop import extract
from ..faces.crop import paste as paste_squares
from ..vocabulary import FEATHER
from .description import Faces, MovedPhoto

CHUNK = 4  # faces at a time, which bounds the memory


def paste(
    faces: Faces,
    drawn: Tensor,
    moved: MovedPhoto | None,
    mask: Tensor | None = None,
    feather: float = FEATHER,
    chunks: Callable[[int, int], Iterator[slice]] = slices,
) -> tuple[Tensor, Tensor]:
    """The edited squares, and the whole pictures with them.

    Rows of which nothing was asked stay bit for bit; a grey photograph stays grey.

    Args:
        faces: the squares as they were, with `original`, of 1 or B rows.
        drawn: (B or 1,3,s,s) what the model painted, or the moved photograph itself; resized to the squares' side S if need be.
        moved: the moved photographs. Their pixels win wherever they are valid and agree with `drawn` at low frequencies. None: every
            pixel is `drawn`'s.
        mask: (B or 1,1,S,S), 1 where the edit counts, or None for all of the square.
        feather: width of the soft border, as a share of S.
        chunks: gives slices of at most so many of so many rows, which bounds the memory.

    Returns:
        Pictures (B,3,H,W) and squares (B,3,S,S).

    Raises:
        ImageError: batches that do not go together.
        ConfigError: `original` has another size than the squares were made for.
    """
    assert faces.original is not None
    sizes = {"original": len(faces.original), "edited": len(drawn), "crop": len(faces)}
    sizes |= {} if moved is None else {"carry": len(moved)}
    batch = common_batch(sizes if mask is None else sizes | {"mask": len(mask)})
    side = faces.picture.shape[-1]
    if tuple(drawn.shape[-2:]) != (side, side):
        drawn = F.interpolate(drawn, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    drawn, before = expanded(drawn, batch), expanded(faces.picture.to(drawn), batch)
    weight = None
    if moved is not None:
        drawn, weight = _composited(drawn, before, moved)
    grey = _grey_rows(faces, moved, batch).to(drawn.device)
    drawn = keep_grey(drawn, grey)
    pictures = [keep_grey(_pasted(faces, drawn, before, part, (mask, moved, weight, feather)), grey[part]) for part in chunks(batch, CHUNK)]
    return torch.cat(pictures), drawn if mask is None else torch.lerp(before, drawn, expanded(mask, batch))


def mask_of_squares(faces: Faces, mask: Tensor) -> Tensor:
    """A mask of the whole pictures, or of the squares, as one of the squares: (B or 1,1,h,w) -> (B or 1,1,S,S) in 0..1."""
    side = faces.picture.shape[-1]
    square = faces.square(0)
    size = (square.height, square.width)
    if tuple(mask.shape[-2:]) != size or size == (side, side):
        same = tuple(mask.shape[-2:]) == (side, side)
        return mask if same else F.interpolate(mask, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
    if len(mask) == 1:
        mask = expanded(mask, len(faces.squares))
    return extract(mask, faces.squares if len(faces.squares) == len(mask) else square)[0]


def _composited(drawn: Tensor, before: Tensor, moved: MovedPhoto) -> tuple[Tensor, Tensor]:
    """The moved photograph over what was painted (B,3,S,S), and how much it counts (B,1,S,S)."""
    batch = len(drawn)
    image, validity = expanded(moved.image.to(drawn), batch), expanded(moved.validity.to(drawn), batch)
    weight = composite_weight(drawn, image, validity)
    unchanged = expanded(moved.unchanged.to(drawn.device), batch)[:, None, None, None]
    return torch.where(unchanged, before, torch.lerp(drawn, image, weight)), weight


def _grey_rows(faces: Faces, moved: MovedPhoto | None, batch: int) -> Tensor:
    """(B,) bool: rows that must have no colours, because their photograph has none. Unchanged rows stay as they are: a file may have left
    a little colour in a grey photograph."""
    assert faces.original is not None
    # one photograph at a time: those of a video may not fit into memory twice
    grey = expanded(torch.cat([is_grey(picture) for picture in faces.original.split(1)]), batch)
    return grey if moved is None else grey & ~expanded(moved.unchanged.to(grey.device), batch)


def _pasted(
    faces: Faces, drawn: Tensor, before: Tensor, part: slice, how: tuple[Tensor | None, MovedPhoto | None, Tensor | None, float]
) -> Tensor:
    """Some rows in their pictures (b,3,H,W)."""
    mask, moved, weight, feather = how
    batch = len(drawn)
    assert faces.original is not None
    whole = (faces.original if len(faces.original) == 1 else faces.original[part]).to(drawn)
    squares = [faces.square(row) for row in range(batch)[part]]
    cut = None if mask is None else expanded(mask, batch)[part]
    detail = None
    if moved is not None and weight is not None:
        detail = [_fine_detail(faces, moved, weight, row) for row in range(batch)[part]]
    own = None if moved is None else expanded(moved.owner_share, batch)[part]
    return paste_squares(whole, drawn[part], before[part], squares, cut, feather, detail, own)


def _fine_detail(faces: Faces, moved: MovedPhoto, weight: Tensor, row: int) -> Tensor | None:
    """Detail (3,N,N) of one row that squares of S pixels cannot hold: of its own photograph where that shows, and of references where
    they do. None where its square has none to show. weight (B,1,S,S): how much the moved photographs count."""
    one = slice(row, row + 1)

    def rows(values: Tensor) -> Tensor:
        return expanded(values.to(weight), len(weight))[one]

    share = weight[one] * rows(moved.owner_share)
    offset, ratio, alpha = (rows(values) for values in (moved.offset_to_source, moved.light_ratio, moved.person_alpha))
    detail = native_detail(faces.picture_around(row).to(weight), faces.square(row), offset, ratio, alpha, share)
    if detail is not None:
        for reference in moved.references:
            detail = with_reference_detail(detail, native_detail(*reference.detail(row, weight)))
    return detail
