"""What lies before a face, and what is the face's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difffae import read_image
from difffae.common.checkpoint import asset_path
from difffae.faces.landmarker import FaceLandmarker
from difffae.source.occluder_matte import GRID, OccluderMatte
from difffae.source.occlusion import occluders, upright_square

PORTRAITS = ("source.png", "query.png", "side_light.jpg", "surprised.jpg", "turned.jpg")


@pytest.fixture(scope="module")
def portraits() -> dict[str, tuple[Tensor, Tensor]]:
    """Bundled portraits (1,3,H,W) and their landmarks."""
    landmarker, found = FaceLandmarker.load(), {}
    for name in PORTRAITS:
        image, _ = read_image(asset_path(name))
        found[name] = image[None], landmarker.detect(image)[0][0].landmarks
    return found


@pytest.fixture(scope="module")
def network() -> OccluderMatte:
    return OccluderMatte.load()


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
def test_faces_as_they_are_have_nothing_before_them(network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
    assert not occluders(network, *portraits[name]).any()


@pytest.mark.parametrize("name", ["source.png", "query.png", "turned.jpg"])
@pytest.mark.parametrize("colour", [(0.12, 0.12, 0.13), (0.15, 0.3, 0.65), (0.2, 0.5, 0.25)])
def test_a_thing_before_the_mouth_is_found(
    network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]], name: str, colour: tuple[float, float, float]
) -> None:
    image, landmarks = portraits[name]
    thing = disc(image, landmarks, 0.18, stick=True)
    covered = torch.where(thing, torch.tensor(colour)[:, None, None], image)
    share = occluders(network, covered, landmarks)
    seen = thing & ((covered - image).abs().amax(1, keepdim=True) > 0.15)  # before black cloth nobody sees a black stick
    assert share[seen].mean() > 0.85
    assert (share * ~thing).sum() < 0.45 * thing.sum()


@pytest.mark.parametrize("name", ["source.png", "query.png"])
def test_a_wide_mask_is_found_to_its_corners(network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
    image, landmarks = portraits[name]
    left, right, top, bottom = (float(landmarks[index, axis]) for index, axis in ((234, 0), (454, 0), (4, 1), (152, 1)))
    ys, xs = torch.meshgrid(*(torch.arange(n) + 0.5 for n in image.shape[-2:]), indexing="ij")
    thing = ((xs > left) & (xs < right) & (ys > top) & (ys < bottom))[None, None]
    share = occluders(network, torch.where(thing, torch.tensor([0.12, 0.47, 0.78])[:, None, None], image), landmarks)
    assert share[thing].mean() > 0.97
    assert (share * ~thing).sum() < 0.02 * thing.sum()


def test_lipstick_is_no_thing(network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]]) -> None:
    image, landmarks = portraits["source.png"]
    lips = disc(image, landmarks, 0.06)
    assert not occluders(network, torch.where(lips, torch.tensor([0.1, 0.12, 0.3])[:, None, None], image), landmarks).any()


@pytest.mark.parametrize("name", ["source.png", "turned.jpg"])
def test_a_thing_of_skins_colour_is_found(network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
    """As a hand has it: the own cheeks' colour, a little darker. Its outline is rough."""
    image, landmarks = portraits[name]
    column, row = landmarks[[50, 280], :2].long().T
    colour = image[0, :, row, column].median(1).values * 0.85
    thing = disc(image, landmarks, 0.16)
    share = occluders(network, torch.where(thing, colour[:, None, None], image), landmarks)
    assert share[thing].mean() > 0.9
    assert (share * ~thing).sum() < 0.4 * thing.sum()


@pytest.mark.parametrize("side", [-1, 1])
def test_what_covers_half_a_mouth_is_found(network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]], side: int) -> None:
    image, landmarks = portraits["source.png"]
    middle, height = landmarks[[13, 14], :2].mean(0), float((landmarks[10, :2] - landmarks[152, :2]).norm())
    ys, xs = torch.meshgrid(*(torch.arange(n) + 0.5 for n in image.shape[-2:]), indexing="ij")
    across = (xs - middle[0]) * side
    thing = ((across > 0) & (across < 0.3 * height) & ((ys - middle[1]).abs() < 0.12 * height))[None, None]
    share = occluders(network, torch.where(thing, torch.tensor([0.75, 0.25, 0.2])[:, None, None], image), landmarks)
    assert share[thing].mean() > 0.8
    assert (share * ~thing).sum() < 0.15 * thing.sum()


def test_a_shadow_is_no_thing(network: OccluderMatte, portraits: dict[str, tuple[Tensor, Tensor]]) -> None:
    image, landmarks = portraits["query.png"]
    shaded = torch.where(disc(image, landmarks, 0.2), 0.75 * image, image)
    assert not occluders(network, shaded, landmarks).any()


def test_a_face_stands_upright_in_its_square(portraits: dict[str, tuple[Tensor, Tensor]]) -> None:
    """However the picture is turned."""
    image, landmarks = portraits["source.png"]
    points = landmarks[:, :2]
    square, middle, sides = upright_square(image, points, GRID)
    turned = torch.stack([points[:, 1], image.shape[-1] - points[:, 0]], -1)  # by 90 degrees, as rot90 does
    again, _, _ = upright_square(image.rot90(1, (-2, -1)), turned, GRID)
    assert (again - square).abs().mean() < 1 / 255
    chin = (points[152] - middle) @ sides.T / sides.square().sum(-1)
    assert float(chin[0]) == pytest.approx(float(((points[10] - middle) @ sides[0]) / sides[0].square().sum()), abs=1e-4)
    assert 0 < float(chin[1]) < 0.5
