"""Which pixels of a face's upright square show something before the face: a small U-Net that this project trained.

Trained on portraits with things pasted before them (scripts/build_occluders.py), as Voo et al. 2022 do, "Delving into High-Quality
Synthetic Face Occlusion Segmentation Datasets", arXiv:2205.06218.

Shapes: B faces, C channels, S = GRID side of the squares.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, filled, load_checkpoint

KIND = "occluders"
GRID = 128
GROUPS = 8  # of channels that are normalized together


def _block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.SiLU())


class OccluderMatte(nn.Module):
    """The share of things before a face in every pixel: (B,3,S,S) RGB 0..1 of upright squares -> (B,1,S,S) in 0..1.

    Args:
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the side.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.downs = nn.ModuleList(
            nn.Sequential(_block(before, after, 2), _block(after, after)) for before, after in zip((3, *widths), widths, strict=False)
        )
        self.middle = nn.Sequential(_block(widths[-1], widths[-1], 1, 2), _block(widths[-1], widths[-1], 1, 4))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(deep, fine, 1) for deep, fine in pairs)
        self.ups = nn.ModuleList(_block(2 * fine, fine) for _, fine in pairs)
        self.last = nn.Conv2d(widths[0], 1, 3, padding=1)

    @classmethod
    def load(cls, path: str | Path | None = None) -> OccluderMatte:
        """Weights from `path`, or the bundled ones; frozen, in evaluation mode. Raises CheckpointError."""
        path = asset_path("occluders.safetensors") if path is None else path
        checkpoint = load_checkpoint(path, KIND)
        return filled(lambda: cls(**checkpoint.config), checkpoint.tensors, path)

    def logits(self, squares: Tensor) -> Tensor:
        """(B,1,S,S) before the sigmoid, for training."""
        x = squares * 2 - 1
        finer = []
        for down in self.downs:
            x = down(x)
            finer.append(x)
        x = x + self.middle(x)
        for narrow, up, fine in zip(self.narrow, self.ups, finer[-2::-1], strict=True):
            x = up(torch.cat([_doubled(narrow(x)), fine], 1))
        return _doubled(self.last(x))

    def forward(self, squares: Tensor) -> Tensor:
        return self.logits(squares).sigmoid()


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
