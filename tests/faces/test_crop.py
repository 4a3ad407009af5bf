from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from difffae.common.errors import ConfigError
from difffae.faces.crop import OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP, FaceCrop, crop_square, extract, paste
from difffae.vocabulary import FEATHER


def noise(height: int, width: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def smooth(height: int, width: int) -> torch.Tensor:
    """A picture without detail finer than about 25 pixels."""
    y = torch.arange(height)[:, None] / 8
    x = torch.arange(width)[None] / 8
    planes = [torch.sin(x + 0.3 * y), torch.cos(y + 0.2 * x), torch.sin(x) * torch.cos(y)]
    return 0.5 + 0.3 * torch.stack(planes)[None]


def oval(x: float, y: float, high: float, wide: float, roll: float = 0.0) -> torch.Tensor:
    """478 landmarks of which only the oval's four are placed; roll in degrees, clockwise."""
    points = torch.zeros(478, 3, dtype=torch.float64)
    c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    places = {OVAL_TOP: (0, -high / 2), OVAL_BOTTOM: (0, high / 2), OVAL_LEFT: (-wide / 2, 0), OVAL_RIGHT: (wide / 2, 0)}
    for index, (u, v) in places.items():
        points[index, 0], points[index, 1] = x + c * u - s * v, y + s * u + c * v
    return points


CROPS = {
    "inside": FaceCrop(40, 30, 300, 400, 500),
    "copy": FaceCrop(40, 30, 256, 400, 500),
    "small face": FaceCrop(200, 100, 60, 400, 500),
    "over every edge": FaceCrop(-50, -70, 640, 400, 500),
    "over one edge": FaceCrop(-20, 100, 200, 400, 500),
}


@pytest.mark.parametrize("name", CROPS)
def test_unchanged_crop_gives_the_picture_bit_for_bit(name: str):
    crop, image = CROPS[name], noise(400, 500)
    cut, _ = extract(image, crop)
    assert cut.shape == (1, 3, 256, 256)
    assert torch.equal(paste(image, cut.clone(), cut, crop), image)
    assert torch.equal(paste(image, cut.clone(), cut, crop, mask=torch.rand(1, 1, 256, 256)), image)


def test_crop_of_its_own_size_is_a_copy():
    image = noise(400, 500)
    cut, known = extract(image, CROPS["copy"])
    assert torch.equal(cut, image[..., 30:286, 40:296])
    assert torch.equal(known, torch.ones(1, 1, 256, 256))


@pytest.mark.parametrize("name", CROPS)
def test_pixels_outside_the_crop_are_never_touched(name: str):
    crop, image = CROPS[name], noise(400, 500)
    cut, _ = extract(image, crop)
    pasted = paste(image, 1 - cut, cut, crop)
    outside = torch.ones(400, 500, dtype=torch.bool)
    outside[max(crop.top, 0) : crop.top + crop.side, max(crop.left, 0) : crop.left + crop.side] = False
    assert torch.equal(pasted[..., outside], image[..., outside])
    assert (pasted - image)[..., ~outside].abs().max() > 0.3


def test_known_is_the_share_of_the_crop_inside_the_picture():
    crop = FaceCrop(-50, -64, 256, 400, 500)
    image = noise(400, 500)
    cut, known = extract(image, crop)
    assert torch.equal(known[0, 0, 64:, 50:], torch.ones(192, 206))
    assert known[0, 0, :64].abs().max() == 0
    assert known[0, 0, :, :50].abs().max() == 0
    assert torch.equal(cut[0, :, 64:, 50:], image[0, :, :192, :206])
    assert torch.equal(cut[0, :, :64, 50:], image[0, :, :1, :206].expand(-1, 64, -1))  # the border repeats
    _, half = extract(image, FaceCrop(-256, 0, 512, 400, 500))
    assert half.mean().item() == pytest.approx(0.5 * 400 / 512, abs=0.01)


def test_edit_appears_in_full_in_the_middle_and_not_at_the_border():
    image = smooth(400, 500) * 0.5
    crop = CROPS["copy"]
    cut, _ = extract(image, crop)
    pasted = paste(image, cut + 0.3, cut, crop, feather=0.05)
    change = (pasted - image)[0, 0, 30:286, 40:296]
    assert change[128, 128].item() == pytest.approx(0.3, abs=1e-5)
    assert change[0].abs().max() < 1e-3
    assert change[:, -1].abs().max() < 1e-3
    assert (change[128, 1:128] - change[128, :127]).abs().max() < 0.3 / 15  # a tint ends softly


def test_nothing_of_what_stood_near_the_border_stays():
    """Hair that reached to a few pixels below the square's edge, and is gone in the edit."""
    image = torch.full((1, 3, 400, 400), 0.7)
    image[..., 80:160, 120:280] = 0.1
    crop = FaceCrop(72, 72, 256, 400, 400)
    cut, _ = extract(image, crop)
    edited = torch.full_like(cut, 0.7)
    narrow, wide = ((paste(image, edited, cut, crop, feather=width) - 0.7).abs()[..., 72:328, 72:328] for width in (FEATHER, 0.05))
    assert narrow[..., 12:, :].max() < 1e-3
    assert wide[..., 12:, :].max() > 0.1


@pytest.mark.parametrize("side", [256, 400, 700])
def test_a_tinted_edit_has_no_seam_at_the_border_of_the_square(side: int):
    """A model that paints everything a little too warm (by 3 of 255) must not draw a frame: no step above one level between neighbours
    of 256 pixels a side, and none at the border itself."""
    image = smooth(900, 900) * 0.5
    crop = FaceCrop(100, 100, side, 900, 900)
    cut, _ = extract(image, crop)
    tint = torch.tensor([3.0, 1.0, -2.0])[None, :, None, None] / 255
    change = (paste(image, cut + tint, cut, crop, feather=FEATHER) - image)[0]
    assert (change[:, 100 + side // 2, 100 + side // 2] - tint[0, :, 0, 0]).abs().max() < 1e-3
    apart = max(1, side // 256)
    steps = torch.cat([(change[..., apart:] - change[..., :-apart]).flatten(), (change[:, apart:] - change[:, :-apart]).flatten()]).abs()
    assert steps.max() < 1 / 255
    assert steps.max() > 0.2 / 255
    assert change[:, 100].abs().max() < 0.5 / 255


def test_no_feather_where_the_crop_reaches_the_frame():
    image = smooth(256, 256) * 0.5
    crop = FaceCrop(0, -40, 256, 256, 256)
    cut, _ = extract(image, crop)
    change = (paste(image, cut + 0.3, cut, crop, feather=0.05) - image)[0, 0]
    assert change[0, 128].item() == pytest.approx(0.3, abs=1e-5)
    assert change[100, 0].item() == pytest.approx(0.3, abs=1e-5)
    assert change[100, 255].item() == pytest.approx(0.3, abs=1e-5)
    assert abs(change[215, 128].item()) < 1e-3  # the crop ends there, the picture goes on


@pytest.mark.parametrize(("side", "least"), [(256, 60.0), (180, 45.0), (600, 45.0)])
def test_round_trip_of_an_edit(side: int, least: float):
    """An edit pasted at any scale and cropped again is the edit (away from the feathered border)."""
    image = smooth(700, 700) * 0.5
    crop = FaceCrop(50, 50, side, 700, 700)
    cut, _ = extract(image, crop)
    edited = (cut + 0.2 * smooth(256, 256).flip(-1)).clamp(0, 1)
    again, _ = extract(paste(image, edited, cut, crop), crop)
    inner = (..., slice(48, 208), slice(48, 208))
    error = (again - edited)[inner].square().mean()
    assert -10 * torch.log10(error + 1e-12) > least


def test_large_faces_keep_detail_under_a_tint_and_lose_it_under_a_move():
    detail = (torch.arange(1024)[None] % 2).float() * 0.1  # a stripe per pixel, which no 256-pixel crop can hold
    image = smooth(1024, 1024) * 0.6 + detail
    crop = FaceCrop(0, 0, 1024, 1024, 1024)
    cut, _ = extract(image, crop)
    middle = (..., slice(300, 700), slice(300, 700))

    def stripes(x: torch.Tensor) -> float:
        x = x[middle]
        return (x[..., 1:] - x[..., :-1]).abs().mean().item()

    assert stripes(paste(image, (cut + 0.1).clamp(0, 1), cut, crop)) == pytest.approx(stripes(image), rel=0.02)
    moved = paste(image, cut.roll(24, -1), cut, crop)
    assert stripes(moved) < 0.25 * stripes(image)  # otherwise the old place's detail would lie over the new content


def test_mask_limits_the_edit():
    image = smooth(400, 500) * 0.5
    crop = CROPS["copy"]
    cut, _ = extract(image, crop)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 60:200, 60:128] = 1
    change = (paste(image, cut + 0.3, cut, crop, mask=mask) - image)[0, 0, 30:286, 40:296]
    assert change[:, 128:].abs().max() == 0
    assert change[130, 94].item() > 0.25


def test_framing():
    crop = crop_square(oval(300, 200, 125, 100), (400, 600))
    assert crop.side == round(1.9 * 125)
    assert abs(crop.centre[0] - 300) <= 0.5
    assert (200 - crop.top) / crop.side == pytest.approx(0.52, abs=0.01)
    turned = crop_square(oval(300, 200, 125, 50), (400, 600))  # yaw shortens the width
    assert 0.9 <= turned.side / crop.side <= 1
    nodding = crop_square(oval(300, 200, 70, 100), (400, 600))
    assert 0.9 <= nodding.side / crop.side <= 1
    rolled = crop_square(oval(300, 200, 125, 100, roll=35), (400, 600))
    assert rolled == crop
    with pytest.raises(ConfigError, match="landmarks"):
        crop_square(oval(math.nan, 0, 1, 1), (400, 600))


def test_framing_changes_smoothly():
    """No jump of more than the rounding while the face turns and moves, so that crops of a video do not tremble."""
    sides = [crop_square(oval(300 + t, 200, 125, 100 * math.cos(t / 50)), (400, 600)).side for t in range(75)]
    assert max(abs(a - b) for a, b in pairwise(sides)) <= 2


def test_flip():
    points = oval(310.3, 190.2, 140, 90, roll=10)
    crop = crop_square(points, (400, 600))
    mirrored = points.clone()
    mirrored[:, 0] = 600 - mirrored[:, 0]
    mirrored[[OVAL_LEFT, OVAL_RIGHT]] = mirrored[[OVAL_RIGHT, OVAL_LEFT]]
    assert crop_square(mirrored, (400, 600)) == crop.flipped()
    image = noise(400, 600)
    cut, known = extract(image, crop)
    cut_flipped, known_flipped = extract(image.flip(-1), crop.flipped())
    assert torch.allclose(cut_flipped, cut.flip(-1), atol=1e-5)
    assert torch.allclose(known_flipped, known.flip(-1), atol=1e-6)


def test_points_go_there_and_back_and_sit_on_the_pixels():
    crop = FaceCrop(-20, 40, 512, 700, 700)
    points = torch.tensor([[100.0, 200.0, 8.0]])
    assert torch.allclose(crop.to_crop(points), torch.tensor([[60.0, 80.0, 4.0]]))
    assert torch.allclose(crop.to_picture(crop.to_crop(points)), points)
    assert torch.allclose(crop.to_picture(crop.to_crop(points[:, :2])), points[:, :2])
    image = torch.zeros(1, 3, 700, 700)
    image[..., 200:204, 100:104] = 1  # centre (102, 202)
    cut, _ = extract(image, crop)
    weight = cut[0, 0] / cut[0, 0].sum()
    centre = torch.stack([(weight.sum(0) * (torch.arange(256) + 0.5)).sum(), (weight.sum(1) * (torch.arange(256) + 0.5)).sum()])
    assert torch.allclose(centre, crop.to_crop(torch.tensor([102.0, 202.0])), atol=0.02)


def test_batches():
    images = noise(300, 300, batch=2)
    crops = [FaceCrop(0, 0, 200, 300, 300), FaceCrop(90, 50, 240, 300, 300)]
    cut, known = extract(images, crops)
    assert cut.shape == (2, 3, 256, 256)
    assert known.shape == (2, 1, 256, 256)
    edited = 1 - cut
    pasted = paste(images, edited, cut, crops)
    for i in range(2):
        assert torch.allclose(pasted[i : i + 1], paste(images[i : i + 1], edited[i : i + 1], cut[i : i + 1], crops[i]), atol=1e-6)
    one, _ = extract(images[:1], crops[0])
    assert paste(images[:1], torch.cat([one, 1 - one]), one, crops[0]).shape == (2, 3, 300, 300)  # one picture, two edits
    with pytest.raises(ConfigError, match="2 pictures"):
        extract(images, crops[:1])
    with pytest.raises(ConfigError, match="300x300"):
        extract(images, FaceCrop(0, 0, 100, 200, 200))
