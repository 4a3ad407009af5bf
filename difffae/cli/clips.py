"""What `animate` and `edit` do with clips. Imports torch."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..common.checkpoint import asset_path
from ..common.errors import ConfigError
from ..edit.description import Sampling, swaps_from
from ..edit.recipe import Recipe
from ..video.driving import Motion
from ..video.keyframes import Keyframes
from ..video.making import Change, Order, along_keyframes, animate, edit_clip
from ..video.reading import Clip, import_av
from ..video.writing import check_clip
from ..vocabulary import SWAPPABLE, TAKEABLE
from .work import Picture, Wishes, load_model, numbers_of, outputs, progress

if TYPE_CHECKING:
    from ..edit.editor import DiffFAE


def animate_and_write(arguments: argparse.Namespace) -> None:
    """Carry out `animate`."""
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
            recipe=_recipe(model, {"command": "edit", **wishes.record, **_told(None, keyframes)}),
            progress=advance,
        )
    print(output)


def _sampling(arguments: argparse.Namespace) -> Sampling:
    return Sampling(arguments.denoise, arguments.steps, arguments.sampler, arguments.seed)


def _told(numbers: Any, keyframes: Keyframes | None) -> dict[str, Any]:
    """What a recipe says of numbers and keyframes."""
    told = {} if numbers is None else {"numbers": numbers.record()}
    return told | ({} if keyframes is None else {"keyframes": keyframes.record()["curves"]})


def _recipe(model: DiffFAE, step: dict[str, Any]) -> Recipe:
    return Recipe(checkpoint=model.checkpoint.record() if model.checkpoint else None, steps=[step])
