"""Settings by name for `train --config`: the paper's (5.1, Tables 4 and 5), its ablations (5.3) to lay over them,
and JSON files of the same form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...common.named_values import parse_pairs
from ...edit.profiles import profile
from ...source.slots import REGIONS
from .autoencoder import AutoencoderTraining
from .denoiser import DenoiserTraining
from .loop import LoopOptions
from .slots import SlotsTraining

Sections = dict[str, dict[str, Any]]
SECTIONS = ("training", "model")  # their keys
PAPER = ("paper-256", "paper-512", "paper-mini")
# what paper-mini trains otherwise than the paper: stage -> options. Sixteen pictures are what a slot step on one core takes in a second
MINI: dict[str, dict[str, Any]] = {
    "autoencoder": {"crop": 128, "batch": 8, "steps": 4_000, "learning_rate": 1e-3, "warmup": 100, "edge_weight": 0.5, "ema": 0.995}
    | {"smallest_scale": 1.0, "largest_scale": 1.15},
    # aligned faces teach slots bands of the picture's height, unless they are shifted and scaled
    "slots": {"batch": 16, "steps": 6_000, "warmup": 500, "ema": 0.999, "decoder_channels": 64, "decoder_size": 128, "augment": True},
    "denoiser": {"steps": 18_750},
}


def _changed(options: LoopOptions) -> dict[str, Any]:
    """The options that differ from their defaults."""
    return {field.name: value for field in fields(options) if (value := getattr(options, field.name)) != field.default}


def _first_stage(kind: str) -> Sections:
    """A first stage of latent diffusion, trained as theirs was (paper 5.4)."""
    return {"training": _changed(AutoencoderTraining.latent_diffusion(kind)), "model": {"kind": kind}}


def _slots(order: tuple[str, ...]) -> dict[str, Sections]:
    """Another number of slots: a matter of their pre-training; the denoiser takes as many tokens as its slots make."""
    return {"slots": {"model": {"slot_count": len(order), "order": order}}, "denoiser": {}}


def _encoder(kind: str) -> dict[str, Sections]:
    """Another encoder of the source: it has no masks, so no attention consistency, and is frozen."""
    return {"denoiser": {"training": {"source_encoder": kind, "joint": False, "delta": 0.0}}}


# name -> stage -> what changes there
ABLATIONS: dict[str, dict[str, Sections]] = {
    "slots-2": _slots(("face", "background")),
    "slots-4": _slots(REGIONS),
    "slots-8": _slots(tuple(region for region in REGIONS for _ in range(2))),
    "random-starts": {"slots": {"model": {"starts": "random"}}, "denoiser": {}},
    "learned-starts": {"slots": {"model": {"starts": "learned"}}, "denoiser": {}},
    # for paper-mini: its small U-Net, which normalizes its features, knows the noise's mean too roughly (docs/training-log.md)
    "v-prediction": {
        "denoiser": {"model": {"schedule": asdict(replace(profile("paper-mini").denoiser.schedule, prediction_type="v_prediction"))}},
    },
    "no-identity": {"denoiser": {"model": {"adain": "none"}}},
    "no-acr": {"denoiser": {"training": {"delta": 0.0}}},
    "kl-f8": {
        "autoencoder": _first_stage("kl-f8"),
        "denoiser": {"model": {"schedule": asdict(profile("paper-256", "kl-f8").denoiser.schedule)}},
    },
    "vq-f8": {"autoencoder": _first_stage("vq-f8")},
    "encoder-vae": _encoder("vae"),
    "encoder-mae": _encoder("mae"),
    "encoder-clip": _encoder("clip"),
    "image-only": {"estimator": {"model": {"points": False}}},  # DECA's form: the estimator network sees no landmarks
}
NAMES = (*PAPER, *ABLATIONS)


def preset(name: str, stage: str) -> Sections:
    """What a name sets in a stage: {"training": ..., "model": ...}. Raises ConfigError for an unknown name or a stage that it says
    nothing of. The first stage of the paper's is VQ-f8, that of paper-mini a small one."""
    if name in PAPER:
        sizes = profile(name)
        changed = MINI.get(stage, {}) if name == "paper-mini" else {}
        if stage == "slots":
            return {"training": _changed(SlotsTraining.paper()) | changed, "model": sizes.slots.to_dict()}
        if stage == "denoiser":
            return {"training": _changed(DenoiserTraining.paper()) | changed, "model": sizes.denoiser.to_dict()}
        if stage == "estimator":
            raise ConfigError(f"{name}: says nothing of an estimator network, since the paper takes DECA as it is; leave it out there")
        return {"training": changed, "model": dict(sizes.first_stage)} if changed else _first_stage("vq-f8")
    if name not in ABLATIONS:
        raise ConfigError(f"'{name}': no such configuration; choose from {', '.join(NAMES)}")
    if stage not in ABLATIONS[name]:
        raise ConfigError(f"{name}: changes nothing in the stage '{stage}'; leave it out there")
    return ABLATIONS[name][stage]


def _read_config(path: str) -> Sections:
    """The sections of a JSON file, {"training": {...}, "model": {...}}, both of them optional. Raises ConfigError."""
    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); check the path and its commas and quotes") from error
    if not isinstance(loaded, dict) or set(loaded) - set(SECTIONS) or not all(isinstance(part, dict) for part in loaded.values()):
        raise ConfigError(f"{path}: must be an object with the sections {' and '.join(SECTIONS)}; see docs/training.md")
    return loaded


def read_configs(names: Sequence[str], stage: str, training: Sequence[str], model: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the options of `train` say of a stage.

    Args:
        names: Presets and JSON files, each laid over those before it.
        stage: The stage that presets are asked about.
        training, model: NAME=VALUE options, laid over all of them.

    Returns:
        The training's options and the model's.

    Raises:
        ConfigError: For an unknown preset, an unreadable file, or an option of another form.
    """
    merged: Sections = {section: {} for section in SECTIONS}
    for name in names:
        if name not in NAMES and not name.endswith(".json"):
            raise ConfigError(f"--config {name}: neither a .json file nor one of {', '.join(NAMES)}")
        part = preset(name, stage) if name in NAMES else _read_config(name)
        merged = {section: merged[section] | part.get(section, {}) for section in SECTIONS}
    return merged["training"] | parse_pairs(training), merged["model"] | parse_pairs(model)
