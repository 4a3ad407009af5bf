"""Eyes that close: lids and lashes where eyes close, for every skin; nothing elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.carry.options import CarryOptions
from difffae.common.checkpoint import asset_path, load_checkpoint
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project
from difffae.person.lids import EYES, KIND, LidFrame, lid_source
from difffae.person.prepared import Carried, carry

WITHOUT = CarryOptions(lids=False)
LID, LASHES = (-0.15, -0.08), (0.03, 0.09)  # across the edge, in widths of the eye


def blinking(head: HeadModel, face: FaceAttributes, right: float, left: float) -> FaceAttributes:
    expression = face.expression.clone()
    for eye, value in zip(EYES, (right, left), strict=True):
        expression[:, head.expression_names.index(eye.blink)] = value
    return replace(face, expression=expression)


def near(head: HeadModel, yaw: float = 0.0) -> FaceAttributes:
    """A face with open eyes of some 40 pixels."""
    return replace(blinking(head, person(head, 3, yaw=yaw, expression=0.0), 0.0, 0.0), camera=torch.tensor([[12.0, 0.0, 0.0]]))


def bands(head: HeadModel, face: FaceAttributes, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(1,1,SIZE,SIZE) bool: the middle of the lid, and that of the lashes."""
    marks = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    marks = (marks + torch.tensor([1.0, 1.0, 0.0])) * SIZE / 2 - torch.tensor([0.5, 0.5, 0.0])
    right, down = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")
    along, across = LidFrame.of(marks, EYES[side]).coordinates(torch.stack([right, down], -1)[None].float())
    middle = (along - 0.5).abs() < 0.2
    lid, lashes = (((across > low) & (across < high) & middle)[:, None] for low, high in (LID, LASHES))
    return lid, lashes


def moved(head: HeadModel, source: FaceAttributes, target: FaceAttributes, skin: torch.Tensor = SKIN) -> tuple[Carried, Carried]:
    """With lids, and without."""
    picture = paint((render(head, source, SIZE).mask, skin))
    return carry(picture, source, target, head), carry(picture, source, target, head, options=WITHOUT)


@pytest.mark.parametrize("skin", [(0.85, 0.68, 0.6), (0.25, 0.15, 0.11)])
def test_a_closed_eye_has_lashes_on_any_skin(head: HeadModel, skin: tuple[float, float, float]):
    source, target = near(head), blinking(head, near(head), 1.0, 1.0)
    colour = torch.tensor(skin)
    new, old = moved(head, source, target, colour)
    for side in range(2):
        lid, lashes = bands(head, target, side)
        assert int(lid.sum()) > 20
        assert int(lashes.sum()) > 20
        tones = [(new.image[:, :, part[0, 0]].mean((0, 2)) + 0.03) / (colour + 0.03) for part in (lid, lashes)]
        assert tones[0].min() > 0.7
        assert tones[0].max() < 1.3
        assert tones[1].max() < 0.65
        assert (tones[1].amax() - tones[1].amin()) < 0.1  # no colour of their own
        assert (new.validity[lid] - CarryOptions().lid_validity).abs().max() < 0.05
    away = torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)
    changed = (new.image != old.image).any(1, keepdim=True)
    assert 0.005 < changed[away].float().mean() < 0.08


@pytest.mark.parametrize(("own", "wanted"), [(0.0, 0.0), (0.3, 0.1), (0.0, 0.3), (0.65, 1.0)])
def test_eyes_that_hardly_close_or_are_closed_keep_their_bits(head: HeadModel, own: float, wanted: float):
    face = near(head)
    new, old = moved(head, blinking(head, face, own, own), blinking(head, face, wanted, wanted))
    assert torch.equal(new.image, old.image)
    assert torch.equal(new.validity, old.validity)


def test_a_wink_closes_one_eye(head: HeadModel):
    face = near(head)
    target = blinking(head, face, 1.0, 0.0)
    new, old = moved(head, face, target)
    changed = (new.image != old.image).any(1, keepdim=True)
    right, left = (bands(head, target, side)[1] for side in range(2))
    assert changed[right].float().mean() > 0.95
    assert not changed[left].any()
    assert not changed[..., SIZE // 2 :].any()  # the subject's left is the picture's right


def test_an_eye_beside_one_that_closes_farther_gets_more_of_its_lid(head: HeadModel):
    """Scores of two eyes that are closed differ; a wink's do not count as such."""
    face = near(head)
    depths = []
    for right in (0.0, 0.65):
        target = blinking(head, face, right, 0.55)
        new, old = moved(head, face, target)
        depths.append((old.image - new.image).mean(1, keepdim=True)[bands(head, target, 1)[1]].mean())
    assert depths[0] > 0.05
    assert 1.3 < depths[1] / depths[0] < 1.55  # amounts of 0.87 and 0.61


def test_lids_show_more_the_farther_an_eye_closes(head: HeadModel):
    face = near(head)
    dark = []
    for blink in (0.4, 0.5, 0.6, 1.0):
        target = blinking(head, face, blink, blink)
        new, old = moved(head, face, target)
        dark.append(float((old.image - new.image).clamp_min(0).sum()))
    assert 0 < dark[0] < dark[1] < dark[2] < dark[3]


def test_turned_heads_and_batches(head: HeadModel):
    face = near(head)
    targets = [blinking(head, face, 1.0, 1.0), blinking(head, face, 0.0, 0.0), blinking(head, near(head, yaw=25.0), 1.0, 1.0)]
    picture = paint((render(head, face, SIZE).mask, SKIN))
    together = carry(picture.expand(3, -1, -1, -1), face, FaceAttributes.cat(targets), head)
    for row, target in enumerate(targets):
        alone = carry(picture, face, target, head)
        assert (together.image[row] - alone.image[0]).abs().mean() < 1e-4
    turned = targets[2]
    new, old = moved(head, face, turned)
    for side in range(2):
        lashes = bands(head, turned, side)[1]
        assert int(lashes.sum()) > 10
        assert (new.image - old.image).mean(1, keepdim=True)[lashes].mean() < -0.1


def test_the_look_is_measured_from_the_skin_below():
    look = load_checkpoint(asset_path("lids.safetensors"), KIND).tensors["look"]
    assert look.shape == (1, 40, 56)
    assert look.isfinite().all()
    assert (look[:, 29:34, 12:44].mean((1, 2)).abs() < 0.15).all()  # the skin below, from which it is measured
    assert look[:, 20:24, 20:36].mean() < -0.4  # lashes
    assert asset_path("lids.safetensors").stat().st_size < 40_000


def test_heads_without_landmarks_get_no_lids(head: HeadModel):
    names = tuple(f"expression_{number}" for number in range(head.expression_count))
    unnamed = HeadModel({**head.config, "expression_names": names}, dict(head.named_buffers()))
    assert lid_source(unnamed, near(head)) is None
