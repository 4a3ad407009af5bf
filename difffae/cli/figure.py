"""`figure`: the paper's figures from checkpoints and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from .options import FRAMINGS, add_model, add_sampling, positive

if TYPE_CHECKING:
    from torch import Tensor

    from ..edit.editor import DiffFAE, Portrait

# name -> what it shows
FIGURES = {
    "comparison": "methods side by side on a pairs file (Fig. 3)",
    "tokens": "the masks of every slot, of checkpoints with 2, 4 and 8 (Fig. 9)",
    "regions": "slot masks beside another parser's labels, with their overlap (Fig. 10)",
    "attention": "cross-attention per layer and its mean (Fig. 11)",
    "lights": "a sweep of lights (Fig. 12)",
    "edits": "every attribute alone and all of them (Fig. 13 and 14 with a 512 model and --cell 512)",
    "card": "for a model card: the bundled pictures and --synthetic people with hard edits, good and bad",
    "swaps": "hair, clothes and background of a reference, alone and with other attributes (Fig. 15)",
}

CARD_PICTURES = ("source.png", "query.png", "surprised.jpg", "turned.jpg", "side_light.jpg")


def add(subparsers) -> None:
    listing = "figures:\n" + "\n".join(f"  {name:<12}{text}" for name, text in FIGURES.items())
    parser = subparsers.add_parser(
        "figure",
        help="the paper's figures",
        description="Draw one of the paper's figures from one or several checkpoints and any pictures.",
        epilog=listing,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=FIGURES, metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--source", nargs="+", metavar="PICTURE", help="portraits (default: the bundled one)")
    parser.add_argument("--query", nargs="+", metavar="PICTURE", help="portraits to take attributes from (default: the bundled one)")
    parser.add_argument("--reference", nargs="+", metavar="PICTURE", help="swaps: portraits to take regions from (default: the queries)")
    parser.add_argument("--models", nargs="+", default=[], metavar="[NAME=]MODEL", help="several checkpoints (default: --model)")
    parser.add_argument("--labels", type=Path, metavar="FOLDER", help="regions: the parser's PNGs, named like the sources")
    parser.add_argument("--label-map", type=Path, metavar="JSON", help="regions: labels of each region (default: the 19 of CelebAMask-HQ)")
    parser.add_argument("--pairs-file", type=Path, metavar="CSV", help="comparison: as for evaluate")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="comparison: where sources and queries lie")
    parser.add_argument("--results", nargs="+", default=[], metavar="NAME=FOLDER", help="comparison: the methods' results")
    parser.add_argument(
        "--rows", type=positive, default=8, metavar="N", help="comparison: pairs; card: people of --synthetic (default: %(default)s)"
    )
    parser.add_argument("--synthetic", type=Path, metavar="FOLDER", help="card: shards of rendered pairs (`prepare people`)")
    parser.add_argument("--cell", type=positive, default=192, metavar="N", help="side of a picture in pixels (default: %(default)s)")
    parser.add_argument("--output", default="figure.png", metavar="PICTURE", help="where to write it (default: %(default)s)")
    parser.add_argument("--framing", choices=FRAMINGS, default="source", help="whose place and size in the frame (default: %(default)s)")
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from .work import outputs, write

    sources, queries, references = (list(getattr(arguments, name) or ()) for name in ("source", "query", "reference"))
    outputs([*sources, *queries, *references], arguments.output)
    if arguments.labels is not None and not arguments.labels.is_dir():
        raise ConfigError(f"--labels {arguments.labels}: no such folder; give the one with the parser's PNGs")
    page = _comparison(arguments) if arguments.name == "comparison" else _draw(arguments, sources, queries, references)
    write(arguments.output, page)


def _draw(arguments: argparse.Namespace, sources: list[str], queries: list[str], references: list[str]) -> Tensor:
    from ..common.checkpoint import asset_path
    from ..lab.tables import figures
    from ..lab.tables.parsing import read_classes
    from ..lab.tables.produce import RowSampling
    from .work import Picture, load_model

    name, checkpoints, classes = arguments.name, _models(arguments), read_classes(arguments.label_map)
    if not sources:
        sources = [str(asset_path(file)) for file in (CARD_PICTURES if name == "card" else CARD_PICTURES[:1])]
    if not queries and name in ("attention", "edits", "swaps"):
        queries = [str(asset_path("query.png"))]
    read = [[Picture.read(path) for path in paths] for paths in (sources, queries, references)]
    models = {label: load_model(argparse.Namespace(**{**vars(arguments), "model": path})) for label, path in checkpoints.items()}
    first = next(iter(models.values()))
    if any(model.head.name != first.head.name for model in models.values()):
        raise ConfigError("--models: they were trained with different head models; draw one figure for each")
    people: list[list[Portrait]] = [[picture.analyse(first) for picture in pictures] for pictures in read]
    if arguments.synthetic is not None:
        people[0] += _rendered(arguments.synthetic, first, arguments.rows)
    sampling = RowSampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed, arguments.framing)
    cast = figures.Cast(models, people[0], people[1], people[2] or people[1], sampling, arguments.cell)
    if name != "regions":
        return getattr(figures, name)(cast)
    page, overlaps = figures.regions(cast, _labels(arguments.labels, people[0]), classes)
    for label, pictures in overlaps.items():
        for file, values in pictures.items():
            shown = "  ".join(f"{region} {'-' if value is None else f'{value:.3f}'}" for region, value in values.items())
            print(f"{label}, {Path(file).name}: intersection over union  {shown}")
    return page


def _rendered(folder: Path, model: DiffFAE, count: int) -> list[Portrait]:
    """The first pictures of rendered pairs in which a face is found."""
    from ..common.errors import NoFaceError
    from ..lab.prepare.shards import Shards

    if not folder.is_dir():
        raise ConfigError(f"--synthetic {folder}: no such folder; give the one with the shards")
    shards = Shards(folder, ("images",))
    found: list[Portrait] = []
    for index in range(len(shards)):
        if len(found) == count:
            break
        try:
            found.append(model.analyse(shards.sample(index)["images"][0].float() / 255, name=f"rendered {index}"))
        except NoFaceError:
            continue
    return found


def _models(arguments: argparse.Namespace) -> dict[str, str]:
    """Label -> checkpoint."""
    from .tables import named

    found: dict[str, str] = {}
    for text in arguments.models or [arguments.model]:
        name, path = named(text)
        label = Path(path).stem if name is None else name
        if label in found:
            raise ConfigError(f"--models: two are called '{label}'; name them, as in --models a={found[label]} b={path}")
        found[label] = path
    return found


def _labels(folder: Path | None, sources: list[Portrait]) -> dict[str, Path]:
    """The label picture of every source that has one, by the source's name."""
    if folder is None:
        return {}
    found = {portrait.name: path for portrait in sources if (path := folder / f"{Path(portrait.name).stem}.png").is_file()}
    if not found:
        raise ConfigError(f"--labels {folder}: has no {Path(sources[0].name).stem}.png; name the labels like the sources")
    return found


def _comparison(arguments: argparse.Namespace) -> Tensor:
    from ..common.errors import ImageError
    from ..common.images import read_image
    from ..lab.tables.figures import comparison
    from ..lab.tables.pairs import read_pairs
    from .tables import results

    if arguments.pairs_file is None or not arguments.results:
        raise ConfigError("figure comparison: give --pairs-file CSV and --results NAME=FOLDER ...; `evaluate --keep` makes such folders")
    pairs = read_pairs(arguments.pairs_file, arguments.pictures)[: arguments.rows]
    originals = [(read_image(pair.source)[0], read_image(pair.query)[0]) for pair in pairs]

    def result(path: Path | None) -> Tensor | None:
        try:
            return None if path is None else read_image(path)[0]
        except ImageError:
            return None  # an empty cell; `evaluate` says what is wrong with it

    found = {name: [result(pair.find(folder)) for pair in pairs] for name, folder in results(arguments).items()}
    return comparison(originals, found, arguments.cell)
