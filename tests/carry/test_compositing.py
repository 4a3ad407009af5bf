"""Joining the carried photograph and the sample, at the crop's size and at the photograph's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from difffae import Adjustments, DiffFAE, Sampling
from difffae.carry.compositing import composite, composite_weight, is_grey, keep_grey, moved_detail, native_detail
from difffae.faces.crop import FaceCrop, extract, paste
from difffae.report.measures import laplacian_variance


def noise(size: int, seed: int = 0) -> torch.Tensor:
    """A picture with detail at every scale: (1,3,size,size)."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.rand(1, 3, side, side, generator=generator) for side in (8, size // 4, size)]
    return sum(F.interpolate(layer, (size, size), mode="bilinear") for layer in layers) / 3  # type: ignore[return-value]


def test_agreement_and_validity_decide() -> None:
    carried = noise(64)
    drawn = F.avg_pool2d(F.pad(carried, (2, 2, 2, 2), mode="replicate"), 5, 1)
    valid = torch.ones(1, 1, 64, 64)
    valid[..., 32:] = 0
    result = composite(drawn, carried, valid)
    assert torch.equal(result[..., 40:], drawn[..., 40:])
    sharp = (result - carried)[..., :24].abs().mean()
    assert sharp < 0.1 * (drawn - carried)[..., :24].abs().mean()
    # another colour at low frequencies is the model's to decide
    assert composite_weight(drawn + 0.4, carried, valid).max() < 0.02


def test_detail_moves_with_the_crop() -> None:
    size, side, shift = 64, 256, 3
    square = noise(side)
    flow = torch.zeros(1, 2, size, size)
    front = torch.ones(1, 1, size, size)
    flow[:, 0] = shift  # what is seen at x comes from x + 3 crop pixels
    detail = moved_detail(square, flow, torch.ones(1, 3, size, size), front, torch.ones(1, 1, size, size))
    moved = torch.roll(square, -shift * side // size, dims=-1)
    small = F.interpolate(moved, (size, size), mode="bicubic", antialias=True)
    wanted = moved - F.interpolate(small, (side, side), mode="bicubic")
    inside = (..., slice(32, -32), slice(32, -32))
    assert (detail - wanted)[inside].abs().max() < 2e-3
    assert moved_detail(square, flow, torch.ones(1, 3, size, size), front, torch.zeros(1, 1, size, size)).abs().max() == 0


def test_no_detail_moves_where_the_motion_breaks_off() -> None:
    """Two halves that move apart by 6 pixels: the crop's pixels at the break mix both, so no detail is added there."""
    size, side = 64, 256
    flow, ones = torch.zeros(1, 2, size, size), torch.ones(1, 1, size, size)
    flow[:, 0, :, 32:] = 6.0
    detail = moved_detail(noise(side), flow, ones.expand(1, 3, size, size), ones, ones)
    still = moved_detail(noise(side), torch.zeros_like(flow), ones.expand(1, 3, size, size), ones, ones)
    assert detail[..., 127:129].abs().max() < 1e-3
    assert torch.equal(detail[..., 16:100], still[..., 16:100])


def test_pasted_move_is_as_sharp_as_the_photograph() -> None:
    side, shift = 256, 4
    picture = noise(512, seed=3)
    crop = FaceCrop(128, 128, side, 512, 512, 64)
    before, _ = extract(picture, crop)
    moved = torch.roll(picture, -shift * 4, dims=-1)
    edited, _ = extract(moved, crop)
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = shift
    detail = native_detail(picture, crop, flow, torch.ones(1, 3, 64, 64), torch.ones(1, 1, 64, 64), torch.ones(1, 1, 64, 64))
    inside = (..., slice(180, 330), slice(180, 330))
    errors = [(paste(picture, edited, before, crop, detail=d) - moved)[inside].square().mean() for d in (None, [detail])]
    assert errors[1] < 0.05 * errors[0]
    assert native_detail(picture, FaceCrop(0, 0, 64, 512, 512, 64), flow, flow, flow, flow) is None


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained()


@pytest.mark.slow
def test_edit_of_a_large_photograph_stays_sharp(model: DiffFAE) -> None:
    from difffae.common.checkpoint import asset_path
    from difffae.common.images import read_image

    small, _ = read_image(asset_path("source.png"))
    large = F.interpolate(small[None], scale_factor=3.0, mode="bicubic").clamp(0, 1)
    grain = F.avg_pool2d(torch.randn(1, 1, *large.shape[-2:], generator=torch.Generator().manual_seed(0)), 3, 1, 1) * 0.06
    large = (large + grain).clamp(0, 1)[0]
    portrait = model.analyse(large)
    assert portrait.crop.side > 1.5 * portrait.crop.size
    result = model.edit(portrait, adjust=Adjustments(yaw=12), sampling=Sampling(steps=4))
    x, y = (round(v) for v in portrait.crop.to_picture(portrait.landmarks[0, :, :2].mean(0)).tolist())
    reach = portrait.crop.side // 8
    face = (slice(None), slice(y - reach, y + reach), slice(x - reach, x + reach))
    ratio = laplacian_variance(result.image[face][None]) / laplacian_variance(large[face][None])
    assert 0.6 < float(ratio) < 1.3  # 0.13 with the crop's own pixels alone


def test_a_grey_photograph_stays_grey_and_a_coloured_one_is_not_touched():
    generator = torch.Generator().manual_seed(2)
    edited = torch.rand(2, 3, 20, 30, generator=generator)
    grey = torch.rand(1, 1, 16, 16, generator=generator).expand(1, 3, 16, 16)
    coloured = grey * torch.tensor([1.0, 0.9, 0.8])[None, :, None, None]
    kept = keep_grey(edited, is_grey(torch.cat([grey, coloured])))
    assert torch.equal(kept[1], edited[1])
    assert torch.equal(kept[0, 0], kept[0, 2])
    assert torch.equal(keep_grey(grey, is_grey(grey)), grey)
    assert torch.allclose(kept[0, 0], 0.299 * edited[0, 0] + 0.587 * edited[0, 1] + 0.114 * edited[0, 2], atol=1e-6)
