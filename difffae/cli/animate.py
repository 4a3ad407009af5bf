"""`animate`: a portrait that moves as the face in a clip does, or along keyframes; and `edit` of a clip."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..vocabulary import FRAMINGS, SWAPPABLE, TAKEABLE
from .options import ALL_FACES, add_clips, add_keyframes, add_model, add_numbers, add_sampling, named_number, positive, share

if TYPE_CHECKING:
    from ..edit.description import Portrait, Sampling
    from ..edit.editor import DiffFAE
    from ..edit.recipe import Recipe
    from ..video.driving import Motion
    from ..video.keyframes import Keyframes
    from ..video.making import Progress

ALONE = ("run", "workers", "ray_address", "output")  # what a folder's videos don't depend on
FILES = ("source", "driving", "keyframes", "query", "per_face", "model", "identity", "head", "deca")  # and NAME_from


def add(subparsers) -> None:
    text = (
        "Let a portrait move as the face in a clip does: its pose and expression, with the clip's times and sound. Or let it move along "
        "keyframes. Work that was interrupted goes on where it was when the same command is given again."
    )
    parser = subparsers.add_parser("animate", help="a portrait moves as the face in a clip", description=text)
    parser.add_argument("--source", metavar="PICTURE", help="portrait to animate (default: a bundled one)")
    text = "clip of the face whose motion it takes; several for several faces; or a folder of clips, each of which gives a video"
    parser.add_argument("--driving", nargs="+", default=[], metavar="CLIP", help=text)
    parser.add_argument("--output", metavar="CLIP", help="where to write the result (default: out.mp4), for a folder of clips a folder")
    text = "which face of the source, 0 is the largest (default: the largest); several move together, others stay as they are"
    parser.add_argument("--face", nargs="+", type=int, metavar="N", help=text)
    text = "which face of the clip's first frame that shows one (default: 0, the largest); one for all faces, or one for each"
    parser.add_argument("--driving-face", nargs="+", type=int, default=[0], metavar="N", help=text)
    _add_motion(parser)
    add_keyframes(parser)
    parser.add_argument("--rate", type=positive, default=25, metavar="N", help="frames a second along keyframes alone (default: 25)")
    parser.add_argument("--loop", type=positive, default=1, metavar="N", help="show all of it N times, without sound")
    parser.add_argument("--ping-pong", action="store_true", help="show it forwards, then backwards, without sound")
    add_clips(parser)
    add_numbers(parser)
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def _add_motion(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("motion")
    text = "pose, expression, light (default: pose and expression)"
    group.add_argument("--take", nargs="+", choices=TAKEABLE, default=["pose", "expression"], metavar="WHAT", help=text)
    group.add_argument("--only", choices=("eyes", "mouth"), help="take this part of the expression alone")
    group.add_argument("--strength", nargs="+", type=share, default=[("", 1.0)], metavar="X", help="0 to 1, or NAME=X for one group")
    text = "add how far the driver goes from a frame of the clip to what the portrait has, instead of setting the driver's numbers"
    group.add_argument("--relative", action="store_true", help=text)
    text = "the frame of the clip that counts as rest for --relative, from 0 (default: the first with the face)"
    group.add_argument("--reference-frame", type=int, metavar="N", help=text)
    text = "make motion larger or smaller: NAME=X of pose, expression, yaw, smile, jawOpen ..., as in --multiply yaw=0.5 expression=1.2"
    group.add_argument("--multiply", nargs="+", type=named_number, default=[], metavar="NAME=X", help=text)
    group.add_argument("--framing", choices=FRAMINGS, default="source", help="query: move in the frame as the driver, too")


def run(arguments: argparse.Namespace) -> None:
    from ..video.reading import import_av

    if not arguments.driving and not arguments.keyframes:
        raise ConfigError("animate: nothing moves the portrait; give a clip with --driving, or --keyframes")
    import_av()
    folders = [path for path in arguments.driving if Path(path).is_dir()]
    if not folders:
        arguments.output = arguments.output or "out.mp4"
        _with_progress(_animate, arguments)
    elif len(arguments.driving) > 1:
        raise ConfigError(f"--driving {folders[0]}: is a folder, whose clips are done one after another; give it alone")
    else:
        _each_clip(arguments, arguments.driving[0], _drive_by)


def edit_and_write_clip(arguments: argparse.Namespace) -> None:
    """Carry out `edit` of a clip, or of a folder of them."""
    from ..video.reading import import_av

    import_av()
    if arguments.sheet:
        raise ConfigError("--sheet: there is none of a clip; leave it out")
    if Path(arguments.source).is_dir():
        _each_clip(arguments, arguments.source, _edit_one)
        return
    arguments.output = arguments.output or "out.mp4"
    _with_progress(_edit, arguments)


def _with_progress(work: Callable[[argparse.Namespace, Progress], None], arguments: argparse.Namespace) -> None:
    from .work import progress

    with progress("frames", "frame") as advance:
        work(arguments, advance)
    print(arguments.output)


def _each_clip(arguments: argparse.Namespace, folder: str, job: Callable[..., None]) -> None:
    """The same for every clip of a folder."""
    import torch

    from ..edit.recipe import file_sha256
    from ..video.folder import for_each_clip
    from .work import progress

    if arguments.output is None:
        raise ConfigError(f"{folder}: is a folder; give one for the results with --output")
    files = {name for name in vars(arguments) if name in FILES or name.endswith("_from")}
    given = {name: _whole(value) if name in files else value for name, value in vars(arguments).items() if name not in ALONE}
    inputs = [path for name in files for path in (given[name] if isinstance(given[name], list) else [given[name]]) if path]
    told: dict[str, Any] = {
        name: value if isinstance(value, int | float | str | list | None) else repr(value) for name, value in given.items()
    }
    told |= {"inputs": {path: file_sha256(path) for path in sorted(inputs) if Path(path).is_file()}}
    single = arguments.device == "cuda" or (arguments.device is None and torch.cuda.is_available())
    count = arguments.workers or (1 if single else None)
    with progress("clips", "clip") as advance:
        ready = partial(job, argparse.Namespace(**given))
        videos = for_each_clip(ready, folder, arguments.output, told, count, arguments.ray_address, advance)
    print("\n".join(map(str, videos)))


def _whole(value: Any) -> Any:
    """The whole path of what is a file, since workers may run elsewhere."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return str(Path(value).resolve()) if isinstance(value, str) and value and Path(value).exists() else value


def _drive_by(arguments: argparse.Namespace, clip: str, output: str) -> None:
    _animate(argparse.Namespace(**{**vars(arguments), "driving": [clip], "output": output}))


def _edit_one(arguments: argparse.Namespace, clip: str, output: str) -> None:
    _edit(argparse.Namespace(**{**vars(arguments), "source": clip, "output": output}))


@lru_cache(maxsize=1)
def _loaded(model: str, identity: str | None, head: str | None, deca: str | None, estimator: str, device: str | None) -> DiffFAE:
    """A model for all clips that a process works on."""
    from .work import load_model

    names = {"model": model, "identity": identity, "head": head, "deca": deca, "estimator": estimator, "device": device}
    return load_model(argparse.Namespace(**names))


def _model(arguments: argparse.Namespace) -> DiffFAE:
    return _loaded(arguments.model, arguments.identity, arguments.head, arguments.deca, arguments.estimator, arguments.device)


def _animate(arguments: argparse.Namespace, advance: Progress | None = None) -> None:
    """One video of the source."""
    from ..common.checkpoint import asset_path
    from ..video.keyframes import Keyframes, by_face
    from ..video.making import Change, Driven, Order, along_keyframes, animate
    from ..video.pipeline import one_core
    from ..video.reading import Clip
    from ..video.writing import check_clip
    from .work import Picture, numbers_of, outputs

    rate = Clip.read(arguments.driving[0]).rate if arguments.driving else Fraction(arguments.rate)
    keyframes = Keyframes.read(arguments.keyframes, float(rate)) if arguments.keyframes else ()
    each = by_face(keyframes, arguments.face)
    # without a number it is the largest, and a message says that there are others
    faces: Sequence[int | None] = arguments.face or ([None] if isinstance(keyframes, Keyframes) or not each else list(each))
    clips, numbers_of_drivers = (_each(name, getattr(arguments, name), len(faces)) for name in ("driving", "driving_face"))
    pictures = [Picture.read(arguments.source or asset_path("source.png"), face) for face in faces]
    outputs([pictures[0].path, *arguments.driving, arguments.keyframes], arguments.output, check=check_clip)
    numbers = numbers_of(arguments)
    motion, model = _motion(arguments), _model(arguments)
    own = None if numbers.empty else numbers
    common: dict[str, Any] = {"sampling": _sampling(arguments), "order": Order(arguments.loop, arguments.ping_pong), "progress": advance}
    step = {"command": "animate", "take": list(motion.take), "relative": motion.relative, **_told(own, keyframes)}
    common["recipe"] = _recipe(model, step | ({"faces": list(faces)} if len(faces) > 1 else {}))
    with one_core(model.device):
        portraits: list[Portrait] = [picture.analyse(model) for picture in pictures]
    changes = [Change(own, each.get(face or 0)) for face in faces]
    if clips:
        drivers = zip(portraits, clips, changes, numbers_of_drivers, strict=True)
        cast = [Driven(portrait, clip, motion, change, face, arguments.reference_frame) for portrait, clip, change, face in drivers]
        animate(model, cast, arguments.output, **common)
    else:
        along_keyframes(model, list(zip(portraits, changes, strict=True)), arguments.output, rate=rate, **common)


def _each(name: str, given: Sequence[Any], count: int) -> list[Any]:
    """One value for every face, from one for all of them or one each; none of none. Raises ConfigError."""
    if len(given) not in (0, 1, count):
        option = name.replace("_", "-")
        raise ConfigError(f"--{option}: {len(given)} were given, and --face names {count}; give one for all faces, or one for each")
    return list(given) * count if len(given) == 1 else list(given)


def _motion(arguments: argparse.Namespace) -> Motion:
    from ..video.driving import Motion

    strengths: dict[str, float] = dict(arguments.strength)
    return Motion(
        tuple(arguments.take),
        {name: strengths.get(name, strengths.get("", 1.0)) for name in TAKEABLE},
        arguments.relative,
        dict(arguments.multiply),
        arguments.only,
        arguments.framing,
    )


def _edit(arguments: argparse.Namespace, advance: Progress | None = None) -> None:
    """One edited clip."""
    from ..edit.description import swaps_from
    from ..video.keyframes import Keyframes
    from ..video.making import Change, edit_clip
    from ..video.pipeline import one_core
    from ..video.reading import Clip
    from ..video.writing import check_clip
    from .work import Wishes, numbers_of, numbers_per_face, outputs

    asked = [arguments.query, arguments.keyframes, *(getattr(arguments, f"{name}_from") for name in (*TAKEABLE, *SWAPPABLE))]
    if numbers_of(arguments).empty and not any(asked) and not arguments.per_face:
        raise ConfigError(f"{arguments.source}: nothing to change; give a number such as --yaw 15, --light-from PICTURE, or --keyframes")
    keyframes = Keyframes.read(arguments.keyframes, float(Clip.read(arguments.source).rate)) if arguments.keyframes else ()
    # the clip stands in the source's place
    alone = {"source": None, "face": None, "per_face": None}
    wishes = Wishes.read(argparse.Namespace(**{**vars(arguments), **alone}), bool(keyframes or arguments.per_face))
    each = numbers_per_face(arguments.per_face)
    outputs([arguments.source, arguments.keyframes, *wishes.inputs], arguments.output, check=check_clip)
    model = _model(arguments)
    with one_core(model.device):
        _, query, portraits = wishes.analyse(model)
        moved = _faces_of(model, arguments, each, keyframes)
    givers = {name: portraits.get(name, query if name in wishes.take else None) for name in TAKEABLE}
    photo = model.carry_options is not None and not arguments.tokens_only
    edit_clip(
        model,
        arguments.source,
        arguments.output,
        changes={face: Change(each[face] if face < len(each) else wishes.numbers, keys) for face, keys in moved.items()},
        givers={name: (giver.attributes, wishes.strengths[name]) for name, giver in givers.items() if giver is not None},
        swaps=swaps_from({name: portraits[name] for name in SWAPPABLE if name in portraits}, wishes.strengths, photo),
        sampling=_sampling(arguments),
        recipe=_recipe(model, {"command": "edit", **wishes.record(), **_told(None, keyframes), **_people(arguments)}),
        progress=advance,
    )


def _faces_of(
    model: DiffFAE, arguments: argparse.Namespace, each: Sequence[Any], keyframes: Keyframes | tuple[Keyframes | None, ...]
) -> dict[int, Keyframes | None]:
    """Which faces of a clip are edited, and along which keyframes; each: numbers of single faces. Raises ConfigError."""
    from ..video.analysing import count_faces
    from ..video.keyframes import by_face
    from ..video.reading import Clip

    if arguments.face != ALL_FACES:
        if each:
            raise ConfigError(f"--per-face: has numbers for several faces; add --face {ALL_FACES}")
        named = None if arguments.face is None else [arguments.face]
        return by_face(keyframes, named) or {0: None}
    count = count_faces(model, Clip.read(arguments.source))
    for path, entries in ((arguments.per_face, each), (arguments.keyframes, keyframes)):
        if isinstance(entries, Sequence) and len(entries) > count:
            raise ConfigError(f"{path}: has numbers for {len(entries)} faces, but {arguments.source} shows {count}; give one per face")
    return by_face(keyframes, range(count))


def _people(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a recipe says of several faces."""
    from .work import numbers_per_face

    each = [None if one is None else one.record() for one in numbers_per_face(arguments.per_face)]
    return ({"face": ALL_FACES} if arguments.face == ALL_FACES else {}) | ({"per_face": each} if each else {})


def _sampling(arguments: argparse.Namespace) -> Sampling:
    from ..edit.description import Sampling

    return Sampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed)


def _told(numbers: Any, keyframes: Keyframes | tuple[Keyframes | None, ...]) -> dict[str, Any]:
    """What a recipe says of numbers and keyframes."""
    told = {} if numbers is None else {"numbers": numbers.record()}
    if isinstance(keyframes, tuple):
        return told | ({"keyframes": [None if one is None else one.record()["curves"] for one in keyframes]} if keyframes else {})
    return told | {"keyframes": keyframes.record()["curves"]}


def _recipe(model: DiffFAE, step: dict[str, Any]) -> Recipe:
    from ..edit.recipe import Recipe

    return Recipe(checkpoint=model.checkpoint.record() if model.checkpoint else None, steps=[step])
