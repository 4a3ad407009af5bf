"""The hair matte against the original network's outputs, and on pictures whose hair is known.

golden/hair_matte.json: shares that the original graph gives in Google's interpreter (ai-edge-litert, its fourth channel zero) for the
bundled pictures, brought to 512x512 by Pillow's bicubic filter: at every 32nd pixel from the sixteenth on, and their mean over all pixels.
golden/grey_hair.jpg and grey_hair_regions.png: see test_matte.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import TESTS
from torch import Tensor

from difffae.common.checkpoint import asset_path
from difffae.common.errors import CheckpointError
from difffae.common.images import read_image
from difffae.faces.landmarker import FaceLandmarker
from difffae.source.hair_matte import INPUT_SIZE, Doubling, HairMatte

GOLDEN = TESTS / "golden"


def square(path: Path) -> Tensor:
    """(1,3,512,512) RGB 0..1."""
    picture = Image.open(path).convert("RGB").resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def matte() -> HairMatte:
    return HairMatte.load()


def iou(a: Tensor, b: Tensor) -> float:
    return ((a & b).sum() / (a | b).sum()).item()


@pytest.mark.parametrize("name", ["source.png", "query.png", "surprised.jpg"])
def test_shares_are_the_original_networks(matte: HairMatte, name: str) -> None:
    golden = json.loads((GOLDEN / "hair_matte.json").read_text())[name]
    expected, share = torch.tensor(golden["shares"]), matte(square(asset_path(name)))
    # the weights' rounding to float16 moves where some maxima lie, which shows at the hair's edge
    assert (share[0, 0, 16::32, 16::32] - expected).abs().max() < 6e-3
    assert share.mean().item() == pytest.approx(golden["mean"], abs=2e-4)
    assert 0.01 < (expected > 0.9).float().mean() < 0.5  # they show hair, and something else


def test_it_is_small_and_frozen(matte: HairMatte) -> None:
    assert sum(parameter.numel() for parameter in matte.parameters()) == 181_474
    assert asset_path("hair.safetensors").stat().st_size < 400_000
    assert not matte.training
    assert not any(parameter.requires_grad for parameter in matte.parameters())


def test_values_go_back_to_where_the_largest_were() -> None:
    """With an empty branch and the skip as it is, doubling undoes max pooling: the largest of four keeps its place, the rest is 0."""
    double, x = Doubling(3, 2, 3), torch.rand(2, 3, 8, 8) + 1
    with torch.no_grad():
        double.expand.weight.zero_()
        double.expand.bias.zero_()
        double.skip = torch.nn.Identity()
        pooled, places = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
        spread = double(pooled, places)
    assert spread.shape == x.shape
    torch.testing.assert_close(spread, torch.where(pooled.repeat_interleave(2, 2).repeat_interleave(2, 3) == x, x, 0.0), atol=0, rtol=0)
    torch.testing.assert_close(spread, torch.nn.functional.max_unpool2d(pooled, places, 2), atol=0, rtol=0)


def test_pictures_of_any_size_and_batches(matte: HairMatte) -> None:
    picture = square(asset_path("source.png"))
    tall = torch.nn.functional.interpolate(picture, (440, 300), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    share = matte(torch.cat([tall, tall.flip(-1)] * 5))
    assert share.shape == (10, 1, 440, 300)
    assert share.min() >= 0
    assert share.max() <= 1
    torch.testing.assert_close(share[8:9], matte(tall), atol=2e-3, rtol=0)
    back = torch.nn.functional.interpolate(share[:1], (512, 512), mode="bilinear", align_corners=False)
    assert (back - matte(picture)).abs().mean() < 0.005
    # a mirrored person's hair is found as well, though the network is not symmetric
    assert iou(share[0] > 0.5, share[1].flip(-1) > 0.5) > 0.9


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'hair' is needed"):
        HairMatte.load(asset_path("matte.safetensors"))


def test_hair_of_the_bundled_portrait(matte: HairMatte) -> None:
    """The short-haired woman: hair above the forehead; none on the face, the neck and the wall."""
    picture = read_image(asset_path("source.png"))[0][None]
    share = matte(picture)[0, 0]
    points = FaceLandmarker.load().detect(picture)[0][0].landmarks[:, :2]
    inside = points.long()
    assert float(share[inside[:, 1], inside[:, 0]].median()) < 1e-3
    side = points[152, 1] - points[10, 1]  # from the forehead's upper edge to the chin
    top = (points[10] - torch.tensor([0.0, 0.2]) * side).long()
    across = int(0.1 * side)
    assert float(share[top[1] - across // 2 : top[1] + across // 2, top[0] - across : top[0] + across].min()) > 0.99
    assert float(share[int(points[152, 1] + 0.1 * side) :].max()) < 0.2
    assert 0.05 < float((share > 0.5).float().mean()) < 0.09


def test_hair_of_a_synthetic_portrait_agrees_with_its_labels(matte: HairMatte) -> None:
    """Grey hair before a wall of its colour."""
    picture = read_image(GOLDEN / "grey_hair.jpg")[0][None]
    share = matte(picture)[0, 0]
    hair = torch.from_numpy(np.asarray(Image.open(GOLDEN / "grey_hair_regions.png")).copy()) == 1
    assert iou(share > 0.5, hair) > 0.75
    assert float(share[hair].mean()) > 0.95
    assert float(share[~hair].mean()) < 0.04
