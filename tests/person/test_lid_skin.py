"""The skin of lids: as bright as skin around, in the colour that skin so bright has, with its grain; lashes as dark as the person's own."""

from __future__ import annotations

import pytest
import torch
from people import person

from difffae.common.pixels import luma_of
from difffae.head.morphable import HeadModel
from difffae.person.lids import ACROSS, EYES, LASHES_SHARE, LidFrame, closed_look, lash_part
from difffae.person.skin_tone import GRAIN, GRAIN_FROM, LID_FLOOR, RUDDY, coloured, grain, skin_light

SIZE, WIDTH = 96, 40.0
DOWN, RIGHT = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
ALONG, ACROSS_EYE = (RIGHT[None] - 28) / WIDTH, (DOWN[None] - 52) / WIDTH
PLACE, HEIGHT, KNOWN = (ALONG, ACROSS_EYE), torch.full((1, SIZE, SIZE), 0.4), torch.ones(1, 1, SIZE, SIZE)


def skin(green: torch.Tensor) -> torch.Tensor:
    """Skin (1,3,H,W) whose logarithms of red and of blue over green deepen in the shade."""
    whole = green + LID_FLOOR
    shade = (whole / (0.5 + LID_FLOOR)).log()
    return torch.cat([whole * (0.3 - 0.2 * shade).exp(), whole, whole * (-0.2 + 0.15 * shade).exp()], 1) - LID_FLOOR


def shading() -> torch.Tensor:
    return (0.35 + 0.2 * RIGHT / SIZE)[None, None]


def tones(image: torch.Tensor) -> tuple[float, float]:
    """Logarithms of red and of blue over green."""
    red, green, blue = (image + LID_FLOOR).log().mean((0, 2, 3)).tolist()
    return red - green, blue - green


def test_shaded_skin_has_the_colour_of_the_persons_shade():
    picture = skin(shading())
    for green in (0.25, 0.4):
        right = skin(torch.full((1, 1, SIZE, SIZE), green))
        made = coloured(picture, KNOWN, PLACE, HEIGHT, WIDTH, luma_of(right))
        assert luma_of(made).mean().item() == pytest.approx(luma_of(right).mean().item(), abs=1e-3)
        assert tones(made) == pytest.approx(tuple(RUDDY * tone for tone in tones(right)), abs=0.03)


def test_neither_brows_nor_paint_nor_a_background_give_a_lid_their_colour():
    picture, light = skin(shading()), torch.full((1, 1, SIZE, SIZE), 0.35)
    plain = tones(coloured(picture, KNOWN, PLACE, HEIGHT, WIDTH, light))
    for colour, where in (((0.1, 0.1, 0.1), ACROSS_EYE < -0.6), ((0.2, 0.6, 0.3), ALONG < -0.2)):
        painted = torch.where(where[:, None], torch.tensor(colour)[None, :, None, None], picture)
        assert tones(coloured(painted, KNOWN, PLACE, HEIGHT, WIDTH, light)) == pytest.approx(plain, abs=0.03)


def test_lids_of_grey_pictures_are_grey_and_without_skin_too():
    light = torch.full((1, 1, SIZE, SIZE), 0.3)
    made = coloured(shading().expand(-1, 3, -1, -1), KNOWN, PLACE, HEIGHT, WIDTH, light)
    assert (made - light).abs().max() < 1e-5
    assert torch.equal(coloured(skin(shading()), 0 * KNOWN, PLACE, HEIGHT, WIDTH, light), light.expand(-1, 3, -1, -1))


def test_dark_lines_above_the_fold_do_not_darken_a_lid():
    picture = skin(torch.full((1, 1, SIZE, SIZE), 0.5))
    lid = ((ACROSS_EYE > -0.35) & (ACROSS_EYE < 0) & ((ALONG - 0.5).abs() < 0.3))[:, None]
    plain = skin_light(picture, KNOWN, PLACE, HEIGHT, WIDTH)[lid].mean().item()
    assert plain == pytest.approx(luma_of(picture).mean().item(), abs=0.01)
    lined = torch.where(((ACROSS_EYE > -0.52) & (ACROSS_EYE < -0.45))[:, None], 0.3 * picture, picture)
    assert skin_light(lined, KNOWN, PLACE, HEIGHT, WIDTH)[lid].mean().item() == pytest.approx(plain, rel=0.02)


def test_the_grain_is_that_of_the_cheek_below():
    picture = torch.full((1, 3, SIZE, SIZE), 0.5)
    assert (grain(picture, torch.tensor([[0.0, WIDTH]])) - 1).abs().max() < 1e-5
    picture[..., 70, 48] = 0.52
    there = grain(picture, torch.tensor([[0.0, WIDTH]]))[0, 0]
    row = 70 - GRAIN_FROM * WIDTH
    assert divmod(int(there.argmax()), SIZE) == (round(row), 48)
    assert 0.01 < there.max().item() - 1 < GRAIN * 0.04


def test_lashes_are_the_darker_the_darker_the_own_are(head: HeadModel):
    marks = torch.zeros(1, 478, 3)
    for side, start in ((0, 20.0), (1, 130.0)):
        eye, steps = EYES[side], torch.linspace(0, 1, 9)
        steps = steps if side == 0 else steps.flip(0)
        for which, bow in ((eye.upper, -8.0), (eye.lower, 8.0)):
            marks[0, list(which), 0] = start + 50 * steps
            marks[0, list(which), 1] = 80 + bow * (1 - (2 * steps - 1).square())
    marks[0, 10, 1], marks[0, 152, 1] = 0.0, 190.0
    face, skin_only = person(head, 3), torch.full((1, 3, 200, 200), 0.6)
    lined = skin_only.clone()
    places = torch.stack(torch.meshgrid(torch.arange(200), torch.arange(200), indexing="xy"), -1)[None].float()
    for eye in EYES:
        along, across = LidFrame.of(marks, eye).coordinates(places)
        lined = torch.where(((along > -0.2) & (along < 0.6) & (across.abs() < 0.15))[:, None], 0.02, lined)
    looks = [closed_look(head, face, picture, marks)[0] for picture in (skin_only, lined)]
    up = -torch.linspace(*ACROSS, looks[0].shape[2])[:, None]
    plain, dark = (lash_part(look, up).sum().item() for look in looks)
    assert dark / plain == pytest.approx(LASHES_SHARE[1] / LASHES_SHARE[0], rel=0.02)
    assert (looks[0] - looks[1]).abs()[lash_part(looks[0], up) == 0].max() < 1e-6  # the lid is the same
