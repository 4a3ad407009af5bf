"""Edited squares back in their pictures, as IMAGE and MASK. B faces, H and W picture height and width."""

from __future__ import annotations

import torch
from torch import Tensor

from ..difffae.edit.description import Faces
from ..difffae.edit.moved_photo import MovedPhoto
from ..difffae.edit.pasting import cut_again, paste, unseen
from .bundle import each_chunk
from .frames import to_image, to_mask


def pasted_back(
    faces: Faces, edited: Tensor, carry: MovedPhoto | None, limit: Tensor | None, feather: float, channels: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The whole pictures IMAGE (B,H,W,3 or 4), the squares IMAGE, and as MASK (B,H,W) what is transparent and what is unseen.

    Args:
        faces, carry, limit, feather: as for the library's `paste`.
        edited: (B,3,s,s) what was painted.
        channels: of the pictures as they were given; with 4 the result has its transparency too.

    Raises:
        ImageError, ConfigError: as `paste`.
    """
    pictures, squares = paste(faces, edited, carry, limit, feather, each_chunk)
    pictures, cut = cut_again(faces, pictures, carry, feather)
    result = to_image(pictures)
    alpha = torch.ones_like(result[..., :1]) if cut is None else cut.movedim(1, -1).to(result)
    if channels == 4:
        result = torch.cat([result, alpha], dim=-1)
    shown = to_mask(unseen(faces, carry, limit)).expand(len(result), -1, -1)
    return result, to_image(squares), 1 - alpha[..., 0], shown
