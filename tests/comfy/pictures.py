"""Pictures with no face, one and three, of known sizes, channels and places, for the tests of the nodes."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from client import ROOT
from inprocess import Pack
from PIL import Image
from torch import Tensor

SIZES = {"64x64": (64, 64), "256x256": (256, 256), "900x600": (600, 900)}
CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
PEOPLE = ("nobody", "one", "three")
SIDE = 256
NO_FACE = "{}: no face found; use a picture in which a face is at least about 40 pixels high and not in profile"


@cache
def portrait(name: str) -> Tensor:
    pixels = np.array(Image.open(ROOT / "difffae/assets" / name).convert("RGB"))
    return torch.from_numpy(pixels).float()[None] / 255


def shrunk(image: Tensor, side: int) -> Tensor:
    return F.interpolate(image.movedim(-1, 1), (side, side), mode="bicubic", antialias=True).clamp(0, 1).movedim(1, -1)


@cache
def frame(size: str, people: str, number: int = 0) -> tuple[Tensor, tuple[float, float]]:
    """RGB (1,H,W,3) over a smooth ramp, and where the largest face is (x, y). `number` moves the people by some pixels."""
    height, width = SIZES[size]
    side, shift = min(height, width), 2 * number
    ramp = torch.linspace(0.3, 0.6, width)[None, None, :, None].expand(1, height, width, 3).clone()
    ramp[..., 2] = 0.5
    source, query = portrait("source.png"), portrait("query.png")
    placed: list[tuple[Tensor, int, int, int]] = []  # picture, left, top, side
    if people == "one" and side == 64:  # the face alone, since it must be 40 pixels high
        placed = [(source[:, 40:232, 90:282], 0, 0, 64 - shift)]
    elif people == "one":
        placed = [(source, (width - side) // 2 + shift, 0, side - shift)]
    elif people == "three":
        placed = [(source, shift, 0, side // 2), (query, width - side // 2, side // 2, side // 2), (source, 0, side // 2, int(side / 2.5))]
    for picture, left, top, edge in placed:
        ramp[:, top : top + edge, left : left + edge] = shrunk(picture, edge)
    if people == "nobody":
        return ramp, (0.0, 0.0)
    picture, left, top, edge = placed[1 if people == "three" else 0]
    across, down = (0.517, 0.42) if people == "three" else (0.502, 0.3)  # centre of the crop in the portrait
    if picture.shape[1] == 192:
        across, down = (across * 384 - 90) / 192, (down * 384 - 40) / 192
    return ramp, (left + across * edge, top + down * edge)


def batch_of(size: str, channels: str, people: str, frames: int) -> Tensor:
    image = torch.cat([frame(size, people, number)[0] for number in range(frames)])
    if channels == "grey":
        return image.mean(-1, keepdim=True)
    if channels == "rgba":
        alpha = torch.linspace(0, 1, image.shape[1])[None, :, None, None].expand(*image.shape[:3], 1)
        return torch.cat([image, alpha], -1)
    return image


def seen(image: Tensor) -> Tensor:
    """What a node should make of it: RGB."""
    return image[..., :3].expand(*image.shape[:3], 3)


def own_pixels(pack: Pack, crop: Any, side: int | None = None) -> Tensor:
    """The squares of a Crop Face cut again at the side at which Carry Photo moves them, or at another: (B,3,N,N)."""
    side = pack.library("edit.native").native_side(crop) if side is None else side
    return pack.library("faces.crop").extract(crop.original, [replace(square, size=side) for square in crop.squares])[0]


def part(squares: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """What lies between these pixels of a Crop Face's picture in squares (B,C,N,N) of any side."""
    top, bottom, left, right = (round(edge * squares.shape[-1] / SIDE) for edge in (top, bottom, left, right))
    return squares[..., top:bottom, left:right]


def one_by_one(batch: Tensor, singles: list[Tensor], tolerance: float = 1e-5) -> None:
    assert batch.shape[0] == len(singles)
    assert (batch - torch.cat(singles)).abs().max() <= tolerance


def raises(pack: Pack, error: str, message: str):
    return pytest.raises(getattr(pack.library("common.errors"), error), match="^" + re.escape(message) + "$")
