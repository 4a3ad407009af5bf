"""Random people, poses, expressions, lights and backgrounds for synthetic portraits. Everything follows from a seed.

Shape letters: B faces, S shape, A albedo, E expressions, N rows of a table of expressions, H and W picture height and width.
Axes: x right in the image, y up, z to the viewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..render import sh_basis
from ..rotations import from_yaw_pitch_roll
from .wardrobe import BROWS, HAIR, LASHES, TOPS

# sRGB of natural hair, from black to white, with how often each is drawn
HAIR_COLOURS = (
    ((0.07, 0.06, 0.06), 4), ((0.14, 0.10, 0.08), 4), ((0.24, 0.16, 0.11), 4), ((0.36, 0.24, 0.15), 3), ((0.50, 0.36, 0.22), 2),
    ((0.66, 0.52, 0.33), 2), ((0.80, 0.68, 0.48), 2), ((0.48, 0.22, 0.11), 2), ((0.62, 0.32, 0.15), 1), ((0.45, 0.44, 0.43), 2),
    ((0.66, 0.65, 0.63), 2), ((0.85, 0.84, 0.81), 1),
)  # fmt: skip
STYLES = (*HAIR, "", None)  # cropped hair and none at all as well
STYLE_WEIGHTS = (4, 4, 1.5, 4, 2, 4, 4, 1.5, 3, 1.5)  # less of those whose fringe hides an eye
MAX_TURN = (45.0, 22.0, 18.0)  # degrees of yaw, pitch, roll
TURN_SPREAD = (19.0, 8.0, 6.0)


@dataclass(frozen=True)
class Person:
    """What stays the same between two pictures of a person.

    shape (1,S), albedo (1,A); skin and iris are texture files; style: a hair mesh, "" for cropped, None for bald; colours (3,) sRGB;
    camera (1,3) weak perspective; top_tint None keeps the garment's own colours; tone (3,) factor on the skin texture."""

    seed: int
    shape: Tensor
    albedo: Tensor
    skin: str
    tone: Tensor
    iris: str
    style: str | None
    hair_colour: Tensor
    brows: str
    lashes: str
    top: str
    top_tint: Tensor | None
    camera: Tensor


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng([abs(int(s)) for s in seed])


def hair_colour(rng: np.random.Generator, skin: float) -> np.ndarray:
    """(3,) sRGB: a natural colour with some spread, mostly dark beside dark skin (skin: its mean sRGB value), one in 25 dyed."""
    if rng.random() < 0.04:
        return np.array(_hsv(rng.random(), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.8)))
    weights = np.array([w for _, w in HAIR_COLOURS], float)
    if skin < 0.42:
        weights[4:9] *= 0.05
    base = np.array(HAIR_COLOURS[rng.choice(len(HAIR_COLOURS), p=weights / weights.sum())][0])
    return np.clip(base * rng.uniform(0.8, 1.25) * (1 + rng.normal(0, 0.05, 3)), 0.03, 0.95)


def _hsv(h: float, s: float, v: float) -> tuple[float, float, float]:
    k = [(n + h * 6) % 6 for n in (5, 3, 1)]
    return tuple(v - v * s * max(0.0, min(x, 4 - x, 1)) for x in k)  # type: ignore[return-value]


def cloth_tint(rng: np.random.Generator) -> Tensor | None:
    """(3,) sRGB, or None (one in six) for the garment's own colours."""
    if rng.random() < 1 / 6:
        return None
    grey = rng.random() < 0.4
    return torch.tensor(_hsv(rng.random(), rng.uniform(0, 0.12) if grey else rng.uniform(0.2, 0.85), rng.uniform(0.12, 0.95))).float()


def poses(rng: np.random.Generator, count: int) -> Tensor:
    """(B,5,3): the head turns at the neck joint (row 1), as the open estimator reports it; shoulders stay."""
    out = torch.zeros(count, 5, 3)
    for row in out:
        angles = [float(np.clip(rng.normal(0, s), -m, m)) for s, m in zip(TURN_SPREAD, MAX_TURN, strict=True)]
        row[1] = from_yaw_pitch_roll(*angles)
    return out


def load_expressions(path: str | Path, names: Sequence[str]) -> Tensor:
    """Scores of real faces from an .npz with blendshapes (N,52) and blendshape_names, in the order of `names` -> (N,E)."""
    table = np.load(path)
    column = {str(name): k for k, name in enumerate(table["blendshape_names"])}
    scores = table["blendshapes"].astype(np.float32)
    return torch.from_numpy(np.stack([scores[:, column[n]] if n in column else np.zeros(len(scores), np.float32) for n in names], 1))


def expressions(rng: np.random.Generator, count: int, names: Sequence[str], table: Tensor | None) -> Tensor:
    """(B,E) in 0..1: rows of a table (N,E) of real scores, exaggerated and jittered; without one, smiles, open jaws, blinks, glances."""
    place = {name: k for k, name in enumerate(names)}
    out = torch.zeros(count, len(names))
    for row in out:
        if table is not None:
            row += table[rng.integers(len(table))] * float(rng.uniform(0.8, 1.3))
            # scores of real pictures hardly ever show a wide open mouth, closed eyes or a far glance
        for stems, chance, most in (
            (("mouthSmileLeft", "mouthSmileRight"), 0.2 if table is not None else 0.5, 0.9),
            (("jawOpen",), 0.2 if table is not None else 0.4, 0.6),
            (("eyeBlinkLeft", "eyeBlinkRight"), 0.1, 1.0),
            (("eyeLookOutLeft", "eyeLookInRight"), 0.12, 0.7),
            (("eyeLookInLeft", "eyeLookOutRight"), 0.12, 0.7),
            (("mouthPucker",), 0.08, 0.7),
            (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), 0.1, 0.8),
            (("browDownLeft", "browDownRight"), 0.1, 0.8),
            (("mouthFrownLeft", "mouthFrownRight"), 0.06, 0.7),
        ):
            if rng.random() < chance:
                value = rng.uniform(0.1, most)
                for stem in stems:
                    if stem in place:
                        row[place[stem]] = max(float(row[place[stem]]), value * rng.uniform(0.85, 1.0))
        row += torch.from_numpy(rng.normal(0, 0.02, len(names)).clip(0)).float()
    return out.clamp(0, 1)


def _directional(direction: np.ndarray) -> Tensor:
    """SH coefficients (9,) of a distant light of strength 1, fitted to the clamped cosine on the sphere."""
    k = torch.arange(400, dtype=torch.float32) + 0.5
    polar, azimuth = torch.acos(1 - 2 * k / 400), math.pi * (1 + 5**0.5) * k
    normals = torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], -1)
    target = (normals @ torch.from_numpy(direction / np.linalg.norm(direction)).float()).clamp_min(0)
    return torch.linalg.lstsq(sh_basis(normals), target[:, None]).solution[:, 0]


def lights(rng: np.random.Generator, count: int) -> Tensor:
    """(B,9,3): soft rooms, hard side light, light from above, coloured rims. The mean over front-facing skin is 0.6 to 1.1."""
    front = F.normalize(torch.tensor([[x, y, 1.2] for x in np.linspace(-1, 1, 7) for y in np.linspace(-1, 1, 7)]), dim=-1).float()
    out = []
    for _ in range(count):
        hard = rng.choice([0.25, 0.7, 1.6], p=[0.4, 0.4, 0.2])
        colour = 1 + rng.normal(0, 0.04, 3) + rng.normal(0, 0.07) * np.array([1, 0, -1])
        light = torch.zeros(9, 3)
        light[0] = torch.from_numpy(colour).float() / sh_basis(torch.zeros(1, 3))[0, 0]
        sky = _directional(np.array([rng.normal(0, 0.3), 1.0, rng.normal(0.3, 0.3)]))
        light += sky[:, None] * float(rng.uniform(0.1, 0.5))
        azimuth, height = np.radians(np.clip(rng.normal(0, 45), -110, 110)), np.radians(rng.uniform(-5, 55))
        key = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
        warm = 1 + rng.normal(0, 0.1) * np.array([1, 0.1, -1])
        light += _directional(key)[:, None] * torch.from_numpy(warm).float() * float(hard * rng.uniform(0.7, 1.4))
        if rng.random() < 0.2:
            rim = np.array([rng.choice([-1, 1]) * 1.0, rng.uniform(-0.2, 0.4), rng.uniform(-0.8, 0.1)])
            tint = np.array(_hsv(rng.random(), rng.uniform(0.2, 0.7), 1.0)) if rng.random() < 0.5 else np.ones(3)
            light += _directional(rim)[:, None] * torch.from_numpy(tint).float() * float(rng.uniform(0.3, 0.9))
        mean = (sh_basis(front) @ light).clamp_min(0).mean()
        out.append(light * float(np.clip(rng.normal(0.88, 0.12), 0.6, 1.1)) / mean)
    return torch.stack(out)


def random_person(seed: int, head, wardrobe) -> Person:
    """A person in the code of `head` (HeadModel), dressed from `wardrobe` (Wardrobe)."""
    rng = generator(seed, 1)
    shape = torch.from_numpy(np.clip(rng.normal(0, 0.85, (1, head.shape_count)), -2.2, 2.2)).float()
    skin = wardrobe.skins[rng.integers(len(wardrobe.skins))]
    albedo = wardrobe.skin(skin)[1][None].clone()
    jitter = torch.from_numpy(rng.normal(0, 1, 2) * [0.35, 0.3]).float()[: albedo.shape[1]]
    tone = torch.ones(3)
    if len(jitter):
        before = skin_colour(head, albedo)
        albedo[0, : len(jitter)] += jitter
        tone = skin_colour(head, albedo) / before
    weights = np.array(STYLE_WEIGHTS) / sum(STYLE_WEIGHTS)
    style = STYLES[rng.choice(len(STYLES), p=weights)]
    return Person(
        seed=seed,
        shape=shape,
        albedo=albedo,
        skin=skin,
        tone=tone,
        iris=wardrobe.irises[rng.integers(len(wardrobe.irises))],
        style=style,
        hair_colour=torch.from_numpy(hair_colour(rng, float(skin_colour(head, albedo).mean()))).float(),
        brows=BROWS[rng.integers(len(BROWS))],
        lashes=LASHES[rng.integers(len(LASHES))],
        top=TOPS[rng.integers(len(TOPS))],
        top_tint=cloth_tint(rng),
        camera=frame(head, shape, rng),
    )


def skin_colour(head, albedo: Tensor) -> Tensor:
    """Mean colour (3,) of an albedo code's (1,A) part that the first component, skin tone, changes."""
    size = head.albedo_mean.shape[-2:]
    tone = F.interpolate(head.albedo_basis[:1], size, mode="bilinear", align_corners=False)[0].abs().mean(0)
    inside = tone > tone.mean()
    return head.albedo(albedo)[0][:, inside].mean(1).clamp_min(0.02)


def frame(head, shape: Tensor, rng: np.random.Generator) -> Tensor:
    """Camera (1,3) that shows the straight, neutral head as `crop.crop_square` frames it, give or take a little."""
    from ..crop import CENTRE_AT, HEIGHT_PER_WIDTH, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP, SIDE_PER_HEIGHT

    points = head.landmarks(head(shape, torch.zeros(1, head.expression_count), torch.zeros(1, 5, 3)))[0, :, :2]
    top, bottom, left, right = points[[OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT]]
    high, wide = float((top - bottom).norm()), HEIGHT_PER_WIDTH * float((left - right).norm())
    side = SIDE_PER_HEIGHT * ((high**8 + wide**8) / 2) ** (1 / 8) * rng.uniform(0.95, 1.08)
    centre = torch.stack([top, bottom, left, right]).mean(0)
    dx, dy = rng.normal(0, 0.02, 2)
    scale = 2 / side
    # the oval's centre lies at CENTRE_AT of the height, counted downwards: y = 1 - 2 CENTRE_AT in -1..1
    place = [scale, dx / scale - float(centre[0]), (1 - 2 * CENTRE_AT + dy) / scale - float(centre[1])]
    return torch.tensor([place], dtype=torch.float32)


def background(seed: int, size: int, folder: Path | None = None) -> Tensor:
    """(3,size,size): a gradient, blurred coloured noise, out-of-focus lights, or a random part of a photograph of `folder`."""
    rng = generator(seed, 7)
    photographs = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")) if folder else []
    if photographs and rng.random() < 0.6:
        with Image.open(photographs[rng.integers(len(photographs))]) as handle:
            picture = handle.convert("RGB")
        side = int(min(picture.size) * rng.uniform(0.5, 1.0))
        x, y = (int(rng.integers(0, full - side + 1)) for full in picture.size)
        cut = picture.resize((size, size), Image.Resampling.LANCZOS, (x, y, x + side, y + side))
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 255
    base = np.array(_hsv(rng.random(), 0.55 * rng.random() ** 2, rng.uniform(0.15, 0.95)))
    other = np.clip(base + rng.normal(0, 0.15) + rng.normal(0, 0.06, 3), 0, 1)
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:size, 0:size] / size - 0.5
    t = np.clip(0.5 + xs * np.cos(angle) + ys * np.sin(angle), 0, 1) if rng.random() < 0.6 else np.clip(1.3 * np.hypot(xs, ys), 0, 1)
    picture = torch.from_numpy(base[:, None, None] * (1 - t) + other[:, None, None] * t).float()
    kind = rng.random()
    if kind > 0.3:  # shapes out of focus
        for cells, strength in ((3, 0.25), (7, 0.18), (17, 0.08)):
            noise = torch.from_numpy(rng.normal(0, strength * rng.uniform(0.2, 1), (1, 3, cells, cells))).float()
            noise = 1.4 * noise.mean(1, keepdim=True) + 0.25 * noise
            picture = picture + F.interpolate(noise, (size, size), mode="bicubic", align_corners=False)[0]
    if kind > 0.55:  # walls, windows, shelves
        for _ in range(int(rng.integers(2, 9))):
            x0, y0, w, h = rng.uniform(-0.6, 0.5), rng.uniform(-0.6, 0.5), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.8)
            soft = rng.uniform(60, 250)
            mask = _step((xs - x0) * soft) * _step((x0 + w - xs) * soft) * _step((ys - y0) * soft) * _step((y0 + h - ys) * soft)
            colour = torch.from_numpy(np.clip(base + rng.normal(0, 0.2) + rng.normal(0, 0.08, 3), 0, 1)).float()[:, None, None]
            mask = torch.from_numpy(mask).float() * float(rng.uniform(0.4, 1))
            picture = picture * (1 - mask) + colour * mask
    if kind > 0.85:  # lights
        for _ in range(int(rng.integers(5, 25))):
            x0, y0, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.02, 0.08)
            mask = torch.from_numpy(_step((r - np.hypot(xs - x0, ys - y0)) * 150)).float() * float(rng.uniform(0.2, 0.7))
            picture = picture * (1 - mask) + torch.tensor(_hsv(rng.random(), rng.uniform(0, 0.6), 1.0)).float()[:, None, None] * mask
    return picture.clamp(0, 1)


def _step(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
