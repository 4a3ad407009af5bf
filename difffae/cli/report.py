"""`report`: how a saved picture was made; or how well a result kept the person and took what it should, measured on the pictures."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, DiffFAEError
from .options import add_model

if TYPE_CHECKING:
    from ..edit.recipe import Recipe

MEASURED = ("source", "query", "result")


def add(subparsers) -> None:
    text = (
        "Of one PICTURE that DiffFAE saved: print how it was made. With --source, --query and --result: measure the result against "
        "its source (identity) and its query (pose, expression, light)."
    )
    parser = subparsers.add_parser("report", help="how a picture was made, or how well a result went in numbers", description=text)
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="a saved picture or clip: print its recipe")
    parser.add_argument("--source", metavar="PICTURE", help="the portrait that was edited")
    parser.add_argument("--query", metavar="PICTURE", help="the portrait it took from")
    parser.add_argument("--result", metavar="PICTURE", help="the edited portrait")
    parser.add_argument(
        "--face", type=int, metavar="N", help="which face of the source, 0 is the largest; the result's is where that one was"
    )
    parser.add_argument("--query-face", type=int, metavar="N", help="which face of the query")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    given = [f"--{name}" for name in MEASURED if getattr(arguments, name) is not None]
    if arguments.picture is not None and given:
        raise ConfigError(f"{arguments.picture}: its recipe is read alone; leave out {' and '.join(given)}, or name it with --result")
    if arguments.picture is not None:
        _print_recipe(arguments.picture, arguments.json)
        return
    missing = [f"--{name}" for name in MEASURED if f"--{name}" not in given]
    if missing:
        raise ConfigError(f"report: {', '.join(missing)} missing; give --source, --query and --result, or one picture that was saved")
    _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    import json

    from ..report.results import find_results, measure_pair
    from .work import Picture, load_model

    pictures = [Picture.read(arguments.source, arguments.face), Picture.read(arguments.query, arguments.query_face)]
    result = Picture.read(arguments.result)
    model = load_model(arguments)
    source, query = (picture.analyse(model) for picture in pictures)
    edited = find_results(model, source, result.image.to(model.device)[None], result.path).portrait(0)
    numbers = measure_pair(model, source, query, edited)
    if arguments.json:
        print(json.dumps({row.key: row.value for row in numbers}))
    else:
        width = max(len(row.label) for row in numbers)
        for row in numbers:
            print(f"{row.label:<{width}}  {row.value:8.3f}  {row.note}")


def _print_recipe(path: str, as_json: bool) -> None:
    from ..edit.recipe import Recipe, read_recipe
    from ..video.reading import is_video, read_comment

    recipe = Recipe.from_json(read_comment(path) or "") if is_video(path) else read_recipe(path)
    if as_json:
        print(recipe.to_json())
        return
    try:
        rows = _described(recipe)
    except DiffFAEError as error:
        raise ConfigError(f"{path}: {error}") from error
    for label, lines in rows:
        for index, line in enumerate(lines):
            # the text is the file's: nothing in it may steer the terminal
            print(f"{'' if index else label:<18} {''.join(c if c.isprintable() else '?' for c in line)}")


def _described(recipe: Recipe) -> list[tuple[str, list[str]]]:
    """The recipe as labels with lines of text."""
    from ..source.identity import IdentityNetwork, distance_note

    rows = [("software", [", ".join(f"{name} {version}" for name, version in recipe.software.items())])]
    c = recipe.checkpoint
    rows.append(("checkpoint", [f"{c['name']}, {c['license'] or 'no licence named'}", f"sha256 {c['sha256']}"] if c else ["not recorded"]))
    rows.append(("done", [_step(step) for step in recipe.steps] or ["not recorded"]))
    if recipe.identity_distance is not None:
        shown = ", ".join("no face" if d is None else f"{d:.3f}" for d in recipe.identity_distance)
        farthest = max((d for d in recipe.identity_distance if d is not None), default=math.nan)
        # recipes that name no network are of models with the bundled one
        network = (c or {}).get("identity", IdentityNetwork.name)
        rows.append(("identity distance", [f"{shown}  ({distance_note(network, farthest)})"]))
    face = recipe.face_attributes()
    if face is not None:
        from ..common.checkpoint import asset_path, load_checkpoint
        from ..report.sheet import describe

        # the names belong to the open head; the coefficients of another one have numbers only
        head = load_checkpoint(asset_path("open_head.safetensors"), "head", parts=()).config
        names = head["expression_names"] if head["name"] == face.head else [f"expression {i}" for i in range(face.expression.shape[1])]
        first = [f"first of {len(face)} frames"] if len(face) > 1 else []
        rows.append(("attributes", [*first, *describe(face, names, most=5)]))
    rows.append(("source type", [recipe.digital_source_type]))
    return rows


def _step(step: dict[str, Any]) -> str:
    """{"command": "edit", "seed": 0, "take": ["light"]} -> "edit: seed 0, take light"."""
    name = step.get("command") or step.get("node") or "step"
    rest = [f"{key} {_value(value)}" for key, value in step.items() if key not in ("command", "node") and value not in ([], {}, None)]
    return f"{name}: {', '.join(rest)}" if rest else str(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
