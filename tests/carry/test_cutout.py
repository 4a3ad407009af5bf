"""A painted person comes apart into what was mixed."""

from __future__ import annotations

import pytest
import torch
from painted import HAIR, WALL

from difffae.carry.backdrop import behind
from difffae.carry.cutout import cut_out, going_on, unmixed
from difffae.carry.options import CutoutOptions
from difffae.common.pixels import dilate, gaussian_blur, pixel_grid
from difffae.source.regions import Layers

SIZE = 128


def disc(radius: float, soft: float) -> torch.Tensor:
    """(1,1,H,W): a disc in the middle of the picture with an edge of `soft` pixels."""
    hard = (pixel_grid(SIZE, SIZE, torch.zeros(1)).norm(dim=-1) < radius).float()[None, None]
    return gaussian_blur(hard, soft)


def mixed(alpha: torch.Tensor) -> torch.Tensor:
    return alpha * HAIR[None, :, None, None] + (1 - alpha) * WALL[None, :, None, None]


def all_hair(person: torch.Tensor) -> Layers:
    return Layers(person, person, person, person)


def test_both_colours_of_a_soft_edge_are_found():
    alpha = disc(0.5, 3.0)
    front, back = unmixed(mixed(alpha), alpha)
    edge = ((alpha > 0.2) & (alpha < 0.8)).expand(-1, 3, -1, -1)
    assert edge.sum() > 500
    assert (front - HAIR[None, :, None, None])[edge].abs().max() < 0.03
    assert (back - WALL[None, :, None, None])[edge].abs().max() < 0.03


def test_colours_correct_a_matte_that_is_too_narrow_by_two_pixels():
    alpha, told = disc(0.5, 1.5), disc(0.47, 1.5)
    cut = cut_out(mixed(alpha), all_hair(told))
    before, after = (((found - alpha).abs() * ((alpha - told).abs() > 0.05)).sum() for found in (told, cut.alpha))
    assert after < 0.5 * before
    assert (cut.colours - HAIR[None, :, None, None]).abs().amax(1, keepdim=True)[cut.alpha > 0.3].max() < 0.08


def test_nothing_of_the_person_stays_in_the_backdrop():
    alpha = disc(0.5, 1.5)
    cut = cut_out(mixed(alpha), all_hair(alpha))
    assert (cut.backdrop.filled - WALL[None, :, None, None]).abs().max() < 0.01
    assert cut.backdrop.place[alpha > 0.02].min() > 0.6
    assert cut.backdrop.place[alpha > 0.5].min() == 1
    options = CutoutOptions()
    assert cut.backdrop.validity.min().item() == pytest.approx(options.fill_validity, abs=0.02)


def test_a_horizon_goes_on_behind_a_person():
    """Upper half light, lower half dark: behind the disc the border between them stays where it is."""
    picture = torch.full((1, 3, SIZE, SIZE), 0.8)
    picture[..., SIZE // 2 :, :] = 0.2
    filled, plain, _ = behind(picture, disc(0.4, 1.0), CutoutOptions())
    middle = filled[0, 0, :, SIZE // 2]
    assert (middle[: SIZE // 2 - 6] > 0.75).all()
    assert (middle[SIZE // 2 + 6 :] < 0.25).all()
    assert plain[0, 0, SIZE // 2, SIZE // 2] < 0.1 < 0.9 < plain[0, 0, 4, 4]


def test_a_collar_goes_on_behind_a_jaw():
    """Cloth below a line, and a disc in front of both: behind the disc cloth begins at that line."""
    cloth = torch.zeros(1, 1, SIZE, SIZE)
    cloth[..., SIZE // 2 :, :] = 1
    hidden = disc(0.4, 1.0)
    behind_all = going_on(cloth * (1 - hidden), hidden)
    assert behind_all[0, 0, SIZE // 2 + 8 :, SIZE // 2].min() > 0.9
    assert behind_all[0, 0, : SIZE // 2 - 8, SIZE // 2].max() < 0.1
    assert torch.equal(behind_all[..., :8], cloth[..., :8])


def test_a_plain_wall_keeps_its_grain_beside_a_person():
    """What is made up ends beside the person, and a strand farther away goes; all else is the photograph, to the bit."""
    alpha = disc(0.5, 1.5)
    strand = torch.zeros_like(alpha)
    strand[..., 60, 97:101] = 0.5
    grain = 0.01 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    wall = (WALL[None, :, None, None] + 0.1 * pixel_grid(SIZE, SIZE, alpha)[None, None, ..., 0] + gaussian_blur(grain, 0.5)).clamp(0, 1)
    image = torch.lerp(wall, HAIR[None, :, None, None].expand_as(wall), alpha.maximum(strand))
    back = cut_out(image, all_hair(alpha)).backdrop
    assert back.wall.item() == 1
    far = (dilate((alpha > 0.1).float(), 9) == 0) & (dilate(strand, 9) == 0)
    assert (far & (dilate((alpha > 0.1).float(), 17) > 0)).sum() > 500
    assert torch.equal(back.filled[far.expand_as(image)], image[far.expand_as(image)])
    assert back.place[far].max() == 0
    assert (back.filled - wall)[..., 60, 97:101].abs().max() < 0.04
    assert (back.filled - wall)[alpha.expand_as(wall) > 0.1].abs().max() < 0.04


def test_what_a_photographs_border_repeats_says_nothing_of_a_wall():
    """Below where the photograph ends its last row goes on, which shows clothes at both sides of the person."""
    alpha = disc(0.5, 1.5)
    image = mixed(alpha)
    image[..., 100:, :] = 0.05
    shown = torch.zeros_like(alpha)
    shown[..., :96, :] = 1
    walls = [cut_out(image, all_hair(alpha), shown=part).backdrop for part in (shown, None)]
    assert [one.wall.item() for one in walls] == [1, 0]
    middle = slice(SIZE // 4, SIZE // 2)
    assert (walls[0].filled - WALL[None, :, None, None])[..., middle, middle].abs().max() < 0.01
