"""Light by numbers on photographs: bright skin is not burnt, the face stays as bright as it was, colours stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from people import directional, person

from difffae.carry.light import is_one_lamp
from difffae.carry.options import CarryOptions
from difffae.carry.prepared import Prepared, prepare
from difffae.edit.measures import luminance
from difffae.head.adjust import Adjustments, adjust, direct_light
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render

SIZE = 128
LAMPS = [(-90, 0, 1.0), (80, 0, 1.0), (90, 60, 1.0), (-60, -30, 1.0), (0, 60, 0.8), (45, 20, 0.6), (0, 0, 1.0), (-30, 30, 0.3)]
SKINS = [0.35, 0.6, 0.85]  # value of the brightest skin


def photograph(head: HeadModel, seed: int, brightest: float) -> tuple[Prepared, torch.Tensor]:
    """A rendered person whose brightest skin has this value, and the mask of the face (1,1,SIZE,SIZE)."""
    face = person(head, seed, light=directional(0.1, 0.1, 0.3))
    drawn = render(head, face, SIZE)
    mask = head.part_mask(drawn.raster, "face")[:, None]
    peak = drawn.image.amax(1, keepdim=True)[mask].quantile(0.97)
    return prepare((drawn.image * brightest / peak).clamp(0, 1), face, head), mask


def lit(source: Prepared, azimuth: float, elevation: float, strength: float) -> FaceAttributes:
    numbers = Adjustments(light_azimuth=azimuth, light_elevation=elevation, light_strength=strength)
    return adjust(source.face, numbers, source.head.expression_names)


@pytest.mark.parametrize("brightest", SKINS)
def test_lamps_burn_no_skin_and_keep_the_faces_brightness(head: HeadModel, brightest: float) -> None:
    source, face = photograph(head, 1, brightest)
    white = source.image.amax(1, keepdim=True) > 0.95
    before = luminance(source.image)[face].mean()
    for azimuth, elevation, strength in LAMPS:
        moved = source.move(lit(source, azimuth, elevation, strength))
        burnt = (moved.image.amax(1, keepdim=True) > 0.95) & ~white & face
        assert burnt.sum() <= 0.02 * face.sum(), (azimuth, elevation, strength)
        stops = (luminance(moved.image)[face].mean() / before).log2()
        assert abs(stops) < 0.25, (azimuth, elevation, strength)


def test_without_protection_the_same_lamps_burn_and_brighten(head: HeadModel) -> None:
    source, face = photograph(head, 1, 0.85)
    free = replace(source, options=CarryOptions(brightness_stops=100.0, highlight=100.0))
    lamp = lit(source, -60, -30, 1.0)
    burnt = [((one.move(lamp).image.amax(1, keepdim=True) > 0.95) & face).sum() / face.sum() for one in (free, source)]
    assert burnt[0] > 0.1
    assert burnt[1] < 0.02


def test_a_stronger_lamp_has_more_contrast_on_bright_skin_too(head: HeadModel) -> None:
    source, face = photograph(head, 2, 0.85)
    columns = torch.arange(SIZE).expand(1, 1, SIZE, SIZE)
    middle = columns[face].float().mean()
    sides = [face & (columns > middle + 6), face & (columns < middle - 6)]
    contrast = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        ratio = source.move(lit(source, 80, 0, strength)).light_ratio.mean(1, keepdim=True)
        contrast.append((ratio[sides[0]].log().mean() - ratio[sides[1]].log().mean()).item())
    assert contrast == sorted(contrast)
    assert contrast[-1] > contrast[0] + 0.5


def test_lamps_do_not_tint(head: HeadModel) -> None:
    source, face = photograph(head, 3, 0.8)
    warm = replace(source.face, light=directional(0.1, 0.1, 0.3) * torch.tensor([1.0, 0.9, 0.75]))
    source = prepare(source.image, warm, head)
    for azimuth, elevation, strength in LAMPS[:5]:
        ratio = source.move(lit(source, azimuth, elevation, strength)).light_ratio
        assert torch.allclose(ratio[:, :1][face], ratio[:, 1:2][face], rtol=0.02)
        assert torch.allclose(ratio[:, :1][face], ratio[:, 2:][face], rtol=0.02)


def test_light_of_another_picture_is_applied_as_it_is(head: HeadModel) -> None:
    source, _ = photograph(head, 1, 0.85)
    free = replace(source, options=CarryOptions(brightness_stops=100.0, highlight=100.0))
    for light in (direct_light(source.face.light, 60.0, 10.0, 0.9) * 1.05, directional(-0.2, -0.1, 0.2)):
        target = replace(source.face, light=light)
        assert torch.equal(source.move(target).light_ratio, free.move(target).light_ratio)
    lamp = lit(source, 60, 10, 0.9)
    assert not torch.equal(source.move(lamp).light_ratio, free.move(lamp).light_ratio)


def test_a_lamp_is_told_from_light_of_pictures() -> None:
    grey = directional(0.1, 0.1, 0.3)
    for azimuth, elevation in ((0, 0), (80, 0), (-90, 30), (0, 60)):
        for strength in (0.0, 0.1, 1.0):
            assert is_one_lamp(direct_light(grey * torch.tensor([1.0, 0.9, 0.8]), azimuth, elevation, strength)).all()
    fitted = torch.randn(50, 9, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    fitted[:, 0] = 3
    assert not is_one_lamp(fitted).any()
    assert not is_one_lamp(grey).any()


def test_a_head_that_turns_in_its_own_light_is_not_dimmed(head: HeadModel) -> None:
    source, _ = photograph(head, 1, 0.95)
    free = replace(source, options=CarryOptions(brightness_stops=100.0, highlight=100.0))
    turned = replace(source.face, pose=person(head, 1, yaw=20).pose)
    assert torch.equal(source.move(turned).image, free.move(turned).image)


def test_equal_light_changes_nothing_on_white_skin(head: HeadModel) -> None:
    source, _ = photograph(head, 1, 1.0)
    again = source.move(source.face)
    assert torch.equal(again.image, source.image)
