"""How far a number of a sample may be off."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

RESAMPLES = 1000
FEWEST = 5  # independent parts of a sample, below which nothing is said

Part = TypeVar("Part")


def bootstrap_interval(
    statistic: Callable[[Sequence[Part]], float | None], parts: Sequence[Part], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """95 % percentile interval of a statistic over resampled parts (Efron 1979); None for fewer than 5 of them."""
    if len(parts) < FEWEST:
        return None
    rng = random.Random(seed)
    drawn = (rng.choices(parts, k=len(parts)) for _ in range(resamples))
    values = sorted(value for sample in drawn if (value := statistic(sample)) is not None)
    return (values[int(0.025 * len(values))], values[min(len(values) - 1, int(0.975 * len(values)))]) if values else None
