"""`edit`: give a portrait another pose, expression or light."""

from __future__ import annotations

import argparse

from .options import add_faces, add_model, add_query, add_sampling


def add(subparsers) -> None:
    text = "Give a portrait the pose, expression and light of a query, of several pictures, or of numbers. Alone: a bundled example."
    parser = subparsers.add_parser("edit", help="pose, expression and light of a portrait", description=text)
    parser.add_argument("--source", metavar="PICTURE", help="portrait to edit (default: a bundled one)")
    parser.add_argument("--output", default="out.png", metavar="PICTURE", help="where to write the result (default: %(default)s)")
    parser.add_argument("--sheet", metavar="PICTURE", help="where to write a contact sheet (bundled source: sheet.png; else none)")
    parser.add_argument("--preview", action="store_true", help="stop after the carried photograph, without diffusion")
    add_faces(parser)
    add_query(parser)
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..edit.sheet import contact_sheet
    from .work import Wishes, load_model, outputs, progress, recipe_of, sampling, write

    sheet = arguments.sheet or (None if arguments.source else "sheet.png")
    givers = [arguments.pose_from, arguments.expression_from, arguments.light_from]
    outputs([arguments.source, arguments.query, *givers], arguments.output, sheet)
    wishes = Wishes.read(arguments)
    model = load_model(arguments)
    source, query, portraits = wishes.analyse(model)
    with progress() as advance:
        result = model.edit(
            source,
            query,
            take=wishes.take if query is not None else (),
            pose_from=portraits.get("pose"),
            expression_from=portraits.get("expression"),
            light_from=portraits.get("light"),
            adjust=wishes.numbers,
            strength=arguments.strength,
            framing=arguments.framing,
            steps=arguments.steps,
            sampler=arguments.sampler,
            seed=arguments.seed,
            preview=arguments.preview,
            progress=advance,
        )
    step = {"command": "edit", "take": wishes.taken, "strength": arguments.strength, "framing": arguments.framing, "numbers": wishes.asked}
    step |= {"preview": True} if arguments.preview else sampling(arguments)
    recipe = recipe_of(model, source, result, step)
    write(arguments.output, result.image, wishes.source.alpha, recipe)
    if sheet:
        shown = ({"query": query} if query is not None else {}) | {f"{name} from": portrait for name, portrait in portraits.items()}
        order = model.model.slots.config.order if model.model.has_slots else ()
        picture = contact_sheet(source, result, shown, model.head.expression_names, order)
        write(sheet, picture, recipe=recipe)
