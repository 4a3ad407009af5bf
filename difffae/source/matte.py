"""Which pixels of a picture show a person: Google's MediaPipe selfie segmentation as a torch module.

Source: MediaPipe Selfie Segmentation (general model, 256x256), a MobileNetV3 (Howard et al. 2019, arXiv:1905.02244) with squeeze and
excitation, whose coarse features are gated by their mean and joined with the finer ones on the way up; weights and layout are MediaPipe's
(docs/notices/mediapipe-selfie-segmentation.txt, scripts/convert_matte.py). On ten portraits the module's shares and those of the original
graph in Google's interpreter differ by 2e-5 at most.

Shapes: B pictures, C channels, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, filled, load_checkpoint

INPUT_SIZE = 256
CHUNK = 16  # pictures per pass, which bounds the memory


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding of even sides: the odd pixel goes after."""
    total = kernel - stride
    return F.pad(x, (total // 2, total - total // 2) * 2)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def shares_at(side: int, network: Callable[[Tensor], Tensor], pictures: Tensor, chunk: int) -> Tensor:
    """Shares (B,1,H,W) of pictures (B,3,H,W) of any size by a network that knows squares of one side, so many pictures at a time."""
    size, square = (pictures.shape[-2], pictures.shape[-1]), (side, side)
    if size != square:
        pictures = F.interpolate(pictures, square, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    share = torch.cat([network(part) for part in pictures.split(chunk)])
    return share if size == square else F.interpolate(share, size, mode="bilinear", align_corners=False)


class Gate(nn.Module):
    """Squeeze and excitation: one factor in 0..1 per channel, from the means of all of them: (B,C,H,W) -> (B,C,1,1)."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, middle, 1)
        self.excite = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.excite(F.relu(self.squeeze(_mean(x)))).sigmoid()


class Inverted(nn.Module):
    """MobileNetV3's block: 1x1 conv, depthwise conv, gate (where `gate` > 0 channels), 1x1 conv; a skip where the shapes allow."""

    def __init__(self, inputs: int, middle: int, outputs: int, kernel: int = 3, stride: int = 1, gate: int = 0, hard: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.skip = stride == 1 and inputs == outputs
        self.activation = F.hardswish if hard else F.relu
        self.expand = nn.Conv2d(inputs, middle, 1)
        self.depthwise = nn.Conv2d(middle, middle, kernel, stride, groups=middle)
        self.gate = Gate(middle, gate) if gate else None
        self.project = nn.Conv2d(middle, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.expand(x))
        y = self.activation(self.depthwise(_same(y, self.kernel, self.stride)))
        if self.gate is not None:
            y = y * self.gate(y)
        y = self.project(y)
        return x + y if self.skip else y


class Join(nn.Module):
    """Coarse features (B,I,H/2,W/2) brought to the finer ones (B,C,H,W), which pass a gate; then a residual depthwise conv."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, channels, 1)
        self.gate = Gate(channels, channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        coarse = self.reduce(F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False))
        x = F.relu(self.mix(fine * self.gate(fine + coarse) + coarse))
        return x + F.relu(self.depthwise(x))


class PersonMatte(nn.Module):
    """The share of person in every pixel: (B,3,H,W) RGB in 0..1 -> (B,1,H,W) in 0..1. Built by `PersonMatte.load()`; 106,401 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        # from 1/2 of the side to 1/4, to 1/8, to 1/16
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Inverted(16, 16, 16, stride=2, gate=8)),
                nn.Sequential(Inverted(16, 72, 24, stride=2), Inverted(24, 88, 24)),
                nn.Sequential(
                    Inverted(24, 96, 32, kernel=5, stride=2, gate=24, hard=True),
                    Inverted(32, 128, 32, kernel=5, gate=32, hard=True),
                    Inverted(32, 128, 32, kernel=5, gate=32, hard=True),
                    Inverted(32, 96, 32, kernel=5, gate=24, hard=True),
                    Inverted(32, 96, 32, kernel=5, gate=24, hard=True),
                ),
            ]
        )
        self.local = nn.Conv2d(32, 128, 1)
        self.whole = nn.Conv2d(32, 128, 1)
        self.joins = nn.ModuleList([Join(128, 24), Join(24, 16), Join(16, 16)])
        self.head = nn.ConvTranspose2d(16, 1, 2, 2)

    @classmethod
    def load(cls, path: str | Path | None = None) -> PersonMatte:
        """Weights from `path`, or the bundled ones; frozen, in evaluation mode. Raises CheckpointError."""
        path = asset_path("matte.safetensors") if path is None else path
        checkpoint = load_checkpoint(path, "matte")
        return filled(lambda: cls(**checkpoint.config), checkpoint.tensors, path)

    def forward(self, pictures: Tensor) -> Tensor:
        return shares_at(INPUT_SIZE, self._share, pictures, CHUNK)

    def _share(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(_same(x, 3, 2)))
        finer = []
        for stage in self.stages:
            finer.append(x)
            x = stage(x)
        x = F.relu(self.local(x)) * self.whole(_mean(x)).sigmoid()
        for join, fine in zip(self.joins, reversed(finer), strict=True):
            x = join(x, fine)
        return self.head(x).sigmoid()
