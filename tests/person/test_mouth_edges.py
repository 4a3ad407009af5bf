"""Where lips lie: by a photograph's own landmarks, as thick as they were, and round at the corners."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.lips import moved_lips
from difffae.person.mouth import MouthFrame, edge_at
from difffae.person.mouth_opening import FARTHEST, LIP_MARKS, Opening, mouth_marks, moved_marks
from difffae.person.prepared import Prepared, prepare, start_move


def expressing(head: HeadModel, **values: float) -> FaceAttributes:
    face = replace(person(head, 3, expression=0.0), camera=torch.tensor([[12.0, 0.0, 0.05]]))
    expression = face.expression.clone()
    for name, value in values.items():
        expression[:, head.expression_names.index(name)] = value
    return replace(face, expression=expression)


def prepared_with(head: HeadModel, face: FaceAttributes, lower: float) -> Prepared:
    """A photograph whose landmarks of lips lie lower than those of its fit, by pixels."""
    picture = paint((render(head, face, SIZE).mask, SKIN))
    plain = prepare(picture, face, head)
    marks = mouth_marks(head, plain.posed.points, plain.size)
    marks[:, list(LIP_MARKS), 1] += lower
    return prepare(picture, face, head, landmarks=marks)


def flat(upper: float, lower: float, above: float, below: float) -> MouthFrame:
    """A mouth of 40 pixels whose edges are straight but for its corners, where inner ones meet."""
    along = torch.linspace(0, 1, 9)
    edges = [torch.full((9,), value) for value in (upper, lower, above, below)]
    for inner in edges[:2]:
        inner[[0, -1]] = 0.0
    axes = torch.tensor([50.0, 50.0]), torch.tensor([40.0, 0.0]), torch.tensor([0.0, 40.0])
    return MouthFrame(*axes, *(torch.stack([along, edge], -1) for edge in edges))


def test_lips_that_part_lie_where_the_photograph_shows_them(head: HeadModel):
    face = expressing(head)
    source = prepared_with(head, face, lower=2.0)
    for jaw, teeth, share in ((0.0, 1.0, 0.0), (0.6, 1.0, 1.0), (0.6, 0.5, 0.5), (0.6, 0.0, 0.0)):
        move = start_move(source, expressing(head, jawOpen=jaw, browInnerUp=0.5))
        fit_now, fit = (mouth_marks(head, posed.points, source.size)[0] for posed in (move.posed, source.posed))
        now, before = moved_marks(move, 0, fit_now, fit, teeth)
        lips = list(LIP_MARKS)
        away, away_now = (before - fit)[lips, :2], (now - fit_now)[lips, :2]
        assert torch.allclose(away, torch.tensor([0.0, 2.0 * share]).expand_as(away), atol=1e-3)
        # by as many widths of the mouth, which gets narrower as it opens
        narrower = MouthFrame.of(fit_now).width / MouthFrame.of(fit).width
        assert torch.allclose(away_now[:, 1], torch.full((len(lips),), 2.0 * share * narrower), atol=0.02)
        others = [mark for mark in range(len(now)) if mark not in lips]
        assert torch.equal(now[others], fit_now[others])


def test_landmarks_far_from_the_fit_are_not_followed_to_the_end(head: HeadModel):
    source = prepared_with(head, expressing(head), lower=30.0)
    move = start_move(source, expressing(head, jawOpen=0.6))
    fit_now, fit = (mouth_marks(head, posed.points, source.size)[0] for posed in (move.posed, source.posed))
    _, before = moved_marks(move, 0, fit_now, fit, 1.0)
    away = (before - fit)[list(LIP_MARKS), 1]
    assert torch.allclose(away, torch.full_like(away, FARTHEST * MouthFrame.of(fit).width), rtol=1e-3)


def test_lips_stay_as_thick_as_they_were():
    own, thin = flat(0.0, 0.02, -0.12, 0.16), flat(-0.02, 0.4, -0.10, 0.48)  # 0.12 and 0.14 thick, drawn to 0.08 and 0.08
    middle = torch.tensor([0.5])
    whole = thin.with_whole_lips(own, 1.0)
    above, upper, lower, below = (float(edge_at(getattr(whole, name), middle)) for name in ("above", "upper", "lower", "below"))
    assert upper - above == pytest.approx(0.12, abs=1e-4)
    assert below - lower == pytest.approx(0.14, abs=1e-4)
    assert upper == pytest.approx(-0.02, abs=1e-4)  # over teeth that show it does not come down
    assert below == pytest.approx(0.48, abs=1e-4)
    thick = flat(-0.02, 0.4, -0.2, 0.7)
    for one in (thick.with_whole_lips(own, 1.0), thin.with_whole_lips(own, 0.0)):
        other = thick if one.below[4, 1] > 0.6 else thin
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("above", "upper", "lower", "below"))


def test_a_lip_that_moves_takes_its_picture_along():
    own, before = flat(0.0, 0.0, -0.1, 0.1), flat(-0.05, 0.35, -0.15, 0.45)
    now = replace(before, below=before.below + torch.tensor([0.0, 0.1]))  # 4 pixels
    picture = torch.arange(120.0)[:, None].expand(1, 3, 120, 120) / 120
    opening = Opening.of(now, own, (120, 120), 1.0)
    moved = moved_lips(opening, before, picture)
    row = 50 + round(0.55 * 40)
    assert float(moved[0, 0, row, 70]) == pytest.approx((row - 4) / 120, abs=2e-3)
    assert float(moved[0, 0, row + 4, 70]) == pytest.approx((row + 4) / 120, abs=2e-3)  # BESIDE is 4 pixels
    assert torch.equal(moved[..., :48, :], picture[..., :48, :])
    still = moved_lips(Opening.of(before, own, (120, 120), 1.0), before, picture)
    assert (still - picture).abs().max() < 1e-5


def test_corners_of_an_opening_are_round():
    """Where lips are 0.015 of the mouth's width apart they are one, in mouths that show teeth and parted; others go on to their corners."""
    along = torch.linspace(0, 1, 9)
    wedge = 0.4 * (1 - (2 * along - 1).abs())
    own = replace(flat(0.0, 0.0, -0.1, 0.1), along=torch.tensor([200.0, 0.0]), down=torch.tensor([0.0, 200.0]))
    frame = replace(own, lower=torch.stack([along, wedge], -1), below=torch.stack([along, wedge + 0.1], -1))
    for before, teeth, gone in ((own, 1.0, True), (own, 0.0, False), (frame, 1.0, False)):
        opening = Opening.of(frame, before, (300, 300), teeth)
        thin = ((opening.below + opening.above) - 0.015).abs() < 0.003
        thin &= (opening.below > 0.005) & (opening.above > 0.005)
        assert int(thin.sum()) > 2
        assert (float(opening.alpha[thin].max()) == 0) == gone
