"""Squares at the photograph's own resolution: the model sees a face at its own size, the photograph is moved pixel by pixel.

Shape letters: B faces, b some of them, S side of the squares, N side of the same squares in the photograph's own pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.batches import expanded
from ..faces.crop import extract
from .description import Faces

SMALLEST = 256  # pixels: smaller squares are enlarged, since moving pixels costs a little of their sharpness
LARGEST = 512  # what larger squares hold of finer detail is moved apart (compositing.native_detail)


def native_side(faces: Faces) -> int:
    """The side at which squares are moved, one for all rows: an even number of pixels from SMALLEST to LARGEST.

    Squares without a photograph around them have the model's size alone.

    >>> import torch
    >>> from difffae.edit.description import Faces
    >>> from difffae.faces.crop import FaceCrop
    >>> square = FaceCrop(left=100, top=50, side=412, height=1000, width=800)
    >>> native_side(Faces(torch.zeros(1, 3, 256, 256), torch.ones(1, 1, 256, 256), (square,), torch.zeros(1, 3, 1000, 800)))
    412
    """
    size = faces.picture.shape[-1]
    if faces.original is None or not faces.squares:
        return size
    side = max(square.side for square in faces.squares)
    return min(max(side + side % 2, SMALLEST), LARGEST)


def with_photograph(faces: Faces, crop: Faces, tolerance: float = 2 / 255) -> Faces:
    """Faces with the photograph that their squares were cut from, so that they are moved in its own pixels.

    Args:
        faces: squares of which the origin is not known.
        crop: the squares as they were cut.
        tolerance: largest difference of squares that nobody has worked on; 16-bit numbers round.

    Returns:
        the faces themselves if their squares were worked on since: then the photograph no longer shows what they do.
    """
    own, now = crop.picture.to(faces.picture), faces.picture
    if crop.original is None or own.shape[1:] != now.shape[1:] or len(own) not in (1, len(now)) or (own - now).abs().max() > tolerance:
        return faces
    # the squares as they were cut, bit for bit
    return replace(faces, picture=own.expand_as(now), squares=crop.squares, original=crop.original)


def native_rows(faces: Faces, side: int, batch: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Some rows of squares at another side, cut from their photographs again.

    Args:
        faces: of 1 or B rows.
        side: N.
        batch: B.
        rows: which of the B.

    Returns:
        pictures (b,3,N,N), and where they show the photograph (b,1,N,N).
    """
    size = faces.picture.shape[-1]
    if side == size or faces.original is None or not faces.squares:
        pictures, inside = expanded(faces.picture, batch)[rows], expanded(faces.inside_picture.to(faces.picture), batch)[rows]
        return resize(pictures, side).clamp(0, 1), resize(inside, side, "bilinear")
    # one photograph and one square serve all rows
    alike = len(faces.original) == len(faces.squares) == 1
    cut = []
    for row in [0] if alike else range(batch)[rows]:
        cut.append(extract(faces.picture_around(row).to(faces.picture), replace(faces.square(row), size=side)))
    pictures, inside = torch.cat([picture for picture, _ in cut]), torch.cat([known for _, known in cut])
    count = len(range(batch)[rows])
    return expanded(pictures, count), expanded(inside, count)


def resize(values: Tensor, side: int, mode: str = "bicubic") -> Tensor:
    """(B,C,h,w) -> (B,C,side,side), anti-aliased; values of that size are returned as they are."""
    if tuple(values.shape[-2:]) == (side, side):
        return values
    return F.interpolate(values, (side, side), mode=mode, antialias=True, align_corners=False)
