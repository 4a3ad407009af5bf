"""Skin, hair and clothes of whole persons by colours; outlines and light of clothes that are replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from difffae.common.pixels import dilate, erode, gaussian_blur
from difffae.faces.crop import FaceCrop
from difffae.swap.body_parts import body_parts
from difffae.swap.clothes import _no_brighter, with_clothes
from difffae.swap.dressed import Dressed
from difffae.swap.fitted_clothes import Fitted, _mirrored, _shoulder_line

HEIGHT, WIDTH, SIDE, MIDDLE, CHIN = 200, 240, 160, 120, 110
SKIN, WHITE, BROWN, TEAL, RED = (
    torch.tensor(c)[None, :, None, None] for c in ([0.8, 0.6, 0.5], [0.9, 0.9, 0.92], [0.25, 0.15, 0.1], [0.2, 0.5, 0.55], [0.8, 0.1, 0.1])
)
ROWS, COLUMNS = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")


def mask(where: Tensor) -> Tensor:
    return gaussian_blur(where.float()[None, None], 0.7)


def standing(collar: float = 0.0) -> Dressed:
    """Someone with brown hair in a white shirt that is open in a V, before teal: head, neck and shoulders that fall by a third; with a
    collar so many pixels high beside the neck."""
    away = (COLUMNS - MIDDLE).abs()
    head = ((ROWS - 70) / 42) ** 2 + (away / 32) ** 2 < 1
    body = (122 + away / 3 < ROWS) | ((away < 22) & (ROWS > 70))
    body |= (away < 34) & (away > 20) & (122 - collar < ROWS)
    opening = (away < 22) & (150 - away > ROWS)
    cloth = mask(body & ~opening & ~head & (ROWS > 90))
    hair = mask(head & (ROWS < 52))
    alpha, face = mask(head | body), (head & (ROWS > 52)).float()[None, None]
    picture = torch.lerp(TEAL.expand(1, 3, HEIGHT, WIDTH), SKIN.expand(1, 3, HEIGHT, WIDTH), alpha)
    noise = 0.008 * torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    picture = torch.lerp(torch.lerp(picture, WHITE.expand_as(picture), cloth), BROWN.expand_as(picture), hair) + noise
    square = FaceCrop(40, 0, SIDE, SIDE, WIDTH, HEIGHT)
    return Dressed(
        picture.clamp(0, 1), alpha, hair, cloth, face, replace(square, height=HEIGHT, width=WIDTH), torch.tensor([5.0, 0.0, 0.0])
    )


def test_a_neckline_is_where_colours_say():
    me = standing()
    known = torch.zeros_like(me.alpha)
    known[..., :SIDE, 40:200] = 1
    # masks know the shirt roughly, off by a twentieth of the square, and nothing below it
    rough = gaussian_blur(me.cloth.roll((8, 5), (-2, -1)), 5) * known
    cloth, hair = body_parts(replace(me, cloth=rough, hair=me.hair), known)
    clear = (erode(me.alpha, 5) > 0.99) & (ROWS > CHIN)
    right = ((cloth > 0.5) == (me.cloth > 0.5))[clear].float().mean()
    before = ((rough > 0.5) == (me.cloth > 0.5))[clear & (known > 0)].float().mean()
    assert before < 0.93
    assert right > 0.985
    assert hair[clear].max() < 0.1


def test_hair_on_shoulders_is_none_of_the_clothes():
    me = standing()
    lock = mask((COLUMNS > 82) & (COLUMNS < 94) & (ROWS > 60) & (ROWS < 190))
    picture = torch.lerp(me.picture, BROWN.expand_as(me.picture), lock)
    known = torch.zeros_like(me.alpha)
    known[..., :SIDE, 40:200] = 1
    # masks know it down to the chin, and call the rest clothes
    hair = me.hair.maximum(lock * (ROWS < CHIN))
    me = replace(me, picture=picture, alpha=me.alpha.maximum(lock), hair=hair, cloth=me.cloth.maximum(lock * (ROWS >= CHIN)) * known)
    cloth, found = body_parts(me, known)
    low = (erode(lock, 5) > 0.9) & (ROWS > CHIN + 5) & (ROWS < 180)
    assert low.sum() > 200
    assert found[low].mean() > 0.9
    assert cloth[low].mean() < 0.1


def test_old_collars_leave_the_background():
    """A collar that stands 30 pixels above the shoulders is gone where the reference has none."""
    other = standing()
    me = standing(collar=30.0)
    me = replace(me, picture=torch.lerp(me.picture, RED.expand_as(me.picture), me.cloth))
    out = (erode(me.alpha, 3) > 0.99) & (dilate(other.alpha, 5) < 0.01) & (ROWS > 95)
    assert out.sum() > 250
    result = with_clothes(me, other)
    shown = result.permute(1, 0, 2, 3)[:, out[:, 0]]
    assert (shown.mean(1) - TEAL[0, :, 0, 0]).abs().max() < 0.08
    line = _shoulder_line(me)
    assert line[[90, 150]].min() > 100  # the collar stands from row 92
    assert line[[20, 220]].max() == 0


@pytest.mark.parametrize(("brightness", "share"), [(1.0, 1.0), (0.6, 0.8)])
def test_white_is_no_brighter_than_the_light(brightness: float, share: float):
    """Clothes are dimmed to 1.15 of what is brightest in a person, and by a fifth at most."""
    me = standing()
    me = replace(me, picture=me.picture * brightness)
    body = Fitted(me.alpha, torch.full_like(me.picture, 0.95), torch.ones_like(me.alpha), me.alpha)
    dimmed = _no_brighter(body, torch.ones_like(me.alpha), me)
    torch.testing.assert_close(dimmed, torch.full_like(dimmed, 0.95 * share))


def test_beside_a_frame_clothes_go_on_as_in_a_mirror():
    stripes = (COLUMNS % 12 < 6).float().expand(1, 3, -1, -1)
    sure = (COLUMNS < 120)[None, None]
    index = torch.where(COLUMNS < 120, ROWS.long() * WIDTH + COLUMNS.long(), ROWS.long() * WIDTH + 119)[None]
    found = _mirrored(stripes, sure, index, 0.5)
    near = (COLUMNS > 124) & (COLUMNS < 160)
    expected = stripes.flip(-1)  # the mirror's line is the middle of the picture
    assert (found - expected).abs()[near.expand_as(found)].mean() < 0.2
    assert torch.equal(found[..., :100], stripes[..., :100])
