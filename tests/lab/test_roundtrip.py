"""Round-trip pairs: random targets stay within bounds, and carrying there and back loses only what was hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from people import directional, person

from difffae.common.pixels import gaussian_blur
from difffae.common.rotations import axis_angle_to_matrix, to_yaw_pitch_roll
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.lab.prepare.roundtrip import TargetOptions, random_targets, round_trip
from difffae.report.measures import psnr

SIZE = 128


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="module")
def pool(head) -> FaceAttributes:
    lights = (directional(0.2, 0.1, 0.2), directional(-0.2, 0.1, 0.2), directional(0, 0.3, 0.1))
    return FaceAttributes.cat([person(head, seed, yaw=15.0 * seed - 30, light=lights[seed % 3]) for seed in range(5)])


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    noise = gaussian_blur(torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)), 2.5)
    return 0.5 + (noise - noise.mean()) / (noise - noise.mean()).abs().max() * 0.3


def test_targets_depend_on_the_generator_alone(pool):
    first, again, other = (random_targets(pool, pool, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(value, again.tensors()[name]) for name, value in first.tensors().items())
    assert not torch.equal(first.pose, other.pose)


def test_targets_keep_the_person_and_take_whole_groups_from_the_pool(pool):
    source = pool[[0] * 200]
    target = random_targets(source, pool, torch.Generator().manual_seed(0))
    assert torch.equal(target.shape, source.shape)
    assert torch.equal(target.albedo, source.albedo)
    assert torch.equal(target.camera[:, 0], source.camera[:, 0])
    assert torch.equal(target.pose[:, 0], source.pose[:, 0])  # the shoulders do not turn
    for name, share in (("expression", 0.7 * 4 / 5), ("light", 0.7 * 3 / 5)):
        values, allowed = getattr(target, name), getattr(pool, name)
        same = (values[:, None] == allowed[None]).flatten(2).all(-1)
        assert same.any(1).all()  # each is somebody's
        changed = 1 - same[:, 0].float().mean()
        assert abs(changed - share) < 0.1  # one or two in five have the source's own
    moved = (target.pose[:, 1] != source.pose[:, 1]).any(-1).float().mean()
    assert abs(moved - 0.85) < 0.1


@pytest.mark.slow
def test_targets_turn_as_far_as_asked(head):
    source = person(head, 1)[[0] * 300]
    for spread in (6.0, 18.0):
        options = TargetOptions(yaw=spread, pose_share=1.0)
        target = random_targets(source, source, torch.Generator().manual_seed(1), options)
        angles = to_yaw_pitch_roll(target.pose[:, 1])
        assert 0.8 * spread < angles[:, 0].std() < 1.2 * spread
        assert abs(angles[:, 0].mean()) < 0.25 * spread
        assert 5 < angles[:, 1].std() < 9
        forward = axis_angle_to_matrix(target.pose[:, 1])[:, :, 2]
        assert torch.rad2deg(torch.atan2(forward[:, 0], forward[:, 2])).abs().quantile(0.99) < 50
    assert torch.equal(source.pose, person(head, 1)[[0] * 300].pose)  # the source was not written to


def test_there_and_back_without_change_is_the_picture_itself(head, picture):
    face, known = person(head, 2), torch.ones(1, 1, SIZE, SIZE)
    image, validity = round_trip(picture, known, face, face, head)
    assert torch.equal(image, picture)
    assert torch.equal(validity, known)


def test_there_and_back_returns_what_stayed_in_sight(head):
    source = person(head, 1)
    target = replace(person(head, 1, yaw=14, pitch=4), light=directional(-0.1, 0.1, 0.2))
    drawn = render(head, source, SIZE)
    known = torch.ones(1, 1, SIZE, SIZE)
    image, validity = round_trip(drawn.image.clamp(0, 1), known, source, target, head)
    skin = head.skin_mask(drawn.raster)[:, None]
    kept = (skin & (validity > 0.9)).float()
    assert kept.sum() / skin.sum() > 0.4
    assert psnr(image, drawn.image.clamp(0, 1), kept) > 28
    lost = (skin & (validity < 0.2)).float()
    assert lost.sum() > 50  # the far cheek was out of sight
    assert psnr(image, drawn.image.clamp(0, 1), lost) < psnr(image, drawn.image.clamp(0, 1), kept) - 4


def test_padding_stays_unknown(head, picture):
    source, target = person(head, 1), person(head, 1, yaw=15)
    known = torch.ones(1, 1, SIZE, SIZE)
    known[..., -30:, :] = 0
    _, validity = round_trip(picture, known, source, target, head)
    assert validity[..., -24:, :].max() < 0.05
    assert validity[..., 30:70, :].mean() > 0.3
