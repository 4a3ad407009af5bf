"""A checkpoint file as MODEL, VAE and DIFFFAE. Apart from the node, because it imports the networks, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..difffae.common.checkpoint import asset_path, load_checkpoint
from ..difffae.edit.model import DEFAULT_HEAD, DEFAULT_IDENTITY, EditModel
from ..difffae.estimation.choose import load_estimator
from ..difffae.estimation.network import BUNDLED
from ..difffae.faces.landmarker import FaceLandmarker
from ..difffae.source.identity_networks import load_identity
from ..difffae.source.matte import PersonMatte
from .bundle import Bundle, patcher
from .native_model import native_model
from .native_vae import DiffFAEVAE


def open_checkpoint(name: str, path: Path | None) -> tuple[Any, DiffFAEVAE, Bundle]:
    """path: the file, or None for the one that ships under `name`.

    A model that was trained with another identity network or head finds their files, and DECA's, beside it: arcface-r50.safetensors, say.
    Raises CheckpointError.
    """
    path = asset_path(f"{name}.safetensors") if path is None else path
    model = EditModel.load(path)
    own_identity, own_head = model.identity != DEFAULT_IDENTITY, model.head != DEFAULT_HEAD
    files = {
        "checkpoint": path,
        "landmarks": asset_path("landmarks.safetensors"),
        "matte": asset_path("matte.safetensors"),
        "identity": path.parent / f"{model.identity}.safetensors" if own_identity else asset_path("identity.safetensors"),
        "head": path.parent / f"{model.head}.safetensors" if own_head else asset_path("open_head.safetensors"),
    } | ({"estimator": path.parent / "deca.safetensors"} if own_head else {"network": asset_path(BUNDLED)})
    parts = {
        "landmarker": patcher(FaceLandmarker.load()),
        "identity": patcher(load_identity(files["identity"], model.identity)),
        "estimator": patcher(load_estimator(files["head"], files.get("estimator"), model.head)),
        "matte": patcher(PersonMatte.load()),
    } | ({"slots": patcher(model.slots)} if model.has_slots else {})
    if not own_head:
        parts["network"] = patcher(load_estimator(files["head"], name=model.head, kind="network"))
    licenses = {part: load_checkpoint(file).license for part, file in files.items()}
    return native_model(model), DiffFAEVAE(model.autoencoder), Bundle(name, path, licenses, model.image_size, parts)
