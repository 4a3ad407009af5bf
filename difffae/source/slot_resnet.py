"""The image encoder of SlotDiffusion's published slots (Wu et al. 2023): a ResNet for small pictures, with group norm.

The names of its tensors are theirs, which are torchvision's. Shape letters: B batch, C feature channels, H and W image sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with group norm; the skip has a 1x1 convolution where its shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.GroupNorm(groups, outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.GroupNorm(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetEncoder(nn.Module):
    """(B,3,H,W) in 0..1 -> (B,C,H/n,W/n), n = 2^(stages - 1): stages layer1, layer2 ... of which all but the first halve."""

    def __init__(self, stem: int, widths: Sequence[int], blocks: int, groups: int) -> None:
        """stem: channels of the first convolution; widths: of every stage; blocks: of a stage; groups: of the norms."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.GroupNorm(groups, stem)
        self.stages = tuple(f"layer{number}" for number in range(1, len(widths) + 1))
        self.step = 2 ** (len(widths) - 1)
        self.channels = widths[-1]
        self.checkpointing = False
        inputs = stem
        for number, (name, width) in enumerate(zip(self.stages, widths, strict=True)):
            layers = []
            for block in range(blocks):
                layers.append(BasicBlock(inputs, width, 2 if number and not block else 1, groups))
                inputs = width
            setattr(self, name, nn.Sequential(*layers))

    def save_memory(self) -> None:
        """From now on keep only what goes into the stages, and compute the rest again in backward."""
        self.checkpointing = True

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images * 2 - 1)))
        for name in self.stages:
            stage = getattr(self, name)
            x = recomputed(stage, x, use_reentrant=False) if self.checkpointing and self.training else stage(x)
        return x
