"""Which pixels of a picture show hair: Google's MediaPipe hair segmentation as a torch module.

Source: Tkachenka et al. 2019, "Real-time Hair Segmentation and Recoloring on Mobile GPUs", arXiv:1907.06740; weights and layout are
MediaPipe's (docs/notices/mediapipe-hair-segmentation.txt, scripts/convert_hair.py). A network in the manner of ENet (Paszke et al. 2016,
arXiv:1606.02147): bottlenecks at 1/8, 1/16 and 1/32 of the side, the last with growing dilations; on the way up features return to the
places that the max pooling took them from. On ten portraits the module's shares and those of the original graph in Google's interpreter
differ by 9e-5 on average, and by 0.05 at most, at hair's edges: the rounding to float16 moves some of those places.

Shapes: B pictures, C channels, H and W picture height and width.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, filled, load_checkpoint
from .matte import shares_at

INPUT_SIZE = 512
CHUNK = 8  # pictures per pass, which bounds the memory


def _depthwise(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


def _pair(channels: int) -> list[nn.Module]:
    """Inside of a bottleneck: two depthwise 3x3 convs."""
    return [*_wide(channels, 3), _depthwise(channels, 3), nn.PReLU(channels)]


def _wide(channels: int, kernel: int = 5) -> list[nn.Module]:
    """Inside of a bottleneck: one depthwise conv, mixed by a 1x1 conv."""
    return [_depthwise(channels, kernel), nn.Conv2d(channels, channels, 1), nn.PReLU(channels)]


def _full(channels: int, dilation: int = 1) -> list[nn.Module]:
    """Inside of a bottleneck: one 3x3 conv over all channels."""
    return [nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation), nn.PReLU(channels)]


class Bottleneck(nn.Module):
    """1x1 (or, halving, 2x2) conv, PReLU, `inside`, 1x1 conv, skip (with a 1x1 conv where channels change), PReLU."""

    def __init__(self, inputs: int, middle: int, outputs: int, inside: list[nn.Module], halve: bool = False) -> None:
        super().__init__()
        squeeze = nn.Conv2d(inputs, middle, 2, 2) if halve else nn.Conv2d(inputs, middle, 1)
        self.branch = nn.Sequential(squeeze, nn.PReLU(middle), *inside, nn.Conv2d(middle, outputs, 1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.activation = nn.PReLU(outputs)

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """x (B,I,H,W), and what a halving block adds to: x's max pooling (B,I,H/2,W/2)."""
        return self.activation(self.branch(x) + self.skip(x if pooled is None else pooled))


class Doubling(nn.Module):
    """Bottleneck with a transposed 3x3 conv; its skip puts values back to where max pooling found the largest: -> (B,C,2H,2W)."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        squeeze = [nn.Conv2d(inputs, middle, 1), nn.PReLU(middle)]
        self.branch = nn.Sequential(*squeeze, nn.ConvTranspose2d(middle, middle, 3, 2), nn.PReLU(middle))
        self.skip = nn.Conv2d(inputs, outputs, 1)
        self.expand = nn.Conv2d(middle, outputs, 1)
        self.activation = nn.PReLU(outputs)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        # TensorFlow's SAME padding of an even side at stride 2: nothing before, one after
        x, kept = self.expand(self.branch(x)[..., :-1, :-1]), self.skip(x)
        # not max_unpool2d, which some devices lack and which refuses to be deterministic on others
        spread = torch.zeros_like(x).flatten(2).scatter(2, places.flatten(2), kept.flatten(2)).view_as(x)
        return self.activation(x + spread)


class HairMatte(nn.Module):
    """The share of hair in every pixel: (B,3,H,W) RGB in 0..1 -> (B,1,H,W) in 0..1. Built by `HairMatte.load()`; 181,474 parameters.

    The original takes the mask of a film's last picture as a fourth channel. Here every picture is a first one, whose fourth channel is
    zero, so the weights of that channel are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.PReLU(8), nn.Conv2d(8, 32, 2, 2), nn.PReLU(32))
        # from 1/4 of the side to 1/8, to 1/16, to 1/32, and bottlenecks that stay there
        self.halvings = nn.ModuleList(
            Bottleneck(i, m, o, _pair(m), halve=True) for i, m, o in ((32, 16, 64), (64, 32, 128), (128, 16, 128))
        )
        coarse = [inside for _ in range(2) for inside in (_pair(8), _full(8, 2), _wide(8), _full(8, 4), _pair(8), _full(8, 8))]
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*[Bottleneck(64, 16, 64, _pair(16)) for _ in range(2)]),
                nn.Sequential(*[Bottleneck(128, 16, 128, _pair(16)) for _ in range(4)]),
                nn.Sequential(*[Bottleneck(128, 8, 128, inside) for inside in coarse], Bottleneck(128, 4, 128, _full(4))),
            ]
        )
        self.doublings = nn.ModuleList([Doubling(128, 8, 128), Doubling(128, 8, 64), Doubling(64, 4, 32)])
        self.joins = nn.ModuleList([Bottleneck(256, 8, 128, _full(8)), Bottleneck(128, 4, 64, _full(4)), Bottleneck(32, 4, 32, _full(4))])
        self.head = nn.Sequential(nn.ConvTranspose2d(32, 8, 2, 2), nn.PReLU(8), nn.ConvTranspose2d(8, 2, 2, 2))

    @classmethod
    def load(cls, path: str | Path | None = None) -> HairMatte:
        """Weights from `path`, or the bundled ones; frozen, in evaluation mode. Raises CheckpointError."""
        path = asset_path("hair.safetensors") if path is None else path
        checkpoint = load_checkpoint(path, "hair")
        return filled(lambda: cls(**checkpoint.config), checkpoint.tensors, path)

    def forward(self, pictures: Tensor) -> Tensor:
        return shares_at(INPUT_SIZE, self._share, pictures, CHUNK)

    def _share(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        places, finer = [], [x[:, :0]]  # at 1/4 of the side nothing joins on the way up
        for halving, stage in zip(self.halvings, self.stages, strict=True):
            pooled, largest = F.max_pool2d(x, 2, return_indices=True)
            x = halving(x, pooled)
            places.append(largest)
            finer.append(x)
            x = stage(x)
        for doubling, join, largest, fine in zip(self.doublings, self.joins, reversed(places), reversed(finer[:-1]), strict=True):
            x = join(torch.cat([doubling(x, largest), fine], 1))
        return self.head(x).softmax(1)[:, 1:]
