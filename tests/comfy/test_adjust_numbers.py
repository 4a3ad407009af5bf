"""Adjust Face Attributes gives what the library gives, for every number of its table; and workflows saved before some were added load."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from inprocess import Pack

from difffae.head.axes import AXES, COEFFICIENTS, NO_PRESET, PRESETS, TURN_LIMIT, Axis

NODE = "DiffFAEAdjustAttributes"
# the widgets of version 0.1.0, in its order; workflows store their values by order alone
OLD = (
    *("yaw", "pitch", "roll", "smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y"),
    *("relight", "light_azimuth", "light_elevation", "light_strength", "absolute", "pasted"),
)
SOCKETS = ("difffae", "attributes", "image", "slots")


@pytest.fixture(scope="module")
def face(pack: Pack):
    """An open head with some of every coefficient."""
    attributes = pack.library("head.attributes")
    light = torch.zeros(1, 9, 3)
    light[:, 0] = 3
    light[:, 1] = 0.4
    codes = {"shape": torch.zeros(1, 75), "albedo": torch.zeros(1, 6), "camera": torch.tensor([[5.0, 0, 0]]), "pose": torch.zeros(1, 5, 3)}
    return attributes.FaceAttributes("open", expression=torch.linspace(0, 0.4, 52)[None], light=light, **codes)


def by_library(pack: Pack, face, **asked):
    adjusting = pack.library("head.adjust")
    return adjusting.adjust(face, adjusting.Adjustments(**asked), COEFFICIENTS)


def assert_equal(one, other) -> None:
    for name, values in one.tensors().items():
        assert torch.equal(values, other.tensors()[name]), name


def by_node(pack: Pack, face, **asked):
    """With all other widgets at their defaults, as the page sends them."""
    defaults = {name: own.default for name, own in inputs(pack).items()}
    return pack.run(NODE, attributes=face, **defaults | asked)[0]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
@pytest.mark.parametrize("absolute", [False, True])
def test_every_number(pack: Pack, face, axis: Axis, absolute: bool) -> None:
    asked = {axis.name: 0.25 * axis.high}
    if axis.group == "light":
        asked = {other.name: other.default for other in AXES if other.group == "light"} | asked
        result = by_node(pack, face, relight=True, **asked)
        part = "light"
    else:
        if absolute:
            asked = {other.name: 0.0 for other in AXES if other.group != "light"} | asked
        result = by_node(pack, face, absolute=absolute, **asked)
        part = "expression" if axis.positive else "pose"
    assert_equal(result, by_library(pack, face, absolute=absolute, **asked))
    assert not torch.equal(getattr(result, part), getattr(face, part))
    assert by_node(pack, face) is face


@pytest.mark.parametrize("name", PRESETS)
def test_presets(pack: Pack, face, name: str) -> None:
    (result,) = pack.run(NODE, attributes=face, preset=name, yaw=12.0, smile_right=0.3)
    assert_equal(result, by_library(pack, face, preset=name, yaw=12.0, smile_right=0.3))


def test_coefficients(pack: Pack, face) -> None:
    text = json.dumps({"jawForward": 0.3, "browDownLeft": -0.1})
    (result,) = pack.run(NODE, attributes=face, coefficients=text)
    assert_equal(result, by_library(pack, face, jawForward=0.3, browDownLeft=-0.1))
    moved = (result.expression != face.expression)[0].nonzero()[:, 0].tolist()
    assert [COEFFICIENTS[index] for index in moved] == ["jawForward"]  # the face has nothing of browDownLeft to take back


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("jawForward: 0.3", "is not JSON"),
        ("[0.3]", "not of names and numbers"),
        ('{"jawForwrd": 0.3}', "did you mean jawForward?"),
        ('{"smile": 0.3}', "coefficients: 'smile' is unknown"),
        ('{"jawForward": "much"}', "jawForward: 'much' is no number"),
        ('{"jawForward": 3}', "jawForward: 3 is outside -1..1"),
    ],
)
def test_bad_coefficients(pack: Pack, face, text: str, complaint: str) -> None:
    with pytest.raises(pack.library("common.errors").ConfigError, match=r"coefficients|jawForward") as error:
        pack.run(NODE, attributes=face, coefficients=text)
    assert complaint in str(error.value)


def test_turns_are_limited_with_a_message_unless_asked_for(pack: Pack, face, caplog: pytest.LogCaptureFixture) -> None:
    (limited,) = pack.run(NODE, attributes=face, yaw=70.0)
    assert_equal(limited, by_library(pack, face, yaw=TURN_LIMIT))
    assert [record.getMessage().partition(" degrees")[0] for record in caplog.records if record.levelno == logging.WARNING] == [
        f"yaw: turned by {TURN_LIMIT:.0f} instead of 70"
    ]
    caplog.clear()
    (whole,) = pack.run(NODE, attributes=face, yaw=70.0, beyond_limit=True)
    assert_equal(whole, by_library(pack, face, yaw=70.0, beyond_limit=True))
    assert caplog.records == []
    (swept,) = pack.run("DiffFAESweepAttributes", attributes=face, number="yaw", start=0.0, end=70.0, frames=2, beyond_limit=True)
    assert_equal(swept[1], by_library(pack, face, yaw=70.0, absolute=True, beyond_limit=True))


def test_the_preview_draws_what_the_node_gives(pack: Pack, face) -> None:
    preview = pack.module("live_preview")
    scene = preview.Scene(pack.bundle.head, face, None, None)
    plain, told = preview.draw(scene, {"yaw": TURN_LIMIT, "wink_left": 1.0}, 0, "clay", False)
    assert told == {}
    limited, told = preview.draw(scene, {"yaw": 80.0, "wink_left": 1.0}, 0, "clay", False)
    assert limited == plain
    assert told["X-DiffFAE-Message"].startswith(f"yaw: turned by {TURN_LIMIT:.0f} instead of 80 degrees")
    other, _ = preview.draw(scene, {"yaw": TURN_LIMIT}, 0, "clay", False)
    assert other != plain
    assert preview.own_expression(face.expression[0], COEFFICIENTS).keys() == {axis.name for axis in AXES if axis.positive}


def inputs(pack: Pack) -> dict[str, Any]:
    return {own.id: own for own in pack.nodes[NODE].define_schema().inputs if own.id not in SOCKETS}


def test_widgets_that_came_later_follow_the_old_ones(pack: Pack) -> None:
    names = list(inputs(pack))
    assert tuple(names[: len(OLD)]) == OLD
    assert set(names) == {*OLD, "preset", *(axis.name for axis in AXES), "coefficients", "beyond_limit"}
    for name, own in inputs(pack).items():
        assert bool(own.optional) == (name not in OLD)
        if name not in OLD:
            assert own.advanced
            assert own.default in (0.0, "", False, NO_PRESET)


def test_ranges_are_the_tables(pack: Pack) -> None:
    own = inputs(pack)
    for axis in AXES:
        assert (own[axis.name].min, own[axis.name].max, own[axis.name].tooltip) == (axis.low, axis.high, axis.text)


def test_a_prompt_of_version_0_1_0(pack: Pack, face) -> None:
    old = {"yaw": 8, "pitch": 0, "roll": 0, "smile": 0.3, "jaw_open": 0, "blink": 0, "brow_up": 0, "gaze_x": 0, "gaze_y": 0}
    old |= {"relight": True, "light_azimuth": -60, "light_elevation": 15, "light_strength": 0.55, "absolute": False, "pasted": ""}
    result = pack.nodes[NODE].execute(pack.bundle, face, **old).args[0]
    lamp = {"light_azimuth": -60, "light_elevation": 15, "light_strength": 0.55}
    assert_equal(result, by_library(pack, face, yaw=8, smile=0.3, **lamp))
    # set to the sliders that there were; the others stay
    result = pack.nodes[NODE].execute(pack.bundle, face, **old | {"absolute": True}).args[0]
    there_were = dict.fromkeys(("pitch", "roll", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y"), 0)
    assert_equal(result, by_library(pack, face, absolute=True, yaw=8, smile=0.3, **there_were, **lamp))
    assert result.expression[0, COEFFICIENTS.index("mouthPucker")] == face.expression[0, COEFFICIENTS.index("mouthPucker")]


def test_every_number_can_be_swept(pack: Pack) -> None:
    (number,) = [own for own in pack.nodes["DiffFAESweepAttributes"].define_schema().inputs if own.id == "number"]
    assert sorted(number.options) == sorted(axis.name for axis in AXES)
