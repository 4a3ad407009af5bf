"""`reconstruct`: frames of test clips from other frames of them, with a model of the paper's kind."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..vocabulary import SAMPLERS
from .options import positive


def add(subparsers) -> None:
    text = (
        "Make the last frame of test clips from the first one, from pure noise, with a model that carries no photograph: PSNR to the truth "
        "with 95 % intervals, beside the source copied and the render alone, and a sheet of some."
    )
    parser = subparsers.add_parser("reconstruct", help="frames of clips from other frames", description=text)
    parser.add_argument("--model", required=True, metavar="FILE", help="a model, such as `assemble` writes")
    parser.add_argument(
        "--clips", type=Path, required=True, metavar="FOLDER", help="the test folder of `prepare videos` or `prepare clips`"
    )
    parser.add_argument("--pairs", type=positive, default=64, metavar="N", help="clips to measure on (default: %(default)s)")
    parser.add_argument("--rows", type=positive, default=8, metavar="N", help="of the sheet (default: %(default)s)")
    parser.add_argument("--steps", type=positive, default=50, metavar="N", help="default: %(default)s")
    parser.add_argument("--sampler", choices=SAMPLERS, default="ddim", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--output", default="reconstruct.png", metavar="PICTURE", help="the sheet (default: %(default)s)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="also write all pairs and results here, for `evaluate --pairs-file FOLDER/pairs.csv`"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..common.images import check_writable
    from ..edit.model import EditModel
    from ..lab.tables import clip_pairs
    from ..lab.tables.grid import grid
    from ..report.measures import psnr
    from .work import write

    a = arguments
    check_writable(a.output)
    model = EditModel.load(a.model)
    pairs = clip_pairs.read_pairs(a.clips, a.pairs)
    made = clip_pairs.reconstruct(model, pairs, a.steps, a.sampler, a.seed)
    pictures = {clip_pairs.MADE: made} | clip_pairs.baselines(model, pairs)
    print(f"{len(pairs)} pairs, PSNR in dB, whole picture, mean ± half of the 95 % interval")
    for name, (mean, half) in clip_pairs.scores(pictures, pairs.truth).items():
        print(f"{name}: {mean:.2f} ± {half:.2f}")
    if a.keep is not None:
        clip_pairs.keep(a.keep, pairs, {Path(a.model).stem: made} | clip_pairs.baselines(model, pairs))
    each = psnr(made, pairs.truth)
    rows = [
        (f"{pairs.names[row]} {each[row]:.1f} dB", [pairs.source[row], pairs.render[row], made[row], pairs.truth[row]])
        for row in range(min(a.rows, len(pairs)))
    ]
    write(
        a.output, grid(["source", "render of the query's numbers", f"result, {a.steps} steps", "truth: the query"], rows, model.image_size)
    )
