"""A collar that the masks know only to half a dozen pixels gets its own edge."""

from __future__ import annotations

import torch
from painted import SKIN, WALL

from difffae.carry.cloth import crisp_cloth
from difffae.common.pixels import gaussian_blur, pixel_grid

SIZE = 160
SHIRT = torch.tensor([0.15, 0.25, 0.6])


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A neck and face with a shirt below, and the wall beside: picture, true cloth, person, face."""
    x, y = pixel_grid(SIZE, SIZE, torch.zeros(1)).unbind(-1)
    cloth = (y > 0.3 + 0.5 * x.abs() - 0.25).float()[None, None]
    person = ((x.abs() < 0.45) | (cloth[0, 0] > 0)).float()[None, None]
    face = ((x.abs() < 0.35) & (y < -0.1)).float()[None, None]
    picture = person * (cloth * SHIRT[:, None, None] + (1 - cloth) * SKIN[:, None, None]) + (1 - person) * WALL[:, None, None]
    noise = torch.rand(picture.shape, generator=torch.Generator().manual_seed(0)) * 0.03
    return picture + noise, cloth, person, face


def test_a_soft_collar_gets_the_edge_of_its_colours():
    picture, cloth, person, face = scene()
    soft = gaussian_blur(cloth, 5.0)
    crisp = crisp_cloth(picture, soft, person, torch.zeros_like(cloth), face)
    inside = person > 0
    assert (soft - cloth).abs()[inside].mean() > 0.03
    assert (crisp - cloth).abs()[inside].mean() < 0.008
    wrong = ((crisp - cloth).abs() > 0.5) & inside
    assert wrong.float().mean() < 0.003


def test_cloth_of_skins_colour_and_no_cloth_stay_as_the_masks_say():
    picture, cloth, person, face = scene()
    soft, none = gaussian_blur(cloth, 5.0), torch.zeros_like(cloth)
    alike = SKIN[None, :, None, None].expand_as(picture)
    assert torch.equal(crisp_cloth(alike, soft, person, none, face), soft)
    assert torch.equal(crisp_cloth(picture, none, person, none, face), none)
