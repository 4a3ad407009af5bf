"""The look of a lid that comes down: skin that was folded away, its shading, the line of its lashes.

Shape letters: B batch, H and W picture height and width, h and w sides of the look.

The lid comes out from under the person's own fold, which stays where it is: above it all pixels are the photograph's. Its colour goes on
from the skin above that fold and below the eye; its shading is that of a ball under skin, lit from above as faces mostly are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur, odd, pull_push, sampled
from .lids import ACROSS, ALONG, FLOOR, LidFrame

BELOW_EDGE = 1.5  # by how much the look is narrower below the lid's edge: lashes are a line, no band
LOOK_SHARE = 0.5  # of the look's shading above the edge
LASHES = 0.11  # how far lashes reach below the edge
OWN_LASHES = (0.05, 0.10)  # the person's own lashes on the edge of a lid that is not closed: above them lies the lid
OWN_LINE, OWN_DARK = (-0.01, 0.035), 0.5  # and the line that they make: its middle and its width, and the logarithm of its darkness
SHADE = (0.76, 1.04, 1.16)  # powers of a lid's brightness that red, green and blue take: shaded skin is warm, not grey
SHADED = (0.88, 1.02, 1.08)  # the same where skin above is darker than that below
LASH_POWER = 1.0  # the same of its lashes, all colours
# logarithms: how bright the middle of the ball is, and how dark the lid is under the fold; where, as shares of the lid's
# height and in widths of the eye
CREST, CREST_AT, CREST_WIDE = 0.10, 0.5, 0.25
FOLD_DARK, FOLD_WIDE = 0.10, 0.12
FADES = 0.14  # over so much of an eye's width a lid goes over into the fold
# where cheeks are, how much redder than skin under eyes they may be, and how much of it lids are
CHEEK, CHEEK_TINT, CHEEK_SHARE = (0.5, 1.0), (0.8, 1.25), 0.5
GRAIN, MOST_GRAIN = 0.9, 0.06  # share of the cheek's fine texture that a lid takes, and the most of it
GRAIN_MIRROR = 0.09  # the line, below the lid's edge, in which that is mirrored
# single lashes: from corner to corner, their length, how far they lean outwards, half their width as a share of their distance, and
# how much light they take; those nearer to each other than so many pixels blur into the line that they grow from
LASH_COUNT, LASH_LENGTH, LASH_LEAN, LASH_HALF, LASH_DARK, LASHES_APART = 19, 0.12, 0.9, 0.17, 0.45, (2.0, 4.0)
# skin that tells the lid's colour: below the eye, and above the fold; of the latter what is darker than so much of its bright part is a
# brow or a rim of glasses
BELOW, ABOVE, BRIGHT_PART, TOO_DARK = (0.16, 0.5), (0.0, 0.12), 0.65, (0.35, 0.6)
# lashes of the open eye that stick out beyond its outer corner: where they lie, how thick they may be, and how much darker than skin
STRANDS_ALONG, STRANDS_ACROSS, STRANDS_THICK, STRANDS_DARK = (-0.4, 1.1), (-0.12, 0.1), 0.2, (0.1, 0.3)


def lowered_lid(
    image: Tensor,
    known: Tensor,
    coordinates: tuple[Tensor, Tensor],
    amounts: tuple[float, float],
    height: Tensor,
    look: Tensor,
    frame: LidFrame,
) -> tuple[Tensor, Tensor]:
    """Lay a lid over an eye that closes.

    Args:
        image: (1,3,H,W) the picture around the eye.
        known: (1,1,H,W) where it shows skin that belongs to the eye.
        coordinates: along and across of its pixels.
        amounts: 0..1, how far the skin of the lid shows, and how far the lashes of a closed one do.
        height: (1,H,W) of the fold over the lid's edge, in widths of the eye.
        look: (1,1,h,w) of a closed eye.
        frame: of the eye.

    Returns:
        the picture, and the share of the lid in it (1,1,H,W).
    """
    along, across = coordinates
    width = float(frame.across.norm())
    image, bare = _without_strands(image, known, coordinates, amounts[0], height, width)
    grid = torch.stack([_unit(along, ALONG), _unit(across * (1 + (BELOW_EDGE - 1) * (across > 0)), ACROSS)], -1)
    dark = F.grid_sample(look, grid, padding_mode="border", align_corners=True)
    lashes = ((-dark - 0.6) / 0.5).clamp(0, 1)  # which are no shade
    dark = dark * torch.lerp(torch.ones_like(dark), torch.full_like(dark, LOOK_SHARE), ((-across - 0.02) / 0.06).clamp(0, 1)[:, None])
    dark = dark + _ball(along, across, height)[:, None]
    power = torch.lerp(look.new_tensor(SHADE)[:, None, None], torch.full_like(dark, LASH_POWER), lashes)
    ratio = torch.where(dark < 0, dark * power, dark).exp()
    made = (_skin(image, known, coordinates, height, width) + FLOOR) * ratio * (1 - _lashes(along, across, width)[:, None]) - FLOOR
    made = (made + _grain(image, across, frame) * ratio).clamp(0, 1)
    # the edge of a lid that is not closed
    line = torch.exp(-(((across - OWN_LINE[0]) / OWN_LINE[1]) ** 2)) * (1 - (2 * along - 1).square()).clamp_min(0).sqrt()
    line = (OWN_DARK * amounts[0] * (1 - amounts[1]) * line)[:, None] * known
    image = (image - (image + FLOOR) * (1 - (-line).exp())).clamp_min(0)
    low, high = OWN_LASHES
    amount = torch.lerp(
        torch.full_like(across, amounts[1]), torch.full_like(across, amounts[0]), ((-across - low) / (high - low)).clamp(0, 1)
    )
    share = gaussian_blur((_place(along, across, height) * amount)[:, None] * known, 0.015 * width + 0.3)
    return torch.lerp(image, made, share), share.maximum(bare)


def _place(along: Tensor, across: Tensor, height: Tensor) -> Tensor:
    """The lid with its lashes (B,H,W), 0..1, by coordinates."""
    above, below = ((height + across) / FADES + 0.5).clamp(0, 1), ((LASHES - across) / 0.06).clamp(0, 1)
    return above * below * ((0.58 - (along - 0.5).abs()) / 0.10).clamp(0, 1)


def _ball(along: Tensor, across: Tensor, height: Tensor) -> Tensor:
    """Logarithm of the light (B,H,W) on a ball under skin, by coordinates."""
    up = -across / height.clamp_min(0.05)
    crest = CREST * torch.exp(-(((up - CREST_AT) / CREST_WIDE) ** 2))
    fold = FOLD_DARK * torch.exp(-(((height + across).clamp_min(0) / FOLD_WIDE) ** 2))
    return (crest * (height / 0.2).clamp(0, 1) - fold) * (1 - (2 * along - 1).square()).clamp_min(0)


def _skin(image: Tensor, known: Tensor, coordinates: tuple[Tensor, Tensor], height: Tensor, width: float) -> Tensor:
    """The colour of the lid's skin (B,3,H,W), continued from below the eye and above the fold."""
    along, across = coordinates
    beside, over = (along > -0.1) & (along < 1.1), -across - height
    below = ((across > BELOW[0]) & (across < BELOW[1]) & beside)[:, None] & (known > 0.5)
    away = (along - 0.5).abs() - 0.55
    above = (((over > ABOVE[0]) | (away > 0)) & (over < ABOVE[1]) & (away < ABOVE[1]) & (across < 0))[:, None] & (known > 0.5)
    luma = image.mean(1, keepdim=True)
    weight = below.to(image)
    if bool(above.any()):
        bright = luma[above].quantile(BRIGHT_PART).clamp_min(1e-3)
        weight = weight + above * ((luma / bright - TOO_DARK[0]) / (TOO_DARK[1] - TOO_DARK[0])).clamp(0, 1)
    cheek = pull_push(image, below.to(image))
    bright = pull_push(luma, weight) / cheek.mean(1, keepdim=True).clamp_min(0.02)
    skin = gaussian_blur(cheek * bright ** bright.new_tensor(SHADED)[:, None, None], 0.08 * width + 0.6)
    # rings under eyes are greyer than lids: in part the colour of the cheek, no brighter
    farther = ((across > CHEEK[0]) & (across < CHEEK[1]) & beside)[:, None] & (known > 0.5)
    ratio = _mean_colour(image, farther) / _mean_colour(image, below)
    ratio = (ratio / ratio.mean(1, keepdim=True)).clamp(*CHEEK_TINT) ** CHEEK_SHARE
    return (skin * ratio).clamp(0, 1)


def _mean_colour(image: Tensor, where: Tensor) -> Tensor:
    """(B,3,1,1) of the pixels (B,1,H,W), grey if there are none."""
    few = 1e-3
    return ((image * where).sum((2, 3), keepdim=True) + few) / (where.sum((2, 3), keepdim=True) + few)


def _without_strands(
    image: Tensor, known: Tensor, coordinates: tuple[Tensor, Tensor], amount: float, height: Tensor, width: float
) -> tuple[Tensor, Tensor]:
    """A picture without the lashes and the corner of the open eye, and the share of what is new in it."""
    (left, right), (top, bottom) = STRANDS_ALONG, STRANDS_ACROSS
    along, across = coordinates
    place = ((along - left) / 0.1).clamp(0, 1) * ((right - along) / 0.1).clamp(0, 1)
    place = place * ((across + height - top) / 0.08).clamp(0, 1) * ((bottom - across) / 0.06).clamp(0, 1)
    place = place[:, None] * known
    size = odd(STRANDS_THICK * width)
    closed = gaussian_blur(erode(dilate(image, size), size), 0.02 * width + 0.3)
    darker = ((closed + FLOOR) / (image + FLOOR)).log().mean(1, keepdim=True)
    low, high = STRANDS_DARK
    strands = dilate(((darker - low) / (high - low)).clamp(0, 1), odd(0.06 * width)) * place
    skin = pull_push(image, (1 - strands) * known * (across > top - height)[:, None])
    share = gaussian_blur(strands, 0.02 * width + 0.3) * amount
    return torch.lerp(image, skin, share), share


def _lashes(along: Tensor, across: Tensor, width: float) -> Tensor:
    """How much light single lashes below a lid's edge take (B,H,W), by coordinates; width of the eye in pixels."""
    lean = LASH_LEAN * (0.62 - along)  # they fan out
    root = along + lean * across
    number = LASH_COUNT * root + 0.35 * torch.sin(11 * root) + 0.25 * torch.sin(29 * root)
    away = (number - number.round()).abs() / LASH_HALF
    length = LASH_LENGTH * (0.75 + 0.25 * torch.sin(5.3 * number.round())) * (1 - (2 * root - 1).square()).clamp_min(0).sqrt()
    reach = (1 - across / length.clamp_min(1e-3)).clamp(0, 1) * ((across + 0.02) / 0.02).clamp(0, 1)
    low, high = LASHES_APART
    shown = min(max((width / LASH_COUNT - low) / (high - low), 0.0), 1.0)
    return LASH_DARK * shown * torch.exp(-away.square()) * reach


def _grain(image: Tensor, across: Tensor, frame: LidFrame) -> Tensor:
    """The fine texture of the skin below the eye (B,3,H,W), laid on the lid above it as in a mirror."""
    width = float(frame.across.norm())
    height, wide = image.shape[-2:]
    line = [torch.arange(n, device=image.device, dtype=image.dtype) for n in (wide, height)]
    places = torch.stack(torch.meshgrid(line[0], line[1], indexing="xy"), -1)[None]
    places = places + 2 * (GRAIN_MIRROR - across)[..., None] * frame.across[:, None, None]
    fine = image - gaussian_blur(image, 0.03 * width + 0.5)
    texture = sampled(fine.clamp(-MOST_GRAIN, MOST_GRAIN), places, "bilinear")
    return GRAIN * texture * ((-across - 0.02) / 0.06).clamp(0, 1)[:, None]


def _unit(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Values between bounds as -1..1."""
    return (values - bounds[0]) * (2 / (bounds[1] - bounds[0])) - 1
