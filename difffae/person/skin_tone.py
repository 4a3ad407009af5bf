"""Skin that gets darker in another light has the colour of skin, even where the photograph showed its highlights.

Shape letters: B batch, H and W picture height and width.

Light that skin reflects at its surface, and what a sensor cannot hold, make highlights pale. Darkened by a ratio
they would be grey patches in a shadow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import PosedHead
from ..common.pixels import dilate, gaussian_blur, odd
from ..head.adjust import LUMINANCE

FLOOR = 0.02  # added to colours, so that black has a logarithm
FINE = 0.012  # standard deviation of the blur without which pores and noise would be coloured, share of the side
MARGIN = 0.03  # window around eyes and lips, whose pale colours are their own, share of the side
USUAL = 0.5, 1.05  # of the skin's mean brightness: skin between these tells the colour
BRIGHT = 1.0, 1.25  # a highlight begins at the first of these, and is one at the second
LACKING = 0.2, 0.45  # share of its colour that skin lacks as it is, and that it lacks as a highlight
REPLACED = 0.85  # most of the colour that comes back
DEEP = 0.35  # logarithm of the darkening at which all of it has


def lost_colour(image: Tensor, posed: PosedHead, hair: Tensor | None) -> Tensor:
    """What highlights of the face's skin lack of its colour.

    Args:
        image: (B,3,H,W) RGB 0..1.
        posed: the head in it.
        hair: (B,1,H,W) share of hair, or None.

    Returns:
        (B,3,H,W) logarithm of the factor that gives it back, of no brightness; zero beside highlights.
    """
    side = max(image.shape[-2:])
    skin = posed.part("face").to(image)
    others = posed.part("eyes", "sockets", "lips", "mouth", "teeth", "tongue").to(image)
    skin = skin * (1 - dilate(others, odd(MARGIN * side))) * (1 if hair is None else 1 - hair)
    smooth = gaussian_blur(image, FINE * side)
    value = torch.einsum("bchw,c->bhw", smooth, image.new_tensor(LUMINANCE))[:, None]
    chroma = (smooth + FLOOR).log()
    chroma = chroma - chroma.mean(1, keepdim=True)
    value = value / _mean(value, skin).clamp_min(FLOOR)
    usual = _mean(chroma, skin * (value > USUAL[0]) * (value < USUAL[1]))
    lacks = 1 - (chroma * usual).sum(1, keepdim=True) / usual.square().sum(1, keepdim=True).clamp_min(1e-6)
    pale = _ramp(value, BRIGHT) * _ramp(lacks, LACKING) * skin
    return usual * gaussian_blur(lacks.clamp(0, REPLACED) * pale, FINE * side)


def coloured_shade(lost: Tensor, log_ratio: Tensor, grid: Tensor) -> Tensor:
    """The colour that comes back where light gets darker.

    Args:
        lost: (B,3,H,W) of `lost_colour`.
        log_ratio: (B,3,H,W) logarithm of target light over source light.
        grid: (B,H,W,2) source positions of the target's pixels.

    Returns:
        (B,3,H,W) logarithm of a ratio.
    """
    darkened = (-log_ratio.mean(1, keepdim=True) / DEEP).clamp(0, 1)
    return F.grid_sample(lost, grid, padding_mode="border", align_corners=False) * darkened


def _ramp(values: Tensor, ends: tuple[float, float]) -> Tensor:
    """0 up to the first end, 1 from the second on."""
    return ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """(B,C,1,1) of (B,C,H,W), zero where no weight (B,1,H,W) is."""
    return (values * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-6)
