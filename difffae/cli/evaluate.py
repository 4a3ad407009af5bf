"""`evaluate`: the table of an edit's quality over the dev portraits."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import TAKEABLE, add_model, add_sampling, positive


def add(subparsers) -> None:
    text = "Edit pairs of dev portraits (never trained on; queries within 30 degrees of yaw), measure the results anew, print the table."
    parser = subparsers.add_parser("evaluate", help="quality over the dev portraits", description=text)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with manifest.csv and the pictures")
    parser.add_argument("--pairs", type=positive, default=60, help="how many pairs (default: %(default)s)")
    parser.add_argument("--take", nargs="+", choices=TAKEABLE, default=list(TAKEABLE), help="what is taken (default: all)")
    parser.add_argument("--preview", action="store_true", help="measure the carried photograph, without diffusion")
    parser.add_argument("--output", help="also write the table as JSON")
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import json

    from tqdm import tqdm

    from ..errors import ConfigError
    from ..evaluation.table import evaluate_edits, pair_names
    from ..training.common import dev_files
    from .work import load_model

    if not (arguments.portraits / "manifest.csv").is_file():
        raise ConfigError(f"--portraits {arguments.portraits}: no manifest.csv there; give the folder of the portraits")
    output = Path(arguments.output) if arguments.output else None
    if output and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: its folder does not exist; make it first")
    model = load_model(arguments)
    pairs = pair_names(arguments.portraits, sorted(dev_files()), arguments.pairs)
    with tqdm(total=len(pairs), desc="pairs") as bar:
        table = evaluate_edits(
            model,
            arguments.portraits,
            pairs,
            lambda source, query: model.edit(
                source,
                query,
                take=arguments.take,
                steps=arguments.steps,
                sampler=arguments.sampler,
                seed=arguments.seed,
                preview=arguments.preview,
            ),
            each=lambda index, result: bar.update(index + 1 - bar.n),
        )
    rows = table.rows()
    for name, value in rows.items():
        print(f"{name:52s} {value:9.3f}" if isinstance(value, float) else f"{name:52s} {value:9d}")
    if output:
        temporary = output.with_name(output.name + ".tmp")
        temporary.write_text(json.dumps(rows, indent=2) + "\n")
        temporary.replace(output)
