"""Put three finished training stages into one file: first stage, slots, denoiser.

    python scripts/assemble_model.py --autoencoder runs/autoencoder/last.pt --slots runs/slots/last.pt \
        --denoiser runs/denoiser/last.pt --name open-256 --latent-scale 1.112 --output difffae/assets/open-256.safetensors
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from difffae.autoencoder import Autoencoder, AutoencoderConfig
from difffae.denoiser import Denoiser, DenoiserConfig
from difffae.model import EditModel
from difffae.slots import SlotEncoder, SlotsConfig

LICENSE = "Apache-2.0"
SOURCE = "trained by the DiffFAE for ComfyUI project on public-domain, CC BY 4.0, CC0 and MIT portraits; see NOTICE"


def tuples(config: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in ("autoencoder", "slots", "denoiser"):
        parser.add_argument(f"--{part}", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, help="a later first-stage checkpoint whose decoder replaces the first one's")
    parser.add_argument("--autoencoder-weights", choices=("model", "ema"), default="model")
    parser.add_argument("--latent-scale", type=float, required=True, help="one over the standard deviation of the training latents")
    parser.add_argument("--finish", type=float, default=0.6, help="schedule.finish of the samplers")
    parser.add_argument("--name", default="open-256")
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    states = {part: torch.load(getattr(a, part), map_location="cpu", weights_only=True) for part in ("autoencoder", "slots", "denoiser")}
    first = Autoencoder(AutoencoderConfig(**(tuples(states["autoencoder"]["config"]) | {"latent_scale": a.latent_scale})))
    first.load_state_dict(states["autoencoder"][a.autoencoder_weights])
    if a.decoder:
        later = torch.load(a.decoder, map_location="cpu", weights_only=True)[a.autoencoder_weights]
        first.decoder.load_state_dict({key.removeprefix("decoder."): value for key, value in later.items() if key.startswith("decoder.")})
    slots = SlotEncoder(SlotsConfig(**states["slots"]["config"]["slots"]))
    config = DenoiserConfig(**states["denoiser"]["config"]["denoiser"])
    denoiser = Denoiser(replace(config, schedule=replace(config.schedule, finish=a.finish)))
    for part, module in (("slots", slots), ("denoiser", denoiser)):
        weights = {key[len(part) + 1 :]: value for key, value in states[part]["ema"].items() if key.startswith(part + ".")}
        module.load_state_dict(weights)
    EditModel(first, slots, denoiser, a.name).save(a.output, license=LICENSE, source=SOURCE)


if __name__ == "__main__":
    main()
