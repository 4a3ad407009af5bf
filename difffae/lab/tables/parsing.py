"""Slot masks beside another parser's label pictures (paper appendix A, Fig. 10).

Shape letters: R regions (4), S slots, H and W picture sides, h and w mask sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.errors import ConfigError
from ...common.images import opened
from ...edit.editor import Portrait
from ...faces.crop import extract
from ...source.slots import REGIONS

# The 19 classes of CelebAMask-HQ in the order that face-parsing.PyTorch (BiSeNet) gives them; hats count as hair, necks as face
CELEBAMASK: dict[str, tuple[int, ...]] = {
    "face": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    "hair": (17, 18),
    "clothes": (16,),
    "background": (0,),
}


def read_classes(path: Path | None) -> dict[str, tuple[int, ...]]:
    """Which labels make which region: JSON such as {"face": [1, 2], "hair": [17], "clothes": [16], "background": [0]}."""
    if path is None:
        return CELEBAMASK
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        classes = {name: tuple(int(label) for label in data[name]) for name in REGIONS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a list of labels for each of {', '.join(REGIONS)} ({error}); correct it") from error
    return classes


def read_labels(path: Path, portrait: Portrait, classes: Mapping[str, Sequence[int]]) -> Tensor:
    """A parser's label picture (8-bit PNG, grey or palette, of the whole photograph in any size) in the portrait's square: (1,R,S,S) of 0
    and 1. Raises ImageError, or ConfigError for another shape or labels that no region has."""
    with opened(path) as picture:
        if picture.mode not in ("L", "P", "I", "I;16"):
            raise ConfigError(f"{path}: a colour picture; give labels as a grey or palette PNG whose values are class numbers")
        labels = torch.from_numpy(np.array(picture).astype(np.int64))
    height, width = portrait.image.shape[-2:]
    if abs(labels.shape[0] * width - labels.shape[1] * height) > max(height, width):
        raise ConfigError(
            f"{path}: {labels.shape[1]}x{labels.shape[0]} labels do not fit a {width}x{height} picture; label the whole picture"
        )
    known = {label for members in classes.values() for label in members}
    strange = sorted(set(labels.unique().tolist()) - known)
    if strange:
        raise ConfigError(f"{path}: label {strange[0]} belongs to no region; give --label-map")
    planes = torch.stack([torch.isin(labels, torch.tensor(classes[name])) for name in REGIONS]).float()
    whole = F.interpolate(planes[None], (height, width), mode="nearest")
    square, _ = extract(whole, portrait.crop)
    return F.one_hot(square.argmax(1), len(REGIONS)).permute(0, 3, 1, 2).float()


def shares(masks: Tensor, order: Sequence[str], size: int) -> Tensor:
    """Slot masks (B,S,h,w) as shares of the regions at the picture's size, (B,R,size,size): the slots of one region count together."""
    wide = F.interpolate(masks.float(), (size, size), mode="bilinear", align_corners=False)
    return torch.stack([wide[:, [own == name for own in order]].sum(1) for name in REGIONS], 1)


def region_masks(masks: Tensor, order: Sequence[str], size: int) -> Tensor:
    """Slot masks (1,S,h,w) as one-hot regions (1,R,size,size) on the CPU."""
    regions = shares(masks.detach().cpu(), order, size).argmax(1)
    return F.one_hot(regions, len(REGIONS)).permute(0, 3, 1, 2).float()


def intersection_over_union(a: Tensor, b: Tensor, known: Tensor) -> dict[str, float | None]:
    """Per region, of one-hot masks (1,R,H,W) where known (1,1,H,W) is 1; None where neither shows it; and their mean."""
    inside = known.cpu() > 0.5
    both = (a * b * inside).sum((0, 2, 3))
    either = (((a + b) > 0) * inside).sum((0, 2, 3))
    values = {name: (both[i] / either[i]).item() if either[i] > 0 else None for i, name in enumerate(REGIONS)}
    shown = [value for value in values.values() if value is not None]
    return values | {"mean": sum(shown) / len(shown) if shown else None}
