"""`edit`: give a portrait another pose, expression or light, and other hair, clothes or background."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.errors import ConfigError
from .options import add_clips, add_faces, add_keyframes, add_model, add_query, add_sampling, add_swaps


def add(subparsers) -> None:
    text = (
        "Give a portrait the pose, expression and light of a query, of several pictures, or of numbers, and hair, clothes or background "
        "of others, in one run. Alone: a bundled example."
    )
    parser = subparsers.add_parser("edit", help="pose, expression, light, hair, clothes and background of a portrait", description=text)
    parser.add_argument("--source", metavar="FILE", help="portrait to edit (default: a bundled one), a clip, or a folder of clips")
    text = "where to write the result (default: out.png, of a clip out.mp4); of a folder a folder"
    parser.add_argument("--output", metavar="FILE", help=text)
    parser.add_argument("--sheet", metavar="PICTURE", help="where to write a contact sheet (bundled source: sheet.png; else none)")
    add_faces(parser, several=True)
    add_query(parser)
    add_swaps(parser)
    add_keyframes(parser)
    add_clips(parser)
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..video.reading import is_video
    from .work import Wishes, edit_and_write

    if is_video(arguments.source) or (arguments.source and Path(arguments.source).is_dir()):
        from .animate import edit_and_write_clip

        edit_and_write_clip(arguments)
        return
    if arguments.keyframes:
        raise ConfigError("--keyframes change a clip; for a portrait that moves along them use `animate --keyframes`")
    arguments.output = arguments.output or "out.png"
    edit_and_write(arguments, Wishes.read(arguments), arguments.sheet or (None if arguments.source else "sheet.png"))
