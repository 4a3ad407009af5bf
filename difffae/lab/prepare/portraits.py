"""A folder of portraits: which of them no training may see, and reading the others."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def dev_files() -> frozenset[str]:
    """Names of the portraits that no training may see."""
    return frozenset(resources.files("difffae.lab").joinpath("portraits-dev.txt").read_text().split())


def read_picture(file: str | Path | BinaryIO) -> Tensor:
    """A picture file of ours, RGB, as (3,H,W) uint8."""
    return torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).copy()).permute(2, 0, 1)


def read_pictures(folder: Path, split: str) -> list[Tensor]:
    """All pictures of a split, each (3,H,W) uint8. split: 'train' or 'dev'."""
    dev = dev_files()
    names = sorted(path.name for path in folder.glob("*.webp"))
    chosen = [name for name in names if (name in dev) == (split == "dev")]
    return [read_picture(folder / name) for name in chosen]
