"""The table of an edit's quality over pairs of portraits (design section 8)."""

from __future__ import annotations

import csv
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import torch

from ...common.errors import NoFaceError
from ...common.images import read_image
from ...edit.editor import DiffFAE, EditResult, Portrait
from .edit_numbers import edit_numbers

log = logging.getLogger(__name__)
Edit = Callable[[Portrait, Portrait], EditResult]
LEAST_LIGHT = 0.5  # pairs whose lights differ by less do not count in the light's quotient


@dataclass
class Table:
    """Sums over pairs, and the rows of the table made of them."""

    yaw: list[float] = field(default_factory=list)
    pitch: list[float] = field(default_factory=list)
    expression: list[tuple[float, float]] = field(default_factory=list)  # (left, before)
    light: list[tuple[float, float]] = field(default_factory=list)
    identity: list[float] = field(default_factory=list)
    still: list[float] = field(default_factory=list)  # PSNR away from the head
    sharpness: list[float] = field(default_factory=list)  # on the head, result / source
    lost: int = 0  # results in which no face was found

    def rows(self) -> dict[str, float]:
        quotient = lambda pairs: sum(a for a, _ in pairs) / max(1e-9, sum(b for _, b in pairs))  # noqa: E731
        return {
            "pairs": len(self.yaw) + self.lost,
            "no face in the result": self.lost,
            "yaw error, mean (degrees)": mean(self.yaw),
            "pitch error, mean (degrees)": mean(self.pitch),
            "expression error quotient": quotient(self.expression),
            "light error quotient": quotient(self.light),
            "light pairs": len(self.light),
            "identity distance, median": median(self.identity),
            "background and clothes, PSNR (dB)": median(self.still),
            "sharpness of the head, result / source, median": median(self.sharpness),
        }


def pair_names(folder: Path, files: list[str], count: int, seed: int = 0, largest_yaw: float = 30.0) -> list[tuple[str, str]]:
    """Fixed pseudo-random (source, query) pairs of different persons; queries within `largest_yaw` degrees by the manifest."""
    with open(folder / "manifest.csv", newline="") as handle:
        rows = {row["file"]: row for row in csv.DictReader(handle)}
    names = sorted(files)
    queries = [name for name in names if abs(float(rows[name]["yaw_deg"])) <= largest_yaw]
    rng = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        a, b = rng.choice(names), rng.choice(queries)
        if rows[a]["person"] != rows[b]["person"]:
            pairs.append((a, b))
    return pairs


@torch.no_grad()
def evaluate_edits(
    model: DiffFAE, folder: Path, pairs: list[tuple[str, str]], edit: Edit, each: Callable[[int, EditResult], None] | None = None
) -> Table:
    """Run `edit` on every pair and measure the edited crops anew."""
    table = Table()
    cache: dict[str, Portrait | None] = {}

    def portrait(name: str) -> Portrait | None:
        if name not in cache:
            try:
                cache[name] = model.analyse(read_image(folder / name)[0], name=name)
            except NoFaceError as error:
                log.warning("%s", error)
                cache[name] = None
        return cache[name]

    for index, (source_name, query_name) in enumerate(pairs):
        source, query = portrait(source_name), portrait(query_name)
        if source is None or query is None:
            continue
        result = edit(source, query)
        if each is not None:
            each(index, result)
        measure(model, table, source, query, result)
    return table


def measure(model: DiffFAE, table: Table, source: Portrait, query: Portrait, result: EditResult) -> None:
    """Add one edit to the table; everything is estimated again from the edited crop."""
    numbers = edit_numbers(model, source, query, result.crop)
    if numbers is None:
        table.lost += 1
        return
    table.yaw.append(numbers.yaw)
    table.pitch.append(numbers.pitch)
    table.expression.append((numbers.to_query["expression"], numbers.before["expression"]))
    if numbers.before["light"] > LEAST_LIGHT:
        table.light.append((numbers.to_query["light"], numbers.before["light"]))
    table.identity.append(numbers.identity)
    if numbers.still is not None:
        table.still.append(numbers.still)
    table.sharpness.append(numbers.sharpness)
