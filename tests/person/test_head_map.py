"""The whole head completed once a photograph: what was seen comes back, what was not is mirrored or goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import GREEN, HAIR, SIZE, SKIN, WALL
from people import directional, person
from torch import Tensor

from difffae.carry.head_map import DARKEST, Completed, HeadMap
from difffae.common.pixels import dilate, erode, gaussian_blur
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.rasterizer import Raster, interpolate
from difffae.head.render import render
from difffae.person.prepared import Prepared, prepare, start_move
from difffae.source.regions import Layers

EVEN = directional(0.0, 0.0, 0.0)


def striped(head: HeadModel, face: FaceAttributes) -> tuple[Tensor, Tensor, Raster]:
    """A head with soft stripes, alike on both sides: picture, where the head is, raster."""
    drawn = render(head, face, SIZE)
    rest = head.unposed(face.shape, face.expression)
    x, y, z = (rest - rest[:, head.vertex_mask("scalp")].mean(1, keepdim=True)).mul(60).unbind(-1)
    x = 0.5 * (x - x[:, head.mirror])  # the same but for its sign on both sides
    y, z = 0.5 * (y + y[:, head.mirror]), 0.5 * (z + z[:, head.mirror])
    colour = torch.stack([0.5 + 0.2 * (x.abs()).sin(), 0.5 + 0.2 * y.sin(), 0.4 + 0.2 * z.cos()], -1)
    picture = torch.where(drawn.mask > 0, interpolate(drawn.raster, head.faces, colour), WALL[None, :, None, None])
    return picture, drawn.mask, drawn.raster


def bald(mask: Tensor) -> Layers:
    return Layers(mask, mask, torch.zeros_like(mask), torch.zeros_like(mask))


def map_of(prepared: Prepared) -> HeadMap:
    assert prepared.person is not None
    assert prepared.person.head_map.value is not None
    return prepared.person.head_map.value


def looked_up(prepared: Prepared, target: FaceAttributes) -> Completed:
    return map_of(prepared).look_up(start_move(prepared, target))


def test_what_was_seen_comes_back(head: HeadModel) -> None:
    face = person(head, 3, light=directional(0.2, 0.1, 0.2), expression=0.0)
    picture, mask, raster = striped(head, face)
    found = looked_up(prepare(picture, face, head, layers=bald(mask)), face)
    shown = (found.seen > 0.99) & (found.where > 0.99) & head.part_mask(raster, "scalp", "face")[:, None]
    inner = (erode(shown.float(), 5) > 0).expand(-1, 3, -1, -1)
    assert inner.sum() > 3 * 2000
    assert (found.image - picture)[inner].abs().mean() < 0.01


def test_a_hidden_half_is_the_other_half_mirrored(head: HeadModel) -> None:
    face = person(head, 3, yaw=-35, light=EVEN, expression=0.0)
    target = replace(face, pose=person(head, 3, yaw=35).pose)
    (picture, mask, _), (truth, _, raster) = striped(head, face), striped(head, target)
    prepared = prepare(picture, face, head, layers=bald(mask))
    move = start_move(prepared, target)
    found = map_of(prepared).look_up(move)
    hidden = (move.seen == 0) & (found.where > 0.9) & head.part_mask(raster, "face")[:, None]
    hidden = (erode(hidden.float(), 3) > 0).expand(-1, 3, -1, -1)
    assert hidden.sum() > 3 * 500
    assert (found.image - truth)[hidden].abs().mean() < 0.03
    assert (found.image - SKIN[None, :, None, None])[hidden].abs().mean() > 0.1  # the stripes are no smooth fill
    ear = (move.seen == 0) & (found.where > 0.9) & head.part_mask(raster, "ears")[:, None]
    assert ear.sum() > 100
    assert (found.image - truth)[ear.expand(-1, 3, -1, -1)].abs().mean() < 0.06


def test_no_cloth_comes_into_the_map(head: HeadModel) -> None:
    face = person(head, 3, light=EVEN, expression=0.0)
    drawn = render(head, face, SIZE)
    scarf = head.part_mask(drawn.raster, "neck", "shoulders")[:, None].float()
    scarf = dilate(scarf, 15) * drawn.mask
    picture = torch.where(drawn.mask > 0, SKIN[None, :, None, None], WALL[None, :, None, None])
    picture = torch.where(scarf > 0, GREEN[None, :, None, None], picture)
    layers = Layers(drawn.mask, drawn.mask, scarf, torch.zeros_like(scarf))
    colour = map_of(prepare(picture, face, head, layers=layers)).log_colour.exp() - DARKEST
    assert (colour[:, 1] / colour[:, 0]).max() < 0.9  # 0.75 is skin's, 4 the scarf's


@pytest.fixture(scope="module")
def woolly(head: HeadModel, afro: tuple[Tensor, Layers, FaceAttributes]) -> Prepared:
    """A person whose hair has a texture of known contrast."""
    image, layers, face = afro
    noise = torch.randn((1, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    noise = gaussian_blur(noise, 0.8)
    wool = HAIR[None, :, None, None] * (0.3 * noise / noise.std()).exp()
    scalp = head.part_mask(render(head, face, SIZE).raster, "scalp")[:, None] & (layers.hair == 0)
    hair = layers.hair.maximum(scalp.float())
    picture = torch.where(hair > 0, wool, image)
    return prepare(picture, face, head, layers=replace(layers, hair=hair, loose=layers.loose.maximum(hair)))


def test_hair_goes_on_with_the_contrast_it_has(woolly: Prepared) -> None:
    made = map_of(woolly)
    grey = made.log_colour.mean(1, keepdim=True)
    detail = grey - gaussian_blur(grey, 4.0)
    seen = (erode((made.seen > 0.99).float(), 5) > 0) & (made.grows > 0.9)
    crown = torch.zeros_like(seen)
    crown[..., 130:170, 156:356] = True  # behind the top of the head, 103 to 135 degrees from the front
    crown &= made.seen < 0.01
    assert crown.sum() > 5000
    assert 0.5 < detail[crown].std() / detail[seen].std() < 1.5
    # and in its colour
    colour = made.log_colour.permute(0, 2, 3, 1)[crown[:, 0]].mean(0).exp()
    assert (colour / colour.mean() - HAIR / HAIR.mean()).abs().max() < 0.15


def test_a_map_is_the_same_every_time_and_in_a_batch(woolly: Prepared) -> None:
    layers = woolly.person.layers  # type: ignore[union-attr]
    again = map_of(prepare(woolly.image, woolly.face, woolly.head, layers=layers))
    assert torch.equal(again.log_colour, map_of(woolly).log_colour)
    other = woolly.image.flip(1)
    both = prepare(torch.cat([other, woolly.image]), woolly.face, woolly.head, layers=layers.map(lambda one: one.expand(2, -1, -1, -1)))
    assert (map_of(both).log_colour[1] - again.log_colour[0]).abs().max() < 1e-3


def test_grey_photographs_stay_grey(woolly: Prepared) -> None:
    grey = woolly.image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    white = replace(woolly.face, light=directional(0.3, 0.1, 0.2))
    prepared = prepare(grey, white, woolly.head, layers=woolly.person.layers)  # type: ignore[union-attr]
    found = looked_up(prepared, replace(white, pose=person(woolly.head, 3, yaw=25).pose))
    spread = (found.image.amax(1) - found.image.amin(1)) * found.where[:, 0]
    assert spread.max() < 2e-3


def test_hair_that_moves_shows_the_photograph_only_where_it_was_seen_well(woolly: Prepared) -> None:
    """So the layers do; a head that is bent stretches what was seen."""
    woolly = replace(woolly, options=replace(woolly.options, bend=None))
    target = replace(woolly.face, pose=person(woolly.head, 3, yaw=30).pose)
    move = start_move(woolly, target)
    found = map_of(woolly).look_up(move)
    moved = woolly.move(target)
    scalp = woolly.head.part_mask(move.posed.raster, "scalp")[:, None]
    grazing = scalp & (found.seen < 0.3) & (found.where > 0.99) & (move.shift > 3)
    assert grazing.sum() > 300
    inner = erode(grazing.float(), 5) > 0
    assert (moved.image - found.image)[inner.expand(-1, 3, -1, -1)].abs().mean() < 0.02
