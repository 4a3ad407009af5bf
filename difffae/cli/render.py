"""`render`: the 3DMM render alone, the fast preview of what an edit is told."""

from __future__ import annotations

import argparse

from ..vocabulary import RASTERIZERS
from .options import add_faces, add_model, add_query, positive


def add(subparsers) -> None:
    text = "Render the head model with the attributes an edit would ask for, without editing the photograph."
    parser = subparsers.add_parser("render", help="the 3DMM render alone", description=text)
    parser.add_argument("--source", metavar="PICTURE", help="portrait (default: a bundled one)")
    parser.add_argument("--output", default="render.png", metavar="PICTURE", help="where to write it (default: %(default)s)")
    parser.add_argument("--size", type=positive, default=256, metavar="N", help="side in pixels (default: %(default)s)")
    parser.add_argument("--rasterizer", choices=RASTERIZERS, default=RASTERIZERS[0], help="default: %(default)s")
    add_faces(parser)
    add_query(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from .work import Wishes, load_model, outputs, write

    wishes = Wishes.read(arguments, source_only=True)
    outputs(wishes.inputs, arguments.output)
    model = load_model(arguments)
    (source,), query, portraits = wishes.analyse(model)
    taken = (dict.fromkeys(wishes.take, query) if query is not None else {}) | portraits
    target = model.target(source, **taken, change=wishes.numbers, strength=wishes.strengths, framing=arguments.framing)
    write(arguments.output, model.render(target, arguments.size, arguments.rasterizer).image)
