"""What covers a mouth, and what is the head's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difffae import read_image
from difffae.common.checkpoint import asset_path
from difffae.faces.landmarker import FaceLandmarker
from difffae.source.occlusion import covering

PORTRAITS = ("source.png", "query.png", "side_light.jpg", "surprised.jpg", "turned.jpg")


@pytest.fixture(scope="module")
def portraits() -> dict[str, tuple[Tensor, Tensor]]:
    """Bundled portraits (1,3,H,W) and their landmarks."""
    landmarker, found = FaceLandmarker.load(), {}
    for name in PORTRAITS:
        image, _ = read_image(asset_path(name))
        found[name] = image[None], landmarker.detect(image)[0][0].landmarks
    return found


def disc(image: Tensor, landmarks: Tensor, radius: float, stick: bool = False) -> Tensor:
    """(1,1,H,W) bool: a disc before the mouth, its radius in heights of the face, and a stick below it."""
    height = float((landmarks[10, :2] - landmarks[152, :2]).norm())
    x, y = landmarks[[13, 14], :2].mean(0).tolist()
    ys, xs = torch.meshgrid(*(torch.arange(n) + 0.5 for n in image.shape[-2:]), indexing="ij")
    found = ((xs - x).square() + (ys - y).square()).sqrt() < radius * height
    if stick:
        found |= ((xs - x).abs() < 0.05 * height) & (ys > y) & (ys < y + 0.6 * height)
    return found[None, None]


@pytest.mark.parametrize("name", PORTRAITS)
def test_faces_as_they_are_have_nothing_before_them(portraits: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
    assert not covering(*portraits[name]).any()


@pytest.mark.parametrize("name", ["source.png", "query.png", "turned.jpg"])
@pytest.mark.parametrize("colour", [(0.12, 0.12, 0.13), (0.15, 0.3, 0.65), (0.2, 0.5, 0.25)])
def test_a_thing_before_the_mouth_is_found(
    portraits: dict[str, tuple[Tensor, Tensor]], name: str, colour: tuple[float, float, float]
) -> None:
    image, landmarks = portraits[name]
    thing = disc(image, landmarks, 0.18, stick=True)
    share = covering(torch.where(thing, torch.tensor(colour)[:, None, None], image), landmarks)
    assert share[thing].mean() > 0.85
    assert (share * ~thing).sum() < 0.45 * thing.sum()


@pytest.mark.parametrize("name", ["source.png", "query.png"])
def test_a_wide_mask_is_found_to_its_corners(portraits: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
    image, landmarks = portraits[name]
    left, right, top, bottom = (float(landmarks[index, axis]) for index, axis in ((234, 0), (454, 0), (4, 1), (152, 1)))
    ys, xs = torch.meshgrid(*(torch.arange(n) + 0.5 for n in image.shape[-2:]), indexing="ij")
    thing = ((xs > left) & (xs < right) & (ys > top) & (ys < bottom))[None, None]
    share = covering(torch.where(thing, torch.tensor([0.12, 0.47, 0.78])[:, None, None], image), landmarks)
    assert share[thing].mean() > 0.97
    assert (share * ~thing).sum() < 0.02 * thing.sum()


def test_lipstick_is_no_thing(portraits: dict[str, tuple[Tensor, Tensor]]) -> None:
    image, landmarks = portraits["source.png"]
    lips = disc(image, landmarks, 0.06)
    assert not covering(torch.where(lips, torch.tensor([0.1, 0.12, 0.3])[:, None, None], image), landmarks).any()
