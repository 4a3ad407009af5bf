"""Eyes that close: lids and lashes where eyes close, for every skin; nothing elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import SIZE, SKIN, paint
from people import person

from difffae.carry.motion import pose_head
from difffae.carry.options import CarryOptions
from difffae.common.checkpoint import asset_path, load_checkpoint
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project
from difffae.person.eyes import MEET, eye_source
from difffae.person.lids import EYES, KIND, EyeFrame, LidFrame, columns, curve_through, lowered_lid
from difffae.person.prepared import Carried, carry

WITHOUT = CarryOptions(eyes=False)
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
    face = blinking(head, face, 0.0, 0.0)  # lids meet near the lower one of the open eye
    marks = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    marks = (marks + torch.tensor([1.0, 1.0, 0.0])) * SIZE / 2 - torch.tensor([0.5, 0.5, 0.0])
    right, down = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")
    frame = EyeFrame.of(marks, side)
    lower = curve_through(frame.coordinates(marks[:, list(EYES[side].lower), :2]))
    closed = lower + MEET * (1 - (2 * columns(lower)).square()).clamp_min(0)
    along, across = frame.lid_frame(closed, side).coordinates(torch.stack([right, down], -1)[None].float())
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
    new, _ = moved(head, source, target, colour)
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
    changed = (new.image != paint((render(head, source, SIZE).mask, colour))).any(1, keepdim=True)
    assert 0.005 < changed.float().mean() < 0.12


def test_a_lid_is_as_dark_as_the_skin_around_it_and_no_darker_for_a_rim():
    width, size = 40.0, 96
    points = torch.stack([torch.linspace(0, 1, 9), torch.zeros(9)], -1)[None]
    frame = LidFrame(torch.tensor([[28.0, 52.0]]), torch.tensor([[width, 0.0]]), torch.tensor([[0.0, width]]), points)
    places = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy"), -1)[None].float()
    along, across = frame.coordinates(places)
    look, every = load_checkpoint(asset_path("lids.safetensors"), KIND).tensors["look"].expand(1, -1, -1, -1), torch.ones(1, 1, size, size)
    skin = torch.tensor([0.7, 0.55, 0.48])[None, :, None, None].expand(-1, -1, size, size)
    upper, upper_lid = (across < -0.08)[:, None], ((across > -0.4) & (across < -0.3) & ((along - 0.5).abs() < 0.2))[:, None]
    rim = ((across > -0.62) & (across < -0.46))[:, None]

    def light(picture: torch.Tensor) -> float:
        """Of the upper part of the lid that is laid over a picture."""
        lid, _ = lowered_lid(picture, every, (along, across), (1.0, 1.0), torch.full_like(across, 0.42), look, frame)
        return lid.mean(1, keepdim=True)[upper_lid].mean().item()

    plain = light(skin)
    assert light(torch.where(upper, 0.6 * skin, skin)) == pytest.approx(0.6 * plain, rel=0.15)
    assert light(torch.where(rim, 0.1 * skin, skin)) > 0.8 * plain


def test_eyes_that_are_closed_get_no_second_lid(head: HeadModel):
    closed, tighter = (blinking(head, near(head), value, value) for value in (0.65, 1.0))
    new, _ = moved(head, closed, tighter)
    for side in range(2):
        lashes = bands(head, tighter, side)[1]
        assert (new.image[:, :, lashes[0, 0]].mean((0, 2)) / SKIN).min() > 0.9


def test_a_wink_closes_one_eye(head: HeadModel):
    face = near(head)
    target = blinking(head, face, 1.0, 0.0)
    new, _ = moved(head, face, target)
    changed = (new.image != paint((render(head, face, SIZE).mask, SKIN))).any(1, keepdim=True)
    right, left = (bands(head, target, side)[1] for side in range(2))
    assert changed[right].float().mean() > 0.95
    assert not changed[left].any()
    assert not changed[..., SIZE // 2 :].any()  # the subject's left is the picture's right


def test_an_eye_beside_one_that_closes_farther_gets_more_of_its_lid(head: HeadModel):
    """Scores of two eyes that are closed differ; a wink's do not count as such."""
    face = near(head)
    depths = []
    for right in (0.0, 0.85):
        target = blinking(head, face, right, 0.62)
        new, _ = moved(head, face, target)
        depths.append(float((SKIN.mean() - new.image.mean(1, keepdim=True))[bands(head, target, 1)[1]].mean()))
    assert depths[0] > 0.01
    assert depths[1] > 1.3 * depths[0]


def test_lids_show_more_the_farther_an_eye_closes(head: HeadModel):
    """Their skin comes out at once; lashes are dark where the lids of a closed eye meet."""
    face = near(head)
    dark, made = [], []
    for blink in (0.2, 0.4, 0.5, 0.6, 1.0):
        target = blinking(head, face, blink, blink)
        new, old = moved(head, face, target)
        lashes = bands(head, target, 0)[1]
        dark.append(float((old.image - new.image).mean(1, keepdim=True)[lashes].mean()))
        made.append(float(1 - new.own_share.mean()))
    assert made[0] > 0.001
    assert made == sorted(made)
    assert dark[1] < dark[2] < dark[3] < dark[4]
    assert dark[4] > 0.15


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


def test_the_look_is_measured_from_the_skin_around():
    look = load_checkpoint(asset_path("lids.safetensors"), KIND).tensors["look"]
    assert look.shape == (1, 40, 64)
    assert look.isfinite().all()
    assert (look[:, 33:37, 16:47].mean((1, 2)).abs() < 0.15).all()  # the skin below
    assert look[:, 23:27, 24:40].mean() < -0.4  # lashes
    assert asset_path("lids.safetensors").stat().st_size < 40_000


def test_heads_without_landmarks_get_no_lids(head: HeadModel):
    names = tuple(f"expression_{number}" for number in range(head.expression_count))
    unnamed = HeadModel({**head.config, "expression_names": names}, dict(head.named_buffers()))
    face = near(head)
    posed = pose_head(unnamed, face, torch.zeros(1, head.vertex_count, 3), (SIZE, SIZE))
    assert eye_source(unnamed, face, torch.zeros(1, 3, SIZE, SIZE), posed, None) is None
