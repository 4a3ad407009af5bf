"""Joining the carried photograph and what the model painted.

Shape letters: B batch, H and W picture sides, C crop side, N side of the same square in the picture's own pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, gaussian_blur, gradient_norm, pixel_grid, relit, trusted
from ..faces.crop import FaceCrop, extract

BREAK = 0.8  # gradient of a motion, pixels per pixel, at which little of the detail is moved along


def composite_weight(drawn: Tensor, carried: Tensor, validity: Tensor, low: float = 0.016, tolerance: float = 0.12) -> Tensor:
    """How much the carried photograph's pixels count beside the sample's: (B,1,H,W) in 0..1. Arguments as `composite`."""
    sigma = low * drawn.shape[-1]
    known = trusted(validity)
    # low-pass the carried picture over its valid pixels only: a hole must not spoil its neighbourhood's agreement
    weight = gaussian_blur(known, sigma).clamp_min(1e-4)
    difference = gaussian_blur((drawn - carried) * known, sigma) / weight
    agreement = torch.exp(-((difference.abs().amax(1, keepdim=True) / tolerance) ** 2))
    return gaussian_blur(known, 1.0).minimum(known) * agreement


def composite(drawn: Tensor, carried: Tensor, validity: Tensor, low: float = 0.016, tolerance: float = 0.12) -> Tensor:
    """The carried photograph's sharp pixels where it is valid and agrees with the sample at low frequencies, else the sample's.

    drawn, carried (B,3,H,W) RGB 0..1; validity (B,1,H,W). low: standard deviation of the low-pass as a fraction of the side;
    tolerance: difference of the low-passed pictures at which the weight has fallen to 1/e. (Design decision 11.)
    """
    return drawn + composite_weight(drawn, carried, validity, low, tolerance) * (carried - drawn)


def keep_grey(edited: Tensor, source: Tensor, limit: float = 0.01) -> Tensor:
    """A grey photograph stays grey: edited (B,3,H,W) without its colours where source (B or 1,3,H',W') has none.

    limit: mean difference of a grey picture's channels, in 0..1 (JPEG leaves a little).
    """
    colour = (source.amax(1) - source.amin(1)).flatten(1).mean(1)[:, None, None, None]
    grey = (edited * edited.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    without = edited.amax(1, keepdim=True) == edited.amin(1, keepdim=True)  # bit for bit what it was
    return torch.where((colour < limit) & ~without, grey, edited)


def moved_detail(square: Tensor, flow: Tensor, ratio: Tensor, front: Tensor, weight: Tensor) -> Tensor:
    """The photograph's detail that a crop of C pixels cannot hold, moved and relit like the crop: (B,3,N,N).

    square (B,3,N,N) the crop's square in the picture's own pixels, N > C; flow (B,2,C,C), ratio (B,3,C,C) and front (B,1,C,C) of Carried;
    weight (B,1,C,C)
    of `composite_weight`: where the crop's pixels are the model's, there is no detail to add.
    """
    side, size = square.shape[-1], flow.shape[-1]

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)

    # where the motion breaks off (lids, lips, the head's outline) a crop's pixel mixes two surfaces, and there is no detail to move
    whole = torch.exp(-((dilate(gradient_norm(flow), 3) / BREAK) ** 4))
    grid = pixel_grid(side, side, square) + enlarge(flow).permute(0, 2, 3, 1) * (2 / size)
    moved = F.grid_sample(square, grid, mode="bicubic", padding_mode="border", align_corners=False)
    moved = torch.lerp(square, relit(moved, enlarge(ratio)), enlarge(front))
    small = F.interpolate(moved, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return (moved - F.interpolate(small, (side, side), mode="bicubic", align_corners=False)) * enlarge(weight * whole)


def with_lent(detail: Tensor, lent: Tensor | None) -> Tensor:
    """Detail (3,N,N) of a photograph and that of another (3,M,M), which shows in the same square."""
    if lent is None:
        return detail
    return detail + F.interpolate(lent[None], detail.shape[-2:], mode="bilinear", antialias=True, align_corners=False)[0]


def native_detail(image: Tensor, crop: FaceCrop, flow: Tensor, ratio: Tensor, front: Tensor, weight: Tensor) -> Tensor | None:
    """`moved_detail` (3,side,side) of one picture (1,3,H,W) for `crop.paste`; None where the crop holds all of the picture's detail."""
    if crop.side <= crop.size:
        return None
    square, _ = extract(image, replace(crop, size=crop.side))
    return moved_detail(square, flow, ratio, front, weight)[0]
