"""`bench`: sizes and speed, beside what the machine could do at best."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from ..vocabulary import ESTIMATORS, SAMPLERS
from .options import positive

if TYPE_CHECKING:
    from ..edit.editor import DiffFAE
    from ..edit.profiles import Profile

PROFILES = ("open-256", "paper-256", "paper-512", "paper-mini")
MODES = ("eager", "compiled", "graphed", "compiled-graphed")
PARTS = ("stages", "generation", "edits", "clips")
DTYPES = ("float32", "bfloat16", "float16")


def add(subparsers) -> None:
    text = (
        "Measure latency and throughput: single stages, generated batches, whole edits; medians after warm-up. Prints a Markdown table "
        "with parameters, operations and the floors that memory bandwidth and arithmetic set on this machine."
    )
    parser = subparsers.add_parser("bench", help="sizes and speed", description=text)
    parser.add_argument(
        "--model", default="open-256", metavar="NAME", help=f"{', '.join(PROFILES)}, or a checkpoint (default: %(default)s)"
    )
    parser.add_argument("--identity", metavar="FILE", help="identity network of a checkpoint that was not trained with the bundled one")
    parser.add_argument("--random", action="store_true", help="random weights; needed for the paper's, which are not published")
    parser.add_argument("--first-stage", choices=("vq-f8", "kl-f8"), default="vq-f8", help="of the paper's models (default: %(default)s)")
    parser.add_argument("--count", action="store_true", help="only print the parameters of every part, as JSON")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS[:3]), help="what to measure (default: all but clips)")
    text = "what reads the faces of clips (default: %(default)s)"
    parser.add_argument("--estimator", choices=ESTIMATORS, default=ESTIMATORS[0], help=text)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one, else cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="of the large networks (default: bfloat16 on cuda, float32 on cpu)")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: all on cuda, eager on cpu")
    parser.add_argument("--batch", nargs="+", type=positive, metavar="N", help="of generated batches (default: 1 8 64 on cuda, 1 on cpu)")
    parser.add_argument("--steps", nargs="+", type=positive, default=[4, 20, 50], metavar="N", help="default: 4 20 50")
    parser.add_argument("--sampler", choices=SAMPLERS, default=SAMPLERS[0], help="default: %(default)s")
    parser.add_argument("--runs", type=positive, metavar="N", help="measured calls (default: 20 on cuda, 3 on cpu)")
    parser.add_argument("--warm-up", type=int, default=2, metavar="N", help="calls before them (default: %(default)s)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the CPU (default: PyTorch's choice)")
    parser.add_argument("--json", metavar="FILE", help="also write everything as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from ..edit.profiles import profile

    known = arguments.model in PROFILES
    if arguments.count:
        if not known:
            raise ConfigError(f"--count --model {arguments.model}: only {', '.join(PROFILES)} can be counted by name")
        print(json.dumps(profile(arguments.model, arguments.first_stage).counts(), indent=2))
        return
    if known and arguments.model != "open-256" and not arguments.random:
        raise ConfigError(
            f"--model {arguments.model}: the paper's weights are not published; add --random, or give a checkpoint of your own"
        )
    if arguments.random and not known:
        raise ConfigError(f"--random --model {arguments.model}: random weights need a name; choose from {', '.join(PROFILES)}")
    output = Path(arguments.json) if arguments.json else None
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise ConfigError(f"--json {output}: is a folder or lies in none; give a file in an existing folder")
    chosen = profile(arguments.model, arguments.first_stage) if arguments.random else None
    _measure(arguments, chosen, output)


def _measure(arguments: argparse.Namespace, chosen: Profile | None, output: Path | None) -> None:
    import torch

    from ..lab.bench import counts, machine
    from ..lab.bench import run as running
    from ..lab.bench.report import Report

    name = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this PyTorch sees no CUDA device; use cpu")
    device, gpu = torch.device(name), name == "cuda"
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    described = machine.describe(device)
    dtype_name = arguments.dtype or ("bfloat16" if gpu else "float32")
    dtype = getattr(torch, dtype_name)
    plan = running.Plan(
        modes=arguments.modes or (MODES if gpu else ("eager",)),
        batches=arguments.batch or ((1, 8, 64) if gpu else (1,)),
        steps=arguments.steps,
        sampler=arguments.sampler,
        warm_up=arguments.warm_up,
        runs=arguments.runs or (20 if gpu else 3),
    )
    _note("loading")
    model = _load(arguments, chosen, device)
    running.prepare(model, dtype)
    sizes = chosen or running.profile_of(model)
    _note("counting")
    costs = counts.costs(sizes)
    _note("probing the machine")
    peaks = machine.probe(device, dtype)
    bench = running.Bench(model, plan, costs, peaks, _note)
    rows = [row for part in PARTS if part in arguments.parts for row in getattr(bench, part)()]
    weights = "random" if chosen is not None else arguments.model
    report = Report(sizes.name, weights, dtype_name, described, peaks, sizes.counts(), costs, rows)
    print(report.markdown())
    if output is not None:
        report.write_json(output)


def _load(arguments: argparse.Namespace, chosen: Profile | None, device) -> DiffFAE:
    from ..edit.editor import DiffFAE
    from ..lab.bench.run import random_model

    if chosen is not None:
        return random_model(chosen, device)
    return DiffFAE.from_pretrained(arguments.model, device=device, identity=arguments.identity, estimator=arguments.estimator)


def _note(text: str) -> None:
    """What comes next, on stderr: measurements take minutes."""
    sys.stderr.write(f"bench: {text}\n")
