"""Detail for what no camera saw of a head: hair drawn out along its strands, and pores.

Shape letters: B batch, h and w rows and columns of the polar map of the head (`head_map`), which goes around at its sides.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import gaussian_blur, pixel_grid, pull_push
from .options import MapOptions

ROWS, COLUMNS = 208, 512
LAST = 165.0  # degrees from the front of the last row; behind it the neck begins
WHORL = math.radians(25)  # how far behind the top of the head it is


def degrees(like: Tensor) -> tuple[Tensor, Tensor]:
    """Angles from the front, (h,1), and around it, (w,), of rows and columns."""
    rows, columns = ((torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) / n for n in (ROWS, COLUMNS))
    return rows[:, None] * LAST, columns * 360 - 180


def continued(x: Tensor, weight: Tensor, otherwise: Tensor) -> Tensor:
    """x (B,3,h,w) without detail, continued from where it is known (B,1,h,w), towards its mean far from there;
    where next to nothing is known, from elsewhere."""
    weight = torch.where(weight.sum((2, 3), keepdim=True) > 50, weight, otherwise)
    mean = (x * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1)
    near = smoothed(weight, None, 8.0)
    return torch.lerp(mean, smoothed(x, weight), near / (near + 0.1))


def wrapped(x: Tensor, columns: int) -> Tensor:
    """A map (B,C,h,w) with some of its columns repeated at the other side: it goes around."""
    return F.pad(x, (columns, columns, 0, 0), mode="circular")


def smoothed(x: Tensor, weight: Tensor | None, sigma: float = 2.0) -> Tensor:
    """x (B,C,h,w) as far as it is known (B,1,h,w; None is all over), blurred by 4 * sigma texels, and continued."""
    q = x.shape[-1] // 16
    if weight is None:
        mean = gaussian_blur(wrapped(F.avg_pool2d(x, 4), q), sigma)
    else:
        weight = weight + 1e-6
        known, weighted = (wrapped(F.avg_pool2d(values, 4), q) for values in (weight, x * weight))
        total = gaussian_blur(known, sigma)
        mean = pull_push(gaussian_blur(weighted, sigma) / total, (total / 0.3).clamp(max=1))
    mean = gaussian_blur(mean, 1.0)[..., q - 1 : 1 - q]
    return F.interpolate(mean, scale_factor=4, mode="bilinear", align_corners=False)[..., 4:-4]


def grain(detail: Tensor, kind: Tensor, of_hair: Tensor, of_skin: Tensor, sure: Tensor, o: MapOptions) -> Tensor:
    """(B,3,h,w): detail as hair and skin have it where it was seen: noise, as strong in each band of frequencies as the
    detail around, drawn out along the strands (Cabral and Leedom 1993, "Imaging vector fields using line integral convolution").

    Args:
        detail: (B,3,h,w) logarithms of colours without their smooth part.
        kind: (B,1,h,w) 0 skin to 1 hair.
        of_hair, of_skin, sure: (B,1,h,w) where the detail is theirs, and where it is anything's.
        o: options.
    """
    grey = detail.mean(1, keepdim=True)
    grey = torch.where(of_hair > 0, grey.clamp(-0.8, 0.8), grey.clamp(-0.06, 0.06))
    along, drawn = _strands(grey, of_hair)
    drawn = drawn * kind
    noise = torch.randn((1, 1, *grey.shape[-2:]), generator=torch.Generator().manual_seed(0)).to(grey)
    total = torch.zeros_like(grey)
    finer = torch.full_like(grey, o.contrast)
    # a few strands say little of the contrast of all
    known = of_hair.sum((2, 3), keepdim=True)
    known = known / (known + 300)
    for number, (seen, made) in enumerate(zip(_bands(grey), _bands(noise), strict=True)):
        made = _drawn_out(made.expand_as(grey), along, drawn * o.strand * 2**number)
        # skin has pores, and no locks; what is much coarser than strands is a parting or a highlight
        pores, strands = (continued(seen.abs(), one, sure) for one in (of_skin, of_hair))
        finer = torch.minimum(strands, 1.5 * finer)
        strength = torch.lerp(pores * 0.25**number, finer * known, kind)
        # hair has more bright strands than even noise
        total = total + 1.2 * made * (strength / smoothed(made.abs(), None).clamp_min(1e-6))
    # colours vary with the brightness as they do where they were seen
    skin_gain, hair_gain = (
        ((detail * grey * one).sum((2, 3), keepdim=True) / (grey.square() * one).sum((2, 3), keepdim=True).clamp_min(1e-6)).clamp(0.5, 1.5)
        for one in (of_skin, of_hair)
    )
    return total * torch.lerp(skin_gain, hair_gain, kind)


def _bands(x: Tensor) -> list[Tensor]:
    """A map (B,1,h,w) by frequencies, the finest first."""
    blurred = [gaussian_blur(wrapped(x, 12), sigma)[..., 12:-12] for sigma in (1.0, 2.5)]
    return [x - blurred[0], blurred[0] - blurred[1], blurred[1]]


def _strands(grey: Tensor, of_hair: Tensor) -> tuple[Tensor, Tensor]:
    """Directions (B,2,h,w) in which hair lies, unit vectors of columns and rows, and how much it does (B,1,h,w), 0..1."""
    smooth = gaussian_blur(wrapped(grey, 4), 0.7)
    dx = (smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2])[..., 3:-3]
    dy = (smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1])[..., 3:-3]
    tensor = F.pad(torch.cat([dx.square() - dy.square(), 2 * dx * dy, dx.square() + dy.square()], 1), (0, 0, 1, 1))
    # near the photograph strands go on as they lie there, far from it away from the whorl
    near = smoothed(of_hair, None, 6.0)
    near = near / (near + 0.15)
    local = smoothed(tensor, of_hair)
    length = (local[:, :1].square() + local[:, 1:2].square()).sqrt()
    strength = smoothed((length / local[:, 2:].clamp_min(1e-8)).clamp(0, 1), of_hair)
    seen = local[:, :2] / length.clamp_min(1e-8)
    # the gradient is across the strand: the double angle of the strand is opposite
    double = torch.lerp(_hanging(grey), -seen, near)
    angle = 0.5 * torch.atan2(double[:, 1:], double[:, :1])
    return torch.cat([angle.cos(), angle.sin()], 1), strength


def _hanging(like: Tensor) -> Tensor:
    """(1,2,h,w): cosine and sine of twice the angle, in the map, in which hair lies: away from the whorl."""
    theta, phi = (torch.deg2rad(x) for x in degrees(like))
    up, back = math.cos(WHORL), math.sin(WHORL)
    columns = up * phi.sin() / theta.sin() * (COLUMNS / (2 * math.pi))
    rows = -(up * theta.cos() * phi.cos() + back * theta.sin()) * (ROWS / math.radians(LAST))
    angle = 2 * torch.atan2(rows, columns)
    return torch.stack([angle.cos(), angle.sin()])[None]


def _drawn_out(noise: Tensor, along: Tensor, length: Tensor, steps: int = 6) -> Tensor:
    """Noise (B,1,h,w) averaged along directions (B,2,h,w), by a Gaussian whose standard deviation is a length (B,1,h,w) in texels."""
    height, width = noise.shape[-2:]
    pad = 64
    wide = wrapped(noise, pad)
    at = pixel_grid(height, width, noise) * noise.new_tensor([width / (width + 2 * pad), 1.0])
    step = (along * length * (2 / steps)).permute(0, 2, 3, 1) * noise.new_tensor([2 / (width + 2 * pad), 2 / height])
    total = noise
    for k in range(1, steps + 1):
        weight = math.exp(-0.5 * (2 * k / steps) ** 2)
        for way in (k, -k):
            total = total + weight * F.grid_sample(wide, at + way * step, padding_mode="reflection", align_corners=False)
    return total
