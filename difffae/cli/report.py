"""`report`: how well a result kept the person and took what it should, measured on the pictures."""

from __future__ import annotations

import argparse

from .options import add_model


def add(subparsers) -> None:
    text = "Measure a result against its source (identity) and its query (pose, expression, light)."
    parser = subparsers.add_parser("report", help="identity, pose, expression and light errors of a result", description=text)
    parser.add_argument("--source", required=True, metavar="PICTURE", help="the portrait that was edited")
    parser.add_argument("--query", required=True, metavar="PICTURE", help="the portrait it took from")
    parser.add_argument("--result", required=True, metavar="PICTURE", help="the edited portrait")
    parser.add_argument("--face", type=int, metavar="N", help="which face of source and result, 0 is the largest")
    parser.add_argument("--query-face", type=int, metavar="N", help="which face of the query")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import json

    from ..evaluation.pair import measure_pair
    from .work import Picture, load_model

    pictures = [
        Picture.read(arguments.source, arguments.face),
        Picture.read(arguments.query, arguments.query_face),
        Picture.read(arguments.result, arguments.face),
    ]
    model = load_model(arguments)
    numbers = measure_pair(model, *(picture.analyse(model) for picture in pictures))
    if arguments.json:
        print(json.dumps({row.key: row.value for row in numbers}))
    else:
        width = max(len(row.label) for row in numbers)
        for row in numbers:
            print(f"{row.label:<{width}}  {row.value:8.3f}  {row.note}")
