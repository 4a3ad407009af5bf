"""`swap`: take hair, clothes or background from another portrait. A short form of `edit`."""

from __future__ import annotations

import argparse

from ..vocabulary import SWAPPABLE
from .options import add_faces, add_model, add_sampling, add_tokens_only, fraction


def add(subparsers) -> None:
    text = "Take hair, clothes or background from a reference: its own pixels, fitted to the source's head and light."
    parser = subparsers.add_parser("swap", help="hair, clothes or background from another portrait", description=text)
    parser.add_argument("--source", metavar="PICTURE", help="portrait to edit (default: a bundled one)")
    parser.add_argument("--reference", metavar="PICTURE", help="portrait to take from (default: a bundled one)")
    listed = ", ".join(SWAPPABLE)
    parser.add_argument("--regions", nargs="+", choices=SWAPPABLE, default=list(SWAPPABLE), metavar="WHAT", help=f"{listed} (default: all)")
    parser.add_argument("--output", default="out.png", metavar="PICTURE", help="where to write the result (default: %(default)s)")
    parser.add_argument("--sheet", metavar="PICTURE", help="where to write a contact sheet")
    parser.add_argument("--strength", type=fraction, default=1.0, metavar="X", help="0 to 1 (default: 1)")
    add_tokens_only(parser)
    add_faces(parser)
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..common.checkpoint import asset_path
    from .work import Picture, Wishes, edit_and_write

    source = Picture.read(arguments.source or asset_path("source.png"), arguments.face)
    reference = Picture.read(arguments.reference or asset_path("query.png"), arguments.query_face)
    strengths = dict.fromkeys(SWAPPABLE, arguments.strength)
    edit_and_write(arguments, Wishes(source, givers=dict.fromkeys(arguments.regions, reference), strengths=strengths), arguments.sheet)
