"""Regions of the slots: how far light goes, what a swap frees."""

from __future__ import annotations

import pytest
import torch

from difffae.common.errors import ConfigError
from difffae.source.regions import kept_pixels, layers, light_matte, region_shares, swapped_region, with_hair

ORDER = ("background", "face", "hair", "clothes")


def quarters() -> torch.Tensor:
    """(1,4,8,8): background top left, face top right, hair bottom left, clothes bottom right."""
    masks = torch.zeros(1, 4, 8, 8)
    for index, (rows, columns) in enumerate(
        [(slice(4), slice(4)), (slice(4), slice(4, 8)), (slice(4, 8), slice(4)), (slice(4, 8), slice(4, 8))]
    ):
        masks[0, index, rows, columns] = 1
    return masks


def test_light_falls_on_skin_and_hair() -> None:
    matte = light_matte(quarters(), ORDER, (64, 64))
    assert matte.shape == (1, 1, 64, 64)
    corners = matte[0, 0, [8, 8, 56, 56], [8, 56, 8, 56]]
    torch.testing.assert_close(corners, torch.tensor([0.0, 1.0, 1.0, 0.2]), atol=5e-3, rtol=0)
    assert float(matte.min()) >= 0
    assert float(matte.max()) <= 1
    # the order of the slots is theirs to say
    other = light_matte(quarters(), ("face", "background", "clothes", "hair"), (64, 64))
    torch.testing.assert_close(other[0, 0, [8, 8, 56, 56], [8, 56, 8, 56]], torch.tensor([1.0, 0.0, 0.2, 1.0]), atol=5e-3, rtol=0)


def test_two_slots_of_one_region_are_as_sharp_as_one() -> None:
    masks = torch.softmax(torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 3, 1)
    halves = torch.cat([0.5 * masks, 0.5 * masks], 1)
    whole = region_shares(masks, ORDER, (64, 64))
    torch.testing.assert_close(region_shares(halves, ORDER + ORDER, (64, 64)), whole)
    torch.testing.assert_close(whole.sum(1), torch.ones(1, 64, 64))
    two = region_shares(masks[:, :2] / masks[:, :2].sum(1, keepdim=True), ("background", "face"), (64, 64))
    assert float(two[:, 1:3].max()) == 0
    torch.testing.assert_close(two.sum(1), torch.ones(1, 64, 64))


def test_slots_of_unknown_regions_have_no_shares() -> None:
    with pytest.raises(ConfigError, match="which of this model's slots is which region was never measured"):
        region_shares(torch.rand(1, 4, 8, 8), (), (16, 16))


def test_layers_have_the_pictures_edges() -> None:
    """The masks' edge is 3 pixels off; the picture's own edge wins."""
    masks = torch.zeros(1, 4, 32, 32)
    masks[:, 0, :, :16], masks[:, 2, :16, 16:], masks[:, 1, 16:, 16:] = 1, 1, 1  # background, hair above a face
    image = torch.full((1, 3, 256, 256), 0.2)
    image[..., 131:] = 0.8
    shown = layers(masks, ORDER, image)
    assert shown.person.shape == shown.loose.shape == (1, 1, 256, 256)
    assert float(shown.person[..., :110].max()) < 0.02
    assert float(shown.person[..., 150:].min()) > 0.98
    edge = shown.person[0, 0, 128]
    assert float(edge[133] - edge[129]) > 0.5 * float(edge[150] - edge[110])
    assert float(shown.loose[..., :110, 150:].min()) > 0.98
    assert float(shown.loose[..., 150:, 150:].max()) < 0.02
    assert torch.equal(shown.light, light_matte(masks, ORDER, (256, 256)))


def worn_and_skin() -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (1,4,32,32) of a face in the middle, clothes at the bottom and background elsewhere, and a grey picture."""
    masks = torch.zeros(1, 4, 32, 32)
    masks[:, 0], masks[:, 1, 8:20, 10:22], masks[:, 3, 24:] = 1, 1, 1
    masks[:, 0, 8:20, 10:22] = masks[:, 0, 24:] = 0
    return masks, torch.full((1, 3, 256, 256), 0.5)


def test_person_that_the_slots_missed_is_worn() -> None:
    """A hat above the face and a shoulder below it, both wide; a rim of two cells around the face is skin."""
    masks, image = worn_and_skin()
    matte = torch.zeros(1, 1, 256, 256)
    matte[..., 0:64, 70:186] = 1  # 60 rows of hat
    matte[..., 50:250, 70:186] = 1  # face with a rim of 10 pixels, and the body
    shown = layers(masks, ORDER, image, matte)
    above, rim, below = (0, 0, 24, 128), (0, 0, 110, 75), (0, 0, 230, 128)
    assert float(shown.person[above]) > 0.98
    assert float(shown.hair[above]) > 0.9
    assert float(shown.hair[below]) < 0.1 < 0.9 < float(shown.loose[below])
    assert float(shown.loose[rim]) < 0.2
    assert float(shown.person[..., 100, :50].max()) == 0
    assert float(shown.light[above]) > 0.9
    assert float(shown.light[below]) < 0.35
    assert float(shown.light[..., :40].max()) == 0


def test_a_matte_that_sees_nobody_loses_to_the_face() -> None:
    masks, image = worn_and_skin()
    shown = layers(masks, ORDER, image, torch.zeros(1, 1, 256, 256))
    assert float(shown.person[..., 80:144, 96:160].min()) > 0.95
    assert float(shown.person[..., :40, :].max()) < 0.05


def test_where_the_matte_does_not_know_the_slots_decide() -> None:
    masks, image = worn_and_skin()
    shown = layers(masks, ORDER, image, torch.full((1, 1, 256, 256), 0.5))
    assert float(shown.person[..., 230:, :].min()) > 0.95  # clothes
    assert float(shown.person[..., 20:40, 20:60].max()) < 0.05  # background


def test_a_swap_changes_both_regions() -> None:
    masks, others = quarters(), quarters().flip(3)
    region = swapped_region(masks, others, ("hair",), ORDER)
    assert region.shape == (1, 1, 8, 8)
    # own hair fully, the reference's half, the rest not at all
    assert region[0, 0, [6, 6, 1, 1], [1, 6, 1, 6]].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert float(swapped_region(masks, masks, ("hair",), ORDER).max()) == 1.0
    assert float(swapped_region(masks, others, (), ORDER).max()) == 0.0
    both = swapped_region(masks, others, ("hair", "clothes"), ORDER)
    assert both[0, 0, [6, 6, 1, 1], [1, 6, 1, 6]].tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(("region", "kept"), [(0.0, 1.0), (0.2, 1.0), (0.3, 0.75), (0.4, 0.5), (0.6, 0.0), (1.0, 0.0)])
def test_pixels_of_a_redrawn_region_are_not_kept(region: float, kept: float) -> None:
    nobody = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    keep = kept_pixels(torch.full((1, 1, 4, 4), region), nobody, (32, 32))
    assert keep.shape == (1, 1, 32, 32)
    torch.testing.assert_close(keep, torch.full_like(keep, kept))


def test_skin_in_front_is_kept_and_the_own_fringe_is_not() -> None:
    """Over the face the reference's hair (0.5 at most) changes nothing; what is mostly the source's own (above 0.6) goes, fringes too."""
    face = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    face[..., 8:16, 8:16] = True
    for region, kept in ((0.5, 1.0), (0.6, 1.0), (0.75, 0.5), (0.9, 0.0), (1.0, 0.0)):
        keep = kept_pixels(torch.full((1, 1, 4, 4), region), face, (32, 32))
        torch.testing.assert_close(keep[face], torch.full((64,), kept))
        torch.testing.assert_close(keep[~face], torch.full((960,), max(0.0, min(1.0, 1 - (region - 0.2) / 0.4))))


SIZE = 128


def head() -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Shares (1,4,128,128) of face, hair, clothes and background, a picture of them, and masks of what is where: the shares call short
    dark hair hair, and a plait below it clothes, as they do a coat and a shaded neck."""
    rows, columns = torch.arange(SIZE)[:, None], torch.arange(SIZE)
    box = lambda top, bottom, left, right: ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)).float()  # noqa: E731
    where = {"hair": box(10, 30, 40, 90), "face": box(30, 74, 44, 86), "plait": box(30, 110, 86, 96), "neck": box(78, 90, 52, 76)}
    where["coat"], where["chin"] = box(100, 128, 20, 60), box(74, 78, 52, 76)
    skin, dark, tan = (torch.tensor(colour)[:, None, None] for colour in ([0.8, 0.6, 0.5], [0.1, 0.08, 0.07], [0.6, 0.6, 0.3]))
    picture = torch.full((3, SIZE, SIZE), 0.9)
    for mask, colour in (("hair", dark), ("face", skin), ("plait", dark), ("neck", 0.4 * skin), ("coat", tan), ("chin", skin)):
        picture = torch.lerp(picture, colour.expand_as(picture), where[mask])
    face, worn = where["face"] + where["chin"], where["plait"] + where["neck"] + where["coat"]
    shares = torch.stack([face, where["hair"], worn, 1 - face - where["hair"] - worn])[None]
    return shares, picture[None], where


def test_hair_goes_on_where_its_network_finds_more() -> None:
    shares, picture, where = head()
    found = where["hair"] + where["plait"] + where["neck"] + where["coat"]
    told = with_hair(shares, found[None, None], picture)
    torch.testing.assert_close(told.sum(1), torch.ones(1, SIZE, SIZE))
    hair = told[0, 1]
    assert float(hair[(where["hair"] + where["plait"]) > 0].min()) > 0.99
    # a rough coat lies apart and has other colours, a neck in the shade hangs together with nothing and has those of skin
    assert float((hair * (where["coat"] + where["neck"])).max()) < 0.01
    assert torch.equal(told[:, 3], shares[:, 3])
    torch.testing.assert_close(told[0, 2][where["coat"] > 0], torch.ones(int(where["coat"].sum())))


def test_hats_stay_what_turns_with_the_head() -> None:
    """The network says that the top of a cap is no hair."""
    shares, picture, where = head()
    below = where["hair"] * (torch.arange(SIZE)[:, None] >= 13).float()
    told = with_hair(shares, below[None, None], picture)
    assert float(told[0, 1][where["hair"] > 0].min()) > 0.99


def test_a_network_that_misses_the_hair_changes_nothing() -> None:
    shares, picture, where = head()
    found = 0.2 * where["hair"] + where["coat"]
    assert torch.equal(with_hair(shares, found[None, None], picture)[:, 1], shares[:, 1])
