"""Seconds per edit (the paper's Table 6), measured by `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...common.markdown import table
from ...edit.description import Sampling
from ...edit.editor import DiffFAE
from ..bench.machine import describe
from ..bench.run import portraits
from ..bench.timing import Timing, measure


@dataclass(frozen=True)
class Speed:
    """One row: whole edits of two analysed portraits, batch 1."""

    name: str
    parameters: int
    steps: int
    sampler: str
    timing: Timing


def measure_speed(name: str, model: DiffFAE, steps: int, sampler: str, runs: int, warm_up: int = 1) -> Speed:
    """Time model.edit on the two pictures that ship, everything else warm."""
    source, query = portraits(model)
    timing = measure(lambda: model.edit(source, query, sampling=Sampling(steps=steps, sampler=sampler)), model.device, warm_up, runs)
    return Speed(name, sum(p.numel() for p in model.model.parameters()), steps, sampler, timing)


def to_dict(rows: Sequence[Speed], model: DiffFAE) -> dict[str, Any]:
    values = [{"name": r.name, "parameters": r.parameters, "steps": r.steps, "sampler": r.sampler, **r.timing.to_dict()} for r in rows]
    return {"format": "difffae-speed/1", "machine": vars(describe(model.device)), "rows": values}


def markdown(rows: Sequence[Speed], model: DiffFAE) -> str:
    """The table; model says which machine it was."""
    m = describe(model.device)
    title = ("Method", "Finetuning", "Parameters", "Steps", "Inference")
    cells = [(r.name, "0", f"{r.parameters / 1e6:.1f} M", f"{r.steps} {r.sampler}", f"{r.timing.median / 1000:.4f} s") for r in rows]
    machine = f"{m.device}, {m.cores} cores, {m.threads} threads, PyTorch {m.torch}"
    lines = [
        "**Inference speed (the paper's Table 6)**",
        "",
        *table(title, cells),
        "",
        f"Median of {len(rows[0].timing.runs)} edits, batch 1, portraits analysed before; {machine}.",
        "The paper states 0.8126 s for its own model, and 0.8379 s after 21 min of finetuning for DiffusionRig, without machine and number",
        "of steps: those are not comparable. `python -m difffae bench` measures every stage.",
    ]
    return "\n".join(lines)
