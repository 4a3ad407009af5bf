"""Eyes as a layer: irises move by what was asked, whole and under the lids; nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from people import person

from difffae.carry.options import CarryOptions
from difffae.head.adjust import Adjustments, adjust
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.mouth_patch import PATCH, MouthPatch
from difffae.head.shading import project
from difffae.person.eyes import IRISES, LOOK_ASIDE
from difffae.person.lids import EYES, EyeFrame, curve_at, curve_through
from difffae.person.prepared import Carried, carry

SKIN, WHITE, IRIS = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.85, 0.85, 0.85]), torch.tensor([0.2, 0.15, 0.1])
RADIUS = 0.22  # of an iris, in widths of the eye
SIZE = 256


@pytest.fixture(scope="module")
def face(head: HeadModel) -> FaceAttributes:
    """Open eyes of some 50 pixels at SIZE."""
    blank = replace(person(head, 3, expression=0.0), camera=torch.tensor([[12.0, 0.0, 0.0]]))
    return replace(blank, expression=torch.zeros_like(blank.expression))


def marks_of(head: HeadModel, face: FaceAttributes, size: int) -> torch.Tensor:
    """(1,N,3) landmarks of a photograph, in its pixels."""
    marks = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    return (marks + torch.tensor([1.0, 1.0, 0.0])) * size / 2 - torch.tensor([0.5, 0.5, 0.0])


def places(size: int) -> torch.Tensor:
    return torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy"), -1)[None].float()


def painted(marks: torch.Tensor, size: int) -> torch.Tensor:
    """(1,3,size,size) skin with two eyes, white and iris in one colour each."""
    picture = SKIN[None, :, None, None].expand(1, 3, size, size)
    for side, eye in enumerate(EYES):
        frame = EyeFrame.of(marks, side)
        along, across = frame.coordinates(places(size)).unbind(-1)
        upper, lower = (curve_at(curve_through(frame.coordinates(marks[:, list(lid), :2])), along) for lid in (eye.upper, eye.lower))
        middle = frame.coordinates(marks[:, IRISES[side][0], :2])
        inside = (across > upper) & (across < lower)
        iris = inside & ((along - middle[:, 0]).square() + (across - middle[:, 1]).square() < RADIUS**2)
        for mask, colour in ((inside, WHITE), (iris, IRIS)):
            picture = torch.where(mask[:, None], colour[None, :, None, None], picture)
    return picture.contiguous()


def edited(head: HeadModel, face: FaceAttributes, size: int = SIZE, **numbers: float) -> tuple[torch.Tensor, Carried]:
    """A photograph, and what numbers make of it."""
    marks = marks_of(head, face, size)
    picture = painted(marks, size)
    target = adjust(face, Adjustments(**numbers), head.expression_names)
    moved = carry(picture, face, target, head)
    assert moved.image.shape == picture.shape
    return picture, moved


def irises(picture: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """(2,3): middle along and across, and area, of the dark pixels of both eyes, in widths of the eye."""
    found = []
    dark = (0.5 - picture.mean(1)).clamp_min(0)
    for side in range(2):
        frame = EyeFrame.of(marks, side)
        along, across = frame.coordinates(places(picture.shape[-1])).unbind(-1)
        weight = dark * (along.abs() < 0.7) * (across.abs() < 0.5)
        area = weight.sum() / (frame.along.norm() * frame.across.norm())
        found.append(torch.stack([(along * weight).sum() / weight.sum(), (across * weight).sum() / weight.sum(), area]))
    return torch.stack(found)


@pytest.mark.parametrize("size", [256, 400])
@pytest.mark.parametrize("gaze", [0.3, 0.6, -0.6])
def test_irises_move_aside_by_what_was_asked_and_stay_whole(head: HeadModel, face: FaceAttributes, size: int, gaze: float):
    marks = marks_of(head, face, size)
    picture, moved = edited(head, face, size, gaze_x=gaze)
    before, after = irises(picture, marks), irises(moved.image, marks)
    assert (after[:, 0] - before[:, 0] - LOOK_ASIDE * gaze).abs().max() < 0.03
    assert (after[:, 1] - before[:, 1]).abs().max() < 0.04
    assert (after[:, 2] / before[:, 2] - 1).abs().max() < 0.3  # a corner may cover a little of it


def test_white_is_uncovered_where_the_iris_was(head: HeadModel, face: FaceAttributes):
    marks = marks_of(head, face, SIZE)
    _, moved = edited(head, face, gaze_x=0.8)
    for side in range(2):
        frame = EyeFrame.of(marks, side)
        middle = frame.coordinates(marks[:, IRISES[side][0], :2])
        along, across = (frame.coordinates(places(SIZE)) - middle[:, None, None]).unbind(-1)
        left = (along > -0.17) & (along < -0.05) & (across.abs() < 0.04)
        assert int(left.sum()) > 10
        colours = moved.image[:, :, left[0]]
        assert (colours.mean((0, 2)) - WHITE).abs().max() < 0.12
        assert float(colours.std(2).max()) < 0.06  # no rest of the iris
        assert float(moved.own_share[:, :, left[0]].max()) < 0.01  # so no fine detail of it is pasted
        assert float(moved.validity[:, :, left[0]].min()) > 0.5


def test_looking_up_and_down_moves_irises_that_way(head: HeadModel, face: FaceAttributes):
    marks = marks_of(head, face, SIZE)
    heights = [float(irises(edited(head, face, gaze_y=gaze)[1].image, marks)[:, 1].mean()) for gaze in (-0.5, -0.2, 0.0, 0.2, 0.5)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[-1] > 0.08


def test_only_eyes_change(head: HeadModel, face: FaceAttributes):
    marks = marks_of(head, face, SIZE)
    for numbers in ({"gaze_x": 0.8}, {"gaze_y": -0.6}, {"blink": 1.0}, {"blink": 0.4}):
        picture, moved = edited(head, face, **numbers)
        away = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
        for side in range(2):
            along, across = EyeFrame.of(marks, side).coordinates(places(SIZE)).unbind(-1)
            away &= (along.abs() > 1.0) | (across.abs() > 0.95)
        assert float(away.float().mean()) > 0.5
        assert torch.equal(moved.image[:, :, away[0]], picture[:, :, away[0]])
        assert torch.equal(moved.own_share[:, :, away[0]], torch.ones_like(moved.own_share[:, :, away[0]]))
        assert not moved.offset_to_source[:, :, away[0]].any()


def test_eyes_that_do_not_change_keep_their_bits(head: HeadModel, face: FaceAttributes):
    picture = painted(marks_of(head, face, SIZE), SIZE)
    target = adjust(face, Adjustments(smile=0.8, yaw=10), head.expression_names)
    both = [carry(picture, face, target, head, options=CarryOptions(eyes=eyes)) for eyes in (True, False)]
    for name in ("image", "validity", "offset_to_source", "own_share"):
        assert torch.equal(getattr(both[0], name), getattr(both[1], name)), name


def test_eyes_close_by_degrees(head: HeadModel, face: FaceAttributes):
    marks = marks_of(head, face, SIZE)
    areas = [float(irises(edited(head, face, blink=blink)[1].image, marks)[:, 2].mean()) for blink in (0.0, 0.2, 0.4, 0.6)]
    assert areas[0] > 1.15 * areas[1]
    picture, wide = edited(head, face, blink=-1.0)
    white = [float(((shown - WHITE[:, None, None]).abs().amax(1) < 0.1).float().sum()) for shown in (picture, wide.image)]
    assert white[1] > 1.05 * white[0]


def test_landmarks_of_the_photograph_say_where_its_eyes_are(head: HeadModel, face: FaceAttributes):
    """A photograph whose eyes lie 5 pixels lower than the head's."""
    marks = marks_of(head, face, SIZE)
    lower = marks + torch.tensor([0.0, 5.0, 0.0])
    picture = painted(lower, SIZE)
    target = adjust(face, Adjustments(gaze_x=0.6), head.expression_names)
    moved = carry(picture, face, target, head, landmarks=lower)
    shift = irises(moved.image, lower)[:, 0] - irises(picture, lower)[:, 0]
    assert (shift - LOOK_ASIDE * 0.6).abs().max() < 0.03


def test_closed_eyes_open_to_where_the_other_photograph_looks(head: HeadModel, face: FaceAttributes):
    """Scores say of closed eyes that they look down; once opened for another photograph, they look where that one's do."""

    def scored(mouth: float, **scores: float) -> FaceAttributes:
        expression = face.expression.clone()
        for name, score in scores.items():
            for side in ("Left", "Right"):
                expression[:, head.expression_names.index(f"eye{name}{side}")] = score
        patch = MouthPatch(torch.zeros(1, 3, *PATCH), torch.tensor([mouth]), torch.tensor([[0.6, 0.45, 0.4]]))
        return replace(face, expression=expression, mouth=patch)

    shut = scored(0.1, Blink=0.8, LookDown=0.8)
    marks = marks_of(head, shut, SIZE)
    picture = painted(marks, SIZE)

    def height(target: FaceAttributes) -> float:
        found = irises(carry(picture, shut, target, head).image, marks)
        assert (found[:, 2] > 0.005).all()  # irises that show
        return float(found[:, 1].mean())

    by_number = height(adjust(shut, Adjustments(blink=-1.0), head.expression_names))
    level, down = height(scored(0.2)), height(scored(0.2, LookDown=0.5))
    assert abs(level - by_number) < 0.02
    assert level + 0.04 < down
