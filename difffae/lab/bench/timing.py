"""Wall-clock times of a function: warm-up, then the median of several runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the measured runs; a run of a GPU ends when its last kernel has."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def fastest(self) -> float:
        return min(self.runs)

    @property
    def slowest(self) -> float:
        return max(self.runs)

    def to_dict(self) -> dict[str, float | int]:
        return {"median_ms": self.median, "fastest_ms": self.fastest, "slowest_ms": self.slowest, "runs": len(self.runs)}


def measure(function: Callable[[], object], device: torch.device, warm_up: int = 2, runs: int = 5) -> Timing:
    """Call the function warm_up times, then time each of `runs` calls."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(runs):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return Timing(tuple(times))


def synchronize(device: torch.device) -> None:
    """Wait for the GPU; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
