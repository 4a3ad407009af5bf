"""Highlights of skin get their colour back as they darken, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from painted import SIZE, paint
from people import directional, person

from difffae.carry.state import PosedHead
from difffae.common.pixels import erode, flow_grid, pixel_grid
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.prepared import Prepared, prepare
from difffae.person.skin_tone import REPLACED, coloured_shade, lost_colour

SKIN, PALE = torch.tensor([0.6, 0.42, 0.34]), torch.tensor([0.93, 0.91, 0.9])


@pytest.fixture(scope="module")
def shiny(head: HeadModel) -> tuple[Prepared, torch.Tensor, torch.Tensor]:
    """A person of one colour with a pale forehead; the middle of the forehead and of the cheeks, masks (1,1,SIZE,SIZE)."""
    face = person(head, 3, expression=0.0, light=directional(0, 0, 0))
    drawn = render(head, face, SIZE)
    skin = head.part_mask(drawn.raster, "face")[:, None]
    rows = pixel_grid(SIZE, SIZE, drawn.image)[None, None, :, :, 1]
    eyes = rows[head.part_mask(drawn.raster, "eyes")[:, None]].mean()
    forehead, cheeks = skin & (rows < eyes - 0.12), skin & (rows > eyes + 0.12)
    picture = paint((drawn.mask, SKIN), (forehead.float(), PALE))
    middle = [erode(part.float(), 7) > 0 for part in (forehead, cheeks)]
    assert all(int(part.sum()) > 100 for part in middle)
    return prepare(picture, face, head), *middle


def lost(source: Prepared, picture: torch.Tensor) -> torch.Tensor:
    posed: PosedHead = source.posed
    return lost_colour(picture, posed, None)


def test_a_pale_forehead_lacks_the_colour_of_the_cheeks(shiny: tuple[Prepared, torch.Tensor, torch.Tensor]) -> None:
    source, forehead, cheeks = shiny
    tone = SKIN.add(0.02).log()
    tone = tone - tone.mean()
    found = source.lost_colour.permute(0, 2, 3, 1)
    assert (found[forehead[:, 0]].mean(0) / tone - REPLACED).abs().max() < 0.1
    assert found[cheeks[:, 0]].abs().max() == 0
    assert found.sum(-1).abs().max() < 1e-5  # no brightness


def test_skin_of_one_colour_hair_and_grey_photographs_lack_none(shiny: tuple[Prepared, torch.Tensor, torch.Tensor]) -> None:
    source, forehead, _ = shiny
    assert lost(source, paint((torch.ones_like(forehead).float(), SKIN))).abs().max() == 0
    assert lost(source, source.image.mean(1, keepdim=True).expand(-1, 3, -1, -1)).abs().max() < 1e-5
    everywhere = torch.ones_like(source.image[:, :1])
    assert lost_colour(source.image, source.posed, everywhere).abs().max() == 0


def test_colour_comes_back_with_the_shade_and_goes_along(shiny: tuple[Prepared, torch.Tensor, torch.Tensor]) -> None:
    source, _, _ = shiny
    whole, none = torch.full_like(source.image, -1.0), torch.zeros_like(source.image)
    aside = torch.zeros(1, 2, SIZE, SIZE)
    still = coloured_shade(source.lost_colour, whole, flow_grid(aside))
    assert (still - source.lost_colour).abs().max() < 1e-5
    assert coloured_shade(source.lost_colour, none, flow_grid(aside)).abs().max() == 0
    assert coloured_shade(source.lost_colour, -whole, flow_grid(aside)).abs().max() == 0
    aside[:, 0] = 5
    moved = coloured_shade(source.lost_colour, whole, flow_grid(aside))
    assert (moved[..., :-5] - source.lost_colour[..., 5:]).abs().max() < 1e-4


def test_a_darkened_highlight_is_no_grey_patch(shiny: tuple[Prepared, torch.Tensor, torch.Tensor]) -> None:
    source, forehead, cheeks = shiny
    darker: FaceAttributes = source.face.map(torch.clone)
    darker.light.mul_(0.5)
    shown = source.move(darker).image.permute(0, 2, 3, 1)
    tint = [(shown[part[:, 0]][:, 0] / shown[part[:, 0]][:, 2]).log().mean() for part in (forehead, cheeks)]
    before = (PALE[0] / PALE[2]).log()
    assert tint[0] > before + 0.7 * (tint[1] - before)
