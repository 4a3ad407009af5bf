"""Cloth of synthetic people: colours and patterns as functions of a place on the garment.

Shape letters: N pixels. Places are metres on the garment at rest: x to the subject's left, y up, z to the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .complexion import hsv

PATTERNS = ("plain", "stripes", "pinstripes", "check", "plaid", "dots", "melange", "knit")


@dataclass(frozen=True)
class Fabric:
    """colour and second (3,) sRGB; pattern: one of PATTERNS; period in metres."""

    colour: Tensor
    second: Tensor
    pattern: str
    period: float

    @staticmethod
    def plain(colour: Tensor) -> Fabric:
        return Fabric(colour, colour, "plain", 0.01)

    def paint(self, place: Tensor) -> Tensor:
        """Albedo (N,3) at places (N,3)."""
        x, y, z = (place / self.period).unbind(-1)
        depth = y - z  # on shoulders the cloth runs backwards as well as down

        def band(t: Tensor, share: float) -> Tensor:
            return torch.sigmoid(((t - t.floor() - 0.5).abs() - (0.5 - share / 2)) * 40)

        share, grain = torch.zeros_like(x), torch.ones_like(x)
        if self.pattern == "stripes":
            share = band(depth, 0.5)
        elif self.pattern == "pinstripes":
            share = band(x, 0.12)
        elif self.pattern == "check":
            share = 0.5 * (band(x, 0.5) + band(depth, 0.5))
        elif self.pattern == "plaid":
            share = 0.45 * band(x, 0.45) + 0.35 * band(depth, 0.4) + 0.2 * band(2 * x + 0.3, 0.1)
        elif self.pattern == "dots":
            share = torch.sigmoid((0.27 - torch.hypot(x - x.round(), depth - depth.round())) * 40)
        elif self.pattern == "melange":
            grain = 1 + 0.18 * _hash(place * 900)
        elif self.pattern == "knit":
            ribs, rows = place[:, 0] / 0.0035, (place[:, 1] - place[:, 2]) / 0.005
            grain = 0.88 + 0.14 * torch.sin(2 * math.pi * ribs) * torch.sin(2 * math.pi * rows)
        colour = self.colour + (self.second - self.colour) * share[:, None]
        return (colour * grain[:, None]).clamp(0.02, 0.97)


def _hash(place: Tensor) -> Tensor:
    """White noise (N,) in -1..1 of the cell that a place (N,3) lies in."""
    cell = place.floor()
    value = (cell * torch.tensor([12.9898, 78.233, 37.719])).sum(-1).sin() * 43758.5453
    return 2 * (value - value.floor()) - 1


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) sRGB of dyed cloth: black, white, greys, navy, denim and some bright ones."""
    kind = rng.random()
    if kind < 0.35:
        return np.array(hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.06, 0.95)))
    if kind < 0.5:
        return np.array(hsv(rng.uniform(0.57, 0.67), rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.5)))
    return np.array(hsv(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.9)))


def random_fabric(rng: np.random.Generator) -> Fabric | None:
    """A fabric, or None (one in six) for a garment's own colours."""
    own = rng.random() < 1 / 6
    colour, second = random_colour(rng), random_colour(rng)
    pattern = PATTERNS[rng.choice(len(PATTERNS), p=[0.36, 0.12, 0.06, 0.08, 0.1, 0.06, 0.12, 0.1])]
    period = float(rng.uniform(0.006, 0.03))
    return None if own else Fabric(torch.from_numpy(colour).float(), torch.from_numpy(second).float(), pattern, period)
