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
from ..common.images import check_writable, has_one_channel, read_image, write_image
from ..edit.recipe import Recipe, identity_distances
from ..head.adjust import Adjustments
from ..head.attributes import FaceAttributes
from ..head.axes import AXES
from ..vocabulary import FRAMINGS, SWAPPABLE, TAKEABLE
from .options import ALL_FACES

PER_FACE = 'write one entry per face, the largest first, such as [{"yaw": 10}, null]'

if TYPE_CHECKING:
    from ..edit.description import Portrait
    from ..edit.editor import DiffFAE
    from ..edit.result import EditResult


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture file that was read: RGB (3,H,W), alpha (1,H,W) or None, and whether the file has one channel for brightness alone."""

    path: str
    image: Tensor
    alpha: Tensor | None
    face: int | None
    one_channel: bool

    @staticmethod
    def read(path: str | Path, face: int | None = None) -> Picture:
        return Picture(str(path), *read_image(path), face, has_one_channel(path))

    def analyse(self, model: DiffFAE) -> Portrait:
        return model.analyse(self.image, self.face, self.path, self.alpha)


@dataclass(frozen=True)
class Wishes:
    """What an edit, a swap or a render was asked to change.

    source     the portrait to edit
    query      whose attributes named in `take` it gets, or None
    take       groups that the query gives
    givers     group or region -> its own picture
    numbers    changes by number, or None
    strengths  group or region -> 0..1
    all_faces  edit all faces of the source
    per_face   numbers of single faces then, the largest first, in place of `numbers`
    """

    source: Picture
    query: Picture | None = None
    take: tuple[str, ...] = ()
    givers: Mapping[str, Picture] = field(default_factory=dict)
    numbers: Adjustments | None = None
    strengths: Mapping[str, float] = field(default_factory=dict)
    all_faces: bool = False
    per_face: tuple[Adjustments | None, ...] = ()

    @staticmethod
    def read(arguments: argparse.Namespace, source_only: bool = False) -> Wishes:
        """Read all input pictures. The bundled portraits stand in for a missing source, and, if nothing else is asked for, a
        missing query; source_only allows a source of one's own with no change at all."""
        numbers = numbers_of(arguments)
        names = (*TAKEABLE, *SWAPPABLE)
        paths = {name: path for name in names if (path := getattr(arguments, f"{name}_from", None)) is not None}
        query = arguments.query
        all_faces, per_face = arguments.face == ALL_FACES, numbers_per_face(getattr(arguments, "per_face", None))
        if per_face and not all_faces:
            raise ConfigError(f"--per-face: has numbers for several faces; add --face {ALL_FACES}")
        if query is None and not paths and numbers.empty and not per_face:
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
            source=Picture.read(arguments.source or asset_path("source.png"), None if all_faces else arguments.face),
            query=Picture.read(query, arguments.query_face) if query is not None else None,
            take=tuple(arguments.take or TAKEABLE),
            givers={name: read[path] for name, path in paths.items()},
            numbers=None if numbers.empty else numbers,
            strengths={name: shares.get(name, everywhere) for name in names},
            all_faces=all_faces,
            per_face=per_face,
        )

    @property
    def inputs(self) -> list[str]:
        """The paths of all pictures."""
        return [picture.path for picture in (self.source, *([self.query] if self.query else []), *self.givers.values())]

    @property
    def taken(self) -> list[str]:
        """The groups that come from some picture."""
        return [name for name in TAKEABLE if name in self.givers or (self.query is not None and name in self.take)]

    def numbers_of_face(self, index: int) -> Adjustments | None:
        """What a face of the source was asked to change by number."""
        return self.per_face[index] if index < len(self.per_face) else self.numbers

    def record(self, face: int = 0) -> dict[str, Any]:
        """What a recipe says of the wishes for one face."""
        numbers = self.numbers_of_face(face)
        given = {} if numbers is None else numbers.record()
        shares = {name: self.strengths.get(name, 1.0) for name in self.taken}
        equal = len(set(shares.values())) <= 1
        taken = {"take": self.taken, "strength": next(iter(shares.values()), 1.0) if equal else shares} if self.taken else {}
        return taken | ({"numbers": given} if given else {})

    def analyse(self, model: DiffFAE) -> tuple[list[Portrait], Portrait | None, dict[str, Portrait]]:
        """The source's faces, query and the givers of single groups and regions; a picture that serves several is analysed once."""
        seen: dict[Picture, Portrait] = {}

        def portrait(picture: Picture) -> Portrait:
            if picture not in seen:
                seen[picture] = picture.analyse(model)
            return seen[picture]

        faces = model.analyse_all(self.source.image, self.source.path, self.source.alpha) if self.all_faces else [portrait(self.source)]
        query = portrait(self.query) if self.query else None
        return faces, query, {name: portrait(picture) for name, picture in self.givers.items()}


def numbers_of(arguments: argparse.Namespace) -> Adjustments:
    """The changes by number. Raises ConfigError."""
    asked = {axis.name: getattr(arguments, axis.name) for axis in AXES} | dict(arguments.coefficients)
    return Adjustments(preset=arguments.preset, absolute=arguments.absolute, beyond_limit=arguments.beyond_limit, **asked)


def numbers_per_face(path: str | None) -> tuple[Adjustments | None, ...]:
    """The numbers of single faces from a JSON file, or none without one. Raises ConfigError."""
    if path is None:
        return ()
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error}); {PER_FACE}") from error
    if not isinstance(told, list) or not all(one is None or isinstance(one, dict) for one in told):
        raise ConfigError(f"{path}: is no list of numbers by name; {PER_FACE}")
    return tuple(None if one is None else Adjustments.from_record(one) for one in told)


def edit_and_write(arguments: argparse.Namespace, wishes: Wishes, sheet: str | None) -> None:
    """Carry out an edit and write its picture, with the recipe inside, and its contact sheet."""
    from ..edit.description import Sampling, swaps_from
    from ..report.sheet import contact_sheet

    outputs(wishes.inputs, arguments.output, sheet)
    sampling = Sampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed)
    model = load_model(arguments)
    sources, query, portraits = wishes.analyse(model)
    photo = model.carry_options is not None and not arguments.tokens_only
    framing = getattr(arguments, "framing", FRAMINGS[0])
    with progress() as advance:
        results = model.edit_all(
            sources,
            wishes.per_face,
            query=query,
            take=wishes.take if query is not None else (),
            adjust=wishes.numbers,
            swaps=swaps_from({name: portraits[name] for name in SWAPPABLE if name in portraits}, wishes.strengths, photo),
            strength=wishes.strengths,
            framing=framing,
            sampling=sampling,
            progress=advance,
            **{f"{name}_from": portraits[name] for name in TAKEABLE if name in portraits},
        )
    steps = [
        {"command": arguments.command, **wishes.record(face), "framing": framing, **result.edit.record()}
        | ({"face": face} if wishes.all_faces else {})
        for face, result in enumerate(results)
    ]
    recipe = recipe_of(model, sources, results, steps)
    write(arguments.output, results[-1].image, results[-1].alpha, recipe, wishes.source.one_channel)
    if sheet:
        shown = ({"query": query} if query is not None else {}) | _named(portraits)
        order = model.model.slots.config.order if model.model.has_slots else ()
        write(sheet, contact_sheet(sources[0], results[0], shown, model.head.expression_names, order), recipe=recipe)


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


def recipe_of(model: DiffFAE, sources: Sequence[Portrait], results: Sequence[EditResult], steps: list[dict[str, Any]]) -> Recipe:
    """The recipe of what one command made: one result, or one of every face of a picture."""
    pairs = zip(sources, results, strict=True)
    distances = [identity_distances(model.landmarker, model.identity, one.picture, result.crop, one.landmarks)[0] for one, result in pairs]
    return Recipe(
        checkpoint=model.checkpoint.record() if model.checkpoint else None,
        steps=steps,
        attributes=json.loads(FaceAttributes.cat([result.attributes for result in results]).to_json()),
        identity_distance=distances,
    )


def write(path: str, image: Tensor, alpha: Tensor | None = None, recipe: Recipe | None = None, one_channel: bool = False) -> None:
    """Write a result and say where, on stdout; arguments as for `write_image`."""
    write_image(path, image, alpha, recipe=recipe, one_channel=one_channel)
    print(path)
