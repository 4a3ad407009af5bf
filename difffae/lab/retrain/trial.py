"""What a model that was just trained can do, on as many portraits that it never saw as the time allows, and its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from ...common.markdown import table
from ...edit.editor import DiffFAE
from ..bench.machine import describe
from ..card.blocks import Subjects, cross_edits, first_stage, pair_names
from ..card.rows import DEV_TABLE, Record
from ..prepare.portraits import files_of, read_manifest
from ..tables.report import write
from ..training.progress import duration
from .budget import PARTS, Budget

PAIRS = 60  # at most
SETTLED = 20  # pairs from which on means say something


@dataclass
class Trial:
    """Records of edits between dev portraits and of their pictures through the first stage; empty without dev portraits of two people."""

    machine: str
    edits: list[Record] = field(default_factory=list)
    pictures: list[Record] = field(default_factory=list)

    def rows(self) -> list[tuple[str, Any]]:
        """Name and value of what was measured."""
        found: list[tuple[str, Any]] = []
        if self.pictures:
            for key, name in (("psnr", "first stage: PSNR, mean (dB)"), ("sharpness", "first stage: sharpness, mean")):
                found.append((name, sum(record[key] for record in self.pictures) / len(self.pictures)))
        return found + ([(name, statistic(self.edits)) for name, statistic in DEV_TABLE.items()] if self.edits else [])


def measure_model(model: Path, portraits: Path, device: str, over: Callable[[], bool]) -> Trial:
    """Edit pairs of dev portraits until it is over, at least one."""
    editor = DiffFAE.from_pretrained(model, device=device)
    machine = describe(editor.device)
    trial = Trial(f"{machine.device}, {machine.threads} of {machine.cores} threads, torch {machine.torch}")
    names, rows = files_of(portraits, "dev"), read_manifest(portraits)
    if len({rows[name]["person"] for name in names}) < 2:
        return trial
    pairs = pair_names(portraits, names, PAIRS)
    subjects = Subjects(editor, portraits, pairs)
    used: list[tuple[str, str]] = []
    for pair in pairs:
        trial.edits += cross_edits(replace(subjects, pairs=[pair]))
        used.append(pair)
        if over():
            break
    with torch.no_grad():
        trial.pictures = first_stage(replace(subjects, pairs=used))
    return trial


def write_card(path: Path, name: str, budget: Budget, license: str, groups: Mapping[tuple[str, str], int], trial: Trial) -> None:
    """card.md and card.json beside the model.

    Args:
        path: Of both, without their endings.
        name: The model's.
        budget: What every part took, and its note.
        license: Of the model's file.
        groups: (source, licence) -> how many portraits were trained on.
        trial: What was measured.
    """
    date = datetime.now(timezone.utc).date().isoformat()
    notes = {part.name: budget.parts[part.name] for part in PARTS if budget.done(part.name)}
    data = {
        "format": "difffae-retraining/1", "name": name, "date": date, "machine": trial.machine, "license": license,
        "budget_seconds": budget.total, "parts": notes, "measured": dict(trial.rows()),
        "portraits": [{"source": source, "licence": licence, "count": count} for (source, licence), count in groups.items()],
    }  # fmt: skip
    write(path, "\n".join(_lines(data)), data)


def _lines(data: dict[str, Any]) -> list[str]:
    units, measured = {part.name: part.unit for part in PARTS}, data["measured"]
    training = []
    for name, part in data["parts"].items():
        note = dict(part["note"])
        count = note.pop("count")
        rate, rest = f"{count / max(part['seconds'], 1e-3):.3g} a second", ", ".join(f"{key} {value:.4g}" for key, value in note.items())
        training.append([name, duration(part["seconds"]), f"{count:,} {units[name]}", rate, rest])
    portraits = [[row["source"] or "-", row["licence"] or "not stated", str(row["count"])] for row in data["portraits"]]
    lines = [f"# {data['name']}", "", f"Trained on {data['date']} by `python -m difffae train open`, on {data['machine']}."]
    lines += [f"Budget: {duration(data['budget_seconds'])}. Licence: {data['license']}.", "", "## Portraits", ""]
    lines += table(["source", "licence", "trained on"], portraits)
    lines += ["", "## Training", "", *table(["part", "time", "amount", "rate", "at the end"], training)]
    lines += ["", "## Edits of portraits that nothing was trained on", ""]
    if not measured:
        return [*lines, "There were none of two people, so nothing was measured."]
    lines += ["`python -m difffae evaluate --card` measures more of them, and more."]
    if measured.get("pairs", 0) < SETTLED:
        lines += [f"Fewer than {SETTLED} pairs: the numbers below say little."]
    values = [
        [name, "/" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)] for name, value in measured.items()
    ]
    return [*lines, "", *table(["", ""], values)]
