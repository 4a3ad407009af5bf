"""Pictures as fields: operations that `carry` and its parts apply to whole maps of pixels.

Shape letters: B batch, C channels, H and W picture sides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres (H,W,2) as (x right, y down) in -1..1."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


def flow_grid(flow: Tensor) -> Tensor:
    """Where a displacement (B,2,H,W) of pixels (x, y) looks, for grid_sample: (B,H,W,2) in -1..1."""
    height, width = flow.shape[-2:]
    return pixel_grid(height, width, flow) + flow.permute(0, 2, 3, 1) / flow.new_tensor([width / 2, height / 2])


def nearest_inside(mask: Tensor) -> tuple[Tensor, Tensor]:
    """For every pixel a nearest pixel where a mask is set, by jump flooding over 2x2 blocks.

    That costs up to two pixels against the true nearest for outlines of heads (0.6 on average), three
    for scattered dots.

    Args:
        mask: (B,H,W) bool, even sides.

    Returns:
        index (B,H,W) into H*W and distance (B,H,W) in pixels. A pixel inside is its own nearest; where
        the whole mask is empty every pixel is its own too, and infinitely far.
    """
    h, w = mask.shape[-2:]
    far = 4.0 * max(h, w)
    blocks = mask.unflatten(1, (h // 2, 2)).unflatten(3, (w // 2, 2)).permute(0, 1, 3, 2, 4).flatten(3)  # (B,H/2,W/2,4)
    corner = blocks.to(torch.uint8).argmax(-1)
    ys, xs = torch.meshgrid(
        torch.arange(h // 2, device=mask.device, dtype=torch.float32) * 2,
        torch.arange(w // 2, device=mask.device, dtype=torch.float32) * 2,
        indexing="ij",
    )
    some = blocks.any(-1)
    seed_y = torch.where(some, ys + corner.div(2, rounding_mode="floor"), -far)
    seed_x = torch.where(some, xs + corner % 2, -far)
    ys, xs = ys + 0.5, xs + 0.5
    best = (seed_y - ys).square() + (seed_x - xs).square()
    step = 1 << ((max(h, w) // 2 - 1).bit_length() - 1)
    while step >= 1:
        padded_y, padded_x = F.pad(seed_y, (step,) * 4, value=-far), F.pad(seed_x, (step,) * 4, value=-far)
        for dy in (0, step, 2 * step):
            for dx in (0, step, 2 * step):
                if dy == dx == step:
                    continue
                other_y, other_x = padded_y[:, dy : dy + h // 2, dx : dx + w // 2], padded_x[:, dy : dy + h // 2, dx : dx + w // 2]
                distance = (other_y - ys).square() + (other_x - xs).square()
                closer = distance < best
                best = torch.where(closer, distance, best)
                seed_y, seed_x = torch.where(closer, other_y, seed_y), torch.where(closer, other_x, seed_x)
        step //= 2
    seed_y, seed_x = (seed.repeat_interleave(2, 1).repeat_interleave(2, 2) for seed in (seed_y, seed_x))
    ys, xs = torch.meshgrid(
        torch.arange(h, device=mask.device, dtype=torch.float32), torch.arange(w, device=mask.device, dtype=torch.float32), indexing="ij"
    )
    found = (seed_y >= 0) & ~mask
    seed_y, seed_x = torch.where(found, seed_y, ys), torch.where(found, seed_x, xs)
    distance = ((seed_y - ys).square() + (seed_x - xs).square()).sqrt()
    empty = ~mask.flatten(1).any(1)[:, None, None]
    return (seed_y * w + seed_x).long(), torch.where(empty, torch.inf, distance)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """(B,C,H,W) blurred by a Gaussian of `sigma` pixels, edges replicated; zero in, zero out."""
    radius = max(1, int(2.5 * sigma + 0.5))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    taps = (taps / taps.sum()).repeat(x.shape[1], 1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), taps[:, None, None, :], groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), taps[:, None, :, None], groups=x.shape[1])


def box_blur(x: Tensor, radius: int, times: int) -> Tensor:
    """(B,C,H,W) averaged over squares of 2 * radius + 1 pixels, several times; edges replicated."""
    for _ in range(times):
        x = F.avg_pool2d(F.pad(x, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
    return x


def relit(image: Tensor, ratio: Tensor, knee: float = 0.8) -> Tensor:
    """A picture in other light, without clipped highlights.

    Args:
        image: (B,3,H,W) in 0..1.
        ratio: (B,3,H,W), the new light over the old.
        knee: brightness from which the product comes near to white slowly, so that bright skin keeps
            its detail; a pixel that was brighter already has its own brightness in its place.

    Returns:
        (B,3,H,W) in 0..1; a ratio of 1 changes nothing.
    """
    bright = image.clamp(knee, 1)
    room = (1 - bright).clamp_min(1e-4)
    product = (image * ratio).clamp_min(0)
    return torch.where(product <= bright, product, bright + room * torch.tanh((product - bright) / room)).clamp(max=1)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """x (B,C,H,W) at flat pixel indices (B,H,W) -> (B,C,H,W)."""
    b, c, h, w = x.shape
    return x.flatten(2).gather(2, index.reshape(b, 1, h * w).expand(b, c, h * w)).reshape(b, c, h, w)


def dilate(x: Tensor, size: int) -> Tensor:
    """Largest value of x (B,C,H,W) in the square of an odd `size` around every pixel."""
    return F.max_pool2d(F.max_pool2d(x, (size, 1), 1, (size // 2, 0)), (1, size), 1, (0, size // 2))


def erode(x: Tensor, size: int) -> Tensor:
    """Smallest value of x (B,C,H,W) in the square of an odd `size` around every pixel."""
    return -dilate(-x, size)


def opened(x: Tensor, size: int) -> Tensor:
    """x (B,C,H,W) without what is narrower than an odd `size` of pixels."""
    return dilate(erode(x, size), size)


def gradient_norm(flow: Tensor) -> Tensor:
    """Frobenius norm of the gradient of a displacement (B,2,H,W) in pixels per pixel -> (B,1,H,W)."""
    dx = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1, 0, 0), mode="replicate")
    dy = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1), mode="replicate")
    return (dx.square() + dy.square()).sum(1, keepdim=True).sqrt()


def trusted(validity: Tensor) -> Tensor:
    """How far a carried pixel's own colour may be shown, by its validity (B,1,H,W): 0 for guesses, 1 from the half on."""
    return ((validity - 0.15) / 0.35).clamp(0, 1)


def pull_push(image: Tensor, weight: Tensor) -> Tensor:
    """Smooth continuation of known pixels into unknown ones (Gortler et al. 1996, "The Lumigraph").

    Args:
        image: (B,C,H,W).
        weight: (B,1,H,W) in 0..1, how well each pixel is known.

    Returns:
        (B,C,H,W). Pixels of weight 1 stay as they are; where nothing at all is known it is mid-grey.
    """
    height, width = image.shape[-2:]
    if min(height, width) == 1:
        return torch.lerp(torch.full_like(image, 0.5), image, weight)
    even = (0, width % 2, 0, height % 2)
    weighted, known = F.pad(image * weight, even), F.pad(weight, even)
    total = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(weighted, 2) / total.clamp_min(1e-6)
    coarse = pull_push(mean, (4 * total).clamp(max=1))
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(coarse, image, weight)
