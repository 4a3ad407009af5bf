"""New lights on photographs: bright skin is not burnt, colours stay; lit by numbers, a face stays as bright as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from people import directional, person

from difffae.carry.options import CarryOptions
from difffae.head.adjust import Adjustments, adjust
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.prepared import Prepared, prepare
from difffae.report.measures import luminance

SIZE = 128
LAMPS = [(-90, 0, 1.0), (80, 0, 1.0), (90, 60, 1.0), (-60, -30, 1.0), (0, 60, 0.8), (45, 20, 0.6), (0, 0, 1.0), (-30, 30, 0.3)]
FREE = CarryOptions(darker_stops=100.0, brighter_stops=100.0, highlight=100.0)
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


@pytest.mark.parametrize("brightest", SKINS)
def test_light_of_another_picture_burns_no_skin_and_still_shows(head: HeadModel, brightest: float) -> None:
    """A lamp from the side, as another face has it: what bright skin cannot take falls to its shadows."""
    source, face = photograph(head, 1, brightest)
    target = replace(source.face, light=directional(0.9, 0.1, 0.5, 0.6))
    plain = replace(source, options=replace(FREE, most_lit=100.0, least_lit=100.0))
    across = torch.arange(SIZE).expand(1, 1, SIZE, SIZE) > SIZE // 2
    value = source.image.amax(1, keepdim=True)
    contrast = []
    for one in (plain, source):
        moved = one.move(target)
        burnt = (moved.image.amax(1, keepdim=True) > 0.95) & (value <= 0.95) & face
        contrast.append((luminance(moved.image)[face & across].mean() / luminance(moved.image)[face & ~across].mean()).log())
    assert burnt.sum() <= 0.02 * face.sum()
    assert contrast[1] > 0.6 * contrast[0] > 0.1


def test_without_protection_the_same_lamps_burn_and_brighten(head: HeadModel) -> None:
    source, face = photograph(head, 1, 0.85)
    free = replace(source, options=FREE)
    lamp = lit(source, -60, -30, 1.0)
    burnt = [((one.move(lamp).image.amax(1, keepdim=True) > 0.95) & face).sum() / face.sum() for one in (free, source)]
    assert burnt[0] > 0.1
    assert burnt[1] < 0.02


def sides(source: Prepared, face: torch.Tensor) -> list[torch.Tensor]:
    """Masks (1,1,SIZE,SIZE) of the face's right and left in the image."""
    columns = torch.arange(SIZE).expand(1, 1, SIZE, SIZE)
    middle = columns[face].float().mean()
    return [face & (columns > middle + 6), face & (columns < middle - 6)]


def test_a_stronger_lamp_has_more_contrast_on_bright_skin_too(head: HeadModel) -> None:
    source, face = photograph(head, 2, 0.85)
    right, left = sides(source, face)
    contrast = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        ratio = source.move(lit(source, 80, 0, strength)).light_ratio.mean(1, keepdim=True)
        contrast.append((ratio[right].log().mean() - ratio[left].log().mean()).item())
    assert contrast == sorted(contrast)
    assert contrast[-1] > contrast[0] + 0.8


@pytest.mark.parametrize("brightest", SKINS)
def test_a_lamp_from_the_side_is_seen_on_every_skin(head: HeadModel, brightest: float) -> None:
    """The lit side has at least twice the light of the other, whatever the skin: bright skin has its shadows, not white."""
    source, face = photograph(head, 2, brightest)
    for azimuth in (-70, 70):
        image = luminance(source.move(lit(source, azimuth, 0, 0.8)).image)
        near, far = sides(source, face)[:: 1 if azimuth > 0 else -1]
        assert image[near].mean() > 2 * image[far].mean()


def test_fill_lifts_shadows(head: HeadModel) -> None:
    source, face = photograph(head, 2, 0.7)
    right, left = sides(source, face)
    contrast = []
    for fill in (None, 0.0, 0.5, 1.0):
        numbers = Adjustments(light_azimuth=70, light_elevation=0, light_strength=0.8, light_fill=fill)
        image = luminance(source.move(adjust(source.face, numbers, source.head.expression_names)).image)
        contrast.append((image[right].mean() / image[left].mean()).log2().item())
    assert contrast[0] == contrast[1]
    assert contrast[1] > contrast[2] + 0.3 > contrast[3] + 0.6
    assert abs(contrast[3]) < 0.3


def test_warmth_colours_skin_and_leaves_its_brightness(head: HeadModel) -> None:
    source, face = photograph(head, 2, 0.7)
    for warmth in (-1.0, 1.0):
        moved = source.move(adjust(source.face, Adjustments(light_warmth=warmth), source.head.expression_names))
        red, _, blue = (channel[face[0, 0]].mean().log() for channel in moved.light_ratio[0])
        assert (red - blue) * warmth > 0.3
        assert abs((luminance(moved.image)[face].mean() / luminance(source.image)[face].mean()).log2()) < 0.25


def test_lamps_do_not_tint(head: HeadModel) -> None:
    source, face = photograph(head, 3, 0.8)
    warm = replace(source.face, light=directional(0.1, 0.1, 0.3) * torch.tensor([1.0, 0.9, 0.75]))
    source = prepare(source.image, warm, head)
    for azimuth, elevation, strength in LAMPS[:5]:
        ratio = source.move(lit(source, azimuth, elevation, strength)).light_ratio
        assert torch.allclose(ratio[:, :1][face], ratio[:, 1:2][face], rtol=0.02)
        assert torch.allclose(ratio[:, :1][face], ratio[:, 2:][face], rtol=0.02)


def test_coloured_sides_of_a_fitted_light_do_not_colour_a_lamp(head: HeadModel) -> None:
    """A fit takes reflections and make-up for light of a colour; a lamp elsewhere would bring out their complements."""
    source, face = photograph(head, 3, 0.8)
    sides = directional(0.1, 0.1, 0.3)
    sides[:, 1, 2] += 0.3  # blue from the right
    source = prepare(source.image, replace(source.face, light=sides), head)
    for azimuth, elevation, strength in LAMPS[:5]:
        ratio = source.move(lit(source, azimuth, elevation, strength)).light_ratio
        tint = (ratio[:, :1] / ratio[:, 2:])[face].log()
        assert tint.max() - tint.min() < 0.02


def test_shadows_keep_the_light_of_a_room(head: HeadModel) -> None:
    source, face = photograph(head, 2, 0.85)
    lamp = lit(source, 80, 0, 1.0)
    on_face = face.expand(-1, 3, -1, -1)
    unheld = replace(source, options=CarryOptions(least_lit=1e3))
    held, free = (one.move(lamp).light_ratio[on_face].min() for one in (source, unheld))
    assert held > 1 / CarryOptions().least_lit
    assert free < 0.95 * held


def test_what_counts_is_whether_numbers_set_a_light(head: HeadModel) -> None:
    """Light of another picture that equals a lamp in every number makes the face brighter; the lamp does not."""
    source, face = photograph(head, 1, 0.35)
    lamp = lit(source, 60, 10, 0.9)
    brighter = replace(lamp, light=1.5 * lamp.light)
    before = luminance(source.image)[face].mean()
    taken, set_ = (luminance(source.move(target).image)[face].mean() / before for target in (replace(brighter, lamp=None), brighter))
    assert taken > 1.25
    assert abs(set_.log2()) < 0.25


def test_numbers_count_row_by_row_and_survive_text(head: HeadModel) -> None:
    source, _ = photograph(head, 1, 0.85)
    lamp = lit(source, 60, 10, 0.9)
    taken = replace(lamp, lamp=None)
    both = source.move(FaceAttributes.from_json(FaceAttributes.cat([taken, lamp]).to_json()))
    assert torch.allclose(both.light_ratio[:1], source.move(taken).light_ratio, atol=1e-5)
    assert torch.allclose(both.light_ratio[1:], source.move(lamp).light_ratio, atol=1e-5)


def test_a_head_that_turns_in_its_own_light_is_not_dimmed(head: HeadModel) -> None:
    source, _ = photograph(head, 1, 0.95)
    free = replace(source, options=FREE)
    turned = replace(source.face, pose=person(head, 1, yaw=20).pose)
    assert torch.equal(source.move(turned).image, free.move(turned).image)


def test_equal_light_changes_nothing_on_white_skin(head: HeadModel) -> None:
    source, _ = photograph(head, 1, 1.0)
    again = source.move(source.face)
    assert torch.equal(again.image, source.image)


def test_light_fades_before_the_border_of_the_square(head: HeadModel) -> None:
    """What is beyond the square keeps its light, so a lamp that darkens a neck must not end there in a line."""
    source, _ = photograph(head, 2, 0.7)
    change = source.move(lit(source, -70, 0, 0.8)).light_ratio.log().abs().amax(1)[0]
    assert change[-1].max() < 0.01
    assert change[-2].max() < 0.1 * change[-SIZE // 8 :].max()
    assert change[-SIZE // 8 :].max() > 0.1
