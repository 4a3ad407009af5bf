"""Measurements as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...common.files import atomic_write
from .counts import Cost
from .machine import Machine, Peaks
from .run import Row


@dataclass(frozen=True)
class Report:
    """Everything that one run of `bench` found. dtype is that of the large networks; weights "random" or the checkpoint's name."""

    model: str
    weights: str
    dtype: str
    machine: Machine
    peaks: Peaks
    parameters: dict[str, int]
    costs: dict[str, Cost]
    rows: Sequence[Row]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights,
            "dtype": self.dtype,
            "machine": self.machine.to_dict(),
            "peaks": self.peaks.to_dict(),
            "parameters": self.parameters,
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "rows": [row.to_dict() for row in self.rows],
        }

    def markdown(self) -> str:
        m, load = self.machine, "" if self.machine.load is None else f", load {self.machine.load:.1f} at the start"
        lines = [
            f"**{self.model}** ({self.weights} weights, {self.dtype}) on {m.device}, {m.cores} cores, {m.threads} threads{load}; "
            f"PyTorch {m.torch}, {m.system}. Probes: copy {self.peaks.bandwidth / 1e9:.0f} GB/s, "
            f"{self.dtype} matrix product {self.peaks.arithmetic / 1e12:.2f} TFLOP/s.",
            "",
            *_table(
                ("network call", "parameters", "GFLOP"),
                [(name, f"{cost.parameters:,}", f"{cost.operations / 1e9:.2f}") for name, cost in self.costs.items()],
            ),
        ]
        runs = max((len(row.timing.runs) for row in self.rows), default=0)
        if self.rows:
            title = (
                "",
                "mode",
                "batch",
                "steps",
                f"ms (median of {runs})",
                "fastest",
                "images/s",
                "memory floor ms",
                "arithmetic floor ms",
            )
            lines += ["", *_table(title, [_cells(row) for row in self.rows])]
        return "\n".join(lines)

    def write_json(self, path: Path) -> None:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n")


def _cells(row: Row) -> tuple[str, ...]:
    floors = ("-", "-") if row.floors is None else tuple(_short(floor) for floor in row.floors)
    speed = _short(row.images_per_second) if row.what != "denoise" else "-"
    timing = row.timing
    return row.what, row.mode, str(row.batch), str(row.steps or "-"), _short(timing.median), _short(timing.fastest), speed, *floors


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(title: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (title, ["---"] * len(title), *rows)]
