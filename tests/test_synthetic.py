"""Synthetic portraits: labels, masks, pairs, determinism; small readers and blending."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difffae.crop import CENTRE_AT, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP
from difffae.data.fragments import blend, fragments
from difffae.data.people import background, lights
from difffae.data.people import generator as seeded
from difffae.data.proxies import _ranges
from difffae.data.synthetic import BACKGROUND, FACE, HAIR, Synthetic, SyntheticPeople, joint_matrices, skinned
from difffae.errors import ConfigError
from difffae.head import HeadModel
from difffae.render import project, render, sh_basis

MAKEHUMAN = Path(__file__).parents[2] / "shared" / "makehuman"
needs_assets = pytest.mark.skipif(not MAKEHUMAN.is_dir(), reason="MakeHuman's CC0 assets are not there")
SIZE = 128


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="module")
def people(head: HeadModel) -> SyntheticPeople:
    return SyntheticPeople(MAKEHUMAN, head)


@pytest.fixture(scope="module")
def pair(people: SyntheticPeople) -> Synthetic:
    return people.pair(3, SIZE)


def test_ranges_of_hidden_vertices() -> None:
    assert _ranges(["3", "5", "-", "7", "9"]) == [3, 5, 6, 7, 9]


def test_blend_orders_by_depth() -> None:
    # two triangles over the whole picture, the nearer one listed last, half transparent
    points = torch.tensor([[-5.0, -5, 0.5], [5, -5, 0.5], [0, 9, 0.5], [-5, -5, 0.1], [5, -5, 0.1], [0, 9, 0.1]])
    found = fragments(points, torch.tensor([[0, 1, 2], [3, 4, 5]]), 4, 4)
    assert len(found.pixel) == 32
    colour = torch.where(found.face[:, None] == 1, torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    out, cover = blend(found, colour, torch.full((32,), 0.5), 16)
    torch.testing.assert_close(out, torch.tensor([0.5, 0.25, 0]).expand(16, 3))
    torch.testing.assert_close(cover, torch.full((16,), 0.75))


def test_fragments_behind_the_limit_are_left_out() -> None:
    points = torch.tensor([[-5.0, -5, 0.5], [5, -5, 0.5], [0, 9, 0.5]])
    limit = torch.cat([torch.full((8,), 0.4), torch.full((8,), 0.6)])
    found = fragments(points, torch.tensor([[0, 1, 2]]), 4, 4, limit)
    assert found.pixel.sort().values.tolist() == list(range(8, 16))


def test_lights_are_neither_dark_nor_burnt() -> None:
    light = lights(seeded(0), 20)
    front = sh_basis(torch.tensor([0.0, 0.0, 1.0])) @ light  # (20,3)
    assert 0.4 < float(front.mean()) < 1.6
    assert float(light.std(0).mean()) > 0.05


def test_backgrounds_differ_by_seed_only() -> None:
    assert torch.equal(background(1, 64), background(1, 64))
    assert float((background(1, 64) - background(2, 64)).abs().mean()) > 0.02


def test_skinning_is_the_heads(head: HeadModel) -> None:
    g = torch.Generator().manual_seed(0)
    shape, expression = torch.randn(2, head.shape_count, generator=g), torch.rand(2, head.expression_count, generator=g)
    pose = 0.3 * torch.randn(2, 5, 3, generator=g)
    rest = head.unposed(shape, expression)
    ours = skinned(rest, head.skin_weights, joint_matrices(head, rest, pose))
    torch.testing.assert_close(ours, head(shape, expression, pose), atol=1e-5, rtol=0)


def test_missing_folder_is_one_clear_error(head: HeadModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skins"):
        SyntheticPeople(tmp_path, head)


@needs_assets
def test_labels_and_mask_agree(pair: Synthetic) -> None:
    assert pair.image.shape == (2, 3, SIZE, SIZE)
    assert pair.labels.dtype == torch.uint8
    assert int(pair.labels.max()) <= BACKGROUND
    assert torch.equal(pair.labels == BACKGROUND, pair.mask[:, 0] < 0.5)
    for value in (FACE, BACKGROUND):
        assert 0.1 < float((pair.labels == value).float().mean()) < 0.8


@needs_assets
def test_face_is_where_the_attributes_render_it(head: HeadModel, pair: Synthetic) -> None:
    drawn = render(head, pair.attributes, SIZE)
    person = pair.labels != BACKGROUND
    inside = drawn.mask[:, 0] > 0
    assert float(person[inside].float().mean()) > 0.97  # the open head's shoulders may be hidden, never bare
    skin = head.part_mask(drawn.raster, "face", "lips")
    shown = (pair.labels == FACE) | (pair.labels == HAIR)
    assert float(shown[skin].float().mean()) > 0.97


@needs_assets
def test_pair_is_one_person_before_one_background(pair: Synthetic) -> None:
    a, b = pair.attributes[0], pair.attributes[1]
    for name in ("shape", "albedo", "camera"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert float((a.pose - b.pose).abs().max()) > 0.02
    assert float((a.light - b.light).abs().max()) > 0.02
    assert float(a.pose[:, [0, 2, 3, 4]].abs().max()) == 0.0  # the head turns at the neck joint alone
    empty = (pair.mask == 0).all(0)[0]
    assert float(empty.float().mean()) > 0.15
    assert torch.equal(pair.image[0][:, empty], pair.image[1][:, empty])


@needs_assets
def test_seed_decides_everything(people: SyntheticPeople, head: HeadModel, pair: Synthetic) -> None:
    again = SyntheticPeople(MAKEHUMAN, head).pair(3, SIZE)
    torch.testing.assert_close(again.image, pair.image, atol=1e-4, rtol=0)
    assert torch.equal(again.labels, pair.labels)
    assert not torch.equal(people.person(3).shape, people.person(4).shape)


@needs_assets
def test_straight_face_sits_in_the_crop(people: SyntheticPeople, head: HeadModel) -> None:
    centres, heights = [], []
    for seed in range(8):
        person = people.person(seed)
        still = head(person.shape, torch.zeros(1, head.expression_count), torch.zeros(1, 5, 3))
        oval = head.landmarks(project(still, person.camera))[0, [OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT], :2]
        centres.append((oval.mean(0) + 1) / 2)
        heights.append(float((oval[1] - oval[0]).norm()) / 2)
    centre = torch.stack(centres).mean(0)
    assert abs(float(centre[0]) - 0.5) < 0.03
    assert abs(float(centre[1]) - CENTRE_AT) < 0.03
    assert 0.40 < sum(heights) / 8 < 0.60
