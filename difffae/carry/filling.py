"""Filling holes with what is known around them: lines on the head, the person's edge.

Shape letters: B batch, H and W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, gather, gaussian_blur, mirrored_places, nearest_inside, odd, pull_push, trusted

EAR = 0.04  # of the side: how far an ear, which masks may lack, stands out from a cheek
BESIDE = 0.06  # of the side: how far above and below a cut cheek or ear its soft surroundings reach


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


def beyond_frame(image: Tensor, inside: Tensor, hair: Tensor, bare: Tensor) -> Tensor:
    """A picture of a person whose head goes on beyond the frame of its photograph: what a border repeats are streaks.

    Hair is mirrored. Beside a cheek or ear that the frame cuts, soft colours of what is no skin go on.

    Args:
        image: (B,3,H,W), which repeats the photograph's border beyond it.
        inside: (B,1,H,W) in 0..1, where the image is the photograph.
        hair: (B,1,H,W) in 0..1.
        bare: (B,1,H,W) in 0..1, skin.

    Returns:
        (B,3,H,W); inside of the photograph as it was, to the bit.
    """
    if bool((inside > 0).all()):
        return image
    rows = []
    near = dilate(bare, odd(2 * EAR * image.shape[-1]))
    for one, known, there, skin in zip(image, inside, hair, near, strict=True):
        ends = [_ends((known > 0.99).any(dim).any(0)) for dim in (2, 1)]
        if None in ends:
            rows.append(one)
            continue
        mirrored = [mirrored_places(end, size, known.device) for end, size in zip(ends, one.shape[1:], strict=True) if end]
        nearest = [torch.arange(size, device=known.device).clamp(*end) for end, size in zip(ends, one.shape[1:], strict=True) if end]
        shown, at_end, cut = (layer[:, at[0]][:, :, at[1]] for layer, at in ((there, mirrored), (there, nearest), (skin, nearest)))
        beside = nearest[0] == torch.arange(len(nearest[0]), device=known.device)  # rows that the photograph has
        beyond = (known == 0) * beside[:, None]
        if bool((cut * beyond > 0.5).any()):
            one = torch.lerp(one, _beside(one, known, skin), _soft_rows(cut * beyond, BESIDE) * beyond)
        share = gaussian_blur(((shown.minimum(at_end) - 0.2) / 0.3).clamp(0, 1)[None], 1.0)[0] * (known == 0)
        rows.append(torch.lerp(one, one[:, mirrored[0]][:, :, mirrored[1]], share))
    return torch.stack(rows)


def _beside(image: Tensor, known: Tensor, skin: Tensor) -> Tensor:
    """A picture (3,H,W) of what is known (1,H,W) and no skin (1,H,W), going on softly."""
    side = image.shape[-1]
    return gaussian_blur(pull_push(image[None], (known * (1 - skin)).clamp(0, 1)[None]), 0.02 * side)[0]


def _soft_rows(mask: Tensor, reach: float) -> Tensor:
    """(1,H,W) mask that reaches the rows around, by a share of the height, and fades there."""
    size = odd(2 * reach * mask.shape[-2])
    wide = F.max_pool2d(mask[None], (size, 1), 1, (size // 2, 0))
    return F.avg_pool2d(wide, (size, 1), 1, (size // 2, 0), count_include_pad=False)[0].clamp(0, 1)


def _ends(known: Tensor) -> tuple[int, int] | None:
    """First and last place that is known (N,), or None."""
    found = known.nonzero()
    return (int(found[0]), int(found[-1])) if len(found) else None
