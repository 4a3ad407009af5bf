"""The losses of the paper: Eq. 1 (diffusion), Eq. 7 (attention consistency), Eq. 8 (their sum), and slot pre-training (4.3).

Shape letters: B batch, Z latent channels, S slots, R regions, O output channels, h and w latent sides, G side of the decoder's output.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.errors import ConfigError
from ...source.slots import REGIONS

UNLABELLED = 255


def diffusion_loss(prediction: Tensor, target: Tensor, weights: Tensor | None = None, pixel_weights: Tensor | None = None) -> Tensor:
    """Eq. 1: mean squared error of the denoiser.

    Args:
        prediction, target: The noise, or v, (B,Z,h,w).
        weights: Of the samples, (B,), such as min-SNR's.
        pixel_weights: (B,1,h,w), of which only the ratios count: their mean over the batch is divided out.

    Returns:
        A scalar, float32.
    """
    error = (prediction.float() - target.float()).square()
    if pixel_weights is not None:
        error = error * (pixel_weights / pixel_weights.mean().clamp_min(1e-6))
    per_sample = error.mean(dim=(1, 2, 3))  # Eq. 1
    return (per_sample if weights is None else per_sample * weights).mean()


def hole_weights(validity: Tensor, extra: float) -> Tensor:
    """1 + extra * (1 - validity), (B,1,h,w): holes of the carried picture are what the denoiser must learn to fill."""
    return 1 + extra * (1 - validity)


def mean_attention(maps: Iterable[Tensor], size: tuple[int, int] = (32, 32)) -> Tensor:
    """The mean of the cross-attention maps (B,S,h',w') of several layers, each averaged over its heads, at one size: (B,S,*size),
    float32. Raises ConfigError if there are none."""
    resized = [
        value.float() if value.shape[2:] == size else F.interpolate(value.float(), size, mode="bilinear", align_corners=False)
        for value in maps
    ]
    if not resized:
        raise ConfigError("attention consistency: no attention map was recorded; run the denoiser inside record_attention()")
    return torch.stack(resized).mean(dim=0)


def attention_consistency(maps: Iterable[Tensor], masks: Tensor) -> Tensor:
    """Eq. 7: squared difference between the mean cross-attention map and the slot masks of the query (B,S,h,w), mean over all; a scalar.

    Maps and masks both sum to 1 over the tokens. The masks get no gradient.
    """
    return F.mse_loss(mean_attention(maps, (masks.shape[2], masks.shape[3])), masks.detach().float())  # Eq. 7


def total_loss(diffusion: Tensor, consistency: Tensor, delta: float = 0.1) -> Tensor:
    """Eq. 8: the diffusion loss of Eq. 1 and delta times the attention consistency of Eq. 7; scalars."""
    return diffusion + delta * consistency


def soft_labels(labels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Labels (B,H,W) uint8 (index of REGIONS, 255 = unlabelled) -> shares (B,4,*size) of every cell, summing to 1 where anything is
    labelled, and how much of the cell is labelled, (B,*size) in 0..1. H and W are multiples of size."""
    hot = torch.stack([labels == region for region in range(len(REGIONS))], dim=1).float()
    if hot.shape[2:] != size:
        hot = F.adaptive_avg_pool2d(hot, size)
    known = hot.sum(dim=1)
    return hot / known.clamp_min(1e-6)[:, None], known


def mask_loss(masks: Tensor, labels: Tensor, order: tuple[str, ...] = REGIONS) -> Tensor:
    """Cross-entropy of slot masks against labels. Not in the paper: it fixes which slot is what.

    Args:
        masks: (B,S,h,w), which sum to 1 over the slots.
        labels: (B,H,W) uint8, index of REGIONS or UNLABELLED.
        order: Region of every slot; slots of one region are added up.

    Returns:
        A scalar; 0 if nothing is labelled.

    Raises:
        ConfigError: If the order lacks a region.
    """
    missing = set(REGIONS) - set(order)
    if missing:
        raise ConfigError(f"mask loss: no slot holds '{sorted(missing)[0]}'; labels need all of {', '.join(REGIONS)} in the order")
    shares, known = soft_labels(labels, (masks.shape[2], masks.shape[3]))
    pooled = torch.stack([masks[:, [i for i, name in enumerate(order) if name == region]].sum(dim=1) for region in REGIONS], dim=1)
    entropy = -(shares * pooled.float().clamp_min(1e-6).log()).sum(dim=1)
    return (entropy * known).sum() / known.sum().clamp_min(1.0)


def slot_reconstruction(output: Tensor, images: Tensor) -> Tensor:
    """Pre-training of the slots (section 4.3): mean squared error of what the mixture decoder draws.

    Args:
        output: (B,O,G,G), images in -1..1 or latents.
        images: (B,3,H,W) in 0..1, which are averaged down to the output's size, or latents (B,Z,G,G) as they are.

    Returns:
        A scalar, float32.

    Raises:
        ConfigError: If both have not the same channels.
    """
    if images.shape == output.shape and images.shape[1] != 3:
        return F.mse_loss(output.float(), images.float())
    if images.shape[1] != output.shape[1]:
        raise ConfigError(f"slot reconstruction: output of {output.shape[1]} channels against a target of {images.shape[1]}")
    target = images.float() * 2 - 1
    if target.shape[2:] != output.shape[2:]:
        target = F.interpolate(target, output.shape[2:], mode="area")
    return F.mse_loss(output.float(), target)
