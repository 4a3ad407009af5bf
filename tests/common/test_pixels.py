"""Operations on maps of pixels, against values that are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from people import person
from scipy.ndimage import distance_transform_edt

from difffae.common.pixels import (
    dilate,
    erode,
    gaussian_blur,
    inverse_flow,
    nearest_inside,
    opened,
    pixel_grid,
    pull_push,
    relit,
    smoothest,
)
from difffae.head.morphable import HeadModel
from difffae.head.render import render


def test_pull_push_keeps_known_pixels_and_continues_a_plane():
    ramp = torch.linspace(0.2, 0.8, 37)[None, None, None].expand(1, 3, 29, 37)
    known = torch.ones(1, 1, 29, 37)
    known[..., 8:20, 10:26] = 0
    filled = pull_push(torch.where(known > 0, ramp, 9.0), known)
    assert torch.equal(filled[known.expand(-1, 3, -1, -1) > 0], ramp[known.expand(-1, 3, -1, -1) > 0])
    assert (filled - ramp).abs().max() < 0.12
    assert torch.allclose(pull_push(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)), torch.tensor(0.5))
    one = torch.zeros(1, 1, 16, 16)
    one[..., 3, 5] = 1
    assert torch.allclose(pull_push(torch.full((1, 2, 16, 16), 0.3), one), torch.tensor(0.3), atol=1e-5)


def test_erode_is_the_opposite_of_dilate():
    mask = (torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    assert torch.equal(erode(mask, 5), 1 - dilate(1 - mask, 5))


def test_opened_drops_what_is_narrow() -> None:
    bars = torch.zeros(1, 1, 32, 32)
    bars[..., 4:8], bars[..., 14:24] = 1, 1
    kept = opened(bars, 5)
    assert torch.equal(kept[..., 12:], bars[..., 12:])
    assert float(kept[..., :12].max()) == 0


def test_nearest_inside_against_the_distance_transform():
    head = HeadModel.load()
    generator = torch.Generator().manual_seed(0)
    masks = [
        torch.rand(2, height, width, generator=generator) < share
        for height, width, share in ((64, 64, 0.002), (96, 64, 0.02), (50, 70, 0.3))
    ]
    for mask in masks:
        mask[:, 20:30, 10:25] = True
    masks += [render(head, person(head, seed, yaw=20), 128).mask[:, 0] > 0 for seed in range(2)]
    for mask, farther in zip(masks, (3.0, 3.0, 3.0, 2.0, 2.0), strict=True):
        height, width = mask.shape[-2:]
        index, distance = nearest_inside(mask)
        assert mask.flatten(1).gather(1, index.flatten(1)).all()
        ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        reached = ((index // width - ys).square() + (index % width - xs).square()).float().sqrt()
        assert torch.allclose(reached, distance)
        for row in range(len(mask)):
            exact = torch.from_numpy(distance_transform_edt(~mask[row].numpy())).float()
            assert (distance[row] - exact).min() > -1e-4
            assert (distance[row] - exact).max() <= farther
            assert (distance[row] - exact).mean() <= 0.7
            assert (distance[row][mask[row]] == 0).all()
            assert torch.equal(index[row][mask[row]], torch.arange(height * width).view(height, width)[mask[row]])


def test_nearest_inside_an_empty_mask_is_infinitely_far():
    index, distance = nearest_inside(torch.zeros(1, 8, 6, dtype=torch.bool))
    assert torch.equal(index[0].flatten(), torch.arange(48))
    assert distance.isinf().all()


def test_gaussian_blur_keeps_constants_and_has_its_width():
    assert torch.equal(gaussian_blur(torch.zeros(1, 2, 20, 30), 3.0), torch.zeros(1, 2, 20, 30))
    assert torch.allclose(gaussian_blur(torch.full((1, 2, 20, 30), 0.7), 3.0), torch.tensor(0.7), atol=1e-6)
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = gaussian_blur(point, 3.0)[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    x = torch.arange(41) - 20.0
    variance = (spread.sum(0) * x**2).sum()
    assert 7.5 < variance < 9.0  # 9, less what the cut-off tails had
    assert torch.allclose(spread, spread.T, atol=1e-7)


def test_pixel_grid_has_centres():
    grid = pixel_grid(2, 4, torch.zeros(1))
    assert grid[0, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert grid[:, 0, 1].tolist() == [-0.5, 0.5]


def test_relit_keeps_detail_of_bright_skin_and_is_a_product_elsewhere():
    image = torch.linspace(0, 1, 101).view(1, 1, 1, 101).expand(1, 3, 1, 101)
    same, darker, brighter = (relit(image, torch.full_like(image, ratio)) for ratio in (1.0, 0.5, 1.5))
    assert torch.equal(same, image)
    assert torch.equal(darker, image * 0.5)
    low = image * 1.5 <= 0.8
    assert torch.equal(brighter[low], (image * 1.5)[low])
    steps = brighter[0, 0, 0].diff()
    assert steps.min() >= 0  # brighter stays brighter
    assert steps[55:75].min() > 1e-3  # and different, where a product would be white from 0.67 on
    assert brighter.max() <= 1


@pytest.mark.parametrize("size", [1, 3, 5, 9, 19])
def test_dilate_is_the_maximum_of_the_window(size: int) -> None:
    x = torch.randn(2, 3, 24, 37, generator=torch.Generator().manual_seed(3))
    assert torch.equal(dilate(x, size), F.max_pool2d(x, size, 1, size // 2))


@pytest.mark.parametrize("sigma", [0.55, 1.7, 4.0])
def test_gaussian_blur_is_a_convolution_with_replicated_edges(sigma: float) -> None:
    x = torch.randn(2, 3, 24, 37, generator=torch.Generator().manual_seed(3))
    blurred = gaussian_blur(x, sigma)
    radius = max(1, int(2.5 * sigma + 0.5))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    square = torch.outer(taps, taps) / taps.sum() ** 2
    expected = F.conv2d(F.pad(x, (radius,) * 4, mode="replicate"), square.expand(3, 1, -1, -1), groups=3)
    assert torch.allclose(blurred, expected, atol=1e-5)


def test_the_smoothest_field_is_that_of_least_squares() -> None:
    """Against a dense solution of the same energy."""
    draw = torch.Generator().manual_seed(5)
    height, width = 7, 9
    stiffness = torch.rand(1, 1, height, width - 1, generator=draw), torch.rand(1, 1, height - 1, width, generator=draw)
    stiffness[0][..., :4] *= 0.02
    slopes = torch.randn(1, 2, height, width - 1, generator=draw), torch.randn(1, 2, height - 1, width, generator=draw)
    value, weight = torch.randn(1, 2, height, width, generator=draw), torch.rand(1, 1, height, width, generator=draw) ** 4
    places = torch.arange(height * width).unflatten(0, (height, width))
    ends = [places[:, :-1].flatten(), places[:-1].flatten()], [places[:, 1:].flatten(), places[1:].flatten()]
    first, second = (torch.cat(end) for end in ends)
    rows = torch.zeros(len(first), height * width)
    rows[torch.arange(len(first)), second] += 1
    rows[torch.arange(len(first)), first] -= 1
    root = torch.cat([one.flatten() for one in stiffness]).sqrt()
    system = torch.cat([rows * root[:, None], torch.diag(weight.flatten().sqrt())])
    field = smoothest(slopes, stiffness, value, weight)
    for channel in range(2):
        wanted = torch.cat([one[0, channel].flatten() for one in slopes]) * root
        right = torch.cat([wanted, value[0, channel].flatten() * weight.flatten().sqrt()])
        exact = torch.linalg.lstsq(system, right[:, None]).solution[:, 0].unflatten(0, (height, width))
        assert (field[0, channel] - exact).abs().max() < 1e-4
    assert not smoothest(tuple(0 * one for one in slopes), stiffness, 0 * value, weight).any()


def test_an_inverse_flow_leads_back() -> None:
    grid = pixel_grid(64, 64, torch.zeros(1))
    flow = 0.2 * torch.stack([torch.sin(2 * grid[..., 1]) + 1.5 * torch.tanh(2 * grid[..., 0]), torch.cos(3 * grid[..., 0])])[None]
    flow = flow * (1 - (grid.abs().amax(-1) / 0.95) ** 4).clamp_min(0)
    back = inverse_flow(flow)
    there = (grid + back[0].permute(1, 2, 0))[None]
    again = F.grid_sample(flow, there, align_corners=False)
    assert flow.abs().max() > 0.3
    assert (back + again).abs().max() < 2e-3
