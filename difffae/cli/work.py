"""What the commands share once they run: checking outputs, reading portraits, progress. Imports torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..common.checkpoint import asset_path
from ..common.errors import ConfigError
from ..common.images import check_writable, read_image, write_image
from ..edit.recipe import Recipe, identity_distances
from ..head.adjust import Adjustments
from ..head.axes import AXES
from ..vocabulary import FRAMINGS, SWAPPABLE, TAKEABLE

if TYPE_CHECKING:
    from ..edit.description import Portrait
    from ..edit.editor import DiffFAE, EditResult


@dataclass(frozen=True, eq=False)
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
    """What an edit, a swap or a render was asked to change.

    source     the portrait to edit
    query      whose attributes named in `take` it gets, or None
    take       groups that the query gives
    givers     group or region -> its own picture
    numbers    changes by number, or None
    strengths  group or region -> 0..1
    """

    source: Picture
    query: Picture | None = None
    take: tuple[str, ...] = ()
    givers: Mapping[str, Picture] = field(default_factory=dict)
    numbers: Adjustments | None = None
    strengths: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def read(arguments: argparse.Namespace, source_only: bool = False) -> Wishes:
        """Read all input pictures. The bundled portraits stand in for a missing source, and, if nothing else is asked for, a
        missing query; source_only allows a source of one's own with no change at all."""
        numbers = numbers_of(arguments)
        names = (*TAKEABLE, *SWAPPABLE)
        paths = {name: path for name in names if (path := getattr(arguments, f"{name}_from", None)) is not None}
        query = arguments.query
        if query is None and not paths and numbers.empty:
            if arguments.source is None:
                query = asset_path("query.png")
            elif not source_only:
                raise ConfigError(f"{arguments.source}: nothing to change; give --query, --pose-from ... or a number such as --yaw 15")
        if query is None and arguments.take:
            raise ConfigError(f"--take {' '.join(arguments.take)}: there is no query to take it from; add --query")
        shares: dict[str, float] = dict(arguments.strength)
        everywhere = shares.get("", 1.0)
        read: dict[str, Picture] = {}
        for path in paths.values():
            read.setdefault(path, Picture.read(path))
        return Wishes(
            source=Picture.read(arguments.source or asset_path("source.png"), arguments.face),
            query=Picture.read(query, arguments.query_face) if query is not None else None,
            take=tuple(arguments.take or TAKEABLE),
            givers={name: read[path] for name, path in paths.items()},
            numbers=None if numbers.empty else numbers,
            strengths={name: shares.get(name, everywhere) for name in names},
        )

    @property
    def inputs(self) -> list[str]:
        """The paths of all pictures."""
        return [picture.path for picture in (self.source, *([self.query] if self.query else []), *self.givers.values())]

    @property
    def taken(self) -> list[str]:
        """The groups that come from some picture."""
        return [name for name in TAKEABLE if name in self.givers or (self.query is not None and name in self.take)]

    @property
    def record(self) -> dict[str, Any]:
        """What a recipe says of the wishes."""
        given = {} if self.numbers is None else self.numbers.record()
        shares = {name: self.strengths.get(name, 1.0) for name in self.taken}
        equal = len(set(shares.values())) <= 1
        taken = {"take": self.taken, "strength": next(iter(shares.values()), 1.0) if equal else shares} if self.taken else {}
        return taken | ({"numbers": given} if given else {})

    def analyse(self, model: DiffFAE) -> tuple[Portrait, Portrait | None, dict[str, Portrait]]:
        """Source, query and the givers of single groups and regions; a picture that serves several is analysed once."""
        seen: dict[Picture, Portrait] = {}

        def portrait(picture: Picture) -> Portrait:
            if picture not in seen:
                seen[picture] = picture.analyse(model)
            return seen[picture]

        source, query = portrait(self.source), portrait(self.query) if self.query else None
        return source, query, {name: portrait(picture) for name, picture in self.givers.items()}


def numbers_of(arguments: argparse.Namespace) -> Adjustments:
    """The changes by number. Raises ConfigError."""
    asked = {axis.name: getattr(arguments, axis.name) for axis in AXES} | dict(arguments.coefficients)
    return Adjustments(preset=arguments.preset, absolute=arguments.absolute, beyond_limit=arguments.beyond_limit, **asked)


def edit_and_write(arguments: argparse.Namespace, wishes: Wishes, sheet: str | None) -> None:
    """Carry out an edit and write its picture, with the recipe inside, and its contact sheet."""
    from ..edit.description import Sampling, swaps_from
    from ..edit.sheet import contact_sheet

    outputs(wishes.inputs, arguments.output, sheet)
    model = load_model(arguments)
    source, query, portraits = wishes.analyse(model)
    photo = model.carry_options is not None and not arguments.tokens_only
    framing = getattr(arguments, "framing", FRAMINGS[0])
    with progress() as advance:
        result = model.edit(
            source,
            query,
            take=wishes.take if query is not None else (),
            adjust=wishes.numbers,
            swaps=swaps_from({name: portraits[name] for name in SWAPPABLE if name in portraits}, wishes.strengths, photo),
            strength=wishes.strengths,
            framing=framing,
            sampling=Sampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed),
            progress=advance,
            **{f"{name}_from": portraits[name] for name in TAKEABLE if name in portraits},
        )
    step = {"command": arguments.command, **wishes.record, "framing": framing, **result.edit.record()}
    recipe = recipe_of(model, source, result, step)
    write(arguments.output, result.image, wishes.source.alpha, recipe)
    if sheet:
        shown = ({"query": query} if query is not None else {}) | _named(portraits)
        order = model.model.slots.config.order if model.model.has_slots else ()
        write(sheet, contact_sheet(source, result, shown, model.head.expression_names, order), recipe=recipe)


def _named(portraits: Mapping[str, Portrait]) -> dict[str, Portrait]:
    """Captions of a contact sheet: each portrait once, with what it gives."""
    names: dict[int, list[str]] = {}
    for name, portrait in portraits.items():
        names.setdefault(id(portrait), []).append(name)
    return {f"{', '.join(names[id(portrait)])} from": portrait for portrait in portraits.values()}


def outputs(inputs: Sequence[str | None], *paths: str | None, check: Callable[[str], Path] = check_writable) -> None:
    """Check before the long work that all outputs can be written and that none would overwrite an input or another output."""
    given = [check(path) for path in paths if path is not None]
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
def progress(what: str = "sampling", unit: str = "step") -> Iterator[Callable[[int, int], None]]:
    """Yields a callback (done, total), such as the sampler's, which draws a bar on stderr from its first call on: whatever fails before
    leaves stderr to its one line."""
    bars: list[tqdm] = []

    def update(done: int, total: int) -> None:
        if not bars:
            # what is done already took no time now
            bars.append(tqdm(total=total, desc=what, unit=unit, initial=done if done > 1 else 0))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield update
    finally:
        for bar in bars:
            bar.close()


def recipe_of(model: DiffFAE, source: Portrait, result: EditResult, step: dict[str, Any]) -> Recipe:
    """The recipe of a result that one command made."""
    return Recipe(
        checkpoint=model.checkpoint.record() if model.checkpoint else None,
        steps=[step],
        attributes=json.loads(result.attributes.to_json()),
        identity_distance=identity_distances(model.landmarker, model.identity, source.picture, result.crop, source.landmarks),
    )


def write(path: str, image: Tensor, alpha: Tensor | None = None, recipe: Recipe | None = None) -> None:
    """Write a result and say where, on stdout."""
    write_image(path, image, alpha, recipe=recipe)
    print(path)
