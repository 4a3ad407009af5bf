"""What an eye is taken apart into: the white as if no iris lay on it, the iris as if no lid lay on it.

Shape letters: B batch, W columns of a curve, h and w sides of the white's texture, k sides of the iris's, H and W picture height and
width, M places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.pixels import LUMA, luma_of, sampled
from .lids import EyeFrame, columns, curve_at

ROWS, DISC = 48, 34  # of the textures
ABOVE, BELOW = -0.3, 1.3  # rows of the white's texture: 0 at the upper lid, 1 at the lower
DISC_REACH = 1.3  # of the iris's texture, in radii


def linear_ramp(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0, 1)


def white_texture(image: Tensor, frame: EyeFrame, lids: tuple[Tensor, Tensor], iris: Tensor) -> tuple[Tensor, Tensor]:
    """The white (B,3,h,w) from lid to lid as if no iris lay on it, and how dark lids make it (B,h)."""
    batch = len(image)
    rows = torch.linspace(ABOVE, BELOW, ROWS, device=image.device, dtype=image.dtype)[None, :, None]
    along = columns(image).expand(batch, ROWS, -1)
    apart = (lids[1] - lids[0]).clamp_min(0.03)[:, None]
    across = lids[0][:, None] + rows * apart
    shown = sampled(image, frame.places(along, across)).clamp(0, 1)
    away = ((along - iris[:, None, None, 0]).square() + (across - iris[:, None, None, 1]).square()).sqrt() / iris[:, None, None, 2]
    bare = linear_ramp(away, 1.15, 1.5)  # a photograph's pixels are large beside an iris
    inside = linear_ramp(0.5 - along.abs(), 0.02, 0.10)
    skin = sampled(image, frame.places(*_below(lids[1]))).mean((2, 3), keepdim=True)
    known = (bare.square() * inside)[:, None]
    # along a row, which lies as deep under the lid everywhere
    distance = columns(image)[:, None] - columns(image)
    near = torch.exp(-((distance / 0.07) ** 2) / 2) + 0.02 * torch.exp(-((distance / 0.25) ** 2) / 2)
    weight = (known @ near).clamp_min(1e-5)
    # what a healthy eye's white is in this light, where the eye shows hardly any
    plain = torch.lerp(luma_of(skin), skin, 0.35) * 1.02 * (0.5 + 0.5 * linear_ramp(rows, 0.0, 0.45))[:, None]
    going_on = (shown * known) @ near / weight
    middle = (rows > 0.2) & (rows < 0.9) & (along.abs() < 0.42)
    share = (bare * middle).sum((1, 2)) / middle.sum((1, 2)).clamp_min(1)
    trust = linear_ramp(share, 0.05, 0.25) * linear_ramp((lids[1] - lids[0])[:, 36:60].mean(1), 0.06, 0.14)
    going_on = torch.lerp(plain, going_on, trust[:, None, None, None])
    white = torch.lerp(going_on, shown, bare[:, None] * trust[:, None, None, None].clamp_min(0.0))
    depth = luma_of(going_on)[:, 0, :, 24:72].mean(-1)
    reference = depth[:, (rows[0, :, 0] > 0.45) & (rows[0, :, 0] < 0.8)].mean(1, keepdim=True).clamp_min(0.02)
    return white, (depth / reference).clamp(0.4, 1.0)


def _below(lower: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of skin below the eye."""
    along = torch.linspace(-0.25, 0.25, 12, device=lower.device, dtype=lower.dtype).expand(len(lower), 4, -1)
    down = torch.linspace(0.15, 0.28, 4, device=lower.device, dtype=lower.dtype)[None, :, None]
    return along, curve_at(lower, along) + down


def iris_places(like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The iris's texture: x and y (k,k) of its texels in radii, their distances from the middle (k*k,), and how much each pair of texels
    has to say of each other's colour (k*k,k*k): an iris is a disc of rings.
    """
    line = torch.linspace(-DISC_REACH, DISC_REACH, DISC, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(line, line, indexing="ij")
    away, turn = (x.square() + y.square()).sqrt().flatten(), torch.atan2(y, x.abs()).flatten()
    ring = torch.exp(-(((away[:, None] - away) / 0.06) ** 2) / 2)
    return x, y, away, ring * (0.02 + torch.exp(-(((turn[:, None] - turn) / 0.4) ** 2) / 2))


def iris_texture(
    image: Tensor, frame: EyeFrame, lids: tuple[Tensor, Tensor], iris: Tensor, shade: Tensor, polar: tuple[Tensor, ...]
) -> Tensor:
    """The iris (B,4,k,k), unshaded, as if no lid lay on it, and where the photograph shows it."""
    x, y, away, alike = polar
    along, across = (iris[:, i, None, None] + iris[:, 2, None, None] * axis for i, axis in ((0, x), (1, y)))
    upper, lower = (curve_at(lid, along) for lid in lids)
    depth = (across - upper) / (lower - upper).clamp_min(0.03)
    shown = sampled(image, frame.places(along, across)).clamp(0, 1) / _shade_at(shade, depth)[:, None]
    known = linear_ramp(across - upper, 0.05, 0.12) * linear_ramp(lower - across, 0.0, 0.05)
    luma = luma_of(shown).flatten(1)
    # a catch light is one spot, not a ring
    dull = linear_ramp(-luma / luma.median(1, keepdim=True).values.clamp_min(0.02), -2.2, -1.5)
    weight = known.flatten(1) * (0.02 + dull)
    total = (weight @ alike)[:, None]
    mean = ((shown.flatten(2) * weight[:, None]) @ alike) / total.clamp_min(1e-6)
    plain = _plain_iris(sampled(image, frame.places(*_below(lids[1]))).mean((2, 3)), away)
    mean = torch.lerp(plain, mean, linear_ramp(total / alike.sum(0), 0.0, 0.01)).view_as(shown)
    return torch.cat([torch.lerp(mean, shown, known[:, None]), known[:, None]], 1)


def _plain_iris(skin: Tensor, away: Tensor) -> Tensor:
    """(B,3,M) a dark brown iris at distances (M,) in radii, in the light of skin (B,3)."""
    light = (skin * skin.new_tensor(LUMA)).sum(1)[:, None, None]
    brown = skin.new_tensor([0.34, 0.24, 0.17])[None, :, None]
    return light * brown * (0.25 + 0.75 * linear_ramp(away, 0.36, 0.5)) * (1 - 0.5 * linear_ramp(away, 0.8, 1.0))


def _shade_at(shade: Tensor, depth: Tensor) -> Tensor:
    """(B,h) at (B,...) between the lids."""
    place = ((depth - ABOVE) * ((ROWS - 1) / (BELOW - ABOVE))).clamp(0, ROWS - 1 - 1e-3).flatten(1)
    above = place.floor().long()
    return torch.lerp(shade.gather(1, above), shade.gather(1, above + 1), place - above).view_as(depth)
