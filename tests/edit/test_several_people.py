"""Other people and things before the face keep their pixels; all faces of a picture can be edited in one run."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from torch import Tensor

from difffae import Adjustments, DiffFAE, Sampling, read_image
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError, ImageError
from difffae.edit.analysing import detect, find_all_faces, with_attributes, with_slots
from difffae.edit.description import Edit
from difffae.edit.moving import move
from difffae.edit.pasting import paste
from difffae.head.adjust import adjust
from difffae.head.attributes import FaceAttributes
from difffae.head.shading import project

PREVIEW = Sampling(denoise=0)
THING = torch.tensor([0.85, 0.1, 0.8])  # a colour that the portrait has not


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


@pytest.fixture(scope="module")
def pair() -> Tensor:
    """(3,H,W), two people side by side, less than a head apart."""
    parts = []
    for name, (first, last) in (("source.png", (0.24, 0.78)), ("query.png", (0.18, 0.9))):
        image, _ = read_image(asset_path(name))
        width = image.shape[-1]
        cut = image[:, :, round(first * width) : round(last * width)]
        parts.append(torch.nn.functional.interpolate(cut[None], (320, round(320 * cut.shape[-1] / cut.shape[-2])), mode="area")[0])
    return torch.cat(parts, dim=2)


def boxes(model: DiffFAE, image: Tensor) -> list[tuple[slice, slice, slice]]:
    """Where the faces lie in a picture, the largest first."""
    found = detect(model, image[None])[0]
    corners = [[round(value) for value in face.box.clamp_min(0).tolist()] for face in found]
    return [(slice(None), slice(top, bottom), slice(left, right)) for left, top, right, bottom in corners]


@pytest.mark.parametrize("change", [{"yaw": 20}, {"yaw": -20}, {"pitch": 12, "jaw_open": 0.6}, {"light_azimuth": 80, "light_strength": 1}])
def test_the_other_face_keeps_its_pixels(model: DiffFAE, pair: Tensor, change: dict[str, float]) -> None:
    own, other = boxes(model, pair)
    result = model.edit(model.analyse(pair, 0), adjust=Adjustments(**change), sampling=PREVIEW).image
    difference = (result - pair).abs()
    assert difference[other].max() <= 2 / 255
    assert difference[own].mean() > 4 / 255


def test_all_faces_each_with_its_own_numbers(model: DiffFAE, pair: Tensor) -> None:
    first, second = boxes(model, pair)
    results = model.edit_all(pair, [None, Adjustments(smile=0.6)], Adjustments(yaw=10), sampling=PREVIEW)
    assert len(results) == 2
    assert torch.equal(results[0].image, pair)
    difference = (results[1].image - pair).abs()
    assert difference[first].max() <= 2 / 255
    assert difference[second].mean() > 1 / 255
    with pytest.raises(ConfigError, match="numbers for 3 faces were given, but the picture shows 2"):
        model.edit_all(pair, [None] * 3)


@torch.no_grad()
def test_a_batch_of_one_pictures_faces_goes_back_into_it(model: DiffFAE, pair: Tensor) -> None:
    faces = with_slots(model, with_attributes(model, find_all_faces(model, pair[None])))
    changes = (Adjustments(jaw_open=0.4), Adjustments(smile=0.6))
    names = model.head.expression_names
    assert faces.attributes is not None
    target = FaceAttributes.cat([adjust(faces.attributes[row], change, names) for row, change in enumerate(changes)])
    moved = move(model, Edit(faces, target))
    pictures, squares = paste(faces, moved.square(moved.image), moved)
    one_by_one = model.edit_all(pair, changes, sampling=PREVIEW)[-1].image
    assert pictures.shape == (1, *pair.shape)
    assert squares.shape[0] == 2
    for box in boxes(model, pair):
        assert (pictures[0] - pair).abs()[box].mean() > 1 / 255
    assert (pictures[0] - one_by_one).abs().mean() < 0.5 / 255
    with pytest.raises(ImageError, match="has 2 frames; all faces are taken from one picture at a time"):
        find_all_faces(model, pair[None].expand(2, -1, -1, -1))


@pytest.fixture(scope="module")
def covered(model: DiffFAE) -> tuple[Tensor, Tensor, Tensor]:
    """A portrait (3,H,W) with a disc before its mouth, the middle of the disc (2,), and its radius."""
    image, _ = read_image(asset_path("query.png"))
    points = detect(model, image[None])[0][0].landmarks
    middle, radius = points[[13, 14], :2].mean(0), 0.18 * (points[10, :2] - points[152, :2]).norm()
    return torch.where(distance(image, middle) < radius, THING[:, None, None], image), middle, radius


def distance(image: Tensor, middle: Tensor) -> Tensor:
    """(H,W) of pixels from a place (2,)."""
    ys, xs = torch.meshgrid(*(torch.arange(n) + 0.5 for n in image.shape[-2:]), indexing="ij")
    return ((xs - middle[0]).square() + (ys - middle[1]).square()).sqrt()


def test_a_thing_before_the_mouth_keeps_its_pixels(
    model: DiffFAE, covered: tuple[Tensor, Tensor, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    image, middle, radius = covered
    with caplog.at_level(logging.WARNING):
        result = model.edit(model.analyse(image), adjust=Adjustments(jaw_open=0.7), sampling=PREVIEW).image
    assert (result - image).abs()[:, distance(image, middle) < 0.8 * radius].max() <= 2 / 255
    assert "something covers the mouth: what was asked of it is left out" in caplog.text


@pytest.mark.parametrize("change", [{"yaw": 15}, {"yaw": -20, "pitch": 5}])
def test_a_thing_before_the_mouth_goes_along_with_the_head(
    model: DiffFAE, covered: tuple[Tensor, Tensor, Tensor], caplog: pytest.LogCaptureFixture, change: dict[str, float]
) -> None:
    image, middle, radius = covered
    portrait = model.analyse(image)
    with caplog.at_level(logging.WARNING):
        result = model.edit(portrait, adjust=Adjustments(**change), sampling=PREVIEW)
    assert "something covers the mouth: what covers it goes along with the head" in caplog.text
    before, after = (
        project(model.head.landmarks(model.head(face.shape, face.expression, face.pose)), face.camera)[0, [13, 14, 61, 291], :2].mean(0)
        for face in (portrait.attributes, result.attributes)
    )
    shift = (after - before) * portrait.squares[0].side / 2
    assert float(shift.norm()) > 0.3 * float(radius)
    shown = (result.image - THING[:, None, None]).abs().amax(0) < 0.1
    ys, xs = shown.nonzero().unbind(1)
    found = torch.stack([xs.float().mean(), ys.float().mean()]) + 0.5
    assert (found - middle - shift).norm() < 0.1 * radius
    assert (result.image - THING[:, None, None]).abs()[:, distance(image, found) < 0.8 * radius].max() <= 2 / 255  # in one piece
    assert not shown[distance(image, found) > 1.1 * radius].any()  # and nothing of it stays


def test_a_turn_stops_where_a_tight_frame_ends(model: DiffFAE, caplog: pytest.LogCaptureFixture) -> None:
    image, _ = read_image(asset_path("source.png"))
    left, top, right, bottom = (round(value) for value in detect(model, image[None])[0][0].box.tolist())
    tight = image[:, top - 12 : bottom + 8, left - 8 : right + 8]
    tight = torch.nn.functional.interpolate(tight[None], scale_factor=400 / tight.shape[-1], mode="bicubic").clamp(0, 1)[0]
    portrait = model.analyse(tight)
    asked = model.target(portrait, change=Adjustments(yaw=30))
    with caplog.at_level(logging.WARNING):
        result = model.edit(portrait, adjust=Adjustments(yaw=30), sampling=PREVIEW)
    assert "instead of 30 degrees: the face fills the picture" in caplog.text
    # a chin that drops out of the frame is no turn
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(model.edit(portrait, adjust=Adjustments(jaw_open=1), sampling=PREVIEW).attributes.pose, portrait.attributes.pose)
    assert "fills the picture" not in caplog.text
    turn, most = (float((one.pose[0, 1] - portrait.attributes.pose[0, 1]).norm()) for one in (result.attributes, asked))
    assert turn < 0.8 * most
    # the same face with room around turns as far as asked for
    wide = model.analyse(image)
    turned = model.edit(wide, adjust=Adjustments(yaw=30), sampling=PREVIEW).attributes
    assert torch.equal(turned.pose, model.target(wide, change=Adjustments(yaw=30)).pose)
    found = detect(model, result.image[None])[0]
    assert len(found) == 1
    nose = found[0].landmarks[1]
    assert 0 < nose[0] < tight.shape[-1]


def test_numbers_per_face_are_read_from_json(tmp_path) -> None:
    from difffae.cli.work import numbers_per_face

    path = tmp_path / "faces.json"
    path.write_text(json.dumps([{"yaw": 10}, None]), encoding="utf-8")
    first, second = numbers_per_face(str(path))
    assert first is not None
    assert first.yaw == 10
    assert second is None
    for text, message in (("{}", "is no list"), ("[3]", "is no list"), ("[", "is not JSON")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            numbers_per_face(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        numbers_per_face(str(tmp_path / "none.json"))
