"""One description of an edit: strengths, swaps, drifts that were settled, a photograph prepared once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from difffae import Adjustments, DiffFAE, Portrait, RegionSwap, Sampling, read_image
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError
from difffae.edit.description import swaps_from
from difffae.edit.moving import move
from difffae.edit.pasting import paste
from difffae.person.prepared import GUESSED
from difffae.vocabulary import REPAIR

PREVIEW = Sampling(denoise=0)
TURN = Adjustments(yaw=12)


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


@pytest.fixture(scope="module")
def people(model: DiffFAE) -> tuple[Portrait, Portrait]:
    source, query = (model.analyse(read_image(asset_path(name))[0], name=name) for name in ("source.png", "query.png"))
    return source, query


def test_strengths_go_by_group(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    source, query = people
    own, other = source.attributes, query.attributes
    wanted = model.target(source, pose=query, expression=query, light=query, strength={"light": 0.25, "pose": 0.0})
    assert torch.equal(wanted.light, torch.lerp(own.light, other.light, 0.25))
    assert torch.equal(wanted.expression, other.expression)
    assert torch.equal(wanted.pose[:, :2], own.pose[:, :2])
    assert model.target(source, pose=query, strength=0.0) is own


def test_numbers_that_change_nothing_return_the_photograph(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    """Equal values count, not the same object."""
    source, _ = people
    result = model.edit(source, source)
    assert result.edit.target is not source.attributes
    assert torch.equal(result.image, source.image)
    assert torch.equal(result.crop, source.picture)


@pytest.mark.slow
def test_pictures_of_their_own_are_swaps_in_the_same_run(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    source, query = people
    one = model.edit(source, adjust=TURN, hair_from=query, clothes_from=query, sampling=PREVIEW)
    both = model.edit(source, adjust=TURN, swaps=[RegionSwap(query, ("hair", "clothes"))], sampling=PREVIEW)
    assert torch.equal(one.image, both.image)
    turned = model.edit(source, adjust=TURN, sampling=PREVIEW)
    assert (one.crop - turned.crop).abs().mean() > 0.02
    assert not torch.equal(one.edit.target.pose, source.attributes.pose)
    with pytest.raises(ConfigError, match="no option 'beard_from'"):
        model.edit(source, beard_from=query)


def test_regions_of_one_face_with_one_strength_go_together(people: tuple[Portrait, Portrait]) -> None:
    source, query = people
    swaps = swaps_from({"clothes": query, "hair": query, "background": source}, {"background": 0.5}, True)
    assert [(one.reference is query, one.regions, one.strength) for one in swaps] == [
        (True, ("hair", "clothes"), 1.0),
        (False, ("background",), 0.5),
    ]
    assert len(swaps_from({"clothes": query, "hair": query}, {"hair": 0.5}, True)) == 2


def test_one_scale(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    source, query = people
    edit = model.edit(source, adjust=TURN, sampling=PREVIEW).edit
    assert (edit.denoise, edit.record()) == (0.0, {"denoise": 0.0})
    assert model.edit(source, adjust=TURN, sampling=Sampling(steps=1)).edit.denoise == 0
    alone = model.swap(source, query, ("background",), photo=False, sampling=Sampling(steps=1)).edit
    assert alone.denoise == 1.0
    assert alone.record()["swaps"] == [{"regions": ["background"], "strength": 1.0, "photo": False}]
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="denoise"):
            Sampling(denoise=wrong)


@pytest.mark.slow
def test_more_is_painted_with_more_denoise(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    source, _ = people
    shares = (0.0, 0.2, 0.6, 1.0)
    pictures = [model.edit(source, adjust=TURN, sampling=Sampling(denoise=share, steps=2)).crop for share in shares]
    far = [(picture - pictures[0]).abs().mean().item() for picture in pictures]
    assert far == sorted(far)
    assert far[1] > 1e-4


@pytest.mark.slow
def test_a_prepared_photograph_gives_the_same_pictures(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    source, query = people
    prepared = model.prepare(source)
    for change in (TURN, Adjustments(jaw_open=0.6), Adjustments(light_azimuth=60)):
        now, before = (model.edit(one, adjust=change, sampling=PREVIEW).image for one in (prepared, source))
        assert torch.equal(now, before)
    swapped = [model.edit(one, background_from=query, sampling=PREVIEW).image for one in (prepared, source)]
    assert torch.equal(*swapped)


def test_a_preview_leaves_no_rings_where_the_photograph_was_not_seen(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    """The photograph's own fine detail is weighted by validity: none is added where the person left."""
    source, _ = people
    large = F.interpolate(source.image[None], scale_factor=3.0, mode="bicubic").clamp(0, 1)[0]
    portrait = model.analyse(large)
    edit = model.edit(portrait, adjust=TURN, sampling=PREVIEW).edit
    moved = move(model, edit)
    flat, _ = paste(edit.faces, moved.image, replace(moved, owner_share=torch.zeros_like(moved.owner_share)))
    fine, _ = paste(edit.faces, moved.image, moved)
    difference = (fine - flat).abs().amax(1, keepdim=True)
    square = portrait.crop
    seen = F.interpolate(moved.validity, (square.side, square.side), mode="nearest")
    whole = torch.ones_like(difference)
    top, left = max(square.top, 0), max(square.left, 0)
    here = seen[..., top - square.top :, left - square.left :][..., : whole.shape[-2] - top, : whole.shape[-1] - left]
    whole[..., top : top + here.shape[-2], left : left + here.shape[-1]] = here
    unseen = F.max_pool2d(whole, 13, 1, 6) <= GUESSED
    assert unseen.float().mean() > 1e-4
    assert difference[whole > 0.9].max() > 0.01
    # where nothing of the photograph is known, the paste adds none of its detail
    assert difference[unseen].max() < 1e-3


def test_grey_photographs_give_grey_squares(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    source, _ = people
    grey = source.image.mean(0, keepdim=True).expand(3, -1, -1).contiguous()
    result = model.edit(grey, adjust=TURN, sampling=Sampling(REPAIR, steps=1))
    for picture in (result.crop[0], result.image):
        assert (picture.amax(0) - picture.amin(0)).max() == 0


@pytest.mark.slow
def test_a_reference_of_several_swaps_is_estimated_and_prepared_once(
    model: DiffFAE, people: tuple[Portrait, Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    from difffae.swap.region_sources import SwapReference

    source, query = people
    made: list[SwapReference] = []
    whole = SwapReference.of
    monkeypatch.setattr(SwapReference, "of", lambda *rest: made.append(whole(*rest)) or made[-1])
    swaps = [RegionSwap(query, (region,)) for region in ("hair", "background")]
    first = model.edit(source, swaps=swaps, sampling=PREVIEW)
    assert len(made) == 1
    apart = [replace(one, reference=replace(query, name=one.regions[0])) for one in swaps]
    assert torch.equal(model.edit(source, swaps=apart, sampling=PREVIEW).image, first.image)
    assert len(made) == 2  # for hair alone: backgrounds are replaced in the whole photograph, where nothing moves


@pytest.mark.slow
def test_many_targets_of_one_photograph(model: DiffFAE, people: tuple[Portrait, Portrait]) -> None:
    """One preparation serves them all; each is what it would be alone."""
    source, _ = people
    edits = [
        model.edit(source, adjust=change, sampling=PREVIEW) for change in (TURN, Adjustments(light_azimuth=60), Adjustments(blink=0.5))
    ]
    targets = type(source.attributes).cat(result.attributes for result in edits)
    together = move(model, replace(edits[0].edit, target=targets))
    assert len(together) == 3
    for row, result in enumerate(edits):
        assert (together.image[row] - result.carried[0]).abs().max() < 2e-3
        assert together.unchanged.tolist() == [False] * 3
