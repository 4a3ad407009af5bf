"""`animate`: a portrait that moves as the face in a clip does, or along keyframes."""

from __future__ import annotations

import argparse

from ..vocabulary import FRAMINGS, TAKEABLE
from .options import add_keyframes, add_model, add_numbers, add_sampling, named_number, positive, share


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
    from .clips import animate_and_write

    animate_and_write(arguments)
