"""Scoring methods on the same pairs, from folders with their results (paper Tables 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from torch import Tensor

from ...common.errors import DiffFAEError, ImageError, NoFaceError
from ...common.images import read_image
from ...vocabulary import TAKEABLE
from .frechet import frechet_distance
from .inception import Inception
from .intervals import bootstrap_interval
from .judge import METRICS, TAKEN_BY, Codes, Judge
from .pairs import Pair

Step = Callable[[], object]


@dataclass(frozen=True)
class Method:
    """A row of the table: its results lie in folder; edits names what it can change, the rest of its row is "/"."""

    name: str
    folder: Path
    edits: tuple[str, ...] = TAKEABLE


@dataclass
class Scores:
    """What was measured of one method. values and problems are by the pairs' result names."""

    method: Method
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)  # Inception features (1,2048) of readable results
    fid: float | None = None
    fid_pictures: int = 0

    def mean(self, metric: str, among: set[str]) -> float | None:
        found = self._found(metric, among)
        return fmean(found) if found else None

    def interval(self, metric: str, among: set[str]) -> tuple[float, float] | None:
        """95 % bootstrap interval of the mean over the pairs; None for fewer than 5 of them."""
        return bootstrap_interval(fmean, self._found(metric, among))

    def _found(self, metric: str, among: set[str]) -> list[float]:
        return [values[metric] for name, values in self.values.items() if name in among and metric in values]

    def scored(self, among: set[str]) -> int:
        return len(self.values.keys() & among)


@dataclass
class Comparison:
    """All scores of one judge. unusable: sources and queries that the judge could not look at, with the reason."""

    names: dict[str, str]
    pairs: Sequence[Pair]
    methods: list[Scores]
    unusable: dict[str, str]
    common: bool = False
    inception: str | None = None
    real_pictures: int = 0

    def counts(self, scores: Scores, metric: str) -> tuple[int, int]:
        """How many results of a method a mean (or FID) is taken over, and of how many pairs that ask for it."""
        if metric == "FID":
            return scores.fid_pictures, len(self.pairs)
        among, can = self.among(), set(scores.method.edits)
        asked = [pair for pair in self.pairs if metric not in TAKEN_BY or TAKEN_BY[metric] in can.intersection(pair.take)]
        return sum(metric in values for name, values in scores.values.items() if name in among), len(asked)

    def among(self) -> set[str]:
        """The result names that count in the means."""
        everything = {pair.result for pair in self.pairs}
        return everything.intersection(*(scores.values.keys() for scores in self.methods)) if self.common else everything


def compare(
    judge: Judge,
    pairs: Sequence[Pair],
    methods: Sequence[Method],
    inception: Inception | None = None,
    real: Sequence[Path] | None = None,
    common: bool = False,
    each: Step = lambda: None,
) -> Comparison:
    """Look at every result and take the means. A result that is missing, damaged or shows no face is a problem of its row and never
    stops the others.

    Args:
        judge: Who looks.
        pairs: What the methods were asked to edit.
        methods: Whose results they are.
        inception: Network for FID; None leaves FID out.
        real: Pictures of FID's other side (default: the pairs' distinct sources and queries).
        common: Only pairs count that every method was scored on.
        each: Called after every pair of every method.
    """
    originals: dict[Path, Codes | str] = {}

    def original(path: Path) -> Codes | str:
        if path not in originals:
            try:
                originals[path] = judge.look(read_image(path)[0], str(path))
            except (ImageError, NoFaceError) as error:
                originals[path] = str(error)
        return originals[path]

    rows = []
    for method in methods:
        scores = Scores(method)
        for pair in pairs:
            _score(judge, scores, pair, original(pair.source), original(pair.query), inception)
            each()
        rows.append(scores)
    unusable = {str(path): seen for path, seen in originals.items() if isinstance(seen, str)}
    result = Comparison(judge.names, pairs, rows, unusable, common)
    if inception is not None:
        _add_fid(result, inception, real)
    return result


def _score(judge: Judge, scores: Scores, pair: Pair, source: Codes | str, query: Codes | str, inception: Inception | None) -> None:
    path = pair.find(scores.method.folder)
    if path is None:
        unusable = [codes for codes in (source, query) if isinstance(codes, str)]
        scores.problems[pair.result] = f"missing, and its input cannot be used: {unusable[0]}" if unusable else "missing"
        return
    try:
        image = read_image(path)[0]
    except ImageError as error:
        scores.problems[pair.result] = str(error)
        return
    if inception is not None:
        scores.pictures[pair.result] = inception.features([image])
    for codes in (source, query):
        if isinstance(codes, str):
            scores.problems[pair.result] = f"not measured, because of its input: {codes}"
            return
    assert isinstance(source, Codes)
    assert isinstance(query, Codes)
    try:
        distances = judge.look(image, str(path)).distances(query, source)
    except DiffFAEError as error:
        scores.problems[pair.result] = str(error)
        return
    can = set(scores.method.edits) & set(pair.take)
    scores.values[pair.result] = {name: distances[name] for name in METRICS if name not in TAKEN_BY or TAKEN_BY[name] in can}


def _add_fid(result: Comparison, inception: Inception, real: Sequence[Path] | None) -> None:
    import torch

    files = real if real is not None else list(dict.fromkeys(path for pair in result.pairs for path in (pair.source, pair.query)))
    features = inception.features(_readable(files, result.unusable))
    result.real_pictures = len(features)
    names = {pair.result for pair in result.pairs}
    if result.common:
        names = names.intersection(*(scores.pictures.keys() for scores in result.methods))
    for scores in result.methods:
        chosen = [value for name, value in scores.pictures.items() if name in names]
        scores.fid_pictures = len(chosen)
        if len(chosen) > 1 and len(features) > 1:
            scores.fid = frechet_distance(torch.cat(chosen), features)


def _readable(files: Sequence[Path], unusable: dict[str, str]) -> Iterator[Tensor]:
    for path in files:
        try:
            yield read_image(path)[0]
        except ImageError as error:
            unusable.setdefault(str(path), str(error))
