"""`prepare`: cache what the denoiser's training reads (docs/training.md)."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import positive

STEPS = ("fit", "roundtrips", "synthetic", "encode")


def add(subparsers) -> None:
    text = (
        "Cache training data, step by step: fit (portraits -> crops and attributes), roundtrips (-> pairs), synthetic (rendered pairs -> "
        "carried pairs), encode (pairs -> latents). Finished shards are kept, so any step can be run again."
    )
    parser = subparsers.add_parser("prepare", help="cache training data", description=text)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--input", type=Path, required=True, help="portraits folder, fitted file, or folder of shards")
    parser.add_argument("--output", type=Path, required=True, help="fitted file, or folder of shards")
    parser.add_argument("--split", choices=("train", "dev"), default="train", help="fit: which portraits (default: %(default)s)")
    parser.add_argument("--static", action="store_true", help="fit: without landmark offsets, in order to make them")
    parser.add_argument("--shards", type=positive, default=30, help="roundtrips: how many shards of 100 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="roundtrips, synthetic, encode: a DiffFAE model; its first stage and slots are used")
    parser.add_argument("--identity", metavar="FILE", help="encode: identity network, if the model's is not the bundled one")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import torch

    from ..errors import ConfigError
    from ..estimate import LandmarkFit
    from ..head import HeadModel
    from ..landmark_offsets import LandmarkOffsets
    from ..training import prepare

    if not arguments.input.exists():
        raise ConfigError(f"--input {arguments.input}: no such file or folder; run the step before it, or correct the path")
    with torch.no_grad():
        if arguments.step != "fit":
            from ..checkpoint import asset_path
            from ..model import EditModel

            model = EditModel.load(arguments.model or asset_path("open-256.safetensors"))
        if arguments.step == "encode":
            from ..identity_networks import load_identity

            shards = sorted(arguments.input.glob("*.safetensors"))
            prepare.encode_shards(
                shards, arguments.output, model.autoencoder, model.slots, load_identity(arguments.identity, model.identity)
            )
            return
        head = HeadModel.load().requires_grad_(False)
        if arguments.step == "fit":
            fit = LandmarkFit(head, offsets=None if arguments.static else LandmarkOffsets.load())
            prepare.fit_portraits(arguments.input, arguments.output, arguments.split, fit)
        elif arguments.step == "roundtrips":
            prepare.write_round_trips(arguments.input, arguments.output, head, arguments.shards, model.slots, seed=arguments.seed)
        else:
            prepare.write_synthetic(arguments.input, arguments.output, head, model.slots)
