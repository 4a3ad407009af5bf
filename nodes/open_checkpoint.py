"""A checkpoint file as MODEL, VAE and DIFFFAE. Apart from the node, because it imports the networks, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..difffae.checkpoint import asset_path, load_checkpoint
from ..difffae.estimate import LandmarkFit
from ..difffae.head import HeadModel
from ..difffae.identity import IdentityNetwork
from ..difffae.landmark_offsets import LandmarkOffsets
from ..difffae.landmarks import FaceLandmarker
from ..difffae.model import EditModel
from .bundle import Bundle, patcher
from .native_model import native_model
from .native_vae import DiffFAEVAE


def open_checkpoint(name: str, path: Path | None) -> tuple[Any, DiffFAEVAE, Bundle]:
    """path: the file, or None for the one that ships under `name`. Raises CheckpointError."""
    path = asset_path(f"{name}.safetensors") if path is None else path
    model = EditModel.load(path)
    parts = {
        "slots": patcher(model.slots),
        "landmarker": patcher(FaceLandmarker.load()),
        "identity": patcher(IdentityNetwork.load()),
        "estimator": patcher(LandmarkFit(HeadModel.load(), offsets=LandmarkOffsets.load())),
    }
    licenses = {"checkpoint": load_checkpoint(path).license}
    for asset in ("landmarks", "identity", "open_head"):
        licenses[asset] = load_checkpoint(asset_path(f"{asset}.safetensors")).license
    return native_model(model), DiffFAEVAE(model.autoencoder), Bundle(name, path, licenses, model.image_size, parts)
