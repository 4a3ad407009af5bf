"""Square, rotated crops of pictures of any size, without aliasing.

Shapes: N crops, C channels, H, W picture, S side of a crop in its own pixels. A region of interest (ROI) is [centre x, centre y, side,
angle]: pixels of the picture (pixel centres at +0.5) and radians; a positive angle turns the crop clockwise as seen in the picture (from
x towards y).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Pyramid:
    """A picture (C,H,W) with its halvings, each made when first asked for."""

    def __init__(self, image: Tensor) -> None:
        self.levels = [image]

    def level(self, index: int) -> Tensor:
        """The picture at 1/2^index of its size; odd rows and columns at the end are kept, averaged over what is there."""
        while len(self.levels) <= index:
            self.levels.append(F.avg_pool2d(self.levels[-1][None], 2, ceil_mode=True)[0])
        return self.levels[index]

    def crop(self, rois: Tensor, size: int, outside: str, step: float = 2.0) -> Tensor:
        """Bilinear crops, taken from the first level on which two samples lie less than `step` pixels apart.

        Args:
            rois: (N,4).
            size: side of the crops in pixels.
            outside: "zeros", or "border" to repeat the last pixel.
            step: in pixels.

        Returns:
            (N,C,size,size).
        """
        channels = self.levels[0].shape[0]
        crops = self.levels[0].new_empty(len(rois), channels, size, size)
        coarsest = int(math.log2(max(1, min(self.levels[0].shape[1:]))))
        chosen = (rois[:, 2] / size / step).clamp_min(0.5).log2().floor().long().add(1).clamp_max(coarsest)
        for index in chosen.unique().tolist():
            image = self.level(index)
            rows = (chosen == index).nonzero()[:, 0]
            points = roi_grid(rois[rows], size) / 2**index
            extent = points.new_tensor([image.shape[2], image.shape[1]])
            # all crops of one level as one tall grid: the picture is not repeated per crop
            grid = (points / extent * 2 - 1).reshape(1, -1, size, 2)
            sampled = F.grid_sample(image[None], grid, mode="bilinear", padding_mode=outside, align_corners=False)
            crops[rows] = sampled[0].reshape(channels, len(rows), size, size).transpose(0, 1)
        return crops


def roi_grid(rois: Tensor, size: int) -> Tensor:
    """ROIs (N,4) -> picture coordinates (N,size,size,2) of the centres of the crop's pixels."""
    axis = (torch.arange(size, device=rois.device, dtype=rois.dtype) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return from_roi(torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(len(rois), -1, -1), rois).reshape(-1, size, size, 2)


def from_roi(points: Tensor, rois: Tensor) -> Tensor:
    """Points (N,P,2) as fractions of their ROI -> pixels of the picture."""
    centre, side, angle = rois[:, None, :2], rois[:, None, 2], rois[:, None, 3]
    u, v = ((points - 0.5) * side[..., None]).unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return centre + torch.stack([cos * u - sin * v, sin * u + cos * v], dim=-1)
