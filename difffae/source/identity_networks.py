"""Which identity network a name or a file means: dlib's ResNet, which ships, or the user's ArcFace."""

from __future__ import annotations

from pathlib import Path

from ..common.checkpoint import asset_path, filled, load_checkpoint
from ..common.errors import CheckpointError
from .arcface import DEPTHS, ArcFace
from .identity import IdentityEncoder, IdentityNetwork

KIND = "identity"
BUNDLED = "identity.safetensors"
INSIGHTFACE = "insightface:"
ARCFACE = {f"arcface-{depth}": depth for depth in DEPTHS}
NETWORKS = (IdentityNetwork.name, *ARCFACE)


def build_identity(network: str, path: str | Path = "identity") -> IdentityEncoder:
    """A network with fresh weights, by its name in a checkpoint; path names the file in errors. Raises CheckpointError."""
    if network == IdentityNetwork.name:
        return IdentityNetwork()
    if network in ARCFACE:
        return ArcFace(ARCFACE[network])
    raise CheckpointError(f"{path}: identity network '{network}' is unknown; choose from {', '.join(NETWORKS)}")


def load_identity(file: str | Path | None = None, network: str | None = None) -> IdentityEncoder:
    """An identity network, frozen, in evaluation mode.

    Args:
        file: a converted checkpoint, an .onnx file, "insightface:NAME" for a model of an installed
            insightface, or None for the bundled one.
        network: the name that a model was trained with, checked if given.

    Raises:
        CheckpointError: the file cannot be read, or is another network.
        ConfigError: a package that the file needs is not installed.
    """
    encoder = _open(file)
    if network is not None and encoder.name != network:
        given = "the bundled network" if file is None else str(file)
        raise CheckpointError(
            f"{given}: is '{encoder.name}', but this model was trained with '{network}'; give that network's file "
            "(python -m difffae convert arcface makes one)"
        )
    return encoder.eval().requires_grad_(False)


def _open(file: str | Path | None) -> IdentityEncoder:
    if str(file).startswith(INSIGHTFACE):
        from .onnx_identity import InsightFace

        return InsightFace(str(file).removeprefix(INSIGHTFACE))
    path = asset_path(BUNDLED) if file is None else Path(file)
    if path.suffix == ".onnx":
        from .onnx_identity import OnnxArcFace

        if not path.is_file():
            raise CheckpointError(f"{path}: no such weights file; check the path")
        return OnnxArcFace(path)
    checkpoint = load_checkpoint(path, KIND)
    return filled(lambda: build_identity(str(checkpoint.config.get("network")), path), checkpoint.tensors, path)
