"""Joining the carried photograph and what the model painted.

Shape letters: B batch, H and W picture sides, C crop side, N side of the same square in the
picture's own pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, gaussian_blur, gradient_norm, luma_of, pixel_grid, relit, trusted
from ..faces.crop import FaceCrop, extract

BREAK = 0.8  # gradient of a motion, pixels per pixel, at which little of the detail is moved along


def composite_weight(drawn: Tensor, carried: Tensor, validity: Tensor, low: float = 0.016, tolerance: float = 0.12) -> Tensor:
    """How much the carried photograph's pixels count beside the sample's.

    They count where they are valid and agree with the sample at low frequencies.

    Args:
        drawn: (B,3,H,W) RGB 0..1, the sample.
        carried: (B,3,H,W) RGB 0..1, the carried photograph.
        validity: (B,1,H,W) of the carried photograph.
        low: standard deviation of the low-pass, as a share of the side.
        tolerance: difference of the low-passed pictures at which the weight has fallen to 1/e.

    Returns:
        (B,1,H,W) in 0..1.
    """
    sigma = low * drawn.shape[-1]
    known = trusted(validity)
    # low-pass the carried picture over its valid pixels only: a hole must not spoil its
    # neighbourhood's agreement
    weight = gaussian_blur(known, sigma).clamp_min(1e-4)
    difference = gaussian_blur((drawn - carried) * known, sigma) / weight
    agreement = torch.exp(-((difference.abs().amax(1, keepdim=True) / tolerance) ** 2))
    return gaussian_blur(known, 1.0).minimum(known) * agreement


def composite(drawn: Tensor, carried: Tensor, validity: Tensor, low: float = 0.016, tolerance: float = 0.12) -> Tensor:
    """The carried photograph's sharp pixels as far as `composite_weight` says, else the sample's:
    (B,3,H,W).

    Arguments as there.
    """
    return drawn + composite_weight(drawn, carried, validity, low, tolerance) * (carried - drawn)


def is_grey(source: Tensor, limit: float = 0.01) -> Tensor:
    """(B,) bool: which photographs (B,3,H,W) have no colours. limit: mean difference of the channels, in 0..1 (JPEG leaves a little)."""
    return (source.amax(1) - source.amin(1)).flatten(1).mean(1) < limit


def keep_grey(edited: Tensor, grey: Tensor) -> Tensor:
    """A grey photograph stays grey.

    Args:
        edited: (B,3,H,W) RGB 0..1.
        grey: (B,) or (1,) bool of `is_grey`.

    Returns:
        (B,3,H,W), without colours in the rows whose photograph has none.
    """
    without = edited.amax(1, keepdim=True) == edited.amin(1, keepdim=True)  # bit for bit what it was
    return torch.where(grey[:, None, None, None] & ~without, luma_of(edited), edited)


def moved_detail(
    square: Tensor, offset_to_source: Tensor, light_ratio: Tensor, person_alpha: Tensor, weight: Tensor, held: int | None = None
) -> Tensor:
    """The photograph's detail that a crop cannot hold, moved and relit like the crop.

    Args:
        square: (B,3,N,N) RGB 0..1, the crop's square in the picture's own pixels, N > C.
        offset_to_source: (B,2,C,C) of `Carried`, in pixels of the crop.
        light_ratio: (B,3,C,C) of `Carried`.
        person_alpha: (B,1,C,C) of `Carried`.
        weight: (B,1,C,C) of `composite_weight`: where the crop's pixels are the model's, there is
            no detail to add.

    Returns:
        (B,3,N,N) to add to the enlarged crop.
    """
    side, size = square.shape[-1], offset_to_source.shape[-1]

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)

    # where the motion breaks off (lids, lips, the head's outline) a crop's pixel mixes two
    # surfaces, and there is no detail to move
    whole = torch.exp(-((dilate(gradient_norm(offset_to_source), 3) / BREAK) ** 4))
    grid = pixel_grid(side, side, square) + enlarge(offset_to_source).permute(0, 2, 3, 1) * (2 / size)
    moved = F.grid_sample(square, grid, mode="bicubic", padding_mode="border", align_corners=False)
    moved = torch.lerp(square, relit(moved, enlarge(light_ratio)), enlarge(person_alpha))
    small = F.interpolate(moved, (held or size,) * 2, mode="bicubic", antialias=True, align_corners=False)
    return (moved - F.interpolate(small, (side, side), mode="bicubic", align_corners=False)) * enlarge(weight * whole)


def with_reference_detail(detail: Tensor, reference_detail: Tensor | None) -> Tensor:
    """Detail (3,N,N) of a photograph, and that of a reference (3,M,M) which shows in the same
    square, or None.
    """
    if reference_detail is None:
        return detail
    return detail + F.interpolate(reference_detail[None], detail.shape[-2:], mode="bilinear", antialias=True, align_corners=False)[0]


def native_detail(
    image: Tensor, crop: FaceCrop, offset_to_source: Tensor, light_ratio: Tensor, person_alpha: Tensor, weight: Tensor
) -> Tensor | None:
    """`moved_detail` of one picture, for `crop.paste`.

    Args:
        image: (1,3,H,W) RGB 0..1, the whole picture.
        crop: the square that was carried.
        offset_to_source: as the rest, of `moved_detail`, with B = 1.

    Returns:
        (3,side,side), or None where the crop holds all of the picture's detail.
    """
    if crop.side <= crop.size:
        return None
    square, _ = extract(image, replace(crop, size=crop.side))
    return moved_detail(square, offset_to_source, light_ratio, person_alpha, weight, crop.size)[0]
