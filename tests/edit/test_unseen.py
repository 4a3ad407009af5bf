"""The mask of what no photograph showed, for models that paint it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difffae import Adjustments, DiffFAE, Edit, read_image
from difffae.common.checkpoint import asset_path
from difffae.edit.analysing import with_slots
from difffae.edit.moving import move
from difffae.edit.native import steady
from difffae.edit.pasting import unseen


@pytest.fixture(scope="module")
def turned():
    model = DiffFAE.from_pretrained("open-256")
    face = with_slots(model, model.analyse(read_image(asset_path("source.png"))[0]))
    with torch.no_grad():
        # a background that stays is uncovered; one that goes along with the head is not
        return face, move(steady(model), Edit(face, model.target(face, change=Adjustments(yaw=20))))


def test_it_is_what_was_uncovered(turned) -> None:
    face, moved = turned
    mask = unseen(face, moved)
    assert mask.shape == (1, 1, 384, 384)
    assert float(((mask > 0.02) & (mask < 0.98)).float().mean()) < 0.05  # sharp
    square = face.crop
    outside = mask.clone()
    outside[..., square.top : square.top + square.side, square.left : square.left + square.side] = 0
    assert float(outside.max()) == 0
    # image left of a head that turned to the right the background is uncovered; the middle of the face was seen
    assert float(mask[0, 0, 84:108, 122:128].mean()) > 0.9
    assert float(mask[0, 0, 80:120, 165:195].mean()) < 0.1
    assert float(mask[0, 0, 80:150, 20:60].mean()) == 0
    # hair over the forehead is the photograph's own, on the side that turns to the camera, too (it was in the mask up to the head's middle)
    assert float(mask[0, 0, 40:52, 178:189].max()) < 0.02


def test_nothing_moved_nothing_is_unseen(turned) -> None:
    face, moved = turned
    assert float(unseen(face, replace(moved, unchanged=torch.ones(1, dtype=torch.bool))).max()) == 0


def test_a_limit_limits_it_and_without_a_photograph_all_is_unseen(turned) -> None:
    face, moved = turned
    half = torch.zeros(1, 1, 256, 256)
    half[..., :128] = 1
    limited, whole = unseen(face, moved, half), unseen(face, moved)
    middle = face.crop.left + face.crop.side // 2
    assert float(limited[..., middle + 2 :].max()) == 0
    assert torch.equal(limited[..., : middle - 2], whole[..., : middle - 2])
    square = face.crop
    alone = unseen(face, None)
    assert float(alone[..., square.top : square.top + square.side, square.left : square.left + square.side].min()) > 0.999
    assert float(alone.mean()) == pytest.approx(square.side**2 / 384**2, rel=1e-4)


def test_specks_are_no_holes(turned) -> None:
    _, moved = turned
    validity = torch.ones(1, 1, 256, 256)
    validity[..., 100, 100] = 0
    validity[..., 150:170, 150:170] = 0.5  # what was made up counts as unseen
    mask = replace(moved, image=torch.zeros(1, 3, 256, 256), validity=validity, margin=0).unseen
    assert float(mask[..., 95:106, 95:106].max()) == 0
    assert mask[0, 0, 149:171, 149:171].eq(1).all()
    assert float(mask.sum()) == 22 * 22
