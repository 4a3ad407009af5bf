"""Pictures as fields: operations that `carry` and its parts apply to whole maps of pixels.

Shape letters: B batch, C channels, H and W picture sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WIDE, BAND = 6, 64  # pixels: radius from which on blurs are products with matrices, and how much of a picture each of them makes
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (Rec. 601)


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres (H,W,2) as (x right, y down) in -1..1."""
    return _pixels(height, width, like).permute(1, 2, 0)


def flow_grid(flow: Tensor) -> Tensor:
    """Where a displacement (B,2,H,W) of pixels (x, y) looks, for grid_sample: (B,H,W,2) in -1..1."""
    height, width = flow.shape[-2:]
    half = flow.new_tensor([width / 2, height / 2])[:, None, None]
    return (_pixels(height, width, flow) + flow / half).permute(0, 2, 3, 1)


def _pixels(height: int, width: int, like: Tensor) -> Tensor:
    """(2,H,W): x and y of pixel centres. Pairs of numbers as the innermost dimension make all that is worked out of them several times
    slower, and grid_sample too, so that they are such in name alone."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    return torch.stack([xs.expand(height, -1), ys[:, None].expand(-1, width)])


def mirrored_places(ends: tuple[int, int], size: int, device: torch.device) -> Tensor:
    """(N,) the places from the first to the last of two ends that stand for all N, beyond them as in mirrors there."""
    first, last = ends
    count = last - first + 1
    at = (torch.arange(size, device=device) - first).remainder(2 * count)
    return first + torch.where(at < count, at, 2 * count - 1 - at)


def nearest_inside(mask: Tensor) -> tuple[Tensor, Tensor]:
    """For every pixel a nearest pixel where a mask is set, by jump flooding over 2x2 blocks.

    That costs up to two pixels against the true nearest for outlines of heads (0.6 on average), three
    for scattered dots.

    Args:
        mask: (B,H,W) bool, even sides; of less than 2**21 pixels, so that floats can count them.

    Returns:
        index (B,H,W) into H*W and distance (B,H,W) in pixels. A pixel inside is its own nearest; where
        the whole mask is empty every pixel is its own too, and infinitely far.
    """
    h, w = mask.shape[-2:]
    rows, columns = h // 2, w // 2
    blocks = mask.unflatten(1, (rows, 2)).unflatten(3, (columns, 2)).permute(0, 1, 3, 2, 4).flatten(3)  # (B,H/2,W/2,4)
    corner = blocks.to(torch.uint8).argmax(-1).int()
    ys = torch.arange(rows, device=mask.device, dtype=torch.int32)[:, None] * 2
    xs = torch.arange(columns, device=mask.device, dtype=torch.int32) * 2
    # a seed is one number, row * w + column, exact as a float; none is far below the picture
    none = 4.0 * max(h, w) * w
    seeds = torch.where(blocks.any(-1), (ys + (corner >> 1)) * w + xs + (corner & 1), none).float()
    # |middle - seed|^2 without |middle|^2, which is the same for all seeds of a block: whole numbers, exact as floats
    middles = -2 * (ys + 0.5), -2 * (xs + 0.5)
    step = (1 << (max(rows, columns) - 1).bit_length()) >> 1
    while step >= 1:
        seeds = _flooded(seeds, w, middles, step)
        step //= 2
    seeds = seeds.repeat_interleave(2, 1).repeat_interleave(2, 2)
    ys = torch.arange(h, device=mask.device, dtype=torch.float32)[:, None]
    xs = torch.arange(w, device=mask.device, dtype=torch.float32)
    seeds = torch.where((seeds < none) & ~mask, seeds, ys * w + xs)
    seed_y = (seeds / w).floor_()
    distance = (seed_y - ys).square_().add_((seeds - seed_y * w - xs).square_()).sqrt_()
    empty = ~mask.flatten(1).any(1)[:, None, None]
    return seeds.long(), torch.where(empty, torch.inf, distance)


def _flooded(seeds: Tensor, width: int, middles: tuple[Tensor, Tensor], step: int) -> Tensor:
    """One step of the flooding: every block's seed, or that of one of the eight blocks a step away, whichever is nearest.

    Args:
        seeds: (B,h,w), row * width + column.
        width: of the picture.
        middles: (h,1) rows and (w,) columns of the blocks' middles, times -2.
        step: in blocks.
    """
    h, w = seeds.shape[-2:]
    seed_y = (seeds / width).floor_()
    seed_x = torch.addcmul(seeds, seed_y, seeds.new_tensor(-width))
    # taking pieces of them costs as much as working on these pieces, so that they lie together
    known = torch.stack([seed_y, seed_x, torch.addcmul(seed_y.square(), seed_x, seed_x), seeds])
    best, nearest = torch.addcmul(known[2], seed_y, middles[0]).addcmul_(seed_x, middles[1]), seeds.clone()
    for dy in (-step, 0, step):
        rows, from_rows = slice(max(0, -dy), h - max(0, dy)), slice(max(0, dy), h + min(0, dy))
        if dy and step >= h:
            continue
        middle_y, best_rows, nearest_rows, known_rows = middles[0][rows], best[:, rows], nearest[:, rows], known[:, :, from_rows]
        for dx in (-step, 0, step):
            if dy == dx == 0 or (dx and step >= w):
                continue
            left, count = max(0, -dx), w - abs(dx)
            y, x, square, there = known_rows.narrow(-1, max(0, dx), count).unbind()
            distance = torch.addcmul(square, y, middle_y).addcmul_(x, middles[1].narrow(0, left, count))
            best_here, nearest_here = best_rows.narrow(-1, left, count), nearest_rows.narrow(-1, left, count)
            # whole numbers, so that this is 1 where the other is nearer, else 0
            nearer = (best_here - distance).clamp_(0, 1)
            torch.minimum(best_here, distance, out=best_here)
            nearest_here.addcmul_(nearer, there - nearest_here)
    return nearest


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """(B,C,H,W) blurred by a Gaussian of `sigma` pixels, edges replicated; zero in, zero out."""
    radius = max(1, int(2.5 * sigma + 0.5))
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    taps = [tap / total for tap in taps]
    # sums of shifted pictures: on a CPU convolutions of so few channels are several times slower
    of = _shifts_summed if radius < WIDE or x.device.type != "cpu" else _bands_multiplied
    return of(of(x, taps, -1), taps, -2)


def _shifts_summed(x: Tensor, taps: Sequence[float], dim: int) -> Tensor:
    """x (B,C,H,W) weighted along a dimension (-1 or -2); taps[k] is the weight of both pixels at the distance k."""
    radius, size = len(taps) - 1, x.shape[dim]
    wide = F.pad(x, (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius), mode="replicate")
    x = x * taps[0]
    for k in range(1, radius + 1):
        pair = wide.narrow(dim, radius - k, size) + wide.narrow(dim, radius + k, size)
        x.add_(pair, alpha=taps[k])
    return x


def _bands_multiplied(x: Tensor, taps: Sequence[float], dim: int) -> Tensor:
    """The same by products with a banded matrix, a piece of BAND pixels at a time; one matrix for each picture, so that the bits of a
    picture do not depend on the others of its batch."""
    b, c, h, w = x.shape
    radius, size = len(taps) - 1, x.shape[dim]
    pieces = -(-size // BAND)
    after = radius + pieces * BAND - size
    wide = F.pad(x, (radius, after, 0, 0) if dim == -1 else (0, 0, radius, after), mode="replicate")
    band = x.new_zeros(BAND, BAND + 2 * radius + 1)  # a column more than is used: as rows of a flat list it repeats with a shift of one
    band[:, : 2 * radius + 1] = x.new_tensor([*taps[:0:-1], *taps])
    band = band.flatten()[: BAND * (BAND + 2 * radius)].view(BAND, BAND + 2 * radius)
    parts = wide.unfold(dim, BAND + 2 * radius, BAND)
    if dim == -1:
        parts = parts.reshape(b * c, h * pieces, -1)
        return torch.bmm(parts, band.mT.expand(b * c, -1, -1)).view(b, c, h, -1)[..., :w]
    parts = parts.mT.reshape(b * c * pieces, -1, w)
    return torch.bmm(band.expand(b * c * pieces, -1, -1), parts).view(b, c, -1, w)[..., :h, :]


def box_blur(x: Tensor, radius: int, times: int) -> Tensor:
    """(B,C,H,W) averaged over squares of 2 * radius + 1 pixels, several times; edges replicated."""
    for _ in range(times):
        x = F.avg_pool2d(F.pad(x, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
    return x


def sampled(picture: Tensor, places: Tensor, mode: str = "bicubic") -> Tensor:
    """A picture (B,C,H,W) at places (B,h,w,2), x and y in its pixels: (B,C,h,w); beyond its border that goes on."""
    size = places.new_tensor([picture.shape[-1], picture.shape[-2]])
    return F.grid_sample(picture, (places + 0.5) * 2 / size - 1, mode=mode, padding_mode="border", align_corners=False)


def luma_of(image: Tensor) -> Tensor:
    """Brightness (...,1,H,W) of coded colours (...,3,H,W), by Rec. 601."""
    return (image * image.new_tensor(LUMA)[:, None, None]).sum(-3, keepdim=True)


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
    product = (image * ratio).clamp_min(0)
    bright = image.clamp(knee, 1).expand_as(product)
    # few pixels are so bright
    where = (product > bright).flatten().nonzero()[:, 0]
    bright, above = bright.flatten()[where], product.flatten()[where]
    room = (1 - bright).clamp_min(1e-4)
    above = (bright + room * torch.tanh((above - bright) / room)).clamp(max=1)
    return product.flatten().index_copy(0, where, above).view_as(product)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """x (B,C,H,W) at flat pixel indices (B,H,W) -> (B,C,H,W)."""
    b, c, h, w = x.shape
    return x.flatten(2).gather(2, index.reshape(b, 1, h * w).expand(b, c, h * w)).reshape(b, c, h, w)


def odd(pixels: float) -> int:
    """A window of about so many pixels, with a middle: for `dilate`, `erode` and `opened`."""
    return max(1, round(pixels)) | 1


def dilate(x: Tensor, size: int) -> Tensor:
    """Largest value of x (B,C,H,W) in the square of an odd `size` around every pixel."""
    return _extreme(x, size, torch.maximum, -torch.inf)


def erode(x: Tensor, size: int) -> Tensor:
    """Smallest value of x (B,C,H,W) in the square of an odd `size` around every pixel."""
    return _extreme(x, size, torch.minimum, torch.inf)


def _extreme(x: Tensor, size: int, of: Callable[[Tensor, Tensor], Tensor], beyond: float, dims: Sequence[int] = (-1, -2)) -> Tensor:
    """The larger (or smaller) of all pairs in windows, which double until they are as wide as asked for."""
    reach = size // 2
    for dim in dims:
        x, wide = F.pad(x, (reach, reach, 0, 0) if dim == -1 else (0, 0, reach, reach), value=beyond), 1
        while wide < size:
            step = min(wide, size - wide)
            left = x.shape[dim] - step
            x, wide = of(x.narrow(dim, 0, left), x.narrow(dim, step, left)), wide + step
    return x


def opened(x: Tensor, size: int) -> Tensor:
    """x (B,C,H,W) without what is narrower than an odd `size` of pixels."""
    return dilate(erode(x, size), size)


def closed(x: Tensor, size: int, dim: int) -> Tensor:
    """x (B,C,H,W) without gaps that are narrower than an odd `size` of pixels along one of its last dimensions (-1 or -2)."""
    return _extreme(_extreme(x, size, torch.maximum, -torch.inf, [dim]), size, torch.minimum, torch.inf, [dim])


def connected(start: Tensor, within: Tensor, window: int = 3) -> Tensor:
    """What hangs together in a mask (B,1,H,W), over gaps less wide than an odd window, with a part of it (B,1,H,W)."""
    while not torch.equal(found := dilate(start, window) * within, start):
        start = found
    return start


def flow_length(flow: Tensor) -> Tensor:
    """How far a displacement (B,2,H,W) goes: (B,1,H,W)."""
    return flow.square().sum(1, keepdim=True).sqrt()


def gradient_norm(flow: Tensor) -> Tensor:
    """Frobenius norm of the gradient of a displacement (B,2,H,W) in pixels per pixel -> (B,1,H,W)."""
    dx = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1, 0, 0), mode="replicate")
    dy = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1), mode="replicate")
    return (dx.square() + dy.square()).sum(1, keepdim=True).sqrt()


def flow_determinant(flow: Tensor) -> Tensor:
    """By how much a displacement (B,2,H,W) in pixels enlarges what it looks at, the determinant of its mapping's derivative -> (B,1,H,W);
    negative where it turns back.
    """
    dx = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1, 0, 0), mode="replicate")
    dy = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1), mode="replicate")
    return (1 + dx[:, :1]) * (1 + dy[:, 1:]) - dx[:, 1:] * dy[:, :1]


def trusted(validity: Tensor) -> Tensor:
    """How far a carried pixel's own colour may be shown, by its validity (B,1,H,W): 0 for guesses, 1 from the half on."""
    return ((validity - 0.15) / 0.35).clamp(0, 1)


def smoothest(slopes: tuple[Tensor, Tensor], stiffness: tuple[Tensor, Tensor], value: Tensor, weight: Tensor) -> Tensor:
    """The field x of least energy, the sum of `stiffness` (dx - slope)^2 over neighbours and of `weight` (x - value)^2 over pixels. It is
    exact, by elimination of one row after the other, and for small pictures: it takes H inverses of W by W numbers.

    Args:
        slopes: (B,C,H,W-1) and (B,C,H-1,W) wanted differences of neighbours, right minus left and lower minus upper.
        stiffness: (B,1,H,W-1) and (B,1,H-1,W) how much they matter.
        value: (B,C,H,W).
        weight: (B,1,H,W) how much it matters; not 0 everywhere.

    Returns:
        (B,C,H,W), zero where all slopes and values are zero.
    """
    across, down = stiffness[0][:, 0], stiffness[1][:, 0]
    pulled, sunk = stiffness[0] * slopes[0], stiffness[1] * slopes[1]
    right = weight * value + F.pad(pulled, (1, 0)) - F.pad(pulled, (0, 1)) + F.pad(sunk, (0, 0, 1, 0)) - F.pad(sunk, (0, 0, 0, 1))
    right = right.permute(0, 2, 3, 1)  # (B,H,W,C)
    held = weight[:, 0] + F.pad(across, (1, 0)) + F.pad(across, (0, 1)) + F.pad(down, (0, 0, 1, 0)) + F.pad(down, (0, 0, 0, 1))
    blocks = torch.diag_embed(held) - torch.diag_embed(across, 1) - torch.diag_embed(across, -1)  # (B,H,W,W)
    inverses, sums = [torch.linalg.inv(blocks[:, 0])], [right[:, 0]]
    for row in range(1, value.shape[-2]):
        above = down[:, row - 1, :, None]
        sums.append(right[:, row] + above * (inverses[-1] @ sums[-1]))
        inverses.append(torch.linalg.inv(blocks[:, row] - above * inverses[-1] * above.mT))
    rows = [inverses[-1] @ sums[-1]]
    for row in range(value.shape[-2] - 2, -1, -1):
        rows.append(inverses[row] @ (sums[row] + down[:, row, :, None] * rows[-1]))
    return torch.stack(rows[::-1], 2).permute(0, 3, 2, 1)


def inverse_flow(flow: Tensor, steps: int = 40) -> Tensor:
    """A motion seen from where it ends.

    Args:
        flow: (B,2,H,W) in -1..1 (x right, y down), where every pixel goes, less where it is; nowhere does it turn back.
        steps: of the search.

    Returns:
        (B,2,H,W) where what is at every pixel comes from, less where it is.
    """
    here = pixel_grid(flow.shape[-2], flow.shape[-1], flow)
    place = here.expand(len(flow), -1, -1, -1)
    for _ in range(steps):
        # half of the way, since pressed together it would swing
        gone = F.grid_sample(flow, place, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
        place = 0.5 * (place + here - gone)
    return (place - here).permute(0, 3, 1, 2)


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
    weighted, known = image * weight, weight
    if width % 2 or height % 2:
        weighted, known = (F.pad(values, (0, width % 2, 0, height % 2)) for values in (weighted, known))
    total = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(weighted, 2) / total.clamp_min(1e-6)
    coarse = pull_push(mean, (4 * total).clamp(max=1))
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(coarse, image, weight)
