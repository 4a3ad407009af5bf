"""Synthetic portraits: labels, masks, pairs, determinism; small readers and blending."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from places import SHARED
from safetensors.torch import load_file

from difffae.cli import main
from difffae.common.errors import ConfigError
from difffae.common.rotations import axis_angle_to_matrix
from difffae.estimation.fit import inter_ocular
from difffae.faces.crop import CENTRE_AT, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project, sh_basis, sh_shading
from difffae.lab.people.behaviour import poses
from difffae.lab.people.complexion import TONES, group_of, to_lab, tone_colour
from difffae.lab.people.makehuman import ranges
from difffae.lab.people.randomness import generator as seeded
from difffae.lab.people.wardrobe import TOPS
from difffae.lab.studio.backdrops import background
from difffae.lab.studio.fragments import blend, fragments
from difffae.lab.studio.lens import photograph
from difffae.lab.studio.lighting import Rig, rigs
from difffae.lab.studio.scene import Scene
from difffae.lab.studio.synthetic import BACKGROUND, CLOTHES, FACE, HAIR, Synthetic, SyntheticPeople

MAKEHUMAN = SHARED / "makehuman"
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
    """Without blur and noise."""
    person = people.person(3)
    attributes, rig = people.attributes(person, 3, 2)
    return people.render(person, attributes, 3, SIZE, rig)


def test_ranges_of_hidden_vertices() -> None:
    assert ranges(["3", "5", "-", "7", "9"]) == [3, 5, 6, 7, 9]


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


def test_tone_is_the_angle_of_the_colour() -> None:
    for ita in (-55.0, -20.0, 0.0, 20.0, 45.0, 62.0):
        lightness, _, yellowness = to_lab(tone_colour(ita).double().numpy())
        assert math.degrees(math.atan2(lightness - 50, yellowness)) == pytest.approx(ita, abs=0.3)
    brightness = [float(tone_colour(ita).mean()) for ita in range(-60, 65, 5)]
    assert brightness == sorted(brightness)


def test_turns_reach_sixty_degrees() -> None:
    pose = poses(seeded(1), 400)
    turn = axis_angle_to_matrix(pose[:, 1])
    yaw = torch.rad2deg(torch.atan2(turn[:, 0, 2], turn[:, 2, 2])).abs()
    assert float(yaw.max()) > 55
    assert 0.05 < float((yaw > 40).float().mean()) < 0.25
    assert float(pose[:, [0, 2, 3, 4]].abs().max()) == 0.0


def test_one_camera_takes_both_pictures() -> None:
    grey = torch.full((2, 3, 64, 64), 0.5)
    spread = []
    for seed in range(12):
        taken = photograph(grey, seed)
        assert torch.equal(taken, photograph(grey, seed))
        spread.append(taken.std((1, 2, 3)))
    levels = torch.stack(spread)  # (12,2)
    assert 2 <= int((levels.amax(1) == 0).sum()) <= 8  # some lose nothing
    torch.testing.assert_close(levels[:, 0], levels[:, 1], atol=6e-4, rtol=0)  # as noisy, not the same noise
    assert float(levels.max()) < 0.02


def test_lights_are_neither_dark_nor_burnt() -> None:
    rig = rigs(seeded(0), 20)
    light = rig.light
    front = sh_basis(torch.tensor([0.0, 0.0, 1.0])) @ light  # (20,3)
    assert 0.4 < float(front.mean()) < 1.6
    assert float(light.std(0).mean()) > 0.05
    # the key is a part of the whole, and brightest towards its direction
    towards = (sh_basis(rig.direction)[:, None] @ rig.key)[:, 0]
    assert torch.all(towards >= (sh_basis(-rig.direction)[:, None] @ rig.key)[:, 0])
    assert 0.4 < float((rig.shadow > 0).float().mean()) < 1


def test_backgrounds_differ_by_seed_only() -> None:
    assert torch.equal(background(1, 64), background(1, 64))
    assert float((background(1, 64) - background(2, 64)).abs().mean()) > 0.02


@needs_assets
def test_skinning_is_the_heads(people: SyntheticPeople, head: HeadModel) -> None:
    person = replace(people.person(12), top=TOPS[0])  # a painted top would stand off the skin
    attributes, _ = people.attributes(person, 12)
    placed = Scene(people.wardrobe, person, attributes).vertices
    torch.testing.assert_close(placed, head(attributes.shape, attributes.expression, attributes.pose), atol=1e-5, rtol=0)


def test_missing_folder_is_one_clear_error(head: HeadModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skins"):
        SyntheticPeople(tmp_path, head)


@pytest.mark.slow
@needs_assets
def test_labels_and_mask_agree(pair: Synthetic) -> None:
    assert pair.image.shape == (2, 3, SIZE, SIZE)
    assert pair.labels.dtype == torch.uint8
    assert int(pair.labels.max()) <= BACKGROUND
    assert torch.equal(pair.labels == BACKGROUND, pair.mask[:, 0] < 0.5)
    torch.testing.assert_close(pair.shares.sum(1), torch.ones(2, SIZE, SIZE))
    assert float(pair.shares.min()) >= 0
    person = pair.labels != BACKGROUND
    assert torch.equal(pair.labels[person], pair.shares[:, :BACKGROUND].argmax(1)[person].to(torch.uint8))
    assert float(pair.depth[:, 0][~person].min()) > 0.2  # nothing near where the background is
    for value in (FACE, BACKGROUND):
        assert 0.1 < float((pair.labels == value).float().mean()) < 0.8


@pytest.mark.slow
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
    for name in ("shape", "albedo"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert float((a.pose - b.pose).abs().max()) > 0.02
    assert float((a.light - b.light).abs().max()) > 0.02
    assert float(a.pose[:, [0, 2, 3, 4]].abs().max()) == 0.0  # the head turns at the neck joint alone
    empty = (pair.mask == 0).all(0)[0]
    assert float(empty.float().mean()) > 0.15
    assert torch.equal(pair.image[0][:, empty], pair.image[1][:, empty])


@pytest.mark.slow
@needs_assets
def test_seed_decides_everything(people: SyntheticPeople, head: HeadModel, pair: Synthetic) -> None:
    other = SyntheticPeople(MAKEHUMAN, head)
    person = other.person(3)
    attributes, rig = other.attributes(person, 3, 2)
    again = other.render(person, attributes, 3, SIZE, rig)
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


@pytest.mark.slow
@needs_assets
def test_landmarks_are_found_where_the_codes_put_them(people: SyntheticPeople, head: HeadModel) -> None:
    landmarker = FaceLandmarker.load().eval()
    errors = []
    for seed in (31, 32, 33, 34):
        person = replace(people.person(seed), hat=None, style="short04")
        attributes, rig = people.attributes(person, seed)
        attributes = replace(attributes, pose=attributes.pose * 0.4)
        made = people.render(person, attributes, seed, 256, rig)
        points = head.landmarks(project(head(attributes.shape, attributes.expression, attributes.pose), attributes.camera))
        true = (points[..., :2] + 1) * 128
        with torch.no_grad():
            found = landmarker.detect(made.image)[0]
        assert len(found) == 1
        errors.append(float((found[0].landmarks[:, :2] - true[0]).norm(dim=-1).mean() / inter_ocular(true)[0]))
    assert sum(errors) / 4 < 0.09  # the network sits 4 to 7 % beside the mesh's own points on any face
    assert max(errors) < 0.13


@pytest.mark.slow
@needs_assets
@pytest.mark.parametrize("ita", [45.0, -40.0])
def test_light_label_is_the_shading_of_skin(people: SyntheticPeople, head: HeadModel, ita: float) -> None:
    person = replace(people.person(12, ita), beard=0.0, age=25.0, glasses=None, hat=None, style=None)
    attributes, rig = people.attributes(person, 12, 4)
    made = people.render(person, attributes, 1, SIZE)  # without cast shadows
    drawn = render(head, attributes, SIZE)
    face = head.part_mask(drawn.raster, "face") & (drawn.normals.norm(dim=1) > 0.97)
    shading = sh_shading(made.normals.permute(0, 2, 3, 1), attributes.light).permute(0, 3, 1, 2)
    for row in range(4):
        inside = face[row] & (made.shares[row, FACE] > 0.99) & (shading[row].amin(0) > 0.15) & (made.image[row].amax(0) < 0.97)
        light = shading[row][:, inside]
        seen = (made.image[row] / person.colour[:, None, None])[:, inside]
        slope = (light * seen).sum(1) / light.square().sum(1)  # of each colour
        assert torch.all((slope > 0.82) & (slope < 1.06))  # occlusion takes some
        assert float(slope.max() / slope.min()) < 1.08  # and no colour more than another
        both = torch.stack([made.image[row].mean(0)[inside], drawn.image[row].mean(0)[inside]])
        assert float(torch.corrcoef(both)[0, 1]) > 0.6  # the rest is pores, brows' roots and lips' rims, which no code holds
    # cast shadows are what the label leaves out
    assert torch.equal(attributes.light, rig.light)


@pytest.mark.slow
@needs_assets
def test_tone_changes_the_skin_alone(people: SyntheticPeople) -> None:
    grid = people.tone_light_grid(12, (58.0, 20.0, -40.0), lights=2, size=SIZE)
    images, labels = grid.image.view(3, 2, 3, SIZE, SIZE), grid.labels.view(3, 2, SIZE, SIZE)
    light = grid.attributes.light.view(3, 2, 9, 3)
    assert torch.equal(light[0], light[1])
    assert float((light[0, 0] - light[0, 1]).abs().max()) > 0.05
    assert torch.equal(labels[0], labels[2])
    skin = labels[0, 0] == FACE
    bright = images[..., skin].mean((2, 3))  # (3,2)
    assert torch.all(bright[0] > 1.2 * bright[1])
    assert torch.all(bright[1] > 1.2 * bright[2])
    cloth = grid.shares.view(3, 2, 4, SIZE, SIZE)[0, 0, CLOTHES] > 0.999
    assert float((images[0, 0][:, cloth] - images[2, 0][:, cloth]).abs().max()) < 2e-3
    albedo = people.head.albedo(grid.attributes.albedo[::2])[:, :, people.wardrobe.complexion.face].median(2).values
    for ita, colour in zip((58.0, 20.0, -40.0), albedo, strict=True):
        assert float((colour - tone_colour(ita)).abs().max()) < 0.04  # the code says the tone


@needs_assets
def test_shadows_only_darken(people: SyntheticPeople) -> None:
    person = replace(people.person(12), hat=None, style=None)
    attributes, _ = people.attributes(person, 12)
    attributes = replace(attributes, pose=attributes.pose * 0)
    towards = torch.nn.functional.normalize(torch.tensor([[0.8, 0.5, 0.45]]), dim=-1)
    lamp = Rig(attributes.light, attributes.light * 0.5, towards, torch.ones(1), torch.tensor([0.01]))
    bright, dark = people.render(person, attributes, 1, SIZE), people.render(person, attributes, 1, SIZE, lamp)
    assert float((dark.image - bright.image).max()) < 1e-4
    darker = ((bright.image - dark.image).mean(1) > 0.03)[0]
    half = SIZE // 2
    # the light comes from the right of the image, so the left is in shadow
    assert float(darker[:, :half].float().mean()) > 1.5 * float(darker[:, half:].float().mean())
    assert float(darker[bright.labels[0] == BACKGROUND].float().mean()) < 0.01
    assert torch.equal(dark.labels, bright.labels)


@needs_assets
def test_people_of_every_kind(people: SyntheticPeople) -> None:
    crowd = [people.person(seed) for seed in range(160)]
    tones = Counter((group_of(p.tone), p.sex) for p in crowd)
    assert set(tones) == {(name, sex) for name, _, _ in TONES for sex in ("female", "male")}
    assert min(tones.values()) >= 4
    assert 0.38 < sum(p.sex == "female" for p in crowd) / 160 < 0.62
    for sex in ("female", "male"):
        ages = [p.age for p in crowd if p.sex == sex]
        assert min(ages) < 25
        assert max(ages) > 75
    assert len({p.style for p in crowd}) == 12
    assert len({p.top for p in crowd}) == 10
    assert len({p.iris for p in crowd}) >= 6
    assert 0.1 < sum(p.glasses is not None for p in crowd) / 160 < 0.35
    assert 0.04 < sum(p.hat is not None for p in crowd) / 160 < 0.2
    assert not any(p.beard for p in crowd if p.sex == "female")
    grey = {old: [float(p.hair_colour.min()) > 0.3 for p in crowd if (p.age > 65) == old] for old in (False, True)}
    assert sum(grey[True]) / len(grey[True]) > 2 * sum(grey[False]) / len(grey[False])
    # a code means a person: the men's and women's average faces differ along the axis of MakeHuman's own
    axis = (people.wardrobe.macro[:, 1] - people.wardrobe.macro[:, 0]).mean((0, 1))
    by_sex = [torch.cat([p.shape for p in crowd if p.sex == sex]).mean(0) for sex in ("female", "male")]
    assert float(torch.nn.functional.cosine_similarity(by_sex[1] - by_sex[0], axis, dim=0)) > 0.7


@needs_assets
def test_mirrored_hair_is_a_reflection(people: SyntheticPeople, head: HeadModel) -> None:
    straight, other = people.wardrobe.mesh("hair", "short03"), people.wardrobe.mesh("hair", "short03", True)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(other.rest(head.template[None])[0], straight.rest(head.template[None])[0] * flip, atol=1e-4, rtol=0)


@needs_assets
@pytest.mark.parametrize("extra", ["glasses", "hat"])
def test_worn_things_take_their_places(people: SyntheticPeople, extra: str) -> None:
    person = next(p for p in map(people.person, range(200)) if getattr(p, extra) is not None and p.style != "afro01")
    bare = replace(person, **{extra: None})
    attributes, _ = people.attributes(person, person.seed)
    attributes = replace(attributes, pose=attributes.pose * 0)
    worn, without = (people.render(p, attributes, 1, SIZE) for p in (person, bare))
    changed = ((worn.image - without.image).abs().mean(1) > 0.06)[0]
    rows = changed.nonzero()[:, 0].float() / SIZE
    eyes = people.head.landmarks(project(people.head(attributes.shape, attributes.expression, attributes.pose), attributes.camera))[0]
    level = float((eyes[[33, 263], 1].mean() + 1) / 2)
    if extra == "glasses":
        assert abs(float(rows.median()) - level) < 0.06
        assert torch.equal(worn.labels == CLOTHES, without.labels == CLOTHES)
    else:
        assert float(rows.quantile(0.9)) < level
        assert float(((worn.labels == HAIR)[0] & changed)[: int(level * SIZE)].float().sum()) > 0.7 * float(changed.sum())
        assert torch.equal(worn.labels == CLOTHES, without.labels == CLOTHES)


@pytest.mark.slow
@needs_assets
def test_command_writes_what_the_other_steps_read(tmp_path: Path, head: HeadModel) -> None:
    line = f"prepare people {MAKEHUMAN} --output {tmp_path / 'pairs'} --people 1 --labelled {tmp_path / 'slots'} --geometry"
    assert main(line.split()) == 0
    single = load_file(str(tmp_path / "slots" / "synthetic_000.safetensors"))
    shard = load_file(str(tmp_path / "pairs" / "synthetic_000.safetensors"))
    assert shard["images"].shape == (1, 2, 3, 256, 256)
    assert shard["labels"].shape == (1, 2, 256, 256)
    assert shard["pose"].shape == (1, 2, 5, 3)
    assert shard["depth"].shape == (1, 2, 256, 256)
    assert torch.equal(single["images"], shard["images"][0])
    assert torch.equal(single["labels"], shard["labels"][0])
    assert {"tone", "male", "age", "style", "seed"} <= set(shard)
    from difffae.lab.prepare.pairs import write_synthetic

    write_synthetic(tmp_path / "pairs", tmp_path / "carried", head)
    carried = load_file(str(tmp_path / "carried" / "synthetic_000.safetensors"))
    assert torch.equal(carried["source"], carried["target"].flip(0))  # both ways
    assert torch.equal(carried["source"][0], shard["images"][0, 0])
