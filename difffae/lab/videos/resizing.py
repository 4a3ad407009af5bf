"""Pictures in another size as scikit-image's `resize(..., anti_aliasing=True)` gives them, with which FOMM cut VoxCeleb.

(video-preprocessing, util.py, crop_bbox_from_frames.) A Gaussian of standard deviation (reduction - 1) / 2, cut off at four of them, then
bilinear samples; beyond the border the picture is mirrored about its outermost pixels. Both are linear and work on each axis alone, so a
matrix for each axis is the whole of it.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

CUT_OFF = 4.0  # standard deviations


def resize(pictures: Tensor, side: int) -> Tensor:
    """Pictures (B,3,H,W) as squares (B,3,side,side), of the same values."""
    rows, columns = (weights(size, side).to(pictures) for size in pictures.shape[-2:])
    return rows @ pictures @ columns.T


@lru_cache(maxsize=8)
def weights(size: int, side: int) -> Tensor:
    """(side,size) float64: what each of `size` pixels gives to each of `side`; rows sum to 1."""
    deviation = max(0.0, (size / side - 1) / 2)
    radius = int(CUT_OFF * deviation + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / max(deviation, 1e-9)).square())
    pixels = torch.arange(size)
    blur = _sum(pixels[:, None] + offsets, (kernel / kernel.sum()).expand(size, -1), size)

    places = (torch.arange(side, dtype=torch.float64) + 0.5) * size / side - 0.5  # pixel centres
    before = places.floor()
    share = (places - before)[:, None]
    sample = _sum(before.long()[:, None] + torch.arange(2), torch.cat([1 - share, share], dim=1), size)
    return sample @ blur


def _sum(pixels: Tensor, shares: Tensor, size: int) -> Tensor:
    """Rows of a matrix (N,size) from pixels (N,K), which may lie beyond the border, and their shares (N,K)."""
    period = max(2 * (size - 1), 1)
    pixels = pixels % period
    pixels = torch.minimum(pixels, (period - pixels) % period) if size > 1 else torch.zeros_like(pixels)
    return torch.zeros(len(pixels), size, dtype=torch.float64).scatter_add_(1, pixels, shares.contiguous())
