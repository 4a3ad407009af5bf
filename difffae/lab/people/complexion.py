"""Skin tone, age and the colour of hair of synthetic people.

Shape letters: N pixels, T and R sides of a skin atlas and of the head's albedo map, P texels of bare skin, A albedo coefficients.
Colours are sRGB 0..1. Skin tone is the individual typology angle ITA = atan2(L* - 50, b*) in degrees (Chardon et al. 1991, CIELAB under
D65) of the face's median colour: above 55 very light, 41 to 55 light, 28 to 41 intermediate, 10 to 28 tan, -30 to 10 brown, below dark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...head.morphable import HeadModel
from ...head.rasterizer import interpolate_corners, rasterize
from .randomness import drawn

# name, lowest and highest ITA in degrees that is drawn
TONES = (
    ("very light", 55.0, 64.0), ("light", 41.0, 55.0), ("intermediate", 28.0, 41.0),
    ("tan", 10.0, 28.0), ("brown", -30.0, 10.0), ("dark", -62.0, -30.0),
)  # fmt: skip
# ITA, a*, b* along human skin: redness and yellowness are largest in between (after Del Bino and Bernerd 2013)
CURVE = (
    (-65, 7.0, 9.5),
    (-50, 9.5, 13.5),
    (-30, 11.5, 17),
    (0, 12.5, 19.5),
    (19, 12.0, 19.5),
    (34, 11.0, 18.5),
    (48, 9.5, 17),
    (60, 8, 14.5),
    (70, 7, 12),
)
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([0.95047, 1.0, 1.08883])
# sRGB of natural hair, from black to white, with how often each is drawn; from the eighth on red, then grey
HAIR_COLOURS = (
    ((0.07, 0.06, 0.06), 4), ((0.14, 0.10, 0.08), 4), ((0.24, 0.16, 0.11), 4), ((0.36, 0.24, 0.15), 3), ((0.50, 0.36, 0.22), 2),
    ((0.60, 0.48, 0.33), 2), ((0.74, 0.64, 0.49), 2), ((0.48, 0.22, 0.11), 1.5), ((0.62, 0.32, 0.15), 1), ((0.45, 0.44, 0.43), 1),
    ((0.66, 0.65, 0.63), 1), ((0.85, 0.84, 0.81), 1),
)  # fmt: skip


def to_lab(colour: np.ndarray) -> np.ndarray:
    """sRGB (...,3) -> CIELAB (...,3), D65."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((np.maximum(colour, 0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ TO_XYZ.T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """CIELAB (...,3) -> sRGB (...,3), clipped to 0..1."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * WHITE
    linear = np.clip(xyz @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def tone_colour(ita: float, redness: float = 0.0, yellowness: float = 0.0) -> Tensor:
    """Skin colour (3,) of this ITA in degrees. redness and yellowness shift a* and b* from the usual ones; ITA stays."""
    table = np.array(CURVE, float)
    a, b = (float(np.interp(ita, table[:, 0], table[:, k])) for k in (1, 2))
    b = max(b + yellowness, 6.0)
    return torch.from_numpy(from_lab(np.array([50 + b * math.tan(math.radians(ita)), a + redness, b]))).float()


def random_tone(rng: np.random.Generator) -> float:
    """ITA in degrees; the six groups are equally frequent."""
    _, low, high = TONES[rng.integers(len(TONES))]
    return float(rng.uniform(low, high))


def group_of(ita: float) -> str:
    """Name of the tone's group (TONES)."""
    return next((name for name, low, _ in TONES if ita >= low), TONES[-1][0])


@dataclass(frozen=True)
class Skin:
    """A painted skin: baked (3,R,R) on the head's albedo map, colour (3,) its median on the face."""

    baked: Tensor
    colour: Tensor


class Complexion:
    """Reads skins with a head's albedo model. uv (F,3,2): the skins' texture coordinates of the head's faces."""

    def __init__(self, head: HeadModel, uv: Tensor) -> None:
        self.head = head
        size = head.albedo_mean.shape[-1]
        flat = torch.cat([head.uvs * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0]), torch.zeros(len(head.uvs), 1)], 1)
        raster = rasterize(flat[None], head.uv_faces, size, size)
        at = interpolate_corners(raster, uv)[0].permute(1, 2, 0)  # (R,R,2)
        self._grid = torch.stack([at[..., 0] * 2 - 1, 1 - at[..., 1] * 2], -1)[None]
        inside = head.part_mask(raster, "face", "ears", "neck")[0].flatten()
        self.face = head.part_mask(raster, "face")[0]
        basis = F.interpolate(head.albedo_basis, (size, size), mode="bilinear", align_corners=False).flatten(2)
        # brows are painted on the mean, not on the skins: where the first component, tone, is weak nothing can be learnt
        tone = basis[0].abs().mean(0)
        self.strong = inside & (tone > 0.5 * tone[inside].median())
        rows = basis[:, :, self.strong].flatten(1).T  # (3P,A)
        ridge = 1e-3 * len(rows) * torch.eye(rows.shape[1]) * rows.square().mean()
        self._solver = torch.linalg.solve(rows.T @ rows + ridge, rows.T)  # (A,3P)

    def read(self, atlas: Tensor) -> Skin:
        """A skin atlas (3,T,T) as the head's albedo map shows it."""
        baked = F.grid_sample(F.avg_pool2d(atlas[None], max(1, atlas.shape[-1] // 512)), self._grid, align_corners=False)[0]
        return Skin(baked, baked[:, self.face].median(1).values)

    def code(self, skin: Skin, colour: Tensor) -> Tensor:
        """Albedo coefficients (1,A) that come nearest to a skin recoloured to `colour` (3,), on face, ears and neck."""
        painted = recolour(skin.baked.flatten(1).T, skin.colour, colour).T
        difference = (painted - self.head.albedo_mean.flatten(1))[:, self.strong].flatten()
        return (self._solver @ difference)[None]


def recolour(colour: Tensor, middle: Tensor, target: Tensor) -> Tensor:
    """Colours (N,3) of a skin whose median is `middle` (3,) -> the same skin with the median `target` (3,).

    Lightening compresses contrasts: dark skins carry painted gloss, which would burn out."""
    power = 0.7 if float(target.mean()) > 1.15 * float(middle.mean()) else 1.0
    return (target * (colour / middle).clamp_min(0.02) ** power).clamp(0.015, 1)


def wrinkles(atlas: Tensor, sigma: float = 7.0) -> Tensor:
    """Fine relief (1,T,T) of an aged skin's atlas (3,T,T): logarithm of its brightness over the surroundings', a few texels wide."""
    bright = atlas.mean(0, keepdim=True)[None].clamp_min(0.02).log()
    radius = int(2.5 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum())[None, None, None]
    around = F.conv2d(F.pad(bright, (radius,) * 2 + (0, 0), mode="replicate"), taps)
    around = F.conv2d(F.pad(around, (0, 0) + (radius,) * 2, mode="replicate"), taps.mT)
    return (bright - around)[0].clamp(-0.5, 0.35)


def hair_colour(rng: np.random.Generator, ita: float, age: float) -> np.ndarray:
    """(3,) sRGB: a natural colour with some spread, mostly dark beside dark skin, grey more often with age (years), one in 50 dyed."""
    if rng.random() < 0.02:
        return np.array(hsv(rng.random(), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.8)))
    weights = np.array([w for _, w in HAIR_COLOURS], float)
    if ita < 28:
        weights[4:9] *= 0.03 if ita < 10 else 0.2
    grey = 1 / (1 + math.exp(-(age - 58) / 7))
    weights[:9] *= (1 - grey) / weights[:9].sum()
    weights[9:] *= grey / weights[9:].sum()
    base = np.array(drawn(rng, [colour for colour, _ in HAIR_COLOURS], weights))
    return np.clip(base * rng.uniform(0.8, 1.25) * (1 + rng.normal(0, 0.05, 3)), 0.03, 0.95)


def hsv(h: float, s: float, v: float) -> tuple[float, float, float]:
    """Hue, saturation, value in 0..1 -> sRGB."""
    k = [(n + h * 6) % 6 for n in (5, 3, 1)]
    return tuple(v - v * s * max(0.0, min(x, 4 - x, 1)) for x in k)  # type: ignore[return-value]
