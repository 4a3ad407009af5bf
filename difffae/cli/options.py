"""Options that several commands share. Imports nothing heavy: the parser is built for every `--help`."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import NoReturn

from ..common.errors import ConfigError
from ..head.axes import AXES, COEFFICIENTS, PRESETS, TURN_LIMIT, check_names
from ..vocabulary import DENOISE, ESTIMATORS, FRAMINGS, REPAIR, SAMPLERS, STEPS, SWAPPABLE, TAKEABLE

ALL_FACES = "all"


class OneLineParser(argparse.ArgumentParser):
    """Reports every usage problem as a ConfigError of one line instead of printing the whole usage."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        found, unknown = super().parse_known_args(args, namespace)
        options = [text.partition("=")[0] for text in unknown if text.startswith("--")]
        near = [match for option in options for match in get_close_matches(option, self._option_string_actions, 3)]
        if near:
            self.error(f"unrecognized arguments: {' '.join(unknown)}; did you mean {', '.join(near)}?")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def positive(text: str) -> int:
    """An option's whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def fraction(text: str) -> float:
    """An option's number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is outside 0..1")
    return value


def share(text: str) -> tuple[str, float]:
    """A strength, "0.8" or "light=0.5": the name of its group or region, "" for all, and the number."""
    name, equals, number = text.rpartition("=")
    if equals and name not in (*TAKEABLE, *SWAPPABLE):
        raise argparse.ArgumentTypeError(f"'{name}' has no strength; choose from {', '.join((*TAKEABLE, *SWAPPABLE))}")
    return name, fraction(number)


def named_number(text: str) -> tuple[str, float]:
    """A name and a number, "yaw=0.5"."""
    name, _, number = text.rpartition("=")
    return name, float(number)


def preset(text: str) -> str:
    """An expression's name."""
    check_names("preset", [text], PRESETS)
    return text


def coefficient(text: str) -> tuple[str, float]:
    """An ARKit coefficient and its number, "jawForward=0.3"."""
    name, _, number = text.rpartition("=")
    check_names("coefficients", [name], COEFFICIENTS)
    return name, float(number)


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="open-256", metavar="NAME", help="bundled name or path of a checkpoint (default: %(default)s)")
    group.add_argument("--identity", metavar="FILE", help="identity network of a model that was not trained with the bundled one")
    group.add_argument("--head", metavar="FILE", help="head model of a model that was not trained with the bundled one")
    group.add_argument("--deca", metavar="FILE", help="DECA's networks, which estimate the numbers of a FLAME head")
    group.add_argument(
        "--estimator",
        choices=ESTIMATORS,
        default=ESTIMATORS[0],
        help="what reads a face's numbers: the landmark fit, or a network, which is faster and steadier on video (default: %(default)s)",
    )
    group.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one, else cpu")


def add_query(parser: argparse.ArgumentParser) -> None:
    """The query pictures and the numbers: everything that says what to change."""
    group = parser.add_argument_group("what to change")
    group.add_argument("--query", metavar="PICTURE", help="portrait to take attributes from")
    group.add_argument("--take", nargs="+", choices=TAKEABLE, metavar="WHAT", help="pose, expression, light (default: all three)")
    for name in TAKEABLE:
        group.add_argument(f"--{name}-from", metavar="PICTURE", help=f"take the {name} from this portrait")
    text = "0 to 1, how far to go towards the other pictures (default: 1); NAME=X for one group or region, as in --strength 0.8 light=0.5"
    group.add_argument("--strength", nargs="+", type=share, default=[("", 1.0)], metavar="X", help=text)
    group.add_argument("--framing", choices=FRAMINGS, default="source", help="whose place and size in the frame (default: %(default)s)")
    add_numbers(parser)


def add_numbers(parser: argparse.ArgumentParser) -> None:
    """What is changed by number."""
    numbers = parser.add_argument_group("numbers", "added to what the portrait has; light replaces. Left and right are the subject's own")
    numbers.add_argument("--preset", type=preset, metavar="NAME", help=f"an expression, set first: {', '.join(PRESETS)}")
    for axis in AXES:
        text = axis.text if axis.degrees else f"{axis.low:g} to {axis.high:g}. {axis.text}"
        numbers.add_argument(f"--{axis.option}", type=float, metavar="DEG" if axis.degrees else "X", help=text)
    text = "-1 to 1, the finest numbers of an expression by ARKit's names, as in jawForward=0.3 mouthDimpleLeft=0.5"
    numbers.add_argument("--coefficients", nargs="+", type=coefficient, default=[], metavar="NAME=X", help=text)
    numbers.add_argument("--absolute", action="store_true", help="turns and expression numbers replace instead of being added")
    text = f"turn farther than a photograph bears, {TURN_LIMIT:g} degrees from how it shows the head and from facing the viewer"
    numbers.add_argument("--beyond-limit", action="store_true", help=text)


def add_keyframes(parser: argparse.ArgumentParser) -> None:
    text = "numbers that change along the clip: JSON with values at some moments, see docs/cli.md"
    parser.add_argument("--keyframes", metavar="FILE", help=text)


def add_clips(parser: argparse.ArgumentParser) -> None:
    """Where the clips of a folder are worked on."""
    place = parser.add_argument_group("a folder of clips").add_mutually_exclusive_group()
    place.add_argument("--workers", type=positive, metavar="N", help="local processes (default: one per core)")
    place.add_argument("--ray-address", metavar="ADDRESS", help="run on this Ray cluster (host:port, or auto), which gives the same files")


def add_swaps(parser: argparse.ArgumentParser) -> None:
    """Regions that come from other portraits."""
    group = parser.add_argument_group("regions of other portraits")
    for name in SWAPPABLE:
        group.add_argument(f"--{name}-from", metavar="PICTURE", help=f"take the {name} from this portrait")
    add_tokens_only(group)


def add_tokens_only(group: argparse._ActionsContainer) -> None:
    text = "exchange slot tokens alone, as the paper does: the model repaints the regions, in rough form"
    group.add_argument("--tokens-only", action="store_true", help=text)


def face_number(text: str) -> int | str:
    """A face's number, or ALL_FACES."""
    return text if text == ALL_FACES else int(text)


def add_faces(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Which face is meant. several: whether all faces of the source can be, each with numbers of its own."""
    text = "which face of the source, 0 is the largest (default: the largest)"
    if several:
        parser.add_argument("--face", type=face_number, metavar="N", help=f"{text}; '{ALL_FACES}' edits all, one after another")
        text = f'numbers of single faces for --face {ALL_FACES}: a JSON list, the largest face first, such as [{{"yaw": 10}}, null]'
        parser.add_argument("--per-face", metavar="FILE", help=f"{text}; null leaves a face alone, further faces get the other numbers")
    else:
        parser.add_argument("--face", type=int, metavar="N", help=text)
    parser.add_argument("--query-face", type=int, metavar="N", help="which face of the query or reference")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    text = f"how much is painted anew, {DENOISE:g} (the default: the moved photograph alone) to 1 (everything, the default without one); "
    text += f"{REPAIR} repairs what the photograph could not show"
    group.add_argument("--denoise", type=fraction, metavar="X", help=text)
    group.add_argument("--steps", type=positive, default=STEPS, metavar="N", help="evaluations of the denoiser (default: %(default)s)")
    group.add_argument("--sampler", choices=SAMPLERS, default=SAMPLERS[0], help="default: %(default)s")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
