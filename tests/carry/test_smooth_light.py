"""Light on what the head model does not know well: eyes are lit as the skin around them, hair as one volume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from painted import HAIR, SIZE, SKIN, paint
from people import directional, person

from difffae.carry import light
from difffae.carry.options import CarryOptions
from difffae.common.pixels import dilate, erode, pixel_grid
from difffae.head.adjust import Adjustments, adjust
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.prepared import Carried, Prepared, prepare
from difffae.source.regions import Layers


def from_the_side(source: Prepared) -> Carried:
    numbers = Adjustments(light_azimuth=-70, light_elevation=0, light_strength=0.8)
    return source.move(adjust(source.face, numbers, source.head.expression_names))


def steps(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Differences of neighbouring pixels that are both there."""
    return (values[..., 1:] - values[..., :-1]).abs()[where[..., 1:] & where[..., :-1]]


def test_eyes_are_lit_as_the_skin_around(head: HeadModel) -> None:
    face = replace(person(head, 3, expression=0.0, light=directional(0.05, 0.05, 0.2)), camera=torch.tensor([[12.0, 0.0, 0.0]]))
    source = prepare(paint((render(head, face, SIZE).mask, SKIN)), face, head)
    eyes = head.part_mask(source.posed.raster, "eyes", "sockets")[:, None]
    within = erode(eyes.float(), 5) > 0
    around = (dilate(eyes.float(), 17) > 0) & (dilate(eyes.float(), 9) == 0)
    plain = replace(source, options=CarryOptions(eye_blur=1e-3, eye_margin=0.0))
    beyond = []
    columns = pixel_grid(SIZE, SIZE, source.image)[None, None, ..., 0]
    for one in (source, plain):
        change = from_the_side(one).light_ratio.log().mean(1, keepdim=True)
        for side in (columns < 0, columns > 0):
            inner, ring = change[within & side], change[around & side]
            assert inner.numel() > 20
            beyond.append(float((inner - ring.max()).clamp_min(0).max() + (ring.min() - inner).clamp_min(0).max()))
    assert max(beyond[:2]) < 0.03
    assert torch.equal(from_the_side(source).light_ratio[..., :8, :], from_the_side(plain).light_ratio[..., :8, :])


def test_light_from_above_leaves_no_shadow_between_the_brows(head: HeadModel) -> None:
    """The head model's forehead overhangs there. Now the place is lit as what is above and below it; what is far keeps its bits."""
    face = replace(person(head, 3, expression=0.0, light=directional(0.05, 0.05, 0.2)), camera=torch.tensor([[12.0, 0.0, 0.0]]))
    source = prepare(paint((render(head, face, SIZE).mask, SKIN)), face, head)
    above = adjust(face, Adjustments(light_elevation=60, light_strength=0.7), head.expression_names)
    plain = replace(source, options=CarryOptions(glabella=1e-6)).move(above).light_ratio
    filled = source.move(above).light_ratio
    points = (head.landmarks(source.posed.points)[0, [151, 9, 168, 5], :2] + 1) / 2 * SIZE - 0.5
    forehead, between, root, nose = ([float(of[0, 1, round(float(y)), round(float(x))]) for of in (plain, filled)] for x, y in points)
    assert between[0] < 0.9 * min(forehead[0], nose[0])
    assert between[1] > between[0] + 0.05
    assert root[1] > root[0]
    assert between[1] <= max(forehead[1], nose[1])
    assert torch.equal(plain[..., :8, :], filled[..., :8, :])


def test_hair_over_an_ear_is_lit_as_a_volume(head: HeadModel) -> None:
    face = person(head, 3, light=directional(0.05, 0.05, 0.2))
    drawn = render(head, face, SIZE)
    skin = head.part_mask(drawn.raster, "face")[:, None]
    chin = pixel_grid(SIZE, SIZE, drawn.image)[..., 1][skin[0, 0]].max()
    hair = dilate(drawn.mask, 17) * (pixel_grid(SIZE, SIZE, drawn.image)[None, None, ..., 1] < chin) * ~skin
    whole = drawn.mask.maximum(hair)
    picture = paint((drawn.mask, SKIN), (hair, HAIR))
    bob, bald = (prepare(picture, face, head, layers=Layers(whole, whole, strands, strands)) for strands in (hair, torch.zeros_like(hair)))
    ears = (dilate(head.part_mask(drawn.raster, "ears")[:, None].float(), 3) > 0) & (erode(hair, 5) > 0)
    assert int(ears.sum()) > 50
    smooth, rough = (steps(from_the_side(one).light_ratio.log().mean(1, keepdim=True), ears) for one in (bob, bald))
    assert smooth.max() < 0.06
    assert smooth.max() < 0.5 * rough.max()
    limit = CarryOptions().hair_ratio_limit
    ratio = from_the_side(bob).light_ratio[(erode(hair, 9) > 0).expand(-1, 3, -1, -1)]
    assert 1 / limit < ratio.min() < 0.8
    assert 1.05 < ratio.max() < limit


def test_locks_that_masks_take_for_clothes_have_no_step_in_their_light(head: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hair hangs down to the shoulders; from a row on the mask of hair ends, as networks have it."""
    face = person(head, 3, light=directional(0.05, 0.05, 0.2))
    drawn = render(head, face, SIZE)
    y = pixel_grid(SIZE, SIZE, drawn.image)[None, None, ..., 1]
    skin = head.part_mask(drawn.raster, "face")[:, None]
    chin = float(y[skin].max())
    long = dilate(drawn.mask, 17) * ~skin * ~(head.part_mask(drawn.raster, "neck")[:, None])
    upper, lower = long * (y < chin), long * (y >= chin)
    whole = drawn.mask.maximum(long)
    layers = Layers(whole, whole, upper + lower, upper)
    source = prepare(paint((drawn.mask, SKIN), (long, HAIR)), face, head, layers=layers)
    lock = (erode(long, 5) > 0) & ((y - chin).abs() < 0.25)
    assert int(lock.sum()) > 100
    worst = []
    for size in (light.LOCKS, 0.1):
        monkeypatch.setattr(light, "LOCKS", size)
        change = from_the_side(source).light_ratio.log().mean(1, keepdim=True)
        worst.append(float(steps(change.transpose(-1, -2), lock.transpose(-1, -2)).max()))
    assert worst[0] < 0.5 * worst[1], worst
