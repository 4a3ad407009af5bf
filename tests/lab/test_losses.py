"""The losses, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from difffae.common.errors import ConfigError
from difffae.lab.losses.losses import (
    attention_consistency,
    diffusion_loss,
    hole_weights,
    mask_loss,
    mean_attention,
    slot_reconstruction,
    soft_labels,
    total_loss,
)


def test_diffusion_loss_and_weights() -> None:
    prediction, target = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    target[1] = 2
    assert diffusion_loss(prediction, target).item() == pytest.approx(2.5)
    assert diffusion_loss(prediction, target, weights=torch.tensor([1.0, 0.0])).item() == pytest.approx(0.5)


def test_pixel_weights_keep_the_scale() -> None:
    prediction, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    validity = torch.tensor([[[[0.0, 1.0]]]])
    weights = hole_weights(validity, 2.0)
    assert weights.flatten().tolist() == [3.0, 1.0]
    assert diffusion_loss(prediction, target, pixel_weights=weights).item() == pytest.approx(0.75)
    constant = torch.ones(1, 1, 1, 2)
    assert diffusion_loss(prediction, constant, pixel_weights=weights).item() == pytest.approx(1.0)


def test_consistency_is_zero_for_equal_maps_and_detaches_masks() -> None:
    masks = torch.softmax(torch.randn(2, 4, 8, 8), dim=1).requires_grad_()
    assert attention_consistency([masks, masks], masks).item() == pytest.approx(0, abs=1e-12)
    maps = torch.full((2, 4, 4, 4), 0.25, requires_grad=True)
    loss = attention_consistency([maps], masks)
    assert loss.item() == pytest.approx((masks.detach() - 0.25).square().mean().item(), rel=1e-5)
    loss.backward()
    assert masks.grad is None
    assert maps.grad is not None
    assert maps.grad.abs().sum() > 0


def test_mean_attention_averages_layers() -> None:
    maps = [torch.full((1, 4, 4, 4), 0.1), torch.full((1, 4, 2, 2), 0.3)]
    torch.testing.assert_close(mean_attention(maps), torch.full((1, 4, 32, 32), 0.2))
    with pytest.raises(ConfigError, match="no attention map"):
        mean_attention([])


def test_total() -> None:
    assert total_loss(torch.tensor(1.0), torch.tensor(2.0)).item() == pytest.approx(1.2)


def test_soft_labels_average_cells_and_skip_unlabelled() -> None:
    labels = torch.tensor([[[0, 0, 3, 255], [0, 1, 3, 255]]], dtype=torch.uint8)
    shares, known = soft_labels(labels, (1, 2))
    assert shares[0, :, 0, 0].tolist() == [0.75, 0.25, 0, 0]
    assert shares[0, :, 0, 1].tolist() == [0, 0, 0, 1]
    assert known[0, 0].tolist() == [1.0, 0.5]


def test_mask_loss_follows_the_order() -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    masks = torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert mask_loss(masks, labels).item() == pytest.approx(-math.log(0.1), rel=1e-5)
    order = ("hair", "clothes", "background", "face")
    assert mask_loss(masks, labels, order).item() == pytest.approx(-math.log(0.4), rel=1e-5)
    assert mask_loss(masks, torch.full_like(labels, 255)).item() == 0.0
    with pytest.raises(ConfigError, match="no slot holds"):
        mask_loss(masks, labels, ("face", "hair", "hair", "background"))


def test_reconstruction_targets() -> None:
    images = torch.full((1, 3, 4, 4), 0.75)
    assert slot_reconstruction(torch.full((1, 3, 2, 2), 0.5), images).item() == pytest.approx(0, abs=1e-12)
    latents = torch.full((1, 8, 2, 2), 3.0)
    assert slot_reconstruction(torch.full((1, 8, 2, 2), 1.0), latents).item() == pytest.approx(4.0)
    with pytest.raises(ConfigError, match="channels"):
        slot_reconstruction(torch.zeros(1, 8, 2, 2), images)
