"""Settings by name for `train --config`: the paper's (5.1, Tables 4 and 5), and its ablations (5.3) to lay over them."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from ..errors import ConfigError
from ..profiles import profile
from ..slots import REGIONS
from .denoiser import DenoiserTraining
from .loop import LoopOptions
from .slots import SlotsTraining

Sections = dict[str, dict[str, Any]]  # "training" and "model"
PAPER = ("paper-256", "paper-512")


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
    "no-identity": {"denoiser": {"model": {"adain": "none"}}},
    "no-acr": {"denoiser": {"training": {"delta": 0.0}}},
    "kl-f8": {"denoiser": {"model": {"schedule": asdict(profile("paper-256", "kl-f8").denoiser.schedule)}}},
    "encoder-vae": _encoder("vae"),
    "encoder-mae": _encoder("mae"),
    "encoder-clip": _encoder("clip"),
}
NAMES = (*PAPER, *ABLATIONS)


def preset(name: str, stage: str) -> Sections:
    """What a name sets in a stage: {"training": ..., "model": ...}. Raises ConfigError for an unknown name or a stage that it says
    nothing of."""
    if name in PAPER:
        sizes = profile(name)
        if stage == "slots":
            return {"training": _changed(SlotsTraining.paper()), "model": sizes.slots.to_dict()}
        if stage == "denoiser":
            return {"training": _changed(DenoiserTraining.paper()), "model": sizes.denoiser.to_dict()}
        raise ConfigError(f"{name}: its first stage is not trained here; convert VQ-f8 or KL-f8 (docs/own-files.md)")
    if name not in ABLATIONS:
        raise ConfigError(f"'{name}': no such configuration; choose from {', '.join(NAMES)}")
    if stage not in ABLATIONS[name]:
        raise ConfigError(f"{name}: changes nothing in the stage '{stage}'; leave it out there")
    return ABLATIONS[name][stage]


def _changed(options: LoopOptions) -> dict[str, Any]:
    """The options that differ from their defaults."""
    return {field.name: value for field in fields(options) if (value := getattr(options, field.name)) != field.default}
