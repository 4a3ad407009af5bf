"""Random numbers that follow from a few whole numbers."""

from __future__ import annotations

import numpy as np


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng([abs(int(s)) for s in seed])
