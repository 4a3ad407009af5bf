"""Convert MediaPipe's selfie_segmentation.tflite into difffae/assets/matte.safetensors.

pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-0.10.21-*.whl
pip install tflite flatbuffers
python scripts/convert_matte.py mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite difffae/assets/matte.safetensors
python scripts/convert_matte.py selfie_segmentation.tflite --compare PICTURE ...

The graph has float16 weights, which stay as they are. The second form (it needs `pip install ai-edge-litert`) compares the module with the
original graph on pictures and prints the largest difference of a pixel's share.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
from pathlib import Path

import torch
from convert_landmarks import check, fill_all, read_operators
from PIL import Image
from torch import nn

from difffae.common.checkpoint import save_checkpoint
from difffae.common.images import from_picture
from difffae.source.matte import INPUT_SIZE, Inverted, Join, PersonMatte

SHA256 = "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"


def convert(data: bytes) -> PersonMatte:
    net = PersonMatte()
    modules: list[nn.Module] = [net.stem]
    for stage in net.stages:
        assert isinstance(stage, nn.Sequential)
        for block in stage:
            assert isinstance(block, Inverted)
            modules += [block.expand, block.depthwise, *([] if block.gate is None else [block.gate.squeeze, block.gate.excite])]
            modules.append(block.project)
    modules += [net.local, net.whole]
    for join in net.joins:
        assert isinstance(join, Join)
        modules += [join.reduce, join.gate.squeeze, join.gate.excite, join.mix, join.depthwise]
    modules.append(net.head)
    # the custom operator is the transposed convolution with a bias
    fill_all(modules, [o for o in read_operators(data) if "CONV_2D" in o[0] or o[0] == "CUSTOM"])
    return net


def compare(graph: Path, pictures: list[Path]) -> float:
    """Largest difference of a pixel's share between the bundled module and the graph, over pictures reduced to the input's size."""
    from ai_edge_litert.interpreter import Interpreter

    original, net, worst = Interpreter(str(graph), num_threads=1), PersonMatte.load(), 0.0
    original.allocate_tensors()
    for path in pictures:
        small = Image.open(path).convert("RGB").resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
        picture = from_picture(small)[None]
        original.set_tensor(original.get_input_details()[0]["index"], picture.permute(0, 2, 3, 1).numpy())
        original.invoke()
        share = torch.from_numpy(original.get_tensor(original.get_output_details()[0]["index"])[0, :, :, 0])
        worst = max(worst, float((net(picture)[0, 0] - share).abs().max()))
    return worst


def main(graph: Path, output: Path) -> None:
    tensors = convert(graph.read_bytes()).state_dict()
    save_checkpoint(
        output,
        tensors,
        kind="matte",
        config={},
        license="Apache-2.0",
        source=f"MediaPipe Selfie Segmentation (float16), selfie_segmentation.tflite sha256 {SHA256}, from PyPI mediapipe 0.10.21",
        half=True,
    )
    print(f"{output}: {output.stat().st_size} bytes, {sum(tensor.numel() for tensor in tensors.values())} parameters")


if __name__ == "__main__":
    graph = Path(sys.argv[1])
    check(graph, SHA256)
    if sys.argv[2] == "--compare":
        print(f"{compare(graph, [Path(name) for name in sys.argv[3:]]):.2e}")
    else:
        main(graph, Path(sys.argv[2]))
