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
    """One row: whole edits of two analysed portraits, batch 1. evaluations: calls of the denoiser that an edit made, counted; finetuning:
    minutes that a training checkpoint says it took, None where there was none."""

    name: str
    parameters: int
    evaluations: int
    sampler: str
    denoise: float
    timing: Timing
    finetuning: float | None = None


def measure_speed(name: str, model: DiffFAE, sampling: Sampling, runs: int, warm_up: int = 1, finetuning: float | None = None) -> Speed:
    """Time model.edit on the two pictures that ship, everything else warm."""
    source, query = portraits(model)
    calls: list[int] = []
    with model.model.denoiser.register_forward_hook(lambda *_: calls.append(1)):
        denoise = model.edit(source, query, sampling=sampling).edit.denoise
    timing = measure(lambda: model.edit(source, query, sampling=sampling), model.device, warm_up - 1, runs)
    parameters = sum(p.numel() for p in model.model.parameters())
    return Speed(name, parameters, len(calls), sampling.sampler, denoise, timing, finetuning)


def to_dict(rows: Sequence[Speed], model: DiffFAE) -> dict[str, Any]:
    values = [
        {"name": r.name, "parameters": r.parameters, "evaluations": r.evaluations, "finetuning_minutes": r.finetuning}
        | {"sampler": r.sampler, "denoise": r.denoise, **r.timing.to_dict()}
        for r in rows
    ]
    return {"format": "difffae-speed/2", "machine": vars(describe(model.device)), "rows": values}


def markdown(rows: Sequence[Speed], model: DiffFAE) -> str:
    """The table; model says which machine it was."""
    m = describe(model.device)
    title = ("Method", "Finetuning", "Parameters", "Evaluations", "Inference")
    cells = [
        (
            r.name,
            "-" if r.finetuning is None else f"{r.finetuning:.1f} min",
            f"{r.parameters / 1e6:.1f} M",
            f"{r.evaluations} ({r.sampler}, denoise {r.denoise:g})",
            f"{r.timing.median / 1000:.4f} s",
        )
        for r in rows
    ]
    machine = f"{m.device}, {m.cores} cores, {m.threads} threads, PyTorch {m.torch}"
    lines = [
        "**Inference speed (the paper's Table 6)**",
        "",
        *table(title, cells),
        "",
        f"Median of {len(rows[0].timing.runs)} edits, batch 1, portraits analysed before; {machine}.",
        "Evaluations of the denoiser were counted; finetuning: of training checkpoints (--finetuned), where there was one.",
        "The paper's table names neither machine nor number of evaluations, so its seconds are not comparable. `python -m difffae bench`",
        "measures every stage.",
    ]
    return "\n".join(lines)
