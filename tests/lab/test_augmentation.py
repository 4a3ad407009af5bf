"""Stills that are mirrored, framed and coloured otherwise: their attributes must still describe them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difffae.common.rotations import from_yaw_pitch_roll
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project
from difffae.lab.prepare.augmentation import Augmentation, Still, augment

SIZE = 128


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="module")
def still(head: HeadModel) -> Still:
    """A render of a turned face under coloured light from the side, and its landmarks."""
    generator = torch.Generator().manual_seed(3)
    pose = torch.zeros(2, 5, 3)
    pose[:, 1] = torch.stack([from_yaw_pitch_roll(15.0, -6.0, 4.0), from_yaw_pitch_roll(-9.0, 5.0, 0.0)])
    light = torch.zeros(2, 9, 3)
    light[:, 0] = torch.tensor([2.2, 2.0, 1.8])
    light[:, 1] = torch.tensor([0.3, 0.25, 0.2])
    face = FaceAttributes(
        head.name,
        0.5 * torch.randn(2, head.shape_count, generator=generator),
        torch.zeros(2, head.albedo_count),
        pose,
        torch.tensor([[4.2, 0.0, -0.02], [4.5, 0.01, -0.03]]),
        0.3 * torch.rand(2, head.expression_count, generator=generator),
        light,
    )
    points = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    picture = render(head, face, SIZE).image.clamp(0, 1)
    return Still(picture, torch.ones(2, 1, SIZE, SIZE), (points[..., :2] + 1) * SIZE / 2, face)


def test_nothing_changes_at_strength_zero(head: HeadModel, still: Still) -> None:
    same = augment(still, head, torch.Generator().manual_seed(0), Augmentation(0.0, 0.0, 0.0, 0.0, 0.0))
    torch.testing.assert_close(same.picture, still.picture, atol=2e-5, rtol=0)
    torch.testing.assert_close(same.landmarks, still.landmarks, atol=1e-3, rtol=0)
    for name, value in still.face.tensors().items():
        torch.testing.assert_close(getattr(same.face, name), value, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        Augmentation(1.0, 0.0, 0.0, 0.0, 0.0),
        Augmentation(0.0, 0.12, 0.05, 0.0, 0.0),
        Augmentation(0.0, 0.0, 0.0, 0.05, 0.05),
        Augmentation(1.0, 0.12, 0.05, 0.05, 0.05),
    ],
    ids=["flip", "frame", "colour", "all"],
)
def test_attributes_describe_the_changed_picture(head: HeadModel, still: Still, options: Augmentation) -> None:
    """The render of the new attributes is the new picture: resampling blurs, so the bound is on the mean."""
    new = augment(still, head, torch.Generator().manual_seed(1), options)
    drawn = render(head, new.face, SIZE).image.clamp(0, 1)
    inside = (drawn.amax(1, keepdim=True) > 0) & (new.picture.amax(1, keepdim=True) > 0) & (new.known > 0.99)
    assert inside.float().mean() > 0.1
    difference = ((drawn - new.picture).abs() * inside).sum() / (3 * inside.sum())
    moved = ((still.picture - new.picture).abs() * inside).sum() / (3 * inside.sum())
    assert difference < 0.012
    assert moved > 2 * difference
    points = head.landmarks(project(head(new.face.shape, new.face.expression, new.face.pose), new.face.camera))
    torch.testing.assert_close((points[..., :2] + 1) * SIZE / 2, new.landmarks, atol=0.02, rtol=0)


def test_what_comes_from_outside_is_not_known(head: HeadModel, still: Still) -> None:
    new = augment(still, head, torch.Generator().manual_seed(2), replace(Augmentation(), scale=0.0, shift=0.2, flip_share=0.0))
    shift = new.landmarks.mean(1) - still.landmarks.mean(1)
    for row in range(2):
        # a shift to the right uncovers columns at the left, which were outside
        columns = new.known[row, 0].amin(0)
        edge = columns[:2] if shift[row, 0] > 3 else columns[-2:]
        if shift[row, 0].abs() > 3:
            assert edge.max() == 0
    assert (shift.abs() > 3).any()
