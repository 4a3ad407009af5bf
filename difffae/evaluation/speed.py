"""Seconds per edit (the paper's Table 6), measured by `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..bench.machine import describe
from ..bench.run import portraits
from ..bench.timing import Timing, measure
from ..pipeline import DiffFAE
from .report import table


@dataclass(frozen=True)
class Speed:
    """One row: whole edits of two analysed portraits, batch 1."""

    name: str
    parameters: int
    steps: int
    sampler: str
    timing: Timing


def measure_speed(name: str, model: DiffFAE, steps: Sequence[int], sampler: str, runs: int, warm_up: int = 1) -> list[Speed]:
    """Time model.edit on the two pictures that ship, everything else warm."""
    source, query = portraits(model)
    parameters = sum(p.numel() for p in model.model.parameters())
    rows = []
    for count in steps:
        timing = measure(lambda count=count: model.edit(source, query, steps=count, sampler=sampler), model.device, warm_up, runs)  # type: ignore[misc]
        rows.append(Speed(name, parameters, count, sampler, timing))
    return rows


def to_dict(rows: Sequence[Speed], model: DiffFAE) -> dict[str, Any]:
    values = [{"name": r.name, "parameters": r.parameters, "steps": r.steps, "sampler": r.sampler, **r.timing.to_dict()} for r in rows]
    return {"format": "difffae-speed/1", "machine": describe(model.device).to_dict(), "rows": values}


def markdown(rows: Sequence[Speed], model: DiffFAE) -> str:
    m = describe(model.device)
    cells = [
        (row.name, "0", f"{row.parameters / 1e6:.1f} M", f"{row.steps} {row.sampler}", f"{row.timing.median / 1000:.4f} s") for row in rows
    ]
    lines = [
        "**Inference speed (the paper's Table 6)**",
        "",
        *table(("Method", "Finetuning", "Parameters", "Steps", "Inference"), cells),
        "",
    ]
    lines.append(
        f"Median of {len(rows[0].timing.runs)} edits, batch 1, portraits analysed before; {m.device}, {m.cores} cores, {m.threads} threads;"
    )
    lines.append(
        "PyTorch " + f"{m.torch}. The paper states 0.8126 s for its own model and 0.8379 s (and 21 min of finetuning) for DiffusionRig,"
    )
    lines.append("without machine and number of steps: those are not comparable. `python -m difffae bench` measures every stage.")
    return "\n".join(lines)
