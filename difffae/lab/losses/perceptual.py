"""A perceptual distance from the features of the bundled identity network.

LPIPS' form (Zhang et al. 2018) without its learned weights: features are normalised per position, their squared differences added over
channels and averaged over positions. The network was trained on faces, is shipped, and needs no download.
Shape letters: B batch, C channels, H and W image sides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...source.identity import IdentityNetwork

LAYERS = (3, 7, 10)  # residual blocks after which features are compared: 32, 64 and 128 channels; those before the first block also are


class PerceptualDistance(nn.Module):
    """Frozen; gradients reach the pictures. Not part of what is trained or saved."""

    def __init__(self, network: IdentityNetwork | None = None) -> None:
        super().__init__()
        self.network = (network or IdentityNetwork.load()).requires_grad_(False).eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """images (B,3,H,W) RGB in 0..1, any sides from 64 -> maps (B,C,.,.) of unit length at every position."""
        x = F.relu(self.network.stem((images * 255 - self.network.mean) / 256))
        maps = [x]
        x = F.max_pool2d(x, 3, 2)
        for number in range(1, LAYERS[-1] + 1):
            x = self.network.blocks[number - 1](x)
            if number in LAYERS:
                maps.append(x)
        return [value / (value.square().sum(dim=1, keepdim=True) + 1e-4).sqrt() for value in maps]

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Pictures (B,3,H,W) in 0..1 -> mean over the layers of their distance, 0 for equal ones, a scalar."""
        with torch.no_grad():
            of_target = self.features(target)
        distances = [(a - b).square().sum(dim=1).mean() for a, b in zip(self.features(output), of_target, strict=True)]
        return torch.stack(distances).mean()
