"""Weights by name: what the numbers in tests/golden were computed with, and a stand-in for files that nobody may ship.

golden/compvis.json: names and shapes of CompVis' VQ-f8, KL-f8 and Stable Diffusion v1 U-Net at a small width, and what their own code
(github.com/CompVis/latent-diffusion, a506df5) answers with these weights. golden/iresnet18.json: the same of arcface_torch's iresnet18
(github.com/deepinsight/insightface, 04a433f). golden/slotdiffusion.json: the same of SlotDiffusion's slot attention and ResNet-18
(github.com/Wuziyi616/SlotDiffusion), for pictures of 32x32.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A tensor per name, always the same: matrices keep the size of what they multiply, gains are about 1, offsets small."""
    tensors = {}
    for name, shape in shapes.items():
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if len(shape) > 1:
            values *= 1.0 if "embedding" in name else 0.8 / np.sqrt(np.prod(shape[1:]))
        else:
            values = values * 0.1 + float(name.endswith(("weight", "running_var")))
        tensors[name] = torch.from_numpy(np.asarray(values, np.float32)) if shape else torch.tensor(0)
    return tensors


def picture(*shape: int) -> Tensor:
    """Standard normal numbers, always the same for a shape."""
    return torch.from_numpy(np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32))
