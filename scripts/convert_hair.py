"""Convert MediaPipe's hair_segmentation.tflite into difffae/assets/hair.safetensors.

git clone --filter=blob:none https://github.com/terryky/tflite_gles_app
pip install tflite flatbuffers
cp tflite_gles_app/gl2hair_segmentation/hair_segmentation_model/hair_segmentation.tflite .
python scripts/convert_hair.py hair_segmentation.tflite difffae/assets/hair.safetensors
python scripts/convert_hair.py hair_segmentation.tflite --compare PICTURE ...

The graph's float32 weights become float16; those of the fourth input channel, the mask of a film's last picture, are left out. The second
form (it needs `pip install ai-edge-litert`) compares the module with the original graph on pictures, whose fourth channel it sets to zero,
and prints the largest and the mean difference of a pixel's share.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from convert_landmarks import check, fill_all, read_operators
from PIL import Image
from torch import Tensor

from difffae.common.checkpoint import save_checkpoint
from difffae.common.images import from_picture
from difffae.source.hair_matte import INPUT_SIZE, HairMatte

SHA256 = "d2c940c4fd80edeaf38f5d7387d1b4235ee320ed120080df67c663e749e77633"


def convert(data: bytes) -> HairMatte:
    net = HairMatte()
    up = [part for pair in zip(net.doublings, net.joins, strict=True) for part in pair]
    down = [part for pair in zip(net.halvings, net.stages, strict=True) for part in pair]
    # inside of a block the modules are defined in the order in which the graph works
    modules = [leaf for part in (net.stem, *down, *up, net.head) for leaf in part.modules() if list(leaf.parameters(recurse=False))]
    operators = [(name, weights) for name, weights in read_operators(data) if weights]
    name, (kernel, bias) = operators[0]
    operators[0] = (name, [kernel[..., :3], bias])
    fill_all(modules, operators)
    return net


def original(graph: Path, pictures: Tensor) -> Tensor:
    """Shares of hair (B,1,512,512) that the graph gives in Google's interpreter for pictures (B,3,512,512), each as a film's first."""
    from ai_edge_litert.interpreter import Interpreter

    runner, shares = Interpreter(str(graph), num_threads=1), []
    runner.allocate_tensors()
    for picture in pictures:
        runner.set_tensor(runner.get_input_details()[0]["index"], F.pad(picture, (0, 0, 0, 0, 0, 1)).permute(1, 2, 0)[None].numpy())
        runner.invoke()
        shares.append(torch.from_numpy(runner.get_tensor(runner.get_output_details()[0]["index"])).softmax(-1)[..., 1])
    return torch.stack(shares)


def compare(graph: Path, paths: list[Path]) -> tuple[float, float]:
    """Largest and mean difference of a pixel's share between the bundled module and the graph, over pictures at the input's size."""
    size = (INPUT_SIZE, INPUT_SIZE)
    pictures = torch.stack([from_picture(Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC)) for path in paths])
    difference = (HairMatte.load()(pictures) - original(graph, pictures)).abs()
    return float(difference.max()), float(difference.mean())


def main(graph: Path, output: Path) -> None:
    tensors = convert(graph.read_bytes()).state_dict()
    save_checkpoint(
        output,
        tensors,
        kind="hair",
        config={},
        license="Apache-2.0",
        source=f"MediaPipe Hair Segmentation, hair_segmentation.tflite sha256 {SHA256}, from github.com/terryky/tflite_gles_app",
        half=True,
    )
    print(f"{output}: {output.stat().st_size} bytes, {sum(tensor.numel() for tensor in tensors.values())} parameters")


if __name__ == "__main__":
    graph = Path(sys.argv[1])
    check(graph, SHA256)
    if sys.argv[2] == "--compare":
        largest, mean = compare(graph, [Path(name) for name in sys.argv[3:]])
        print(f"{largest:.2e} {mean:.2e}")
    else:
        main(graph, Path(sys.argv[2]))
