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


def beyond_frame(image: Tensor, inside: Tensor, hair: Tensor) -> Tensor:
    """A picture whose hair goes on beyond the frame of its photograph, mirrored: what a border repeats are streaks.

    Args:
        image: (B,3,H,W), which repeats the photograph's border beyond it.
        inside: (B,1,H,W) in 0..1, where the image is the photograph.
        hair: (B,1,H,W) in 0..1.

    Returns:
        (B,3,H,W); inside of the photograph as it was, to the bit.
    """
    if bool((inside > 0).all()):
        return image
    rows = []
    for one, known, there in zip(image, inside, hair, strict=True):
        ends = [_ends((known > 0.99).any(dim).any(0)) for dim in (2, 1)]
        if None in ends:
            rows.append(one)
            continue
        mirrored, nearest = ([_index(end, size, back) for end, size in zip(ends, one.shape[1:], strict=True)] for back in (True, False))
        shown, at_end = (there[:, at[0]][:, :, at[1]] for at in (mirrored, nearest))
        share = gaussian_blur(((shown.minimum(at_end) - 0.2) / 0.3).clamp(0, 1)[None], 1.0)[0] * (known == 0)
        rows.append(torch.lerp(one, one[:, mirrored[0]][:, :, mirrored[1]], share))
    return torch.stack(rows)


def _ends(known: Tensor) -> tuple[int, int] | None:
    """First and last place that is known (N,), or None."""
    found = known.nonzero()
    return (int(found[0]), int(found[-1])) if len(found) else None


def _index(ends: tuple[int, int] | None, size: int, mirrored: bool) -> Tensor:
    """(N,): the places between the ends that stand for all of them: the nearest, or as in a mirror at the end."""
    assert ends is not None
    first, last = ends
    at = torch.arange(size) - first
    count = last - first + 1
    if not mirrored:
        return first + at.clamp(0, count - 1)
    at = at.remainder(2 * count)
    return first + torch.where(at < count, at, 2 * count - 1 - at)
