"""What the commands share once they run: checking outputs, reading portraits, progress. Imports torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..common.checkpoint import asset_path
from ..common.errors import ConfigError
from ..common.images import check_writable, read_image, write_image
from ..edit.recipe import Recipe, identity_distances
from ..head.adjust import NUMBERS, Adjustments
from .options import TAKEABLE

if TYPE_CHECKING:
    from ..edit.editor import DiffFAE, EditResult, Portrait


@dataclass(frozen=True)
class Picture:
    """A picture file that was read: RGB (3,H,W), alpha (1,H,W) or None."""

    path: str
    image: Tensor
    alpha: Tensor | None
    face: int | None

    @staticmethod
    def read(path: str | Path, face: int | None = None) -> Picture:
        return Picture(str(path), *read_image(path), face)

    def analyse(self, model: DiffFAE) -> Portrait:
        return model.analyse(self.image, self.face, self.path)


@dataclass(frozen=True)
class Wishes:
    """What an edit or a render was asked to change."""

    source: Picture
    query: Picture | None
    take: tuple[str, ...]
    givers: dict[str, Picture]  # pose, expression or light -> its own picture
    numbers: Adjustments | None

    @staticmethod
    def read(arguments: argparse.Namespace, source_only: bool = False) -> Wishes:
        """Read all input pictures. The bundled portraits stand in for a missing source, and, if nothing else is asked for, a
        missing query; source_only allows a source of one's own with no change at all."""
        numbers: Adjustments | None = Adjustments(absolute=arguments.absolute, **{name: getattr(arguments, name) for name in NUMBERS})
        if numbers is None or numbers.empty:
            numbers = None
        paths = {name: path for name in TAKEABLE if (path := getattr(arguments, f"{name}_from")) is not None}
        query = arguments.query
        if query is None and not paths and numbers is None:
            if arguments.source is None:
                query = asset_path("query.png")
            elif not source_only:
                raise ConfigError(f"{arguments.source}: nothing to change; give --query, --pose-from ... or a number such as --yaw 15")
        if query is None and arguments.take:
            raise ConfigError(f"--take {' '.join(arguments.take)}: there is no query to take it from; add --query")
        source = Picture.read(arguments.source or asset_path("source.png"), arguments.face)
        return Wishes(
            source=source,
            query=Picture.read(query, arguments.query_face) if query is not None else None,
            take=tuple(arguments.take or TAKEABLE),
            givers={name: Picture.read(path) for name, path in paths.items()},
            numbers=numbers,
        )

    @property
    def taken(self) -> list[str]:
        """The groups that come from some picture."""
        return [name for name in TAKEABLE if name in self.givers or (self.query is not None and name in self.take)]

    @property
    def asked(self) -> dict[str, float | bool]:
        """The numbers that were given, by name."""
        given = {name: value for name in NUMBERS if (value := getattr(self.numbers, name, None)) is not None}
        return given | ({"absolute": True} if self.numbers is not None and self.numbers.absolute else {})

    def analyse(self, model: DiffFAE) -> tuple[Portrait, Portrait | None, dict[str, Portrait]]:
        """Source, query and the givers of single groups; a picture that serves several groups is analysed once."""
        source = self.source.analyse(model)
        query = self.query.analyse(model) if self.query else None
        seen: dict[str, Portrait] = {}
        for picture in self.givers.values():
            if picture.path not in seen:
                seen[picture.path] = picture.analyse(model)
        return source, query, {name: seen[picture.path] for name, picture in self.givers.items()}


def outputs(inputs: list[str | None], *paths: str | None) -> None:
    """Check before the long work that all outputs can be written and that none would overwrite an input or another output."""
    given = [check_writable(path) for path in paths if path is not None]
    for index, path in enumerate(given):
        if any(path.resolve() == other.resolve() for other in given[:index]):
            raise ConfigError(f"{path}: two outputs have this name; choose different ones")
        for name in inputs:
            if name is not None and path.resolve() == Path(name).resolve():
                raise ConfigError(f"{path}: would overwrite an input; choose another output")


def load_model(arguments: argparse.Namespace) -> DiffFAE:
    from ..edit.editor import DiffFAE

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    files = {"identity": arguments.identity, "head": arguments.head, "deca": arguments.deca}
    return DiffFAE.from_pretrained(arguments.model, device=device, estimator=arguments.estimator, **files)


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Yields the sampler's callback (done, total), which draws a bar on stderr from its first call on: whatever fails before
    leaves stderr to its one line."""
    bars: list[tqdm] = []

    def update(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, desc="sampling", unit="step"))
        bars[0].update(done - bars[0].n)

    try:
        yield update
    finally:
        for bar in bars:
            bar.close()


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the sampler, for a recipe."""
    return {"seed": arguments.seed, "steps": arguments.steps, "sampler": arguments.sampler}


def recipe_of(model: DiffFAE, source: Portrait, result: EditResult, step: dict[str, Any]) -> Recipe:
    """The recipe of a result that one command made."""
    return Recipe(
        checkpoint=model.checkpoint.record() if model.checkpoint else None,
        steps=[step],
        attributes=json.loads(result.attributes.to_json()),
        identity_distance=identity_distances(model.landmarker, model.identity, source.picture, result.crop),
    )


def write(path: str, image: Tensor, alpha: Tensor | None = None, recipe: Recipe | None = None) -> None:
    """Write a result and say where, on stdout."""
    write_image(path, image, alpha, recipe=recipe)
    print(path)
