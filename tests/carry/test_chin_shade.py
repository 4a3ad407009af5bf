"""The shade below a jaw: it goes down with the jaw, lies on the neck only, and is none where no jaw moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.carry.light import CHIN_SHADE, chin_shade
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.prepared import Prepared, prepare, start_move


@pytest.fixture(scope="module")
def source(head: HeadModel) -> Prepared:
    face = person(head, 3, expression=0.0)
    return prepare(paint((render(head, face, SIZE).mask, SKIN)), face, head)


def shade(source: Prepared, jaw: float, turned: bool = False) -> torch.Tensor:
    head, face = source.head, source.face
    expression = face.expression.clone()
    expression[:, head.expression_names.index("jawOpen")] += jaw
    target: FaceAttributes = replace(face, expression=expression)
    if turned:
        target = replace(target, pose=target.pose + torch.tensor([0, 0.1, 0]) * torch.eye(5)[:1].T[None])
    move = start_move(source, target)
    return chin_shade(source, move.target, move.posed)


def test_the_neck_below_a_dropped_jaw_gets_darker(source: Prepared):
    found = shade(source, 0.6)
    posed = start_move(source, replace(source.face)).posed
    dark = found < -0.02
    assert int(dark.sum()) > 30
    rows = dark[0, 0].nonzero()[:, 0].float()
    face_rows = posed.part("face")[0, 0].nonzero()[:, 0].float()
    assert float(rows.mean()) > float(face_rows.max()) - 3  # below where the jaw was
    assert float(found.min()) >= float(torch.log1p(torch.tensor(-CHIN_SHADE))) - 1e-6


def test_nothing_happens_without_a_jaw_that_moves(source: Prepared):
    assert not shade(source, 0.0).any()
    assert not shade(source, 0.0, turned=True).any()


def test_it_grows_with_the_jaw(source: Prepared):
    sums = [float(shade(source, jaw).clamp(max=0).sum()) for jaw in (0.05, 0.15, 0.5)]
    assert 0 > sums[0] > sums[1] > sums[2]
