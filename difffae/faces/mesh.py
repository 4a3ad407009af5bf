"""Face mesh network: 478 three-dimensional landmarks of one upright face crop.

Source: Kartynnik et al. 2019, "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", arXiv:1907.06724, and Grishchenko
et al. 2020 (irises), arXiv:2006.10962; weights and layout are those of Google's MediaPipe Face Landmarker.

Shapes: N crops, L = 478 landmarks.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 256
LANDMARKS = 478
# channels, channels inside the bottleneck, at 128, 64, 32, 16, 8, 4 and 2 pixels
STAGES = ((16, 8), (32, 16), (64, 32), (128, 64), (128, 64), (128, 64), (128, 64))
BLOCKS = 4


class Bottleneck(nn.Module):
    """1x1 (or, halving, 2x2) conv, PReLU, depthwise 3x3, 1x1 conv, skip, PReLU."""

    def __init__(self, inputs: int, middle: int, outputs: int, halve: bool = False) -> None:
        super().__init__()
        self.halve = halve
        self.extra = outputs - inputs
        self.squeeze = nn.Conv2d(inputs, middle, 2, 2) if halve else nn.Conv2d(inputs, middle, 1)
        self.inner = nn.PReLU(middle)
        self.depthwise = nn.Conv2d(middle, middle, 3, padding=1, groups=middle, bias=False)
        self.expand = nn.Conv2d(middle, outputs, 1)
        self.outer = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.max_pool2d(x, 2) if self.halve else x
        if self.extra:
            skip = F.pad(skip, (0, 0, 0, 0, 0, self.extra))
        return self.outer(skip + self.expand(self.depthwise(self.inner(self.squeeze(x)))))


class FaceMesh(nn.Module):
    """(N,3,256,256) RGB in 0..1 -> landmarks (N,478,3) in crop pixels (z smaller = nearer, same unit) and presence logit (N,)."""

    def __init__(self) -> None:
        super().__init__()
        channels, middle = STAGES[0]
        self.stem = nn.Conv2d(3, channels, 3, 2)
        self.stem_activation = nn.PReLU(channels)
        blocks = [Bottleneck(channels, middle, channels) for _ in range(BLOCKS)]
        for outputs, middle in STAGES[1:]:
            blocks.append(Bottleneck(channels, middle, outputs, halve=True))
            blocks += [Bottleneck(outputs, middle, outputs) for _ in range(BLOCKS)]
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.presence = nn.Conv2d(channels, 1, 2)
        self.landmarks = nn.Conv2d(channels, LANDMARKS * 3, 2)

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        # TensorFlow's SAME padding of an even size at stride 2: nothing before, one after
        x = self.stem_activation(self.stem(F.pad(crop, (0, 1, 0, 1))))
        x = self.blocks(x)
        return self.landmarks(x).reshape(-1, LANDMARKS, 3), self.presence(x).reshape(-1)
