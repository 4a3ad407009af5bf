"""Necks that stay while heads turn."""

from __future__ import annotations

import pytest
import torch
from people import person
from torch import Tensor

from difffae.carry.motion import steady_neck
from difffae.common.rotations import from_yaw_pitch_roll
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.shading import project


def _points(head: HeadModel, face: FaceAttributes, turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Projected vertices (1,V,3), with the neck turned by yaw, pitch and roll in degrees."""
    pose = face.pose.clone()
    pose[:, 0] = 0
    pose[:, 1] = from_yaw_pitch_roll(*turn)
    return project(head(face.shape, face.expression, pose), face.camera)


def _outline(head: HeadModel, points: Tensor, side: int) -> Tensor:
    """How far the neck reaches to a side at twelve heights from its ears' lobes down (12,)."""
    neck = head.vertex_mask("neck")
    lobe, low = points[0, head.vertex_mask("ears"), 1].amax(), points[0, neck, 1].quantile(0.85)
    rows = torch.linspace(float(lobe), float(low), 12)
    near = (points[0, :, 1] - rows[:, None]).abs() < 0.03
    return torch.where(near & neck, side * points[0, :, 0], -9.0).amax(-1)


def test_nothing_moves_where_nothing_turns(head: HeadModel):
    points = _points(head, person(head, 1))
    assert torch.equal(steady_neck(head, points, points.clone()), torch.zeros_like(points))


@pytest.mark.parametrize("yaw", [25.0, -25.0])
def test_a_neck_is_about_as_wide_as_it_was_on_the_side_that_comes_into_view(head: HeadModel, yaw: float):
    face = person(head, 2)
    before, turned = _points(head, face), _points(head, face, (yaw, 0.0, 0.0))
    moved = steady_neck(head, before, turned)
    near = -1 if yaw > 0 else 1
    was, lost, kept = (_outline(head, points, near) for points in (before, turned, turned + moved))
    assert (was - lost).max() > 0.04  # of a picture that is 2 wide: the model's neck leaves its place
    # most of it comes back, and nowhere more than there was
    assert (was - kept).clamp_min(0).sum() < 0.5 * (was - lost).clamp_min(0).sum()
    assert (kept - was.maximum(lost)).max() < 0.01
    # face, ears and shoulders go where the head model has them, and nothing goes up, down or to the front
    still = head.vertex_mask("face", "ears", "shoulders", "eyes", "mouth")
    assert moved[:, still].abs().max() == 0
    assert moved[..., 1:].abs().max() == 0


def test_a_neck_leans_with_a_head_that_rolls(head: HeadModel):
    face = person(head, 3)
    before = _points(head, face)
    assert steady_neck(head, before, _points(head, face, (0.0, 0.0, 15.0))).abs().max() == 0
    assert steady_neck(head, before, _points(head, face, (20.0, 0.0, 15.0))).abs().max() == 0
    assert steady_neck(head, before, _points(head, face, (20.0, 0.0, 0.0))).abs().max() > 0.01


def test_heads_without_labels_have_no_neck_to_keep(head: HeadModel):
    tensors = {name: buffer for name, buffer in head.named_buffers() if name not in ("labels", "face_labels")}
    unlabelled, face = HeadModel(head.config, tensors), person(head, 2)
    moved = steady_neck(unlabelled, _points(head, face), _points(head, face, (25.0, 0.0, 0.0)))
    assert torch.equal(moved, torch.zeros_like(moved))
