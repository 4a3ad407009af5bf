"""Carry: the identity where nothing changes, known motions, and the golden test against the true render."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from people import directional, person

from difffae.carry.options import EXACT_LIGHT, CarryOptions
from difffae.common.errors import AttributeShapeError
from difffae.common.pixels import gaussian_blur, pixel_grid, relit
from difffae.head.attributes import FaceAttributes, compose
from difffae.head.morphable import HeadModel
from difffae.head.render import Render, render
from difffae.person.prepared import Carried, carry, prepare
from difffae.report.measures import psnr
from difffae.source.regions import Layers

SIZE = 192


@pytest.fixture
def picture() -> torch.Tensor:
    """Texture everywhere: smooth noise (1,3,SIZE,SIZE) in 0.2..0.8."""
    noise = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    smooth = gaussian_blur(noise, 2.5)
    return 0.5 + (smooth - smooth.mean()) / (smooth - smooth.mean()).abs().max() * 0.3


def shown(head: HeadModel, face) -> Render:
    drawn = render(head, face, SIZE)
    return replace(drawn, image=drawn.image.clamp(0, 1))


def bare(person_mask: torch.Tensor) -> Layers:
    """Layers of a bald person without clothes."""
    nothing = torch.zeros_like(person_mask)
    return Layers(person_mask, person_mask, nothing, nothing)


def visible_skin(head: HeadModel, truth: Render, moved: Carried, least: float = 0.9) -> torch.Tensor:
    return (head.skin_mask(truth.raster)[:, None] & (moved.validity > least)).float()


def test_equal_attributes_are_the_identity_bit_for_bit(head, picture):
    face = person(head, 1, yaw=12)
    moved = carry(picture, face, face, head)
    assert torch.equal(moved.image, picture)
    assert torch.equal(moved.validity, torch.ones(1, 1, SIZE, SIZE))
    assert torch.equal(moved.offset_to_source, torch.zeros(1, 2, SIZE, SIZE))
    assert torch.equal(moved.light_ratio, torch.ones(1, 3, SIZE, SIZE))
    assert 0.2 < moved.mesh_mask.mean() < 0.9


def test_equal_values_in_other_tensors_and_taking_nothing_are_the_identity_too(head, picture):
    face = person(head, 2, yaw=-8)
    known = (torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) > 0.3).float()
    for target in (face.map(torch.clone), compose(face), compose(face, pose=face, expression=face, light=face)):
        moved = carry(picture, face, target, head, known)
        assert torch.equal(moved.image, picture)
        assert torch.equal(moved.validity, known)  # the given validity, unchanged


def test_a_batch_is_carried_row_by_row(head, picture):
    still, turned = person(head, 1), person(head, 1, yaw=15)
    targets = FaceAttributes.cat([still, turned])
    both = carry(picture.repeat(2, 1, 1, 1), still, targets, head)
    assert torch.equal(both.image[:1], picture)  # the row that does not change keeps its bits beside one that does
    alone = carry(picture, still, turned, head)
    assert torch.allclose(both.image[1:], alone.image, atol=1e-5)
    assert torch.allclose(both.validity[1:], alone.validity, atol=1e-4)
    with pytest.raises(AttributeShapeError, match="2 faces"):
        carry(picture.repeat(3, 1, 1, 1), still, targets, head)


def test_equal_lights_on_a_still_face_give_ratio_one(head, picture):
    face = person(head, 3)
    smiling = face.expression.clone()
    smiling[:, head.expression_names.index("jawOpen")] = 0.7
    # light without direction: turning normals changes nothing, so expression and pose leave every pixel's brightness
    flat = replace(face, light=directional(0, 0, 0))
    moved = carry(picture, flat, replace(flat, expression=smiling), head)
    assert (moved.light_ratio - 1).abs().max() < 1e-5
    assert moved.offset_to_source.abs().max() > 2
    moved = carry(picture, face, replace(face, camera=face.camera + torch.tensor([0.3, 0.01, 0.0])), head)
    assert torch.equal(moved.light_ratio, torch.ones_like(moved.light_ratio))


def test_light_alone_moves_nothing_and_multiplies(head, picture):
    face = person(head, 3, light=directional(0, 0, 0, 0.6))
    moved = carry(picture, face, replace(face, light=directional(0, 0, 0, 0.9)), head, options=EXACT_LIGHT)
    assert torch.equal(moved.offset_to_source, torch.zeros_like(moved.offset_to_source))
    inside = head.skin_mask(render(head, face, SIZE).raster)
    limit = math.log(CarryOptions().ratio_limit)
    expected = math.exp(limit * math.tanh(math.log(1.5) / limit))  # the ratio approaches its limit softly
    assert torch.allclose(moved.light_ratio[:, 0][inside], torch.tensor(expected), rtol=1e-4)
    product = picture * moved.light_ratio
    assert torch.allclose(moved.image, relit(picture, moved.light_ratio), atol=1e-6)
    below = product <= 0.8  # white is approached slowly
    assert torch.allclose(moved.image[below], product[below], atol=1e-6)
    extreme = carry(picture, face, replace(face, light=directional(0, 0, 0, 60.0)), head, options=EXACT_LIGHT)
    assert extreme.light_ratio.max() <= CarryOptions().ratio_limit
    assert extreme.light_ratio.max() > 3.5


def test_the_lights_direction_is_stressed_and_its_level_is_not(head, picture):
    """With no soft limit: the ratio's logarithm minus its mean over the head is light_gain times that of the plain quotient."""
    face = person(head, 1)
    lit = replace(face, light=directional(0.6, 0.2, 0.7))
    unheld = replace(EXACT_LIGHT, ratio_limit=1e6, light_gain=1.2, light_blur=1e-3, least_lit=1e6)
    plain, stressed = (carry(picture, face, lit, head, options=replace(unheld, light_gain=gain)) for gain in (1.0, 1.2))
    inside = head.skin_mask(render(head, face, SIZE).raster)[:, None]
    logs = [moved.light_ratio[:, :1][inside].log() for moved in (plain, stressed)]
    slope = ((logs[0] - logs[0].mean()) * (logs[1] - logs[1].mean())).sum() / (logs[0] - logs[0].mean()).square().sum()
    assert slope.item() == pytest.approx(1.2, abs=1e-3)
    brighter = replace(face, light=face.light * 1.3)
    level = carry(picture, face, brighter, head, options=unheld)
    assert torch.allclose(level.light_ratio[inside.expand(-1, 3, -1, -1)], torch.tensor(1.3), rtol=1e-4)


def test_light_stays_off_the_background_with_a_matte(head, picture):
    face = person(head, 3)
    target = replace(face, light=directional(-0.3, 0.1, 0.1))
    person_mask = gaussian_blur(render(head, face, SIZE).mask, 1.0)
    moved = carry(picture, face, target, head, layers=bare(person_mask))
    away = (gaussian_blur(person_mask, 4.0) < 1e-3).expand(-1, 3, -1, -1)
    assert away.float().mean() > 0.1
    assert torch.equal(moved.image[away], picture[away])
    assert (moved.light_ratio - 1).abs().max() > 0.2


def test_camera_shift_moves_the_picture_by_known_pixels(head, picture):
    face = person(head, 1)
    shift = 7  # pixels to the right
    camera = face.camera + torch.tensor([[0.0, shift / (SIZE / 2) / 6.0, 0.0]])
    moved = carry(picture, face, replace(face, camera=camera), head)
    inside = moved.mesh_mask.bool() & (torch.arange(SIZE) > shift + 2)
    assert torch.allclose(moved.offset_to_source[:, :1][inside], torch.tensor(-float(shift)), atol=2e-3)
    assert moved.offset_to_source[:, 1:][inside].abs().max() < 1e-3
    assert torch.allclose(moved.image[inside.expand(-1, 3, -1, -1)], picture.roll(shift, -1)[inside.expand(-1, 3, -1, -1)], atol=5e-3)
    # up is up: positive ty is a smaller row
    moved = carry(picture, face, replace(face, camera=face.camera + torch.tensor([[0.0, 0.0, 4 / (SIZE / 2) / 6.0]])), head)
    assert torch.allclose(moved.offset_to_source[:, 1:][moved.mesh_mask.bool()], torch.tensor(4.0), atol=2e-3)
    corner = moved.offset_to_source[0, :, 2, 2].norm()
    assert corner < 4  # the background is held back


@pytest.mark.parametrize(("seed", "start", "end"), [(0, 0, 15), (1, -7, 8), (2, 5, 20), (2, 0, -15)])
def test_turn_of_fifteen_degrees_against_the_true_render(head, seed, start, end):
    source, target = person(head, seed, yaw=start), person(head, seed, yaw=end)
    before, truth = shown(head, source), shown(head, target)
    moved = carry(before.image, source, target, head)
    mask = visible_skin(head, truth, moved)
    skin = head.skin_mask(truth.raster).float().sum()
    assert mask.sum() / skin > 0.55  # most of the skin was seen
    assert psnr(moved.image, truth.image, mask) >= 32
    assert psnr(before.image, truth.image, mask) < 22  # and the pictures do differ
    assert psnr(moved.image, truth.image, visible_skin(head, truth, moved, 0.5)) >= 28


def test_relight_against_the_true_render(head):
    for seed in range(3):
        source = person(head, seed)
        target = replace(source, light=directional(-0.2, -0.1, 0.2))
        before, truth = shown(head, source), shown(head, target)
        moved = carry(before.image, source, target, head, options=EXACT_LIGHT)
        skin = head.skin_mask(truth.raster)[:, None].float()
        assert psnr(moved.image, truth.image, skin) >= 28  # what is lost is lost to the blur of the ratio, at creases and silhouettes
        assert psnr(before.image, truth.image, skin) < 22


def test_everything_at_once_against_the_true_render(head):
    source = person(head, 4, yaw=-5, expression=0.0)
    target = person(head, 4, yaw=8, pitch=4, roll=3, light=directional(-0.15, 0.1, 0.25))
    before, truth = shown(head, source), shown(head, target)
    moved = carry(before.image, source, target, head, options=EXACT_LIGHT)
    mask = visible_skin(head, truth, moved)
    assert mask.sum() / head.skin_mask(truth.raster).float().sum() > 0.5
    assert psnr(moved.image, truth.image, mask) >= 28


def test_what_the_source_did_not_see_is_not_valid(head, picture):
    frontal, turned = person(head, 1), person(head, 1, yaw=50)
    moved = carry(picture, turned, frontal, head)
    skin = head.skin_mask(render(head, frontal, SIZE).raster)[:, None]
    columns = pixel_grid(SIZE, SIZE, picture)[..., 0].expand(1, 1, -1, -1)
    # turned to image right, the source showed the half of the face that a frontal picture has at image left
    seen, hidden = moved.validity[skin & (columns > -0.25) & (columns < 0)].mean(), moved.validity[skin & (columns > 0.4)].mean()
    assert hidden < 0.05
    assert seen > 0.7
    opened = frontal.expression.clone()
    opened[:, head.expression_names.index("jawOpen")] = 1.0
    target = replace(frontal, expression=opened)
    moved = carry(picture, frontal, target, head)
    mouth = head.part_mask(render(head, target, SIZE).raster, "mouth", "teeth", "tongue")[:, None]
    assert mouth.sum() > 20
    assert moved.validity[mouth].max() <= CarryOptions.mouth_validity  # painted, so that the model may paint over it


def test_given_holes_move_with_the_picture(head, picture):
    face = person(head, 1)
    known = torch.ones(1, 1, SIZE, SIZE)
    known[..., 90:110, 80:100] = 0
    moved = carry(picture, face, replace(face, camera=face.camera + torch.tensor([[0.0, 10 / (SIZE / 2) / 6.0, 0.0]])), head, known)
    assert moved.validity[..., 92:108, 92:108].max() < 0.05
    assert moved.validity[..., 92:108, 80:88].min() > 0.5


def test_gradients_reach_the_image(head, picture):
    image = picture.clone().requires_grad_()
    carry(image, person(head, 1), person(head, 1, yaw=10), head).image.sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 1000


def test_background_stays_behind_a_turning_head(head: HeadModel) -> None:
    source = person(head, 3)
    target = replace(source, pose=person(head, 3, yaw=20).pose)
    stripes = ((torch.arange(SIZE) // 4) % 2).float().expand(1, 3, SIZE, SIZE).clone()
    covered = render(head, source, SIZE).mask
    image = torch.where(covered > 0, torch.tensor([0.8, 0.6, 0.5])[None, :, None, None], stripes)
    dragged, stayed = (
        carry(image, source, target, head),
        carry(image, source, target, head, layers=bare(covered)),
    )
    heads = torch.nn.functional.max_pool2d(
        covered.maximum(dragged.mesh_mask), 25, 1, 12
    )  # gaps between chin and shoulder are no background
    outside = (heads == 0).expand(-1, 3, -1, -1)
    assert torch.equal(stayed.image[outside], image[outside])  # bit for bit what was there
    assert (dragged.image - image)[outside].abs().mean() > 0.02
    assert (stayed.validity.expand(-1, 3, -1, -1)[outside]).min() == 1
    left = (covered > 0) & (stayed.person_alpha < 0.01)  # what the head uncovered must be invented
    assert left.sum() > 50
    assert stayed.validity[left].mean() < 0.1


def test_layers_change_nothing_where_nothing_moves(head: HeadModel) -> None:
    source = person(head, 3)
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    matte = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    same = carry(image, source, source, head, layers=Layers(matte, matte, matte, matte))
    assert torch.equal(same.image, image)
    assert torch.equal(same.validity, torch.ones_like(same.validity))


def test_plain_background_goes_on_behind_the_person(head: HeadModel) -> None:
    source = person(head, 3)
    target = replace(source, pose=person(head, 3, yaw=20).pose)
    covered = render(head, source, SIZE).mask
    plain = torch.tensor([0.3, 0.5, 0.7])[None, :, None, None].expand(1, 3, SIZE, SIZE)
    image = torch.where(covered > 0, torch.tensor([0.8, 0.6, 0.5])[None, :, None, None], plain)
    # it is made up, or, where it may go along with the head, the photograph's own in another place
    for still, least, most in ((True, 0.55, 0.65), (False, 0.55, 0.85)):
        moved = carry(image, source, target, head, layers=bare(covered), options=CarryOptions(still_background=still))
        left = (covered > 0) & (moved.person_alpha < 1e-3) & (moved.offset_to_source.norm(dim=1, keepdim=True) >= 1)
        assert left.sum() > 50
        assert (moved.image - plain).abs().amax(1, keepdim=True)[left].max() < 1e-3
        assert moved.validity[left].min() > least
        assert moved.validity[left].max() < most


FIELDS = ("image", "validity", "offset_to_source", "light_ratio", "mesh_mask", "person_alpha")


def test_a_prepared_photograph_moves_as_one_that_is_moved_once(head, picture):
    face = person(head, 3)
    layers = bare(gaussian_blur(render(head, face, SIZE).mask, 1.0))
    for shown in (layers, None):
        prepared = prepare(picture, face, head, layers=shown)
        for yaw in (10.0, -14.0, 10.0):
            target = replace(face, pose=person(head, 3, yaw=yaw).pose, light=directional(0.2, 0.1, 0.2))
            again, once = prepared.move(target), carry(picture, face, target, head, layers=shown)
            for name in FIELDS:
                assert torch.equal(getattr(again, name), getattr(once, name)), name


def test_rows_of_prepared_photographs_and_many_targets_of_one(head, picture):
    faces = FaceAttributes.cat([person(head, 1), person(head, 3)])
    targets = FaceAttributes.cat([person(head, 1, yaw=12), person(head, 3, yaw=-9)])
    pictures, known = torch.cat([picture, picture.flip(-1)]), torch.ones(2, 1, SIZE, SIZE)
    layers = bare(gaussian_blur(render(head, faces, SIZE).mask, 1.0))
    both = prepare(pictures, faces, head, known, layers)
    second = both[1:2]
    assert len(second) == 1
    moved, alone = both.move(targets), second.move(targets[1])
    one, many = both[:1].move(targets[0]), both[:1].move(FaceAttributes.cat([targets[0], faces[0]]))
    for name in FIELDS:
        # validity is divided by the cosine between skin and camera, down to 0.05: last bits count up to fifty times as much
        near = 1e-3 if name == "validity" else 1e-4
        assert torch.allclose(getattr(moved, name)[1:], getattr(alone, name), atol=near), name
        assert torch.allclose(getattr(many, name)[:1], getattr(one, name), atol=near), name
    with pytest.raises(AttributeShapeError, match="2 faces"):
        prepare(torch.cat([pictures, pictures]), faces, head)


def test_a_target_that_equals_its_source_changes_nothing_whatever_is_moved_beside_it(head, picture):
    """Sums over batches of other sizes differ in their last bits."""
    faces = FaceAttributes.cat([person(head, seed) for seed in range(5)])
    known = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    layers = bare(gaussian_blur(render(head, faces, SIZE).mask, 1.0))
    many = prepare(picture.expand(5, -1, -1, -1), faces, head, known.expand(5, -1, -1, -1), layers)
    one = prepare(picture, faces[2], head, known, layers[2:3])
    turned = person(head, 2, yaw=12)
    lit = replace(faces[2], light=directional(0.2, 0.1, 0.3))
    for moved, row in (
        (one.move(FaceAttributes.cat([turned, faces[2], lit, turned])), 1),
        (many[1:4].move(FaceAttributes.cat([turned, faces[2], lit])), 1),
        (many[2:3].move(faces[2]), 0),
    ):
        assert torch.equal(moved.image[row], picture[0])
        assert torch.equal(moved.validity[row], known[0])
        assert torch.equal(moved.offset_to_source[row], torch.zeros(2, SIZE, SIZE))
        assert torch.equal(moved.light_ratio[row], torch.ones(3, SIZE, SIZE))
        assert len(moved.image) == 1 or moved.offset_to_source[0].abs().max() > 1
    relit_only = one.move(FaceAttributes.cat([turned, lit, turned]))
    assert torch.equal(relit_only.offset_to_source[1], torch.zeros(2, SIZE, SIZE))
    assert torch.equal(relit_only.validity[1], known[0])
