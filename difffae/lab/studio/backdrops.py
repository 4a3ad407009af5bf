"""Backgrounds of synthetic portraits, all made here: plain walls, rooms, bricks, planks, foliage, sky, lights, out of focus or not.

Shape letters: H = W side of the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...common.images import from_picture
from ...common.pixels import box_blur
from ..people.complexion import hsv
from ..people.randomness import drawn, generator

Array = np.ndarray


def background(seed: int, size: int, folder: Path | None = None) -> Tensor:
    """(3,size,size) of this seed: one of the scenes below under an uneven light, or a random part of a photograph of `folder`."""
    rng = generator(seed, 7)
    photographs = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")) if folder else []
    if photographs and rng.random() < 0.6:
        with Image.open(photographs[rng.integers(len(photographs))]) as handle:
            picture = handle.convert("RGB")
        side = int(min(picture.size) * rng.uniform(0.5, 1.0))
        x, y = (int(rng.integers(0, full - side + 1)) for full in picture.size)
        cut = picture.resize((size, size), Image.Resampling.LANCZOS, (x, y, x + side, y + side))
        return from_picture(cut)
    chosen = drawn(rng, *zip(*SCENES, strict=True))
    fine = 256  # scenes are drawn at one resolution, so that a seed shows the same at every size
    picture = torch.from_numpy(chosen(rng, fine)).float()[None]
    blur = float(rng.choice([0.0, 1.0, 3.0, 7.0], p=[0.25, 0.25, 0.3, 0.2])) * float(rng.uniform(0.7, 1.4))
    if blur:
        picture = box_blur(picture, max(1, round(blur)), 3)  # comes near to a disc of light out of focus
    ys, xs = np.mgrid[0:fine, 0:fine] / fine - 0.5
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
    shade = 1 + fall * (xs * np.cos(angle) + ys * np.sin(angle)) - rng.uniform(0, 0.4) * (xs**2 + ys**2)
    picture = picture * torch.from_numpy(shade).float()
    if size != fine:
        picture = F.interpolate(picture, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return picture[0].clamp(0, 1)


def _colour(rng: np.random.Generator, most: float = 0.4, low: float = 0.15, high: float = 0.95) -> Array:
    """(3,) sRGB, mostly pale."""
    return np.array(hsv(rng.random(), most * rng.random() ** 2, rng.uniform(low, high)))


def _noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 5, gain: float = 0.55) -> Array:
    """Fractal value noise (H,W), about -1..1."""
    total, weight = np.zeros((size, size), np.float32), 1.0
    for _ in range(octaves):
        grid = torch.from_numpy(rng.normal(0, 1, (1, 1, cells + 1, cells + 1))).float()
        total += weight * F.interpolate(grid, (size, size), mode="bicubic", align_corners=True)[0, 0].numpy()
        weight, cells = weight * gain, cells * 2
        if cells > size:
            break
    return total / 2


def _axes(size: int) -> tuple[Array, Array]:
    ys, xs = np.mgrid[0:size, 0:size] / size
    return xs, ys


def _mix(a: Array, b: Array, t: Array) -> Array:
    """Colours (3,) or pictures (3,H,W) mixed by t (H,W)."""
    a, b = (c[:, None, None] if c.ndim == 1 else c for c in (a, b))
    return a * (1 - t) + b * t


def _step(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def plain(rng: np.random.Generator, size: int) -> Array:
    """A studio's paper or a painted wall with a faint grain."""
    base = _colour(rng)
    other = np.clip(base + rng.normal(0, 0.12) + rng.normal(0, 0.04, 3), 0, 1)
    xs, ys = _axes(size)
    angle = rng.uniform(0, 2 * np.pi)
    linear = np.clip(0.5 + (xs - 0.5) * np.cos(angle) + (ys - 0.5) * np.sin(angle), 0, 1)
    t = linear if rng.random() < 0.6 else np.clip(1.3 * np.hypot(xs - 0.5, ys - 0.5), 0, 1)
    return _mix(base, other, t) * (1 + rng.uniform(0, 0.06) * _noise(rng, size, 12))


def cloth(rng: np.random.Generator, size: int) -> Array:
    """A curtain: vertical folds."""
    xs, ys = _axes(size)
    phase = xs * rng.uniform(4, 14) + 0.25 * _noise(rng, size, 2, 2)
    folds = 0.75 + 0.3 * np.sin(2 * np.pi * phase) + 0.12 * np.sin(4.7 * np.pi * phase + ys)
    return _colour(rng, 0.8)[:, None, None] * folds


def bricks(rng: np.random.Generator, size: int) -> Array:
    """A wall of bricks or tiles with joints."""
    xs, ys = _axes(size)
    rows = rng.uniform(7, 18)
    long = rng.uniform(1.0, 2.6)
    wobble = 0.04 * _noise(rng, size, 10, 3)
    v = ys * rows + wobble
    u = xs * rows / long + 0.5 * (np.floor(v) % 2) + wobble
    edge = np.minimum(np.minimum(u % 1, 1 - u % 1) * long, np.minimum(v % 1, 1 - v % 1))
    joint = 1 - _step((edge - rng.uniform(0.04, 0.1)) * 60)
    number = (np.floor(u) * 57 + np.floor(v) * 131).astype(int) % 97
    tint = 1 + 0.16 * rng.normal(0, 1, 97)[number]
    base = (
        np.array(hsv(rng.uniform(0.0, 0.08), rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.75))) if rng.random() < 0.6 else _colour(rng, 0.3)
    )
    stone = base[:, None, None] * tint * (1 + 0.18 * _noise(rng, size, 24))
    return _mix(stone, np.clip(base.mean() * 1.2 + rng.normal(0, 0.1), 0.1, 0.9) * np.ones(3), joint)


def planks(rng: np.random.Generator, size: int) -> Array:
    """Wood, upright or lying."""
    xs, ys = _axes(size)
    u, v = (xs, ys) if rng.random() < 0.5 else (ys, xs)
    u = u * rng.uniform(4, 10)
    number = np.floor(u).astype(int) % 31
    grain = np.sin(2 * np.pi * (6 * (u % 1) + 3 * _noise(rng, size, 3, 4) + rng.random(31)[number] * 9 + v))
    base = np.array(hsv(rng.uniform(0.05, 0.1), rng.uniform(0.25, 0.65), rng.uniform(0.3, 0.85)))
    gap = _step((np.minimum(u % 1, 1 - u % 1) - 0.02) * 250)
    return base[:, None, None] * (1 + 0.12 * rng.normal(0, 1, 31)[number] + 0.1 * grain) * (0.35 + 0.65 * gap)


def foliage(rng: np.random.Generator, size: int) -> Array:
    """Leaves before a bright sky."""
    dark = np.array(hsv(rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.8), rng.uniform(0.1, 0.3)))
    leaf = np.array(hsv(rng.uniform(0.12, 0.36), rng.uniform(0.35, 0.8), rng.uniform(0.4, 0.75)))
    sky = np.array(hsv(rng.uniform(0.5, 0.62), rng.uniform(0.05, 0.35), rng.uniform(0.8, 1.0)))
    picture = _mix(dark, leaf, _step(4 * _noise(rng, size, 8, 6, 0.75)))
    _, ys = _axes(size)
    return _mix(picture, sky, _step(9 * (_noise(rng, size, 5, 6, 0.7) + rng.uniform(-1.2, 0.3) - (ys - 0.4) * rng.uniform(0, 2))))


def outdoors(rng: np.random.Generator, size: int) -> Array:
    """Sky with clouds over a far line of trees or houses and a ground."""
    xs, ys = _axes(size)
    horizon = rng.uniform(0.35, 0.85) + 0.03 * _noise(rng, size, 3)
    blue = np.array(hsv(rng.uniform(0.53, 0.63), rng.uniform(0.1, 0.6), rng.uniform(0.6, 1.0)))
    cloud = _step(4 * (_noise(rng, size, 3, 6, 0.6) + rng.uniform(-1, 0.6)))
    picture = _mix(_mix(blue, np.clip(blue + 0.25, 0, 1), ys), np.full(3, rng.uniform(0.8, 1.0)), 0.8 * cloud)
    houses = np.floor(xs * rng.uniform(5, 16) + rng.random()).astype(int) % 29
    top = horizon - (rng.uniform(0, 0.35, 29)[houses] if rng.random() < 0.5 else 0.12 + 0.1 * _noise(rng, size, 6))
    far = _colour(rng, 0.4, 0.2, 0.7)[:, None, None] * (1 + 0.2 * rng.normal(0, 1, 29)[houses] + 0.15 * _noise(rng, size, 20))
    picture = _mix(picture, far, _step((ys - top) * 120))
    ground = np.array(hsv(rng.uniform(0.08, 0.33), rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.7)))[:, None, None]
    return _mix(picture, ground * (1 + 0.2 * _noise(rng, size, 16)), _step((ys - horizon) * 120))


def room(rng: np.random.Generator, size: int) -> Array:
    """A wall with boxes: doors, windows, shelves with books, pictures, lamps."""
    xs, ys = _axes(size)
    picture = plain(rng, size)
    base = picture.mean((1, 2))
    for _ in range(int(rng.integers(2, 8))):
        x0, y0, w, h = rng.uniform(-0.2, 0.9), rng.uniform(-0.2, 0.9), rng.uniform(0.08, 0.5), rng.uniform(0.08, 0.8)
        inside = _step((xs - x0) * 200) * _step((x0 + w - xs) * 200) * _step((ys - y0) * 200) * _step((y0 + h - ys) * 200)
        kind = rng.random()
        if kind < 0.35:  # shelf: books side by side
            book = (np.floor((xs - x0) * rng.uniform(25, 70)) + 17 * np.floor((ys - y0) * rng.uniform(4, 9))).astype(int) % 61
            body = np.stack([rng.uniform(0.05, 0.85, 61)[book] for _ in range(3)])
            body = body * 0.4 + 0.6 * body.mean(0)
        elif kind < 0.6:  # window
            bars = _step((np.abs(((xs - x0) / w * 2) % 1 - 0.5) - 0.46) * 300)
            body = _mix(np.clip(outdoors(rng, size) * 1.25, 0, 1), base * 0.8, bars)
        else:
            body = (np.clip(base + rng.normal(0, 0.2) + rng.normal(0, 0.08, 3), 0, 1))[:, None, None] * np.ones_like(xs)
        picture = _mix(picture, body, inside)
        edge = inside * (1 - inside) * 4
        picture = picture * (1 - 0.4 * edge)
    return picture * (1 + 0.05 * _noise(rng, size, 10))


def lights(rng: np.random.Generator, size: int) -> Array:
    """Discs of lights out of focus before a dark or coloured evening."""
    xs, ys = _axes(size)
    picture = _mix(_colour(rng, 0.7, 0.04, 0.4), _colour(rng, 0.7, 0.04, 0.5), _step(2 * _noise(rng, size, 3, 3)))
    warm = rng.random()
    for _ in range(int(rng.integers(12, 45))):
        x0, y0, r = rng.random(), rng.random(), rng.uniform(0.012, 0.06)
        disc = _step((r - np.hypot(xs - x0, ys - y0)) * 220)
        hue = rng.uniform(0.03, 0.14) if rng.random() < warm else rng.random()
        colour = np.array(hsv(hue, rng.uniform(0.1, 0.7), 1.0))[:, None, None]
        picture = picture + colour * disc * rng.uniform(0.15, 0.7)
    return np.clip(picture, 0, 1)


def noise(rng: np.random.Generator, size: int) -> Array:
    """Shapes far out of focus."""
    base = _colour(rng)[:, None, None]
    grey = _noise(rng, size, 3, 4, 0.6)
    return base + rng.uniform(0.1, 0.3) * grey + 0.06 * np.stack([_noise(rng, size, 3, 3) for _ in range(3)])


SCENES = ((plain, 5), (room, 5), (noise, 2), (lights, 2), (bricks, 1.5), (planks, 1.5), (foliage, 2), (outdoors, 2.5), (cloth, 1.5))
