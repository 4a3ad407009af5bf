"""`train`: one of the training stages; stops and resumes at any time."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec

from ..common.errors import ConfigError
from .options import positive

# stage -> module of difffae.lab.training, its function and its options, and the module and class of the model's configuration
STAGES = {
    "autoencoder": ("autoencoder", "train_autoencoder", "AutoencoderTraining", "diffusion.autoencoder", "AutoencoderConfig"),
    "slots": ("slots", "train_slots", "SlotsTraining", "source.slots", "SlotsConfig"),
    "denoiser": ("denoiser", "train_denoiser", "DenoiserTraining", "diffusion.denoiser", "DenoiserConfig"),
    "estimator": ("estimator", "train_estimator", "EstimatorTraining", "estimation.network", "EncoderConfig"),
}


def add(subparsers) -> None:
    text = "Train one stage. Run the same command again to go on from the last checkpoint in its folder."
    parser = subparsers.add_parser("train", help="train one stage", description=text)
    parser.add_argument("stage", choices=tuple(STAGES), help=", ".join(STAGES))
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help='paper-256, an ablation such as no-acr (docs/training.md), or a .json file with {"training": {...}, "model": {...}}; '
        "each is laid over those before it",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="training options, over the configurations'")
    parser.add_argument("--model-set", nargs="+", default=[], metavar="NAME=VALUE", help="model options, over the configurations'")
    parser.add_argument(
        "--num-processes", type=positive, default=1, metavar="N", help="train in N processes of this machine; needs accelerate"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from importlib import import_module

    from ..common.named_values import build
    from ..lab.training.presets import read_configs

    stage_module, function, options_class, model_module, config_class = STAGES[arguments.stage]
    stage = import_module(f"difffae.lab.training.{stage_module}")
    model = import_module(f"difffae.{model_module}")
    training, shape = read_configs(arguments.config, arguments.stage, arguments.set, arguments.model_set)
    options = build(getattr(stage, options_class), training, f"train {arguments.stage}")
    shape_class = getattr(model, config_class)
    if arguments.stage == "autoencoder" and "kind" in shape:
        shape_class = first_stage_class(shape.pop("kind"))
    config = build(shape_class, shape, f"train {arguments.stage} model") if shape or shape_class.__name__ != config_class else None
    if arguments.num_processes > 1 and "WORLD_SIZE" not in os.environ:
        launch(arguments)
    getattr(stage, function)(options, config)


def first_stage_class(kind: str) -> type:
    """The class of the configuration of a kind of first stage. Raises ConfigError."""
    from ..diffusion.first_stages import KINDS

    if kind not in KINDS:
        raise ConfigError(f"kind={kind}: no such first stage; choose from {', '.join(KINDS)}")
    return KINDS[kind][0]


def launch(arguments: argparse.Namespace) -> None:
    """Become the launcher that runs this command in several processes. Raises ConfigError without accelerate."""
    count = arguments.num_processes
    if find_spec("accelerate") is None:
        raise ConfigError(f"--num-processes {count}: needs accelerate; pip install accelerate, or train in one process")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m", "difffae", "train"]
    command.append(arguments.stage)
    for name, values in (("--config", arguments.config), ("--set", arguments.set), ("--model-set", arguments.model_set)):
        command += [name, *values] if values else []
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.execv(sys.executable, command)
