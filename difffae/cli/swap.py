"""`swap`: take hair, clothes or background from another portrait."""

from __future__ import annotations

import argparse

from .options import add_faces, add_model, add_sampling, fraction

REGIONS = ("hair", "clothes", "background")


def add(subparsers) -> None:
    text = "Take hair, clothes or background from a reference: its own pixels, fitted to the source's head and light."
    parser = subparsers.add_parser("swap", help="hair, clothes or background from another portrait", description=text)
    parser.add_argument("--source", metavar="PICTURE", help="portrait to edit (default: a bundled one)")
    parser.add_argument("--reference", metavar="PICTURE", help="portrait to take from (default: a bundled one)")
    listed = ", ".join(REGIONS)
    parser.add_argument("--regions", nargs="+", choices=REGIONS, default=list(REGIONS), metavar="WHAT", help=f"{listed} (default: all)")
    parser.add_argument("--output", default="out.png", metavar="PICTURE", help="where to write the result (default: %(default)s)")
    parser.add_argument("--sheet", metavar="PICTURE", help="where to write a contact sheet")
    parser.add_argument("--strength", type=fraction, default=1.0, metavar="X", help="0 to 1 (default: 1)")
    alone = "exchange slot tokens alone, as the paper does: the model repaints the regions, in rough form"
    parser.add_argument("--tokens-only", action="store_true", help=alone)
    add_faces(parser)
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..common.checkpoint import asset_path
    from ..edit.sheet import contact_sheet
    from .work import Picture, load_model, outputs, progress, recipe_of, sampling, write

    outputs([arguments.source, arguments.reference], arguments.output, arguments.sheet)
    picture = Picture.read(arguments.source or asset_path("source.png"), arguments.face)
    other = Picture.read(arguments.reference or asset_path("query.png"), arguments.query_face)
    model = load_model(arguments)
    source, reference = picture.analyse(model), other.analyse(model)
    with progress() as advance:
        result = model.swap(
            source,
            reference,
            tuple(arguments.regions),
            strength=arguments.strength,
            steps=arguments.steps,
            sampler=arguments.sampler,
            seed=arguments.seed,
            progress=advance,
            photo=False if arguments.tokens_only else None,
        )
    step = {"command": "swap", "regions": arguments.regions, "strength": arguments.strength, **sampling(arguments)}
    if arguments.tokens_only:
        step["tokens_only"] = True
    recipe = recipe_of(model, source, result, step)
    write(arguments.output, result.image, picture.alpha, recipe)
    if arguments.sheet:
        sheet = contact_sheet(source, result, {"reference": reference}, model.head.expression_names, model.model.slots.config.order)
        write(arguments.sheet, sheet, recipe=recipe)
