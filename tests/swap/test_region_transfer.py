"""Swaps by photograph: hair, clothes and background of a reference on the source's head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from dressed import BLUE, BROWN, GREEN, GREY, RED, SIZE, dressed, parts
from people import directional, person
from torch import Tensor

from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError
from difffae.common.images import read_image
from difffae.common.pixels import dilate, erode, gaussian_blur, pixel_grid
from difffae.edit.description import Portrait, Sampling
from difffae.edit.editor import DiffFAE
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.person.prepared import prepare
from difffae.report.measures import psnr
from difffae.source.regions import Layers
from difffae.swap.backgrounds import covering
from difffae.swap.region_parts import HAIR, TAKEN, FaceAreas, Parts, refined
from difffae.swap.region_sources import SwapReference, SwapSource, _aligned, reference_parts, source_parts
from difffae.swap.region_transfer import take_hair


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="module")
def two(head: HeadModel) -> tuple[Parts, Parts, FaceAreas, Tensor]:
    """A person with brown hair in red before grey; another, turned, with blue hair in green before noise, carried to the first; the areas;
    the reference's picture."""
    face, other = person(head, 1), person(head, 2, yaw=10, light=directional(-0.2, 0, 0.3))
    image, layers = dressed(head, face, BROWN, RED, GREY)
    noise = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    theirs, their_layers = dressed(head, other, BLUE, GREEN, noise)
    base, areas = parts(head, face, image, layers)
    reference = reference_parts(theirs, torch.ones_like(theirs[:, :1]), other, face, areas, head, their_layers)
    return base, reference, areas, theirs


def mean_colour(image: Tensor, where: Tensor) -> Tensor:
    assert where.sum() > 50
    return (image * where).sum((0, 2, 3)) / where.sum()


def test_shares_sum_to_one_and_the_source_is_itself(two):
    base, reference, _, _ = two
    for one in (base, reference):
        torch.testing.assert_close(one.shares.sum(1), torch.ones_like(one.shares[:, 0]))
    assert torch.equal(base.owner_share, torch.ones_like(base.owner_share))


@pytest.mark.slow
def test_what_is_kept_for_a_swap_gives_the_same_parts_for_every_target(head: HeadModel):
    face, other = person(head, 1), person(head, 2, yaw=10)
    image, layers = dressed(head, face, BROWN, RED, GREY)
    theirs, their_layers = dressed(head, other, BLUE, GREEN, GREY)
    known = torch.ones_like(image[:, :1])
    prepared = prepare(image, face, head, known, layers)
    source = SwapSource.of(prepared)
    reference = SwapReference.of(theirs, known, other, face.camera, head, their_layers)
    for yaw in (0.0, 12.0):
        target = replace(face, pose=person(head, 1, yaw=yaw).pose)
        areas = FaceAreas.of(head, target, image)
        carried = prepared.move(target)
        kept, once = source.parts(carried, areas), source_parts(prepared, carried, areas)
        moved, moved_once = reference.move(target, areas), reference_parts(theirs, known, other, target, areas, head, their_layers)
        for one, same in ((kept, once), (moved, moved_once)):
            assert torch.equal(one.carried.image, same.carried.image)
            assert torch.equal(one.carried.offset_to_source, same.carried.offset_to_source)
            assert torch.equal(one.shares, same.shares)


def test_one_source_and_one_reference_serve_many_targets(head: HeadModel):
    face, other = person(head, 1), person(head, 2, yaw=10)
    image, layers = dressed(head, face, BROWN, RED, GREY)
    theirs, their_layers = dressed(head, other, BLUE, GREEN, GREY)
    known = torch.ones_like(image[:, :1])
    prepared = prepare(image, face, head, known, layers)
    reference = SwapReference.of(theirs, known, other, face.camera, head, their_layers)
    targets = FaceAttributes.cat([face, replace(face, pose=person(head, 1, yaw=12).pose)])
    swapped = []
    for some in (targets, targets[1]):
        areas = FaceAreas.of(head, some, image.expand(len(some), -1, -1, -1))
        base = source_parts(prepared, prepared.move(some), areas)
        swapped.append(take_hair(base, reference.move(some, areas), areas))
    torch.testing.assert_close(swapped[0].carried.image[1:], swapped[1].carried.image, atol=1e-4, rtol=0)
    torch.testing.assert_close(swapped[0].owner_share[1:], swapped[1].owner_share, atol=1e-4, rtol=0)


def test_a_swap_says_what_it_lacks(head: HeadModel):
    face = person(head, 1)
    with pytest.raises(ConfigError, match="prepared without layers"):
        SwapSource.of(prepare(GREY, face, head))
    nothing = torch.zeros_like(GREY[:, :1])
    reference = SwapReference.of(GREY, nothing + 1, face, face.camera, head, Layers(nothing, nothing, nothing, nothing))
    nearer = replace(face, camera=face.camera * 1.1)
    with pytest.raises(ConfigError, match="another camera"):
        reference.move(nearer, FaceAreas.of(head, nearer, GREY))


def test_nothing_taken_is_the_base(two):
    base, reference, areas, _ = two
    assert take_hair(base, reference, areas, strength=0) is base


def test_hair_takes_the_references_colour_and_nothing_else_does(two):
    base, reference, areas, _ = two
    mixed, index = take_hair(base, reference, areas), HAIR
    image, before = mixed.carried.image, base.carried.image
    both = (erode(base.shares * reference.shares, 5)[:, index : index + 1] > 0.9).float()
    # the reference's light is another, so its colours are multiplied by the ratio of the lights
    wanted = mean_colour(reference.carried.image, both)
    torch.testing.assert_close(mean_colour(image, both), wanted, atol=0.02, rtol=0)
    assert wanted.argmax() == BLUE.argmax()
    # but for a pixel where the motion of hair beside the head breaks off
    assert (mixed.owner_share[:, 1:][both > 0] > 0.9).float().mean() > 0.999
    assert mixed.owner_share[:, :1][both > 0].max() < 0.1
    untouched = 1 - dilate(
        (base.shares[:, index : index + 1] > 0.01).float().maximum((reference.shares[:, index : index + 1] > 0.01).float()), 15
    )
    untouched = untouched * (1 - dilate(((base.shares - mixed.shares).abs().amax(1, keepdim=True) > 0.01).float(), 5))
    assert untouched.mean() > 0.3
    assert ((image - before) * untouched).abs().max() < 3e-3  # less than a step of 8 bits: soft edges have long tails
    # what was known is still known, and the sum of all photographs is no more than one
    assert mixed.carried.validity[both > 0].mean() > 0.6
    assert mixed.owner_share.sum(1).max() <= 1 + 1e-5


def test_half_strength_is_in_between(two):
    base, reference, areas, _ = two
    both = (erode(base.shares * reference.shares, 5)[:, HAIR : HAIR + 1] > 0.9).float()
    none, half, full = (mean_colour(take_hair(base, reference, areas, s).carried.image, both) for s in (0.0, 0.5, 1.0))
    assert ((half - (none + full) / 2).abs() < 0.15).all()
    assert ((half - none).abs().max() > 0.1) & ((half - full).abs().max() > 0.1)


def test_skin_that_hair_hid_is_the_references_in_the_sources_colours(head: HeadModel):
    """A source with hair down to the brows, a bald reference with another skin: the forehead gets the source's colour."""
    face = person(head, 1)
    image, layers = dressed(head, face, BROWN, RED, GREY)
    areas = FaceAreas.of(head, face, image)
    forehead = areas.skin * (1 - areas.below_brows) * (pixel_grid(SIZE, SIZE, image)[..., 1] < -0.1)
    covered = torch.lerp(image, BROWN[:, None, None].expand_as(image), forehead)
    layers = replace(layers, hair=layers.hair.maximum(forehead), loose=layers.loose.maximum(forehead))
    base, _ = parts(head, face, covered, layers)
    bald = (image * image.new_tensor([0.5, 0.6, 0.9])[:, None, None]).clamp(0, 1)
    none = torch.zeros_like(forehead)
    there = reference_parts(bald, none + 1, face, face, areas, head, Layers(layers.person, layers.person, none, none))
    mixed = take_hair(base, there, areas)
    inner = (erode(forehead, 9) > 0).float()
    revealed, wanted, was = (mean_colour(one, inner) for one in (mixed.carried.image, image, covered))
    assert (revealed - wanted).abs().max() < 0.06
    assert (was - wanted).abs().max() > 0.2
    assert 0.45 < (mixed.carried.validity * inner).sum() / inner.sum() <= 0.6


def test_no_hair_lies_on_eyes_and_mouth(two):
    base, reference, areas, _ = two
    wrong = replace(reference, shares=torch.zeros_like(reference.shares).index_fill(1, torch.tensor(HAIR), 1.0))
    mixed = take_hair(base, wrong, areas)
    inside = (areas.features > 0).expand(-1, 3, -1, -1) & (dilate(base.shares[:, HAIR : HAIR + 1], 9) == 0)
    assert inside.float().sum() > 500
    assert torch.equal(mixed.carried.image[inside], base.carried.image[inside])


def test_a_fringe_that_the_mask_missed_is_found_by_its_colour(head: HeadModel):
    face = person(head, 1)
    image, layers = dressed(head, face, BROWN, RED, GREY)
    areas = FaceAreas.of(head, face, image)
    below = dilate(layers.hair, 19) * areas.skin * (1 - areas.below_brows)
    fringe = torch.lerp(image, BROWN[:, None, None].expand_as(image), below)
    found = refined(fringe, layers, areas, TAKEN).hair
    bare = refined(image, layers, areas, TAKEN).hair
    core = (erode(below, 5) > 0).float()
    assert (found * core).sum() / core.sum() > 0.8
    assert (bare * core).sum() / core.sum() < 0.1
    assert (found * areas.features).max() == 0


def test_alignment_follows_the_camera():
    """A picture whose world is a plane of colours, seen by two cameras: aligned, the one is the other."""
    own, wanted = torch.tensor([[5.0, 0.02, -0.03]]), torch.tensor([[6.0, -0.01, 0.02]])
    pixels = pixel_grid(SIZE, SIZE, GREY)

    def world(camera: Tensor) -> Tensor:
        scale, x, y = camera[0]
        return torch.stack([pixels[..., 0] / scale - x, -pixels[..., 1] / scale - y])[None]

    grid, inside = _aligned(torch.ones(1, 1, SIZE, SIZE), own, wanted)
    seen = F.grid_sample(world(own), grid, padding_mode="border", align_corners=False)
    assert inside.mean() > 0.8
    assert ((seen - world(wanted)).abs() * inside).max() < 1e-4
    still, everywhere = _aligned(torch.ones(1, 1, SIZE, SIZE), own, own)
    torch.testing.assert_close(still[0], pixels, atol=1e-5, rtol=0)
    assert everywhere.min() == 1
    # beyond the picture its border goes on
    far, there = _aligned(torch.ones(1, 1, SIZE, SIZE), own, torch.tensor([[3.0, 0.02, -0.03]]))
    assert 0.2 < there.mean() < 0.5
    assert far.abs().max() <= 1


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained()


@pytest.fixture(scope="module")
def people(model: DiffFAE) -> tuple[Portrait, Portrait]:
    return tuple(model.analyse(read_image(asset_path(name))[0], name=name) for name in ("source.png", "query.png"))


@pytest.mark.slow
def test_a_swap_shows_the_references_regions_and_keeps_the_person(model: DiffFAE, people):
    source, reference = people
    result = model.swap(source, reference, sampling=Sampling(0.2, steps=4))
    alone = model.swap(source, reference, sampling=Sampling(steps=4), photo=False)
    own = model.identity.embed(source.picture, source.landmarks[..., :2])
    shown = model.analyse(result.image)
    distance = (model.identity.embed(shown.picture, shown.landmarks[..., :2]) - own).norm()
    assert distance < 0.35
    # the flag at the frame's left, the navy cap above the brows: the picture itself, not a colour
    corner = (slice(None), slice(None), slice(20, 150), slice(0, 40))
    behind = covering(reference.image[None], (source.image.shape[-2], source.image.shape[-1]))
    assert psnr(result.image[None][corner], behind[corner]) > 30 > 18 > psnr(alone.image[None][corner], behind[corner])
    cap = result.crop[..., 60:80, 110:150].mean((0, 2, 3))
    assert (cap < 0.15).all(), cap
    assert torch.equal(result.masks, alone.masks)


@pytest.mark.slow
def test_swapping_with_oneself_changes_little(model: DiffFAE, people):
    source, _ = people
    result = model.swap(source, source, sampling=Sampling(0.2, steps=4))
    assert psnr(result.crop, source.picture) > 26  # lit strands of the fringe, and soft outlines
    assert torch.equal(model.swap(source, source, (), sampling=Sampling(0.2, steps=4)).image, source.image)
    assert torch.equal(model.swap(source, source, ("hair",), strength=0.0, sampling=Sampling(0.2, steps=4)).image, source.image)


@pytest.mark.slow
def test_large_pictures_lend_their_detail(model: DiffFAE, people):
    """Both pictures four times as large, the reference with a fine pattern that its crop cannot hold."""
    large = [F.interpolate(p.image[None], scale_factor=3, mode="bicubic").clamp(0, 1)[0] for p in people]
    noise = torch.randn(1, 1, *large[1].shape[-2:], generator=torch.Generator().manual_seed(0))
    large[1] = (large[1] + 0.2 * gaussian_blur(noise, 1.0)[0]).clamp(0, 1)
    source, reference = (model.analyse(image) for image in large)
    result = model.swap(source, reference, ("background",), sampling=Sampling(0.2, steps=2))

    def grain(portrait: Portrait, image: Tensor) -> float:
        """Of a part of the background, left of the head and above the shoulders."""
        crop = portrait.crop
        top, left = max(crop.top, 0) + crop.side // 6, max(crop.left, 0) + crop.side // 24
        square = image[None, :, top : top + crop.side // 6, left : left + crop.side // 8]
        return (square - gaussian_blur(square, 2.0)).std().item()

    assert grain(source, source.image) < 0.012
    assert grain(source, result.image) > 0.5 * grain(reference, reference.image) > 0.015


def test_a_model_that_carries_nothing_says_so(model: DiffFAE, people, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model, "carry_options", None)
    with pytest.raises(ConfigError, match="photo: model 'open-256' carries no photograph; swap its tokens alone"):
        model.swap(*people, photo=True)
