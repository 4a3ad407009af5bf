"""A comparison as Markdown and as JSON, with everything that the numbers depend on beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...common.files import atomic_write
from ...common.markdown import table
from .comparison import Comparison, Scores

LISTED = 10  # problems per method in Markdown; JSON has all of them
COLUMNS = {"FID": "FID ↓", "APD": "APD ↓", "AED": "AED ↓", "ALD": "ALD ↓", "CSIM": "CSIM ↑"}
FEW = 2048  # with fewer pictures than features the covariance is singular and FID strongly biased upwards
FORMAT = "difffae-evaluation/1"


@dataclass(frozen=True)
class Layout:
    """Which table of the paper: its title, what its first column is called, its columns."""

    title: str
    first: str
    columns: tuple[str, ...] = tuple(COLUMNS)


LAYOUTS = {
    "comparison": Layout("Comparison of methods (the paper's Table 1)", "Method"),
    "slots": Layout("Number of semantic tokens (the paper's Table 2)", "Slots"),
    "identity": Layout("Identity token (the paper's Table 3)", "", ("CSIM",)),
}


def to_dict(result: Comparison, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything, every pair included. settings: how our own rows were sampled, by name."""
    among = result.among()
    return {
        "format": FORMAT,
        "judge": result.names,
        "inception": result.inception,
        "real_pictures": result.real_pictures,
        "common_pairs_only": result.common,
        "pairs": [{"source": str(p.source), "query": str(p.query), "result": p.result, "take": list(p.take)} for p in result.pairs],
        "unusable_inputs": result.unusable,
        "settings": settings,
        "methods": [
            {
                "name": scores.method.name,
                "edits": list(scores.method.edits),
                "intervals": {name: scores.interval(name, among) for name in COLUMNS if name != "FID"},
                "means": {name: scores.mean(name, among) for name in COLUMNS if name != "FID"} | {"FID": scores.fid},
                "scored": scores.scored(among),
                "counts": {name: dict(zip(("scored", "asked"), result.counts(scores, name), strict=True)) for name in COLUMNS},
                "fid_pictures": scores.fid_pictures,
                "problems": scores.problems,
                "values": scores.values,
            }
            for scores in result.methods
        ],
    }


def markdown(result: Comparison, layout: Layout, settings: dict[str, Any]) -> str:
    """The table of a layout, and below it everything that its numbers depend on. settings: as for `to_dict`."""
    among = result.among()
    columns = [name for name in layout.columns if name != "FID" or result.inception is not None]
    rows = [
        [
            scores.method.name,
            *(_value(result, scores, name, among) for name in columns),
            str(len(scores.problems)),
        ]
        for scores in result.methods
    ]
    lines = [
        f"**{layout.title}**",
        "",
        *table([layout.first, *(COLUMNS[name] for name in columns), "problems"], rows),
        "",
        f"Estimator: {result.names['estimator']} ({result.names['codes']}). Identity network of CSIM: {result.names['identity']}.",
        "Square brackets: 95 % bootstrap interval over the pairs. Round ones: how many results a number is taken over, of the pairs",
        'that ask for it; "/": of none, since the method cannot change it.',
        "APD, AED, ALD: mean absolute difference of result and query in these codes; CSIM: cosine of result and source.",
        "Numbers of another estimator or identity network must not stand in this table.",
    ]
    if result.common:
        lines.append(f"Only the {len(among)} pairs count that every method was scored on.")
    elif len({scores.scored(among) for scores in result.methods}) > 1:
        lines.append("The methods were scored on different numbers of pairs; --common compares them on the same ones.")
    if "FID" in layout.columns:
        lines.append(_fid_line(result))
    for name, how in settings.items():  # what is None, the model itself decides
        told = ", ".join(f"{key} {'by default' if value is None else value}" for key, value in how.items())
        lines.append(f"{name}: {told}.")
    for where, problems in [(scores.method.name, scores.problems) for scores in result.methods] + [("inputs", result.unusable)]:
        if problems:
            lines += ["", f"Problems of {where} ({len(problems)}):", ""]
            lines += [f"- `{name}`: {' '.join(reason.split())}" for name, reason in list(problems.items())[:LISTED]]
            if len(problems) > LISTED:
                lines.append(f"- and {len(problems) - LISTED} more, listed in the JSON file")
    return "\n".join(lines)


def _fid_line(result: Comparison) -> str:
    if result.inception is None:
        return "FID was not measured: --inception FILE names the weights."
    counts = sorted({scores.fid_pictures for scores in result.methods})
    shown = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"
    line = f"FID: Inception v3 ({result.inception}), {shown} results against {result.real_pictures} real pictures"
    few = min([result.real_pictures, *counts]) < FEW
    return line + (f"; below {FEW} pictures it is biased upwards and only comparable at equal counts." if few else ".")


def _value(result: Comparison, scores: Scores, name: str, among: set[str]) -> str:
    value, (scored, asked) = scores.fid if name == "FID" else scores.mean(name, among), result.counts(scores, name)
    if not asked:
        return "/"
    shown = "-" if value is None else f"{value:.2f}" if name == "FID" else f"{value:.4f}"
    ends = None if name == "FID" else scores.interval(name, among)
    return f"{shown}{'' if ends is None else f' [{ends[0]:.4f}, {ends[1]:.4f}]'} ({scored} of {asked})"


def check_output(path: str | Path | None) -> Path | None:
    """The place for the Markdown and the JSON file, if there is to be one. Raises ConfigError for one that cannot take them."""
    if path is None:
        return None
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--output {path}: is a folder or lies in none; give a file name in an existing folder")
    return path


def write(path: Path, text: str, data: dict[str, Any]) -> list[Path]:
    """The Markdown and the JSON beside it, each whole or not at all; returns their paths."""
    written = []
    for suffix, content in ((".md", text), (".json", json.dumps(data, indent=2, allow_nan=False))):
        place = path.with_suffix(suffix)
        try:
            with atomic_write(place) as temporary:
                temporary.write_text(content + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{place}: cannot be written ({error.strerror}); choose another folder") from error
        written.append(place)
    return written
