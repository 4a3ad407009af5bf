"""Filling holes with what is known around them: lines on the head, the person's edge.

Shape letters: B batch, H and W picture height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.pixels import dilate, erode, gather, gaussian_blur, nearest_inside, trusted


def closed_lines(image: Tensor, validity: Tensor, where: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Close narrow lines that no camera saw, from both sides.

    Where a surface folds over itself (lids, lips, nostrils) a line of the mesh hides behind
    another, and shows whatever the source had beside it.

    Args:
        image: (B,3,H,W).
        validity: (B,1,H,W) in 0..1.
        where: (B,1,H,W) in 0..1, the pixels that may be closed.
        size: lines narrower than this are closed; an odd number of pixels.

    Returns:
        picture (B,3,H,W) and validity (B,1,H,W).
    """
    closed = validity.maximum(erode(dilate(validity, size), size) * where)
    known = trusted(validity)
    weight = known + 1e-3  # nothing known around: the mean of all
    around = gaussian_blur(image * weight, 1.0) / gaussian_blur(weight, 1.0)
    return torch.lerp(image, around, trusted(closed) - known), closed


def without_background(image: Tensor, person: Tensor, outline: int) -> tuple[Tensor, Tensor]:
    """A picture in the person's colours alone: the pixels of an outline are mixed with the
    background that a person leaves.

    Args:
        image: (B,3,H,W).
        person: (B,1,H,W) share of the person.
        outline: pixels around the person that are mixed.

    Returns:
        the picture with the person's colours going on beyond the person (B,3,H,W), and where its
        own colours are the person's alone (B,1,H,W).
    """
    core = erode(person, outline | 1)
    own = ((core - 0.8) / 0.15).clamp(0, 1)
    around = gather(image, nearest_inside(core[:, 0] > 0.9)[0])
    return torch.lerp(gaussian_blur(around, 1.0), image, own), own
