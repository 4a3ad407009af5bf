"""The model card's numbers as Markdown and JSON: tables made of the blocks' records, with goals, intervals and splits by group.

The JSON holds every record, so a table can be made anew without measuring again, and a later run goes on where one ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...common.markdown import table
from . import number_rows, rows
from .blocks import FEW_STEPS, MANY_STEPS, NOISE_EXPRESSION, NOISE_LIGHT, NOISE_TURN
from .groups import TONE
from .rows import LEAST_LIGHT, SPLIT, SYNTHETIC, Record, Row, bootstrap, clusters

FORMAT = "difffae-card/1"
WORSE = 3.0  # percent that no row may lose with few steps
FEW = 10  # pairs: groups of fewer are listed, and not compared
TURNS = (("under 10 degrees", 10.0), ("10 to 25 degrees", 25.0), ("over 25 degrees", 360.0))
SLOTS_NOTE = (
    "IoU: pixels of all pictures together; unknown labels do not count. Pseudo labels come from `prepare portraits` (a person "
    "matte, landmarks and colour models) and err themselves. The slots were trained on such labels of other persons, so this is "
    "agreement with them."
)
SPLITS_NOTE = (
    f"Groups of fewer than {FEW} pairs say little. Labels are guesses by eye of one viewer. Columns: source = query with noisy codes, "
    "identity distance and "
    "PSNR; cross edit, errors in yaw and pitch, quotients of expression and light, identity distance, sharpness; kept: PSNR of clothes "
    "and background when only expression is taken."
)
MODES = {
    "edit": "carry on",
    "no-carry": "carry off",
    "painted": "with diffusion, denoise 0.2",
    "no-matte": "the same without the matte",
    "unstretched": "carry alone, expressions not stretched",
    "open-lines": "carry alone, lines left open",
    "held-light": "carry alone, light held back",
}


@dataclass
class Card:
    """settings: what was measured, and how; groups: source -> column -> label; blocks: name -> {date, seconds, machine, records}."""

    settings: dict[str, Any]
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def records(self, block: str) -> list[Record]:
        return self.blocks.get(block, {}).get("records", [])

    def to_dict(self, rows_too: bool = True) -> dict[str, Any]:
        """Plain values for JSON; without the rows, whose intervals take seconds, an interrupted run can go on from it as well."""
        others = (*number_rows.NUMBERS, *number_rows.DETAIL)
        every = (*rows.GOALS, *rows.DRIFT_DETAIL, *rows.SYNTHETIC_DETAIL, *rows.SLOTS, *rows.SWAPS, *others)
        numbers = {row.key: _numbers(row, self.records(row.block)) for row in every} if rows_too else {}
        return {"format": FORMAT, "settings": self.settings, "rows": numbers, "groups": self.groups, "blocks": self.blocks}

    @classmethod
    def load(cls, path: Path, settings: Mapping[str, Any]) -> Card:
        """An earlier card in the same place, if there is one. Raises ConfigError if it is of other settings."""
        card = cls(dict(settings))
        if not path.is_file():
            return card
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            same = data["format"] == FORMAT and data["settings"] == card.settings
            card.groups, card.blocks = data["groups"], data["blocks"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not a card that this version wrote ({error}); choose another folder for --output") from error
        if not same:
            raise ConfigError(f"{path}: a card of another checkpoint or other settings; choose another folder for --output")
        return card

    def markdown(self) -> str:
        goals = self._standard("Goals", *rows.GOALS)
        details = self._standard("Details", *rows.EDIT[5:], *rows.DRIFT_DETAIL, *rows.SYNTHETIC_DETAIL)
        middle = (*self._sampler(), *self._carry(), *details, *self._by_numbers())
        return "\n".join([*self._head(), *goals, *middle, *self._slots(), *self._splits()])

    def _head(self) -> list[str]:
        s = self.settings
        checkpoint = s["checkpoint"]
        dates = sorted({block["date"] for block in self.blocks.values()}) or ["no date"]
        machines = sorted({block["machine"] for block in self.blocks.values()})
        seconds = sum(block["seconds"] for block in self.blocks.values())
        when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
        return [
            f"# Measured: {checkpoint['name']}",
            "",
            f"Checkpoint sha256 {checkpoint.get('sha256', 'unknown')}. {s['pairs']} pairs of dev portraits (never trained on; queries "
            f"within 30 degrees of yaw), {s['steps']} steps of {s['sampler']}, seed {s['seed']}. {when}; {seconds / 60:.0f} minutes on "
            f"{'; '.join(machines) or 'no machine'}.",
            f"Estimator that measures: {s['estimator']}, the model's own, so it is lenient; identity network: {s['identity']}.",
            "Brackets: 95 % bootstrap interval over the pairs. Quotients: error left / error before, sums over the pairs; 0 is perfect, "
            f"1 is doing nothing. The light's counts pairs whose lights differ by more than {LEAST_LIGHT}.",
            f"Noise on the codes of source = query, standard deviations: turns {NOISE_TURN:g} degree, expression {NOISE_EXPRESSION:g}, "
            f"light {NOISE_LIGHT:g} of its mean.",
            "",
        ]

    def _standard(self, title: str, *chosen: Row) -> list[str]:
        """A section of rows with their goals; those that were not measured are left out."""
        lines = []
        for row in chosen:
            records = self.records(row.block)
            if (value := _value(row, records)) is not None:
                met = row.met(value)
                lines.append([row.label, _goal(row), _cell(row, records), "" if met is None else _yes(met), f"{len(clusters(records))}"])
        return _section(title, ("dev split" if title == "Goals" else "row", "goal", "measured", "met", "of"), lines)

    def _sampler(self) -> list[str]:
        lines = []
        for row in rows.SAMPLED:
            few, many = (self.records(f"{kind} {row.block}") for kind in ("few", "many"))
            if len(few) != len(many) or (a := row.statistic(few)) is None or (b := row.statistic(many)) is None:
                continue
            worse = row.worse_by(a, b)
            both = [{**x, "few": x, "many": y} for x, y in zip(few, many, strict=True)]
            shown = f"{worse:+.1f} %{_interval(bootstrap(partial(_worse, row), both), '.1f')}"
            lines.append([row.label, _number(row, a), _number(row, b), shown, _yes(worse <= WORSE), f"{len(clusters(few))}"])
        titles = (f"{steps} evaluations, {name}" for name, steps in (FEW_STEPS, MANY_STEPS))
        return _section(
            f"Few steps, everything painted anew (goal: no row worse by more than {WORSE:g} %)",
            ("row", *titles, "worse by", "met", "of"),
            lines,
        )

    def _carry(self) -> list[str]:
        lines = []
        for row in (*rows.SELF, *rows.EDIT, *SYNTHETIC):
            others = [self.records(f"{mode} {row.block}") for mode in list(MODES)[1:]]
            cells = [_cell(row, _same_pairs(self.records(row.block), others)), *(_cell(row, records) for records in others)]
            if any(cell != "/" for cell in cells[1:]):
                lines.append([row.label, *cells])
        pairs = len(clusters(self.records("painted edit")))
        return _section(f"Ablation: carry ({pairs} pairs)", ("row", *MODES.values()), lines)

    def _by_numbers(self) -> list[str]:
        records = self.records(number_rows.BLOCK)
        if not records:
            return []
        denoise = self.blocks[number_rows.BLOCK]["denoise"]
        how = f"Measured at denoise {denoise:g}" + (", on the moved photographs alone." if denoise == 0 else ".")
        lines = []
        for slider, responses in number_rows.RESPONSES.items():
            others = (number_rows.FITTED[slider], number_rows.RISING[slider], number_rows.SPILLS[slider], number_rows.WORST_SPILLS[slider])
            into = number_rows.spills(records, slider)
            cells = [_cell(row, records) for row in (*responses, *others)]
            asked = ", ".join(f"{amount:g}" for amount in number_rows.AMOUNTS[slider])
            lines.append([slider, asked, *cells, max(into, key=into.__getitem__, default="/")])
        amounts = [f"response, {which}" for which in ("least", "middle", "most")]
        title = ("slider", "asked", *amounts, "by the estimator", "rising", "spill, mean", "spill, largest", "into")
        table_ = _section("By numbers: every slider", title, lines)
        goals = self._standard("By numbers", *number_rows.NUMBERS, *number_rows.LIGHT_DETAIL)
        return [*goals, f"{how} {number_rows.NOTE}", "", *table_]

    def _slots(self) -> list[str]:
        lines = self._standard("Slots", *rows.SLOTS, *rows.SWAPS)
        return [*lines, SLOTS_NOTE, ""] if lines else []

    def split_columns(self) -> dict[str, dict[str, list[str]]]:
        """Column -> label -> sources of the pairs that have it."""
        found: dict[str, dict[str, list[str]]] = {}
        for source, labels in self.groups.items():
            for column, label in labels.items():
                found.setdefault(column, {}).setdefault(label, []).append(source)
        return found

    def _splits(self) -> list[str]:
        columns = self.split_columns()
        if not columns or not self.records("edit"):
            return []
        lines = ["## By group of the source", "", SPLITS_NOTE, ""]
        title = ["group", "pairs", *(row.short for row in SPLIT)]
        for column in (TONE, *(name for name in columns if name != TONE)):
            cells = [
                [f"{column}: {label}", str(len(self._of("edit", sources))), *(self._group_cell(row, sources) for row in SPLIT)]
                for label, sources in sorted(columns.get(column, {}).items())
            ]
            lines += [*table(title, cells), ""] if cells else []
        lines += [*self._turns(), "", *self._rendered()]
        lines += [f"Differences between groups of at least {FEW} pairs, whose intervals do not overlap:", ""]
        return [*lines, *(self._uneven() or ["- none"]), ""]

    def _turns(self) -> list[str]:
        """Cross edits by how far the head was asked to turn."""
        lines, low = [], 0.0
        for name, high in TURNS:
            records = [r for r in self.records("edit") if not r["lost"] and low <= r["before"]["pose"] < high]
            lines.append([name, str(len(records)), *(_cell(row, records) for row in rows.EDIT)])
            low = high
        return table(["head turn asked for", "pairs", *(row.short for row in rows.EDIT)], lines)

    def _rendered(self) -> list[str]:
        """Synthetic pairs by the exact labels of the rendered people."""
        records = self.records("synthetic")
        cells = []
        for column, label in sorted({group for record in records for group in record["looks"].items()}):
            part = [record for record in records if record["looks"].get(column) == label]
            cells.append([f"{column}: {label}", str(len(part)), *(_cell(row, part) for row in SYNTHETIC)])
        return [*table(["rendered people", "pairs", *(row.label for row in SYNTHETIC)], cells), ""] if cells else []

    def _of(self, block: str, sources: Sequence[str]) -> list[Record]:
        return [record for record in self.records(block) if record["source"] in sources]

    def _group_cell(self, row: Row, sources: Sequence[str]) -> str:
        value = _value(row, self._of(row.block, sources))
        return "/" if value is None else _number(row, value)

    def _uneven(self) -> list[str]:
        """One line for every row and column whose best and worst groups differ beyond their intervals."""
        lines = []
        for column, labels in self.split_columns().items():
            groups = {label: sources for label, sources in labels.items() if len(self._of("edit", sources)) >= FEW}
            for row in SPLIT:
                spans = {label: bootstrap(row.statistic, self._of(row.block, s), resamples=400) for label, s in groups.items()}
                known = {label: span for label, span in spans.items() if span is not None}
                if len(known) < 2:
                    continue
                low, high = min(known, key=lambda label: known[label][1]), max(known, key=lambda label: known[label][0])
                if known[low][1] < known[high][0]:
                    best, worst = (high, low) if row.more_is_better else (low, high)
                    ends = [f"{label} {self._group_cell(row, groups[label])}" for label in (best, worst)]
                    lines.append(f"- {column}, {row.label}: best {ends[0]}, worst {ends[1]}")
        return lines


def _same_pairs(records: Sequence[Record], others: Sequence[Sequence[Record]]) -> list[Record]:
    """Those of the pairs that the others were measured on, which may be fewer."""
    measured = {(record["source"], record.get("query")) for part in others for record in part}
    return [record for record in records if (record["source"], record.get("query")) in measured]


def _worse(row: Row, pairs: Sequence[Record]) -> float | None:
    few, many = (row.statistic([pair[kind] for pair in pairs]) for kind in ("few", "many"))
    return None if few is None or many is None else row.worse_by(few, many)


def _value(row: Row, records: Sequence[Record]) -> float | None:
    return row.statistic(records) if records else None


def _numbers(row: Row, records: Sequence[Record]) -> dict[str, Any] | None:
    """What the JSON says of a row."""
    value = _value(row, records)
    if value is None:
        return None
    numbers = {"label": row.label, "goal": row.goal, "value": value, "interval": bootstrap(row.statistic, records)}
    return numbers | {"met": row.met(value), "count": len(clusters(records))}


def _cell(row: Row, records: Sequence[Record]) -> str:
    value = _value(row, records)
    return "/" if value is None else _number(row, value) + _interval(bootstrap(row.statistic, records), _digits(row))


def _digits(row: Row) -> str:
    return ".1f" if row.unit else ".0f" if row.key == "lost" else ".3f"


def _number(row: Row, value: float) -> str:
    return f"{value:{_digits(row)}}" + (f" {row.unit}" if row.unit else "")


def _interval(interval: tuple[float, float] | None, digits: str) -> str:
    return "" if interval is None else f" [{interval[0]:{digits}}, {interval[1]:{digits}}]"


def _goal(row: Row) -> str:
    return "" if row.goal is None else f"{'≥' if row.more_is_better else '≤'} {row.goal:g}" + (f" {row.unit}" if row.unit else "")


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def _section(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [f"## {title}", "", *table(columns, lines), ""] if lines else []
