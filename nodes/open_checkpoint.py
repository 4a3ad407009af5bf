"""A checkpoint file as MODEL, VAE and DIFFFAE. Apart from the node, because it imports the networks, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..difffae.common.checkpoint import asset_path
from ..difffae.edit.loading import load_parts
from .bundle import Bundle, patchers
from .native_model import native_model
from .native_vae import DiffFAEVAE


def open_checkpoint(name: str, path: Path | None) -> tuple[Any, DiffFAEVAE, Bundle]:
    """The outputs of Load DiffFAE.

    Args:
        name: what the loader calls the checkpoint.
        path: its file, or None for the one that ships under `name`. A model that was trained with another identity network or head finds
            their files, and DECA's, beside it: arcface-r50.safetensors, say.

    Raises:
        CheckpointError: a file cannot be read, is missing, or does not belong to the model.
    """
    path = asset_path(f"{name}.safetensors") if path is None else path
    parts = load_parts(path)
    model, estimators = parts.model, parts.estimators
    # what shares modules is moved together: the fit has the slots, the matte and the head, and the fast estimator the same head
    reading: dict[str, nn.Module] = {"matte": parts.matte, "hair": parts.hair, "occluders": parts.occluders, "estimator": estimators["fit"]}
    reading |= {"network": estimators["network"]} if "network" in estimators else {}
    reading |= {"slots": model.slots} if model.has_slots else {}
    networks = patchers({"landmarker": parts.landmarker}, {"identity": parts.identity}, reading)
    bundle = Bundle(name, path, parts.licenses(), model.image_size, networks, carries=model.denoiser.config.carry)
    return native_model(model), DiffFAEVAE(model.autoencoder), bundle
