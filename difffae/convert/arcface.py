"""arcface_torch's iresnet (.pth) -> identity network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError
from ..source.arcface import DEPTHS, ArcFace, depth_of
from ..source.identity_networks import KIND
from .state_dicts import check_fit, only_input, read_state, strip

log = logging.getLogger(__name__)

LICENSE = "non-commercial research only, if these are insightface's weights"


def convert(inputs: list[Path], output: Path, *, license: str = LICENSE) -> None:
    """One input: backbone.pth or model.pt of arcface_torch (iresnet 18, 34, 50, 100 or 200). ONNX files need no conversion.

    Raises CheckpointError.
    """
    path = only_input(inputs, "an ArcFace network")
    if path.suffix == ".onnx":
        raise CheckpointError(f"{path}: ONNX networks are used as they are, without conversion; give its path as the identity network")
    tensors = read_state(path)
    tensors = strip(tensors, "module.") or tensors  # a trainer's wrapper
    depth = depth_of(tensors)
    if depth is None:
        raise CheckpointError(f"{path}: no iresnet of {', '.join(DEPTHS)} (conv1, layer1 to layer4, fc, features); give arcface_torch's")
    with torch.device("meta"):
        network = ArcFace(depth)
    check_fit(tensors, network.state_dict(), path, f"arcface_torch's iresnet {depth}")
    source = f"converted from {path.name}"
    save_checkpoint(output, tensors, kind=KIND, config={"network": network.name}, license=license, source=source)
    log.info("%s: %s, %d tensors", output, network.name, len(tensors))
