"""Random numbers that follow from a few whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng([abs(int(s)) for s in seed])


def drawn(rng: np.random.Generator, items: Sequence[T], weights: Sequence[float] | np.ndarray) -> T:
    """One of the items, each as often as its weight says."""
    shares = np.array(weights, float)
    return items[rng.choice(len(items), p=shares / shares.sum())]
