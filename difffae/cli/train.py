"""`train`: one of the training stages; stops and resumes at any time."""

from __future__ import annotations

import argparse

# stage -> module of difffae.training, its function and its options, and the module and class of the model's configuration
STAGES = {
    "autoencoder": ("autoencoder", "train_autoencoder", "AutoencoderTraining", "autoencoder", "AutoencoderConfig"),
    "slots": ("slots", "train_slots", "SlotsTraining", "slots", "SlotsConfig"),
    "denoiser": ("denoiser", "train_denoiser", "DenoiserTraining", "denoiser", "DenoiserConfig"),
}


def add(subparsers) -> None:
    text = "Train one stage. Run the same command again to go on from the last checkpoint in its folder."
    parser = subparsers.add_parser("train", help="train one stage", description=text)
    parser.add_argument("stage", choices=tuple(STAGES), help=", ".join(STAGES))
    parser.add_argument("--config", metavar="JSON", help='file with {"training": {...}, "model": {...}}')
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="training options, over the file's")
    parser.add_argument("--model-set", nargs="+", default=[], metavar="NAME=VALUE", help="model options, over the file's")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from importlib import import_module

    from .configs import build, read_config

    stage_module, function, options_class, model_module, config_class = STAGES[arguments.stage]
    stage = import_module(f"difffae.training.{stage_module}")
    model = import_module(f"difffae.{model_module}")
    training, shape = read_config(arguments.config, arguments.set, arguments.model_set)
    options = build(getattr(stage, options_class), training, f"train {arguments.stage}")
    config = build(getattr(model, config_class), shape, f"train {arguments.stage} model") if shape else None
    getattr(stage, function)(options, config)
