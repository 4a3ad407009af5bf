"""Where a head ends and its neck begins: an even line, though the parts of the mesh end in teeth of triangles."""

from __future__ import annotations

from dataclasses import replace

import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.passes import _head_not_neck
from difffae.person.prepared import prepare, start_move
from difffae.source.regions import Layers


def unevenness(share: torch.Tensor) -> float:
    """Mean second difference in pixels, over three columns, of the row at which a share (H,W) ends."""
    columns = share[:, SIZE // 2 - SIZE // 10 : SIZE // 2 + SIZE // 10]
    rows = columns.sum(0)
    return float((rows[6:] - 2 * rows[3:-3] + rows[:-6]).abs().mean())


def test_a_dropped_jaw_ends_in_an_even_line(head: HeadModel):
    face = replace(person(head, 3, expression=0.0), camera=torch.tensor([[9.0, 0.0, 0.0]]))
    covered = render(head, face, SIZE).mask
    layers = Layers(covered, covered, torch.zeros_like(covered), torch.zeros_like(covered))
    expression = face.expression.clone()
    expression[:, head.expression_names.index("jawOpen")] = 0.6
    move = start_move(prepare(paint((covered, SKIN)), face, head, layers=layers), replace(face, expression=expression))
    share = _head_not_neck(move)[0][0, 0]
    assert unevenness(share) < 0.45  # 0.70 with the blur that turned heads get
