"""The table of what can be set by number, its presets, and how far a head may turn."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import build_numbers
import pytest
import torch
from places import ROOT

from difffae.common.errors import ConfigError
from difffae.common.rotations import axis_angle_to_matrix, from_yaw_pitch_roll, matrix_to_axis_angle, to_yaw_pitch_roll
from difffae.head.adjust import Adjustments, adjust
from difffae.head.attributes import FaceAttributes
from difffae.head.axes import AXES, COEFFICIENTS, EXPRESSION_AXES, GROUPS, PRESETS, TURN_LIMIT, Axis
from difffae.head.mirror import mirror
from difffae.head.morphable import HeadModel

EXPRESSIONS = list(EXPRESSION_AXES.values())


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


def face(value: float = 0.0, yaw: float = 0.0, pitch: float = 0.0, batch: int = 1) -> FaceAttributes:
    """An open head's numbers, with every coefficient at `value`."""
    pose = torch.zeros(batch, 5, 3)
    pose[:, 0] = from_yaw_pitch_roll(yaw, pitch, 0)
    codes = {"shape": torch.zeros(batch, 75), "albedo": torch.zeros(batch, 6), "camera": torch.ones(batch, 3)}
    light = torch.zeros(batch, 9, 3)
    light[:, 0] = 3
    return FaceAttributes("open", pose=pose, expression=torch.full((batch, 52), value), light=light, **codes)


def moved(source: FaceAttributes, change: Adjustments) -> dict[str, float]:
    """Coefficients that a change moves, by how much."""
    difference = (adjust(source, change, COEFFICIENTS).expression - source.expression)[0]
    return {name: round(float(d), 5) for name, d in zip(COEFFICIENTS, difference, strict=True) if d != 0}


def turn(source: FaceAttributes, change: Adjustments) -> tuple[list[float], list[str]]:
    """Yaw, pitch and roll of the head afterwards, and what was told."""
    told: list[str] = []
    pose = adjust(source, change, COEFFICIENTS, told.append).pose[0]
    whole = axis_angle_to_matrix(pose[0]) @ axis_angle_to_matrix(pose[1])
    return to_yaw_pitch_roll(matrix_to_axis_angle(whole)).tolist(), told


def test_the_table_is_of_one_piece(head: HeadModel):
    assert tuple(head.expression_names) == COEFFICIENTS
    assert len({axis.name for axis in AXES} | set(COEFFICIENTS)) == len(AXES) + 52
    assert {axis.group for axis in AXES} == set(GROUPS)
    for axis in AXES:
        assert axis.low < axis.high
        assert bool(axis.positive) == (axis.group not in ("pose", "light"))
        assert all(0 < weight <= 1 for end in (axis.positive, axis.negative) for weight in end.values())
        assert not axis.positive or max(axis.positive.values()) >= 0.8


def test_the_page_is_of_the_table():
    page = (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8")
    assert build_numbers.built(page) == page, "run scripts/build_numbers.py"
    for name in (*(axis.name for axis in AXES), *PRESETS):
        assert f"\n| `{name}` |" in page


@pytest.mark.parametrize("axis", EXPRESSIONS, ids=lambda axis: axis.name)
def test_an_axis_moves_its_own_coefficients_and_nothing_else(axis: Axis):
    assert moved(face(), Adjustments(**{axis.name: 1})) == axis.positive
    assert moved(face(), Adjustments(**{axis.name: 0.5})) == {name: round(w / 2, 5) for name, w in axis.positive.items()}
    assert moved(face(), Adjustments(**{axis.name: -1})) == axis.negative
    # -1 takes back what the face has of the positive end
    assert moved(face(0.1), Adjustments(**{axis.name: -1})).keys() == axis.positive.keys() | axis.negative.keys()
    source = face()
    result = adjust(source, Adjustments(**{axis.name: 1}), COEFFICIENTS)
    assert all(getattr(result, name) is getattr(source, name) for name in ("pose", "light", "shape", "albedo", "camera"))


@pytest.mark.parametrize("axis", [axis for axis in EXPRESSIONS if "_left" in axis.name], ids=lambda axis: axis.name)
def test_left_and_right_mirror_each_other(head: HeadModel, axis: Axis):
    torch.manual_seed(0)
    source = replace(face(), expression=torch.rand(1, 52) * 0.3)
    for value in (0.6, -0.6):
        left, right = Adjustments(**{axis.name: value}), Adjustments(**{axis.name.replace("left", "right"): value})
        mirrored = adjust(mirror(source, head), right, COEFFICIENTS)
        assert torch.allclose(mirrored.expression, mirror(adjust(source, left, COEFFICIENTS), head).expression)


def test_left_is_the_subjects(head: HeadModel):
    """That is image right: x > 0."""
    for name in ("wink_left", "brow_left", "smile_left"):
        offsets = head.unposed(torch.zeros(1, 75), adjust(face(), Adjustments(**{name: 1}), COEFFICIENTS).expression)[0] - head.template
        weight = offsets.norm(dim=-1)
        assert (weight * head.template[:, 0]).sum() > 0.005 * weight.sum()
    jaw = adjust(face(), Adjustments(jaw_side=1), COEFFICIENTS).expression
    assert (head.unposed(torch.zeros(1, 75), jaw)[0] - head.template)[:, 0].sum() > 0


def test_numbers_of_one_coefficient_add_up():
    assert moved(face(), Adjustments(smile=0.4, smile_left=0.3))["mouthSmileLeft"] == pytest.approx(0.7)
    absolute = moved(face(), Adjustments(smile=0.4, smile_left=0.3, absolute=True))
    assert (absolute["mouthSmileLeft"], absolute["mouthSmileRight"]) == pytest.approx((0.7, 0.4))
    still = adjust(face(0.2), Adjustments(smile=0.4, smile_left=0, grin=0, absolute=True), COEFFICIENTS).expression[0]
    assert still[COEFFICIENTS.index("mouthSmileLeft")] == pytest.approx(0.4)
    assert still[COEFFICIENTS.index("mouthUpperUpLeft")] == pytest.approx(0.4 * 0.15)  # what a smile brings along
    assert adjust(face(), Adjustments(smile=1, grin=1, smile_left=1, absolute=True), COEFFICIENTS).expression.max() == 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str):
    """They set what they name, whatever the face's own, and numbers come on top."""
    record = json.loads(json.dumps(Adjustments(preset=name, yaw=10, smile_left=0.2).record()))
    assert record == {"preset": name, "yaw": 10, "smile_left": 0.2}
    assert Adjustments.from_record(record) == Adjustments(preset=name, yaw=10, smile_left=0.2)
    named = {own for key in PRESETS[name] for own in (*EXPRESSION_AXES[key].positive, *EXPRESSION_AXES[key].negative)}
    once = adjust(face(0.3), Adjustments(preset=name), COEFFICIENTS)
    other = adjust(face(0.1), Adjustments(preset=name), COEFFICIENTS)
    for index, coefficient in enumerate(COEFFICIENTS):
        same = other.expression[0, index] == once.expression[0, index]
        assert same == (coefficient in named), coefficient
    both = adjust(face(0.3), Adjustments(preset=name, smile_left=0.2), COEFFICIENTS)
    assert torch.equal(both.expression, adjust(once, Adjustments(smile_left=0.2), COEFFICIENTS).expression)
    Adjustments(absolute=True, **PRESETS[name])  # all numbers are within their ranges


def test_records():
    change = Adjustments(yaw=15, wink_right=0.5, mouthDimpleLeft=-0.25, absolute=True, beyond_limit=True)
    assert Adjustments.from_record(json.loads(json.dumps(change.record()))) == change
    assert Adjustments().record() == {}
    assert Adjustments(yaw=None) == Adjustments()
    assert copy.deepcopy(change) == change
    # as version 0.1.0 wrote them
    old = Adjustments.from_record({"yaw": 8.0, "smile": 0.3, "light_azimuth": -60.0, "light_strength": 0.55, "absolute": True})
    assert (old.yaw, old.smile, old.light_azimuth, old.light_elevation, old.absolute) == (8, 0.3, -60, None, True)
    with pytest.raises(ConfigError, match="yaw: 'much' is no number"):
        Adjustments.from_record({"yaw": "much"})


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ({"smle": 1}, "did you mean smile"),
        ({"wink": 1}, "did you mean blink, wink_left, wink_right?"),
        ({"jawopen": 1}, "did you mean jawOpen, jaw_open"),
        ({"brow-up": 1}, "did you mean brow_up"),
        ({"qqqq": 1}, "choose from yaw, pitch"),
        ({"preset": "suprised"}, "preset: 'suprised' is unknown; did you mean surprised"),
    ],
)
def test_unknown_names_are_told_with_near_ones(wrong: dict, meant: str):
    with pytest.raises(ConfigError) as error:
        Adjustments.from_record(wrong)
    assert meant in str(error.value)


def test_unknown_attributes():
    with pytest.raises(AttributeError):
        _ = Adjustments().smle


def test_turns_within_the_limit_are_not_touched():
    angles, told = turn(face(yaw=10), Adjustments(yaw=TURN_LIMIT - 10, pitch=-20))
    assert angles == pytest.approx([TURN_LIMIT, -20, 0], abs=1e-2)
    assert told == []


@pytest.mark.parametrize("name", ["yaw", "pitch", "roll"])
@pytest.mark.parametrize("sign", [1, -1])
def test_turns_end_at_the_limit_with_a_message(name: str, sign: int):
    place = ["yaw", "pitch", "roll"].index(name)
    angles, told = turn(face(), Adjustments(**{name: sign * 70}))
    assert angles[place] == pytest.approx(sign * TURN_LIMIT, abs=1e-2)
    assert len(told) == 1
    assert told[0].startswith(f"{name}: turned by {sign * TURN_LIMIT:.0f} instead of {sign * 70} degrees")
    angles, told = turn(face(), Adjustments(**{name: sign * 70}, beyond_limit=True))
    assert angles[place] == pytest.approx(sign * 70, abs=1e-2)
    assert told == []


def test_the_limit_counts_the_photographs_own_turn():
    assert turn(face(yaw=30), Adjustments(yaw=30))[0][0] == pytest.approx(TURN_LIMIT, abs=1e-2)
    assert turn(face(yaw=30), Adjustments(yaw=-70))[0][0] == pytest.approx(30 - TURN_LIMIT, abs=1e-2)
    beyond = face(yaw=TURN_LIMIT + 15)
    angles, told = turn(beyond, Adjustments(yaw=10))  # not farther, but it may stay
    assert angles[0] == pytest.approx(TURN_LIMIT + 15, abs=1e-2)
    assert len(told) == 1
    assert turn(beyond, Adjustments(yaw=-5)) == (pytest.approx([TURN_LIMIT + 10, 0, 0], abs=1e-2), [])
    assert turn(beyond, Adjustments(yaw=0)) == (pytest.approx([TURN_LIMIT + 15, 0, 0], abs=1e-2), [])
    assert turn(face(yaw=30), Adjustments(yaw=60, absolute=True))[0][0] == pytest.approx(TURN_LIMIT, abs=1e-2)


def test_of_many_frames_the_worst_is_told():
    frames = FaceAttributes.cat([face(yaw=0), face(yaw=20)])
    told: list[str] = []
    adjust(frames, Adjustments(yaw=50), COEFFICIENTS, told.append)
    assert len(told) == 1
    assert "25 instead of 50 degrees in frame 1" in told[0]


def test_by_default_the_log_tells(caplog: pytest.LogCaptureFixture):
    adjust(face(), Adjustments(yaw=80), COEFFICIENTS)
    assert ["--beyond-limit" in record.getMessage() for record in caplog.records] == [True]
