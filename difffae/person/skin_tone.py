"""Skin that gets darker in another light, or that no photograph shows, has the colour of the person's own skin.

Shape letters: B batch, H and W picture height and width.

Light that skin reflects at its surface, and what a sensor cannot hold, make highlights pale. Darkened by a ratio
they would be grey patches in a shadow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import PosedHead
from ..common.pixels import dilate, erode, gaussian_blur, luma_of, odd, pull_push, sampled
from ..head.adjust import LUMINANCE

FLOOR = 0.02  # added to colours, so that black has a logarithm
FINE = 0.012  # standard deviation of the blur without which pores and noise would be coloured, share of the side
MARGIN = 0.03  # window around eyes and lips, whose pale colours are their own, share of the side
USUAL = 0.5, 1.05  # of the skin's mean brightness: skin between these tells the colour
BRIGHT = 1.0, 1.25  # a highlight begins at the first of these, and is one at the second
LACKING = 0.2, 0.45  # share of its colour that skin lacks as it is, and that it lacks as a highlight
REPLACED = 0.85  # most of the colour that comes back
DEEP = 0.35  # logarithm of the darkening at which all of it has
# lids, in widths of the eye by the coordinates of `LidFrame`: along from the outer corner (0) to the inner one (1), and across from the
# edge of the upper lid, downwards
LID_FLOOR = 0.03  # added to colours, so that black has a logarithm
# skin that tells the lid's brightness: below the eye, and above the fold, both without lines thinner than so much
BELOW, ABOVE, LINES = (0.16, 0.5), (0.02, 0.18), 0.22
# of that above the fold: what is darker than so much of its bright part is a brow or a rim of glasses
BRIGHT_PART, TOO_DARK = 0.8, (0.5, 0.85)
FORWARD = 0.1  # a closed lid stands out of the socket: by so much as bright as the cheek
# skin that tells its colour: how far around the eye, and how far (in logarithms) from that of the cheek it may be
AROUND, CHEEK, ALIKE, ROUNDS = (0.9, 1.0), (0.2, 0.9), 0.16, 3
# shaded skin has more colour: by how much of it, for the logarithm of green, most people's has; how much light (its variance) tells a
# person's own from that, and the least and the most as multiples of it: grey brows are no shade
DEEPENS, TRUST, STEEPEST = 0.8, 0.02, (0.4, 1.6)
# over so much of an eye's width the colour is a place's own, and how far that may differ; how much more colour lids have
NEAR, NEAR_MOST, RUDDY = 0.3, 0.06, 1.08
# share of the cheek's grain that a lid takes, the most of it (a logarithm), and from how far below
GRAIN, GRAIN_MOST, GRAIN_FROM = 0.9, 0.12, 0.62


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


def skin_light(image: Tensor, known: Tensor, coordinates: tuple[Tensor, Tensor], height: Tensor, width: float) -> Tensor:
    """How bright a lid would be if it were as the skin around it, above the fold and below the eye.

    Args:
        image: (1,3,H,W) the picture around the eye, 0..1.
        known: (1,1,H,W) where it shows skin that belongs to the eye.
        coordinates: along and across (1,H,W) of its pixels.
        height: (1,H,W) of the fold over the lid's edge, in widths of the eye.
        width: of the eye in pixels.

    Returns:
        (1,1,H,W) in 0..1.
    """
    along, across = coordinates
    seen = known > 0.5
    size = odd(LINES * width)
    beside, over, away = (along > -0.1) & (along < 1.1), -across - height, (along - 0.5).abs() - 0.55
    below = ((across > BELOW[0]) & (across < BELOW[1]) & beside)[:, None] & seen
    above = (((over > ABOVE[0]) | (away > 0)) & (over < ABOVE[1]) & (away < ABOVE[1]) & (across < 0))[:, None] & seen
    luma = luma_of(image)
    plain = erode(dilate(torch.where(seen, luma, 0.0), size), size).maximum(luma)
    weight = below.to(image)
    if bool(above.any()):
        bright = plain[above].quantile(BRIGHT_PART).clamp_min(1e-3)
        weight = weight + above * _ramp(luma / bright, TOO_DARK)
    light = pull_push(plain, weight)
    cheek = pull_push(plain, below.to(image))
    return gaussian_blur(light * (cheek / light.clamp_min(0.02)) ** FORWARD, 0.08 * width + 0.6)


def coloured(image: Tensor, known: Tensor, coordinates: tuple[Tensor, Tensor], height: Tensor, width: float, light: Tensor) -> Tensor:
    """Skin (1,3,H,W) as bright as `light` (1,1,H,W), and of the colour that skin so bright has around this eye; see `skin_light`."""
    along, across = coordinates
    logs = (image + LID_FLOOR).log()
    tone, green = torch.cat([logs[:, :1] - logs[:, 1:2], logs[:, 2:] - logs[:, 1:2]], 1), logs[:, 1:2]
    away = (along - 0.5).abs()
    eye = (across > -height - 0.02) & (across < 0.16) & (away < 0.65)
    around = ((across.abs() < AROUND[1]) & (away < AROUND[0]) & ~eye)[:, None] & (known > 0.5)
    cheek = (around & ((across > CHEEK[0]) & (across < CHEEK[1]))[:, None])[0, 0]
    if not bool(cheek.any()):
        return light.expand(-1, 3, -1, -1)
    middle, level = (values[0, :, cheek].median(-1).values[None, :, None, None] for values in (tone, green))
    cheeks, usual = middle, -DEEPENS * middle
    slope, bright = usual, green - level
    weight = around.to(image)
    for _ in range(ROUNDS):  # from the cheek's colour on: what is far from the line is no skin
        weight = around * torch.exp(-((tone - middle - slope * bright) / ALIKE).square().sum(1, keepdim=True))
        total = weight.sum((2, 3), keepdim=True).clamp_min(1e-6)
        mean_tone, mean_bright = ((values * weight).sum((2, 3), keepdim=True) / total for values in (tone, bright))
        off = (bright - mean_bright) * weight / total
        varies, both = ((off * values).sum((2, 3), keepdim=True) for values in (bright - mean_bright, tone - mean_tone))
        slope = (both + TRUST * usual) / (varies + TRUST)
        low, high = (bound * usual for bound in STEEPEST)
        slope = slope.maximum(low.minimum(high)).minimum(low.maximum(high))
        middle = mean_tone - slope * mean_bright
    middle = torch.where(middle.abs() < cheeks.abs(), cheeks, middle)  # shadow and paint around eyes are greyer than lids
    own = (tone - middle - slope * bright).clamp(-NEAR_MOST, NEAR_MOST)
    tone = RUDDY * (middle + gaussian_blur(pull_push(own, weight), NEAR * width) + slope * ((light + LID_FLOOR).log() - level))
    ratios = torch.cat([tone[:, :1], torch.zeros_like(light), tone[:, 1:]], 1).exp()
    return ((light + LID_FLOOR) * ratios / luma_of(ratios) - LID_FLOOR).clamp(0, 1)


def grain(image: Tensor, down: Tensor) -> Tensor:
    """The grain of the cheek's skin (1,1,H,W), as a factor, on the lid above it; down is the way (1,2) of one unit across in pixels."""
    width = float(down.norm())
    height, wide = image.shape[-2:]
    line = [torch.arange(n, device=image.device, dtype=image.dtype) for n in (wide, height)]
    places = torch.stack(torch.meshgrid(line[0], line[1], indexing="xy"), -1)[None] + GRAIN_FROM * down[:, None, None]
    luma = (luma_of(image) + LID_FLOOR).log()
    fine = (luma - gaussian_blur(luma, 0.03 * width + 0.5)).clamp(-GRAIN_MOST, GRAIN_MOST)
    return (GRAIN * sampled(fine, places, "bilinear")).exp()
