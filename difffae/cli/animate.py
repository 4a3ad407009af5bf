"""`animate`: a portrait that moves as the face in a clip does, or along keyframes; and `edit` of a clip."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..vocabulary import FRAMINGS, SWAPPABLE, TAKEABLE
from .options import add_keyframes, add_model, add_numbers, add_sampling, named_number, positive, share

if TYPE_CHECKING:
    from ..edit.description import Sampling
    from ..edit.editor import DiffFAE
    from ..edit.recipe import Recipe
    from ..video.keyframes import Keyframes


def add(subparsers) -> None:
    text = (
        "Let a portrait move as the face in a clip does: its pose and expression, with the clip's times and sound. Or let it move along "
        "keyframes. Work that was interrupted goes on where it was when the same command is given again."
    )
    parser = subparsers.add_parser("animate", help="a portrait moves as the face in a clip", description=text)
    parser.add_argument("--source", metavar="PICTURE", help="portrait to animate (default: a bundled one)")
    parser.add_argument("--driving", metavar="CLIP", help="clip of the face whose motion it takes")
    parser.add_argument("--output", default="out.mp4", metavar="CLIP", help="where to write the result (default: %(default)s)")
    parser.add_argument("--face", type=int, metavar="N", help="which face of the source, 0 is the largest (default: the largest)")
    parser.add_argument("--driving-face", type=int, default=0, metavar="N", help="which face of the clip's first frame that shows one")
    _add_motion(parser)
    add_keyframes(parser)
    parser.add_argument("--rate", type=positive, default=25, metavar="N", help="frames a second along keyframes alone (default: 25)")
    parser.add_argument("--loop", type=positive, default=1, metavar="N", help="show all of it N times, without sound")
    parser.add_argument("--ping-pong", action="store_true", help="show it forwards, then backwards, without sound")
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
    from ..common.checkpoint import asset_path
    from ..video.driving import Motion
    from ..video.keyframes import Keyframes
    from ..video.making import Change, Order, along_keyframes, animate
    from ..video.reading import Clip, import_av
    from ..video.writing import check_clip
    from .work import Picture, load_model, numbers_of, outputs, progress

    if not arguments.driving and not arguments.keyframes:
        raise ConfigError("animate: nothing moves the portrait; give a clip with --driving, or --keyframes")
    import_av()
    source = Picture.read(arguments.source or asset_path("source.png"), arguments.face)
    outputs([source.path, arguments.driving, arguments.keyframes], arguments.output, check=check_clip)
    rate = Clip.read(arguments.driving).rate if arguments.driving else Fraction(arguments.rate)
    numbers = numbers_of(arguments)
    keyframes = Keyframes.read(arguments.keyframes, float(rate)) if arguments.keyframes else None
    strengths: dict[str, float] = dict(arguments.strength)
    motion = Motion(
        tuple(arguments.take),
        {name: strengths.get(name, strengths.get("", 1.0)) for name in TAKEABLE},
        arguments.relative,
        dict(arguments.multiply),
        arguments.only,
        arguments.framing,
    )
    model = load_model(arguments)
    own = None if numbers.empty else numbers
    common: dict[str, Any] = {"sampling": _sampling(arguments), "order": Order(arguments.loop, arguments.ping_pong)}
    common["recipe"] = _recipe(
        model, {"command": "animate", "take": list(motion.take), "relative": motion.relative, **_told(own, keyframes)}
    )
    portrait = source.analyse(model)
    with progress("frames", "frame") as advance:
        if arguments.driving is None:
            assert keyframes is not None
            along_keyframes(model, portrait, arguments.output, keyframes, numbers=own, rate=rate, progress=advance, **common)
        else:
            common |= {
                "motion": motion,
                "change": Change(own, keyframes),
                "face": arguments.driving_face,
                "rest": arguments.reference_frame,
            }
            animate(model, portrait, arguments.driving, arguments.output, progress=advance, **common)
    print(arguments.output)


def edit_and_write_clip(arguments: argparse.Namespace) -> None:
    """Carry out `edit` of a clip."""
    from ..edit.description import swaps_from
    from ..video.keyframes import Keyframes
    from ..video.making import Change, edit_clip
    from ..video.reading import Clip, import_av
    from ..video.writing import check_clip
    from .work import Wishes, load_model, numbers_of, outputs, progress

    import_av()
    output = arguments.output or "out.mp4"
    asked = [arguments.query, arguments.keyframes, *(getattr(arguments, f"{name}_from") for name in (*TAKEABLE, *SWAPPABLE))]
    if numbers_of(arguments).empty and not any(asked):
        raise ConfigError(f"{arguments.source}: nothing to change; give a number such as --yaw 15, --light-from PICTURE, or --keyframes")
    if arguments.sheet:
        raise ConfigError("--sheet: there is none of a clip; leave it out")
    keyframes = Keyframes.read(arguments.keyframes, float(Clip.read(arguments.source).rate)) if arguments.keyframes else None
    # the clip stands in the source's place
    wishes = Wishes.read(argparse.Namespace(**{**vars(arguments), "source": None, "face": None}), keyframes is not None)
    outputs([arguments.source, arguments.keyframes, *wishes.inputs], output, check=check_clip)
    model = load_model(arguments)
    _, query, portraits = wishes.analyse(model)
    givers = {name: portraits.get(name, query if name in wishes.take else None) for name in TAKEABLE}
    photo = model.carry_options is not None and not arguments.tokens_only
    with progress("frames", "frame") as advance:
        edit_clip(
            model,
            arguments.source,
            output,
            change=Change(wishes.numbers, keyframes),
            givers={name: (giver.attributes, wishes.strengths[name]) for name, giver in givers.items() if giver is not None},
            swaps=swaps_from({name: portraits[name] for name in SWAPPABLE if name in portraits}, wishes.strengths, photo),
            sampling=_sampling(arguments),
            face=arguments.face or 0,
            recipe=_recipe(model, {"command": "edit", **wishes.record(), **_told(None, keyframes)}),
            progress=advance,
        )
    print(output)


def _sampling(arguments: argparse.Namespace) -> Sampling:
    from ..edit.description import Sampling

    return Sampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed)


def _told(numbers: Any, keyframes: Keyframes | None) -> dict[str, Any]:
    """What a recipe says of numbers and keyframes."""
    told = {} if numbers is None else {"numbers": numbers.record()}
    return told | ({} if keyframes is None else {"keyframes": keyframes.record()["curves"]})


def _recipe(model: DiffFAE, step: dict[str, Any]) -> Recipe:
    from ..edit.recipe import Recipe

    return Recipe(checkpoint=model.checkpoint.record() if model.checkpoint else None, steps=[step])
