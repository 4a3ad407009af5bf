"""Numbers of clips: smoothed without a lag, taken by a portrait, along keyframes, in another order."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from difffae.common.errors import ConfigError
from difffae.common.rotations import from_yaw_pitch_roll
from difffae.faces.crop import FaceCrop
from difffae.head.attributes import FaceAttributes
from difffae.video.analysing import find_shots, seen_in
from difffae.video.driving import Motion, _angles
from difffae.video.keyframes import Keyframes, by_face
from difffae.video.making import Order
from difffae.video.smoothing import noise_of, smooth, steadied

NAMES = [
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "jawOpen",
    "mouthSmileLeft",
    "mouthSmileRight",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeWideLeft",
]
FRAMES = torch.arange(300, dtype=torch.float64)
BLINKS = torch.arange(30, 290, 40)


def noisy(signal: Tensor, noise: float = 1.0, channels: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return signal[:, None] + noise * torch.randn(len(signal), channels, generator=generator, dtype=torch.float64)


def faces(count: int = 1, **numbers: Tensor) -> FaceAttributes:
    generator = torch.Generator().manual_seed(1)
    fields = {"shape": (count, 4), "albedo": (count, 3), "pose": (count, 5, 3), "light": (count, 9, 3), "expression": (count, len(NAMES))}
    drawn = {name: 0.1 * torch.rand(size, generator=generator) for name, size in fields.items()}
    camera = torch.tensor([[1.5, 0.02, -0.03]]).expand(count, -1)
    return FaceAttributes("test", **({"camera": camera} | drawn | numbers))


@pytest.mark.parametrize("signal", [0 * FRAMES, 0.3 * FRAMES, 30 * torch.sin(2 * math.pi * FRAMES / 80)], ids=["rest", "ramp", "sway"])
def test_noise_goes_and_slow_motion_stays(signal: Tensor) -> None:
    error = (smooth(noisy(signal)) - signal[:, None])[10:-10]
    assert float(error.square().mean().sqrt()) < 0.5
    assert float(error.mean(1).abs().max()) < 0.6


@pytest.mark.parametrize("half", [2, 3, 5])
def test_blinks_keep_their_height_and_their_moment(half: int) -> None:
    away = (FRAMES[:, None] - BLINKS).abs().amin(1)
    signal = 30 * torch.where(away < half, 0.5 + 0.5 * torch.cos(math.pi * away / half), 0.0)
    smoothed = smooth(noisy(signal))
    assert float((smoothed[BLINKS] / 30).mean()) > 0.94
    around = torch.stack([smoothed[BLINKS + shift].mean() for shift in (-2, -1, 0, 1, 2)])
    assert int(around.argmax()) == 2
    assert float((around - around.flip(0)).abs().max()) < 0.6  # before and after alike: no lag


def test_fast_motion_is_not_late() -> None:
    signal = 30 * torch.sin(2 * math.pi * FRAMES / 12)
    smoothed = smooth(noisy(signal)).mean(1)[20:-20]
    fits = [float((smoothed * signal[20 + shift : 280 + shift]).sum()) for shift in (-2, -1, 0, 1, 2)]
    assert fits.index(max(fits)) == 2
    assert max(fits) / float(signal[20:-20].square().sum()) > 0.97


def test_noise_is_told_from_motion() -> None:
    moving = 10 * torch.sin(2 * math.pi * FRAMES / 12) + 0.5 * FRAMES
    assert float(noise_of(noisy(moving, 0.2)).mean()) == pytest.approx(0.2, rel=0.15)


def test_one_person_has_one_shape_and_rotations_stay_rotations() -> None:
    turns = torch.stack([from_yaw_pitch_roll(20 * math.sin(i / 8), 5, 0) for i in range(60)])
    pose = torch.zeros(60, 5, 3)
    pose[:, 1] = turns + 0.004 * torch.randn(60, 3, generator=torch.Generator().manual_seed(2))
    own = faces(60, pose=pose)
    result = steadied(own, (slice(0, 25), slice(25, 60)))
    assert torch.equal(result.shape, own.shape.mean(0).expand_as(own.shape))
    before, after = ((x.pose[:, 1] - turns).square().mean().sqrt() for x in (own, result))
    assert float(after) < 0.7 * float(before)
    assert torch.allclose(result.camera, own.camera, atol=1e-6)


def test_cuts_are_found_and_motion_is_none() -> None:
    change = torch.full((40,), 0.02)
    change[0] = 0
    change[[12, 30]] = 0.3
    assert find_shots(change) == (slice(0, 12), slice(12, 30), slice(30, 40))
    assert find_shots(torch.full((20,), 0.09)) == (slice(0, 20),)  # all of it is wild


def test_a_head_lies_in_the_same_place_in_every_square() -> None:
    square, other = FaceCrop(10, 20, 100, 300, 400), FaceCrop(-5, 40, 160, 300, 400)
    face = faces()
    seen = seen_in(face, [square], [other])

    def pixel(numbers: FaceAttributes, crop: FaceCrop, x: float, y: float) -> tuple[float, float]:
        scale, tx, ty = numbers.camera[0].tolist()
        return crop.centre[0] + crop.side / 2 * scale * (x + tx), crop.centre[1] - crop.side / 2 * scale * (y + ty)

    for point in ((0.0, 0.0), (0.3, -0.4)):
        assert pixel(seen, other, *point) == pytest.approx(pixel(face, square, *point), abs=1e-3)
    assert torch.allclose(seen_in(seen, [other], [square]).camera, face.camera, atol=1e-6)


def test_a_driver_at_rest_leaves_a_portrait_as_it_is() -> None:
    me, driver = faces(), faces(3)[[1, 1]]
    target = Motion(relative=True).targets(me, driver, driver[0], NAMES)
    assert torch.equal(target.expression, me.expression.expand(2, -1))
    assert torch.allclose(target.pose[:, 2:], me.pose[:, 2:].expand(2, -1, -1), atol=1e-6)
    assert torch.allclose(_angles(target), _angles(me).expand(2, -1), atol=1e-3)
    assert torch.equal(target.light, me.light.expand(2, -1, -1))


def test_relative_motion_is_added_and_multiplied() -> None:
    rest = faces()
    pose = rest.pose.clone()
    pose[:, 1] = from_yaw_pitch_roll(10, 0, 0)
    rest = faces(pose=pose)
    turned = pose.clone()
    turned[:, 1] = from_yaw_pitch_roll(22, 0, 0)
    expression = rest.expression.clone()
    expression[:, NAMES.index("jawOpen")] += 0.3
    driver = faces(pose=turned, expression=expression)
    me = faces(pose=torch.zeros(1, 5, 3), expression=torch.full((1, len(NAMES)), 0.2))
    target = Motion(relative=True, factors={"yaw": 0.5, "jaw_open": 2}).targets(me, driver, rest, NAMES)
    assert float(_angles(target)[0, 0]) == pytest.approx(0.5 * float((_angles(driver) - _angles(rest))[0, 0]), abs=0.01)
    assert float(target.expression[0, NAMES.index("jawOpen")]) == pytest.approx(0.8)
    assert float(target.expression[0, NAMES.index("mouthSmileLeft")]) == pytest.approx(0.2)
    whole = Motion(factors={"expression": 0.5}).targets(me, driver, rest, NAMES)
    assert torch.allclose(whole.expression, 0.5 * driver.expression)


@pytest.mark.parametrize(("only", "taken"), [("eyes", ("eye",)), ("mouth", ("jaw", "mouth"))])
def test_one_part_of_the_expression_alone(only: str, taken: tuple[str, ...]) -> None:
    me, driver = faces(), faces(4)[[3]]
    target = Motion(only=only).targets(me, driver, driver, NAMES)
    for index, name in enumerate(NAMES):
        giver = driver if name.startswith(taken) else me
        assert float(target.expression[0, index]) == float(giver.expression[0, index])
    assert torch.equal(target.pose[:, :2], me.pose[:, :2])
    assert torch.equal(target.camera, me.camera)


def test_motion_names_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match="multiply: 'yawn' is unknown; did you mean yaw"):
        Motion(factors={"yawn": 2.0})
    with pytest.raises(ConfigError, match="no expression mouthPucker"):
        Motion(factors={"pout": 2.0}).targets(faces(), faces(), faces(), NAMES)


def test_curves_go_through_their_keys_without_overshooting() -> None:
    keys = Keyframes.of(
        {"keys": [{"time": 0, "yaw": 0, "smile": 0.2}, {"time": 1, "yaw": 20}, {"frame": 50, "yaw": 20}, {"time": 3, "yaw": 0}]}
    )
    assert [keys.at(t).numbers["yaw"] for t in (0, 1, 1.5, 2, 3, 9)] == pytest.approx([0, 20, 20, 20, 0, 0])
    rising = [keys.at(t / 20).numbers["yaw"] for t in range(21)]
    assert rising == sorted(rising)
    assert rising[10] == pytest.approx(10)
    assert keys.at(2.5).numbers["smile"] == 0.2
    assert keys.duration == 3
    held = Keyframes.of({"curve": "hold", "keys": [{"time": 0, "jaw_open": 0.1}, {"time": 1, "jaw_open": 0.5}]})
    assert [held.at(t).numbers["jaw_open"] for t in (0.99, 1)] == [0.1, 0.5]


def test_visemes_follow_one_another() -> None:
    keys = Keyframes.of(
        {"curve": "linear", "keys": [{"time": 0, "viseme": "aa"}, {"time": 0.2, "viseme": "oo"}, {"time": 0.4, "viseme": "rest"}]}
    )
    assert keys.at(0).numbers["jaw_open"] == 0.55
    assert keys.at(0.2).numbers["jaw_open"] == 0
    assert keys.at(0.2).numbers["pout"] == 0.7
    assert keys.at(0.3).numbers["pout"] == pytest.approx(0.35)
    assert set(keys.at(0.4).numbers.values()) == {0.0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, 'a list "keys" is needed'),
        ([], "the list changes no face"),
        ([3], 'face 0: keyframes: a list "keys" is needed'),
        ({"keys": [{"time": 0}, {"time": 1}]}, "no key has a number; write some"),
        ({"keys": [{"yaw": 1}]}, 'key 0 needs one of "time"'),
        ({"keys": [{"time": -1, "yaw": 1}]}, "time -1 of key 0 is no moment"),
        ({"keys": [{"time": 0, "yaww": 1}]}, "'yaww' is unknown; did you mean yaw"),
        ({"keys": [{"time": 0, "yaw": "far"}]}, "yaw of key 0 is 'far'"),
        ({"keys": [{"time": 0, "smile": 3}]}, "smile: 3 is outside"),
        ({"keys": [{"time": 0, "viseme": "zz"}]}, "viseme: 'zz' is unknown"),
    ],
)
def test_wrong_keyframes_are_named(tmp_path: Path, data: object, message: str) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=message):
        Keyframes.read(tmp_path / "keys.json")


def test_each_face_has_its_own_keyframes() -> None:
    first, second, third = Keyframes.of_faces([{"keys": [{"frame": 10, "yaw": 5}]}, None, {"keys": [{"time": 0, "smile": 1}]}], 10.0)
    assert first is not None
    assert third is not None
    assert first.curves["yaw"].times == (1.0,)
    assert second is None
    assert third.at(3).numbers == {"smile": 1}
    for nothing in ([], [None, None], {"keys": []}):
        with pytest.raises(ConfigError, match="the list changes no face"):
            Keyframes.of_faces(nothing)
    with pytest.raises(ConfigError, match="face 1: keyframes, key 0: 'yaww' is unknown"):
        Keyframes.of_faces([None, {"keys": [{"time": 0, "yaww": 1}]}])


def test_faces_that_are_meant_have_keyframes(tmp_path: Path) -> None:
    def read(data: object) -> Keyframes | tuple[Keyframes | None, ...]:
        (tmp_path / "keys.json").write_text(json.dumps(data))
        return Keyframes.read(tmp_path / "keys.json", 10.0)

    yaw, smile = {"keys": [{"frame": 5, "yaw": 8}]}, {"keys": [{"time": 1, "smile": 0.5}]}
    everyone, each = read(yaw), read([None, yaw, smile])
    assert isinstance(everyone, Keyframes)
    assert by_face(everyone) == {0: everyone}
    assert by_face(everyone, [2, 0]) == {2: everyone, 0: everyone}
    assert by_face(()) == {}
    assert by_face((), [1]) == {1: None}
    found = by_face(each)
    assert list(found) == [1, 2]
    assert found[1] == everyone
    assert found[1].curves["yaw"].times == (0.5,)
    assert by_face(each, [2, 0, 1]) == {2: found[2], 0: None, 1: found[1]}
    with pytest.raises(ConfigError, match="the list has some for face 2, but what moves is face 0, 1; name it, too, or write null there"):
        by_face(each, [0, 1])
    with pytest.raises(ConfigError, match=r"keys\.json: face 1: keyframes, key 0: 'smil' is unknown"):
        read([None, {"keys": [{"time": 0, "smil": 1}]}])


def test_frames_go_forwards_backwards_and_around() -> None:
    pts = [100, 110, 130, 160]
    assert Order().of(pts) == ([0, 1, 2, 3], pts)
    # a frame is as long as in the clip: 10, 20, 30 and, the last one, 30
    assert Order(2, True).of(pts) == ([0, 1, 2, 3, 2, 1] * 2, [100, 110, 130, 160, 190, 220, 240, 250, 270, 300, 330, 360])
