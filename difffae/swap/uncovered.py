"""What comes into view where something of a person is taken away: the body behind it.

Shape letters: B batch, H and W picture sides. Lengths are shares of the longer side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.pixels import gather, gaussian_blur, nearest_inside, pull_push

MIRRORED = 0.12  # reach of a mirror beside clothes


def continued(picture: Tensor, known: Tensor) -> Tensor:
    """A picture (B,3,H,W) of one thing everywhere, of which a mask (B,1,H,W) shows some: beside it as in a mirror, farther on in smooth
    colours."""
    height, width = picture.shape[-2:]
    side = max(height, width)
    sure = known[:, 0] > 0.5
    index, away = nearest_inside(sure)
    row, column = (at.to(index) for at in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    y, x = 2 * torch.div(index, width, rounding_mode="floor") - row, 2 * (index % width) - column
    mirror = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    smooth = pull_push(picture, known.square())
    share = gather(known, mirror) * (1 - away[:, None] / (MIRRORED * side)).clamp(0, 1)
    share = gaussian_blur(share, 0.006 * side).minimum(share)
    return torch.lerp(torch.lerp(smooth, gather(picture, mirror), share), picture, sure[:, None].to(picture))
