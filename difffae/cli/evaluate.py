"""`evaluate`: the README's table over the dev portraits, with --card all of the model card's, with --pairs-file the paper's tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.errors import ConfigError
from .options import FRAMINGS, TAKEABLE, add_model, add_sampling, positive

TABLES = ("comparison", "slots", "identity", "speed")
CARD_PARTS = ("first-stage", "self", "edit", "drift", "synthetic", "carry", "few-steps", "slots", "swaps", "by-numbers")


def add(subparsers) -> None:
    text = (
        "With --portraits: edit pairs of dev portraits (never trained on; queries within 30 degrees of yaw), measure the results anew, "
        "print the table. With --pairs-file: score checkpoints and folders of other methods' results on the same pairs."
    )
    parser = subparsers.add_parser("evaluate", help="quality over the dev portraits, or of methods on the same pairs", description=text)
    parser.add_argument("--portraits", type=Path, help="folder of `prepare portraits`")
    parser.add_argument("--pairs", type=positive, default=60, help="how many pairs (default: %(default)s)")
    parser.add_argument("--take", nargs="+", choices=TAKEABLE, default=list(TAKEABLE), help="what is taken (default: all)")
    parser.add_argument("--output", help="also write the table: JSON; with --pairs-file or --table speed Markdown and JSON")
    card = parser.add_argument_group("the model card (--portraits FOLDER --card --output FOLDER)")
    card.add_argument("--card", action="store_true", help="measure everything the model card states; finished parts are kept")
    card.add_argument("--synthetic", type=Path, metavar="FOLDER", help="shards of rendered pairs that no training saw (`prepare people`)")
    card.add_argument("--labels", type=Path, metavar="FOLDER", help="shards of labelled dev portraits (of `prepare portraits`)")
    card.add_argument("--groups", type=Path, metavar="CSV", help="how the portraits look, by file (default: the bundled labels)")
    card.add_argument("--sampler-pairs", type=positive, default=24, metavar="N", help="pairs that compare samplers (default: %(default)s)")
    card.add_argument("--only", nargs="+", choices=CARD_PARTS, metavar="PART", help=f"measure again only: {', '.join(CARD_PARTS)}")
    estimators = parser.add_argument_group("estimators of the open head (--portraits FOLDER --estimators [--synthetic FOLDER])")
    estimators.add_argument("--estimators", action="store_true", help="compare the landmark fit with networks; prints Markdown")
    estimators.add_argument("--networks", nargs="+", default=[], metavar="NAME=FILE", help="networks beside the bundled one")
    estimators.add_argument("--tones", type=Path, metavar="FOLDER", help="where pictures of people in six skin tones are kept")
    estimators.add_argument("--makehuman", type=Path, metavar="FOLDER", help="MakeHuman's CC0 assets, to render those that are missing")
    estimators.add_argument("--people", type=positive, default=6, metavar="N", help="how many of them (default: %(default)s)")
    estimators.add_argument("--steady", type=positive, default=20, metavar="N", help="portraits for steadiness (default: %(default)s)")
    estimators.add_argument("--limit", type=positive, metavar="N", help="most portraits that are read (default: all; by-numbers: 24)")
    methods = parser.add_argument_group("the paper's tables")
    methods.add_argument("--pairs-file", type=Path, metavar="CSV", help="columns source, query, result and, if wanted, take")
    methods.add_argument("--pictures", type=Path, metavar="FOLDER", help="where sources and queries lie (default: beside the CSV)")
    methods.add_argument("--results", nargs="+", default=[], metavar="NAME=FOLDER", help="other methods' results")
    methods.add_argument(
        "--edits", nargs="+", default=[], metavar="NAME=WHAT", help="what a method can change, such as Hou=light or DPE=pose+expression"
    )
    methods.add_argument("--models", nargs="+", default=[], metavar="[NAME=]MODEL", help="rows of our own (default: --model)")
    methods.add_argument("--keep", type=Path, metavar="FOLDER", help="keep our own results there, and go on with what is there already")
    methods.add_argument("--table", choices=TABLES, default="comparison", help="which table of the paper (default: %(default)s)")
    methods.add_argument("--framing", choices=FRAMINGS, default="source", help="of our own rows (default: %(default)s)")
    methods.add_argument("--common", action="store_true", help="only pairs count that every method was scored on")
    methods.add_argument("--runs", type=positive, default=5, metavar="N", help="measured edits of --table speed (default: %(default)s)")
    methods.add_argument(
        "--finetuned", nargs="+", default=[], metavar="NAME=FILE", help="training checkpoint of a row of --table speed, for its minutes"
    )
    judge = parser.add_argument_group("who measures the paper's tables")
    judge.add_argument("--inception", type=Path, metavar="FILE", help="weights of Inception v3 for FID (default: no FID)")
    judge.add_argument("--real", type=Path, metavar="FOLDER", help="FID's real pictures (default: the sources and queries)")
    judge.add_argument("--judge-head", type=Path, metavar="FILE", help="FLAME, for DECA's codes (default: the bundled estimator)")
    judge.add_argument("--judge-deca", type=Path, metavar="FILE", help="DECA's networks")
    judge.add_argument("--judge-identity", metavar="FILE", help="CSIM's identity network (default: the bundled one)")
    add_sampling(parser)
    add_model(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.table == "speed":
        from .tables import speed

        speed(arguments)
    elif arguments.pairs_file is not None:
        from .tables import compare

        compare(arguments)
    elif arguments.portraits is not None:
        from ..lab.prepare.portraits import read_manifest
        from . import card

        read_manifest(arguments.portraits)
        if arguments.estimators:
            card.estimators(arguments)
        elif arguments.card:
            card.run(arguments)
        else:
            card.dev_table(arguments)
    else:
        raise ConfigError("evaluate: nothing to measure; give --portraits FOLDER, or --pairs-file CSV, or --table speed")
