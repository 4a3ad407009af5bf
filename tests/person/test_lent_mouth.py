"""Mouths that another photograph lends along with its expression: what is cut out of it, who wins, and in which colours it arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from people import person
from torch import Tensor

from difffae.head.attributes import FaceAttributes, compose
from difffae.head.morphable import HeadModel
from difffae.head.mouth_patch import PATCH, MouthPatch
from difffae.person.lent_mouth import SKIN, lent_inside, lent_mouth, mouth_patches
from difffae.person.mouth import LOWER, UPPER

SIDE = 128


def landmarks(opening: float) -> Tensor:
    """(1,478,3) of a mouth 40 pixels wide whose lips are apart by `opening` widths, with cheeks around."""
    points = torch.full((1, 478, 3), 20.0)
    points[..., 2] = 0
    for lip, down in ((UPPER, 0.0), (LOWER, opening)):
        for number, mark in enumerate(lip):
            share = number / (len(lip) - 1)
            inner = 0 < share < 1
            points[0, mark, :2] = torch.tensor([44 + 40 * share, 60 + (40 * down if inner else 20 * opening)])
    points[0, list(SKIN), :2] = 20.0
    return points


def picture(teeth: tuple[float, float, float], skin: tuple[float, float, float]) -> Tensor:
    """(1,3,SIDE,SIDE): skin, and from row 50 to 69 of the middle teeth, below them darkness."""
    shown = torch.tensor(skin)[None, :, None, None].expand(1, 3, SIDE, SIDE).clone()
    shown[:, :, 50:70, 40:90] = torch.tensor(teeth)[:, None, None]
    shown[:, :, 70:, 40:90] = 0.08
    return shown


def test_a_patch_is_what_lies_between_the_lips():
    patch = mouth_patches(picture((0.9, 0.88, 0.8), (0.7, 0.5, 0.4)), landmarks(0.5))
    assert tuple(patch.picture.shape) == (1, 3, *PATCH)
    assert patch.opening.item() == pytest.approx(0.5, abs=0.02)
    assert patch.skin[0].tolist() == pytest.approx([0.7, 0.5, 0.4], abs=1e-3)
    middle = patch.picture[0, :, :, PATCH[1] // 2]
    assert middle[:, 5].tolist() == pytest.approx([0.9, 0.88, 0.8], abs=0.02)  # teeth under the upper lip
    assert middle[:, -5].max() < 0.12


@pytest.mark.parametrize("skin", [(0.8, 0.62, 0.52), (0.35, 0.22, 0.16)])
def test_lent_teeth_take_the_light_of_the_face_that_gets_them(skin: tuple[float, float, float]):
    """Teeth seen in orange light are about white in daylight, and never brighter than the teeth that the face is to have."""
    patch = mouth_patches(picture((0.9, 0.72, 0.45), (0.55, 0.3, 0.15)), landmarks(0.5))
    teeth = torch.tensor([0.62, 0.6, 0.55])
    share, depth = torch.full((4, 4), 0.5), torch.full((4, 4), 0.1)
    colour = lent_inside(patch, share, depth, torch.tensor(skin), teeth).mean((1, 2))
    assert float(colour.max() / colour.min()) < 1.45 < 0.9 / 0.45
    assert float(colour.mean()) < 1.15 * float(teeth.mean())
    dark = lent_inside(patch, share, torch.full((4, 4), 0.9), torch.tensor(skin), teeth)
    assert float(dark.mean()) < 0.15


def test_only_another_mouth_that_is_open_is_lent():
    head = HeadModel.load()
    own, other = (replace(person(head, seed), mouth=patch(value)) for seed, value in ((1, 0.02), (2, 0.4)))
    assert lent_mouth(own, own, 0) is None
    taken = compose(own, expression=other)
    lent = lent_mouth(own, taken, 0)
    assert lent is not None
    assert lent.opening.item() == pytest.approx(0.4)
    assert lent_mouth(own, compose(own, pose=other, light=other), 0) is None
    assert lent_mouth(own, compose(own, expression=replace(other, mouth=patch(0.05))), 0) is None
    assert lent_mouth(own, compose(own, expression=replace(other, mouth=None)), 0) is None


def patch(opening: float) -> MouthPatch:
    return MouthPatch(torch.full((1, 3, *PATCH), opening), torch.tensor([opening]), torch.tensor([[0.6, 0.45, 0.4]]))


def test_batches_and_texts_of_faces_with_and_without_mouths():
    head = HeadModel.load()
    plain: FaceAttributes = person(head, 1)
    shown = replace(person(head, 2), mouth=patch(0.4))
    both = FaceAttributes.cat([plain, shown])
    assert both.mouth is not None
    assert both.mouth.opening.tolist() == pytest.approx([0, 0.4])
    assert both[1].expand(3).to(torch.float64).mouth.picture.shape == (3, 3, *PATCH)  # type: ignore[union-attr]
    assert FaceAttributes.from_json(shown.to_json()).mouth is None
    assert "mouth" not in shown.tensors()
