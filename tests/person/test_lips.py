"""Lips that close over teeth: their colour and their seam come back, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import torch
from kornia.utils import draw_convex_polygon
from painted import SIZE, SKIN, paint
from people import person

from difffae.carry.state import Move
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project
from difffae.person.lips import closed_lips
from difffae.person.mouth import LOWER, OUTER_LOWER, OUTER_UPPER, UPPER, MouthFrame
from difffae.person.mouth_opening import Opening, mouth_marks
from difffae.person.prepared import prepare, start_move

RED, WHITE = torch.tensor([0.75, 0.35, 0.35]), torch.tensor([0.9, 0.9, 0.85])


def mouthed(head: HeadModel, jaw: float) -> FaceAttributes:
    face = replace(person(head, 3, expression=0.0), camera=torch.tensor([[12.0, 0.0, 0.05]]))
    expression = face.expression.clone()
    expression[:, head.expression_names.index("jawOpen")] = jaw
    return replace(face, expression=expression)


def marks_of(head: HeadModel, face: FaceAttributes) -> torch.Tensor:
    points = project(head(face.shape, face.expression, face.pose), face.camera)
    return mouth_marks(head, points, (SIZE, SIZE))[0]


def painted_mouth(head: HeadModel, face: FaceAttributes) -> torch.Tensor:
    """Skin with red lips and white teeth between them."""
    marks, picture = marks_of(head, face)[:, :2], paint((render(head, face, SIZE).mask, SKIN))
    for upper, lower, colour in ((OUTER_UPPER, OUTER_LOWER, RED), (UPPER, LOWER, WHITE)):
        outline = torch.cat([marks[list(upper)], marks[list(lower)].flip(0)])
        share = draw_convex_polygon(torch.zeros(1, 1, SIZE, SIZE), outline[None], torch.ones(1, 1))
        picture = torch.lerp(picture, colour[None, :, None, None].expand_as(picture), share)
    return picture


def test_lips_that_close_over_teeth_are_red_and_have_a_seam(head: HeadModel):
    source, target = mouthed(head, 0.5), mouthed(head, 0.0)
    prepared = prepare(painted_mouth(head, source), source, head)
    shown, points = prepared.move(target).image, start_move(prepared, target).posed.points
    marks = mouth_marks(head, points, (SIZE, SIZE))[0, :, :2]
    seam, above, below = (marks[13] + marks[14]) / 2, (marks[0] + marks[13]) / 2, (marks[14] + marks[17]) / 2
    tones = {name: shown[0, :, round(place[1].item()), round(place[0].item())] for name, place in (("above", above), ("below", below))}
    for tone in tones.values():
        assert (tone[0] - tone[1]) / tone[0] > 0.8 * (RED[0] - RED[1]) / RED[0]
    middle = shown[0, :, round(seam[1].item()) - 1 : round(seam[1].item()) + 2, round(seam[0].item())].mean(0).min()
    assert middle < 0.85 * min(tone.mean() for tone in tones.values())


def closing(head: HeadModel, source: FaceAttributes, target: FaceAttributes) -> tuple[Move, Opening, torch.Tensor]:
    """What `closed_lips` is told of a painted mouth: the move, its opening, and the window of the picture."""
    picture = painted_mouth(head, source)
    now, before = (MouthFrame.of(marks_of(head, face)) for face in (target, source))
    opening = Opening.of(now, before, (SIZE, SIZE))
    return start_move(prepare(picture, source, head), target), opening, picture[opening.here]


def test_lips_that_were_closed_keep_every_bit(head: HeadModel):
    move, opening, window = closing(head, mouthed(head, 0.0), mouthed(head, 0.02))
    assert torch.equal(closed_lips(move, 0, opening, window), window)


def test_black_beside_lips_that_close_gives_colours(head: HeadModel):
    """Pictures that were moved swing below black at their edges, and a fractional power of that is no number."""
    move, opening, window = closing(head, mouthed(head, 0.5), mouthed(head, 0.0))
    window = torch.where(torch.arange(window.shape[-1]) // 3 % 2 == 0, window, -0.05)
    made = closed_lips(move, 0, opening, window)
    assert made.isfinite().all()
    assert not torch.equal(made, window)
