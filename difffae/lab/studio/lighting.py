"""Random light for synthetic portraits: the light of a room plus one key light that may throw shadows.

Shape letters: B faces. Light is second-order SH over world normals, band-major RGB (see render.shading).
Axes: x right in the image, y up, z to the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...head.shading import sh_basis
from ..people.complexion import hsv

# name, how often, strength of the key against the room, how much of the key a shadow takes, width of the shadow's edge
KINDS = (
    ("overcast", 0.2, 0.25, 0.0, 0.0),
    ("room", 0.3, 0.7, 0.35, 0.03),
    ("window", 0.25, 1.3, 0.6, 0.02),
    ("lamp", 0.15, 1.8, 0.85, 0.01),
    ("sun", 0.1, 2.2, 0.95, 0.006),
)


@dataclass(frozen=True)
class Rig:
    """light (B,9,3), all of it, which is the label; key (B,9,3), the part of it that comes from direction (B,3) and can be in shadow;
    shadow (B,) share of the key that a shadow takes, 0 for none; edge (B,) width of its edge in units of the picture, which is 2 wide."""

    light: Tensor
    key: Tensor
    direction: Tensor
    shadow: Tensor
    edge: Tensor

    def __getitem__(self, index: int) -> Rig:
        """One face's, B = 1."""
        return Rig(*(value[index : index + 1] for value in vars(self).values()))

    @staticmethod
    def unshadowed(light: Tensor) -> Rig:
        """Light (B,9,3) without shadows: every pixel is albedo times SH, up to ambient occlusion and highlights."""
        b = len(light)
        ahead = torch.tensor([0.0, 0.0, 1.0]).expand(b, 3)
        return Rig(light, torch.zeros_like(light), ahead, torch.zeros(b), torch.zeros(b))


def directional(direction: np.ndarray) -> Tensor:
    """SH coefficients (9,) of a distant light of strength 1, fitted to the clamped cosine on the sphere."""
    k = torch.arange(400, dtype=torch.float32) + 0.5
    polar, azimuth = torch.acos(1 - 2 * k / 400), math.pi * (1 + 5**0.5) * k
    normals = torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], -1)
    target = (normals @ torch.from_numpy(direction / np.linalg.norm(direction)).float()).clamp_min(0)
    return torch.linalg.lstsq(sh_basis(normals), target[:, None]).solution[:, 0]


def rigs(rng: np.random.Generator, count: int) -> Rig:
    """Overcast days, rooms, windows, lamps, sun, coloured rims. The mean over front-facing skin is 0.65 to 1.25, whoever stands in it."""
    front = F.normalize(torch.tensor([[x, y, 1.2] for x in np.linspace(-1, 1, 7) for y in np.linspace(-1, 1, 7)]), dim=-1).float()
    rows = []
    for _ in range(count):
        _, _, strength, shadow, edge = KINDS[rng.choice(len(KINDS), p=[kind[1] for kind in KINDS])]
        colour = 1 + rng.normal(0, 0.04, 3) + rng.normal(0, 0.07) * np.array([1, 0, -1])
        room = torch.zeros(9, 3)
        room[0] = torch.from_numpy(colour).float() / sh_basis(torch.zeros(1, 3))[0, 0]
        sky = directional(np.array([rng.normal(0, 0.3), 1.0, rng.normal(0.3, 0.3)]))
        room += sky[:, None] * float(rng.uniform(0.1, 0.5))
        azimuth, height = np.radians(np.clip(rng.normal(0, 45), -110, 110)), np.radians(rng.uniform(-5, 60))
        towards = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
        warm = 1 + rng.normal(0, 0.1) * np.array([1, 0.1, -1])
        key = directional(towards)[:, None] * torch.from_numpy(warm).float() * float(strength * rng.uniform(0.7, 1.4))
        if rng.random() < 0.2:
            rim = np.array([rng.choice([-1, 1]) * 1.0, rng.uniform(-0.2, 0.4), rng.uniform(-0.8, 0.1)])
            tint = np.array(hsv(rng.random(), rng.uniform(0.2, 0.7), 1.0)) if rng.random() < 0.5 else np.ones(3)
            room += directional(rim)[:, None] * torch.from_numpy(tint).float() * float(rng.uniform(0.3, 0.9))
        mean = (sh_basis(front) @ (room + key)).clamp_min(0).mean()
        gain = float(np.clip(rng.normal(0.95, 0.14), 0.65, 1.25)) / mean
        taken = shadow * float(rng.uniform(0.7, 1.0))
        unit = torch.from_numpy(towards / np.linalg.norm(towards)).float()
        rows.append(((room + key) * gain, key * gain, unit, torch.tensor(taken), torch.tensor(float(edge))))
    return Rig(*(torch.stack(values) for values in zip(*rows, strict=True)))
