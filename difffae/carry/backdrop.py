"""What is behind a person, made from the background around.

Shape letters: B batch, H and W picture height and width, h and w rows and columns of a grid of cells, K offsets, Q places on the rim.

A plain wall goes on smoothly from all sides. Anything else is copied from places that are a few chosen offsets away (He and Sun 2012,
"Statistics of patch offsets for image completion"): those by which the background along the rim is most like itself. Which offset
fills which cell is found by belief propagation, so that seams run where both sides agree (Pritch et al. 2009, "Shift-map image editing").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, gather, gaussian_blur, nearest_inside, odd, pixel_grid, pull_push
from .hair_volume import ramp
from .options import CutoutOptions

FINE, CELLS = 128, 48  # pixels of the longer side where offsets are looked for, and where they are laid out
OFFSETS = 18  # how many are chosen
REACH = 46  # longest of them, in pixels of FINE
SIDEWAYS = 8  # how far away a background is looked at to see whether it goes on sideways, in pixels of FINE
DULL = 3.0  # how much the detail counts that this does not have
SHORTEST = 6  # and shortest: what is nearer is like anything
DIRECTIONS, SPREAD = 45, 3  # bins of a quarter turn, and how many beside one are the same direction
ROUNDS = 9  # of belief propagation
UNLIKE = 0.04  # largest squared difference that counts: outliers are all alike
SEAM = 0.08  # the same of what meets at seams
OTHER = 0.15  # difference of colours from which on a rim is something else than its copy
UNKNOWN = 1.0  # cost of copying from where nothing is known


def straight_lines(image: Tensor, matte: Tensor) -> Tensor:
    """How much straight lines stand out in the background around a person: window frames and tiles do, leaves and lamps do not.

    Args:
        image: (B,3,H,W) RGB 0..1.
        matte: (B,1,H,W) share of the person.

    Returns:
        (B,1,1,1): the mean gradient of the brightness, per 1/256 of the side, in the two directions at right angles that have most of it,
        beyond what they would have if all directions were alike.
    """
    u = max(image.shape[-2:]) / 256
    grey = gaussian_blur((image * image.new_tensor([0.3, 0.6, 0.1])[None, :, None, None]).sum(1, keepdim=True), u)
    across = F.pad(grey[..., 2:] - grey[..., :-2], (1, 1, 0, 0)) * (u / 2)
    down = F.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1)) * (u / 2)
    around = dilate(matte, odd(80 * u)) * (dilate(matte, odd(9 * u)) < 0.05)
    size = (across.square() + down.square()).sqrt() * around
    angle = torch.atan2(down, across).remainder(math.pi / 2) * (DIRECTIONS / (math.pi / 2))
    histogram = size.new_zeros(len(size), DIRECTIONS)
    histogram = histogram.scatter_add(1, angle.long().clamp(max=DIRECTIONS - 1).flatten(1), size.flatten(1))
    wide = torch.stack([histogram.roll(shift, 1) for shift in range(-SPREAD, SPREAD + 1)]).sum(0)
    strongest = wide.amax(1) - histogram.sum(1) * (2 * SPREAD + 1) / DIRECTIONS
    return (strongest / around.sum((1, 2, 3)).clamp_min(1))[:, None, None, None]


def behind(image: Tensor, person: Tensor, o: CutoutOptions, shown: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """What may be behind a person at a first glance: the colours beside it.

    Backgrounds go on sideways rather than downwards (horizons, walls), so the nearest pixel is looked for in a picture that
    is stretched upwards. Before a plain wall they go on smoothly from all sides.

    Args:
        image: (B,3,H,W).
        person: (B,1,H,W) in 0..1, what is not background.
        o: reach of the filling.
        shown: (B,1,H,W) in 0..1, where the image is the photograph: what its border repeats, such as clothes, says nothing of a wall.

    Returns:
        picture (B,3,H,W), how plain the background is around each pixel (B,1,H,W), and how far it is one plain wall (B,1,1,1), in 0..1.
    """
    side, width = max(image.shape[-2:]), image.shape[-1]
    outside = _apart(person, o)
    told = outside if shown is None else outside & (shown > 0.99)
    stretch = o.sideways
    index = nearest_inside(outside[:, 0].repeat_interleave(stretch, 1))[0][:, stretch // 2 :: stretch]
    row = torch.div(index, width, rounding_mode="floor") // stretch
    around = gather(image, row * width + index % width)
    reach = o.plain_reach * side
    mean, square = gaussian_blur(around, reach), gaussian_blur(around.square(), reach)
    plain = torch.exp(-(square - mean.square()).mean(1, keepdim=True).clamp_min(0) / o.plain_spread**2)
    beside = told & (dilate(person, odd(8 * o.fill_blur * side)) > 0.05)
    worst = [here[there].quantile(0.1) if bool(there.any()) else here.new_zeros(()) for here, there in zip(plain, beside, strict=True)]
    wall = ramp(torch.stack(worst)[:, None, None, None], 0.5, 0.8)
    blur = o.fill_blur * side
    filled = gaussian_blur(around, blur)
    if bool(wall.any()):
        slope = _slope(image, told)
        filled = torch.lerp(filled, (slope + gaussian_blur(pull_push(image - slope, told.to(image)), blur)).clamp(0, 1), wall)
    return _softly(image, filled, outside), plain, wall


def grown(image: Tensor, person: Tensor, filled: Tensor, o: CutoutOptions) -> Tensor:
    """The picture without the person, its background going on with its structure.

    Args:
        image: (B,3,H,W) RGB 0..1.
        person: (B,1,H,W) in 0..1, what is not background.
        filled: (B,3,H,W) by `behind`, for what no offset reaches.
        o: as there.

    Returns:
        (B,3,H,W).
    """
    outside = _apart(person, o)
    rows = []
    for one, known, rest in zip(image.split(1), outside.split(1), filled.split(1), strict=True):
        some = bool(known.any()) and not bool(known.all())
        rows.append(_copied(one, known, rest) if some else rest)
    return _softly(image, torch.cat(rows), outside)


def _apart(person: Tensor, o: CutoutOptions) -> Tensor:
    """(B,1,H,W) bool: certainly background. The outline itself may hold some of the person, which would go on in streaks."""
    apart = dilate(person, odd(2 * o.fill_blur * max(person.shape[-2:]))) < 0.05
    return torch.where(apart.flatten(1).any(1)[:, None, None, None], apart, person < 0.05)


def _slope(image: Tensor, outside: Tensor) -> Tensor:
    """(B,3,H,W): the polynomial of second degree that is most like a picture (B,3,H,W) outside (B,1,H,W): walls are lit unevenly."""
    x, y = pixel_grid(image.shape[-2], image.shape[-1], image).double().unbind(-1)
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y]).flatten(1)  # (6,HW)
    known = outside.flatten(1).to(terms)[:, None] * terms  # (B,6,HW)
    steady = 1e-6 * torch.eye(6, device=image.device, dtype=terms.dtype)
    factors = torch.linalg.solve(known @ terms.T + steady, known @ image.flatten(2).transpose(1, 2).to(terms))  # (B,6,3)
    return (factors.transpose(1, 2) @ terms).unflatten(2, image.shape[-2:]).to(image)


def _softly(image: Tensor, filled: Tensor, outside: Tensor) -> Tensor:
    """The picture outside, what was filled inside, and a soft border."""
    u = max(image.shape[-2:]) / 256
    return torch.lerp(image, filled, (2.1 * gaussian_blur((~outside).to(image), u) - 1.05).clamp(0, 1) * ~outside)


def _copied(image: Tensor, outside: Tensor, filled: Tensor) -> Tensor:
    """`grown` of one picture, of which the background (1,1,H,W) bool is known."""
    height, width = image.shape[-2:]
    scale = max(height, width) / FINE
    size = round(height / scale), round(width / scale)
    small = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
    hole = F.adaptive_max_pool2d((~outside).to(image), size) > 0.05
    clean = dilate(hole.to(image), 3) < 0.5
    offsets, rim, cost = _chosen(small, hole, clean)
    first = F.interpolate(filled, size, mode="bilinear", antialias=True, align_corners=False)
    return _painted(image, outside, filled, _laid_out(first, small, hole, clean, offsets, rim, cost), offsets * scale)


def _shifted(x: Tensor, offset: Tensor) -> Tensor:
    """x (1,C,H,W) with what lies at an offset (2,), rows and columns, in its place; zeros beyond the picture."""
    height, width = x.shape[-2:]
    y, column = (int(v) + REACH for v in offset)
    return F.pad(x, (REACH,) * 4)[..., y : y + height, column : column + width]


def _chosen(small: Tensor, hole: Tensor, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The offsets by which the background along the rim of a hole is most like itself.

    Args:
        small: (1,3,H,W).
        hole: (1,1,H,W) bool.
        clean: (1,1,H,W) bool, what may be copied.

    Returns:
        offsets (K,2), rows and columns; the rim's places (Q,2); and how unlike the background is there (K+1,Q), last by going on sideways.
    """
    grey = small.mean(1, keepdim=True)
    across = F.pad(grey[..., 1:] - grey[..., :-1], (0, 1, 0, 0))
    down = F.pad(grey[..., 1:, :] - grey[..., :-1, :], (0, 0, 0, 1))
    seen = torch.cat([small, 2 * across, 2 * down, clean.to(small)], 1)
    lost = (small - gaussian_blur(small, 3.0)).square().mean(1)[0]  # by going on sideways, which is blurred
    rim = (clean & (dilate(hole.to(small), 9) > 0.5))[0, 0].nonzero()
    rim = rim[(rim.sum(1) % 2) == 0]
    steps = torch.arange(-REACH, REACH + 1, 2, device=small.device)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).flatten(0, 1)
    offsets = offsets[offsets.abs().sum(1) > SHORTEST]
    wide = F.pad(seen, (REACH,) * 4)[0]
    place = rim[None] + offsets[:, None] + REACH
    there = wide.flatten(1)[:, place[..., 0] * wide.shape[-1] + place[..., 1]]  # (6,O,Q)
    here = seen[0][:, rim[:, 0], rim[:, 1]][:, None]
    unlike = (there[:5] - here[:5]).square().mean(0).clamp(max=UNLIKE)
    unlike = torch.where(there[5] > 0.5, unlike, UNLIKE)
    near = torch.exp(-((torch.cdist(rim.to(small), rim.to(small)) / 5) ** 2))
    near = near / near.sum(0, keepdim=True)
    unlike = unlike @ near + 0.004 * offsets.to(small).norm(dim=1, keepdim=True) / FINE
    best, chosen = torch.full_like(unlike[0], UNLIKE), []
    for _ in range(OFFSETS):
        chosen.append(int((best - unlike).clamp_min(0).sum(1).argmax()))
        best = best.minimum(unlike[chosen[-1]])
    level = unlike[(offsets[:, 0] == 0) & (offsets[:, 1].abs() == SIDEWAYS)].amin(0)
    level = level + DULL * lost[rim[:, 0], rim[:, 1]].clamp(max=UNLIKE) @ near
    return offsets[chosen], rim, torch.cat([unlike[chosen], level[None]])


def _laid_out(first: Tensor, small: Tensor, hole: Tensor, clean: Tensor, offsets: Tensor, rim: Tensor, unlike: Tensor) -> Tensor:
    """Which offset fills which cell: (h,w) of 0..K, K where the first glance (1,3,H,W) stays. Other arguments as those and the results
    of `_chosen`."""
    count, (height, width) = len(unlike), small.shape[-2:]
    cells = max(1, round(height * CELLS / FINE)), max(1, round(width * CELLS / FINE))
    on_rim = torch.zeros(1, count, height, width, device=small.device)
    on_rim[0, :, rim[:, 0], rim[:, 1]] = unlike.float()
    told = F.adaptive_max_pool2d((on_rim.amax(1, keepdim=True) > 0).float(), size := (height // 2, width // 2))
    spread = F.adaptive_avg_pool2d((on_rim > 0).float(), size).clamp_min(1e-6)
    spread = pull_push(F.adaptive_avg_pool2d(on_rim, size) / spread, told)
    cost = F.adaptive_avg_pool2d(spread, cells)[0]
    inside = F.adaptive_max_pool2d(hole.float(), cells)[0]
    even = F.pad(inside, (0, cells[1] % 2, 0, cells[0] % 2), mode="replicate")
    depth = nearest_inside(even < 0.5)[1][0, : cells[0], : cells[1]].clamp(max=99)
    shown, unknown = [], []
    for offset in offsets:
        shown.append(F.adaptive_avg_pool2d(_shifted(small, offset), cells)[0])
        unknown.append(F.adaptive_max_pool2d(1 - _shifted(clean.to(small), offset), cells)[0, 0])
    shown.append(F.adaptive_avg_pool2d(first, cells)[0])
    unknown.append(torch.zeros_like(unknown[0]))
    pictures = torch.stack(shown).float()
    # what looks quite unlike the background beside is somewhere else's
    astray = (pictures - pictures[-1:]).square().mean(1).clamp(max=4 * UNLIKE)
    own = 3 * cost * (0.15 + torch.exp(-depth / 8)) + 2 * astray + UNKNOWN * torch.stack(unknown).float()
    return _agreed(own, pictures)


def _agreed(own: Tensor, shown: Tensor) -> Tensor:
    """Labels (h,w) of least total cost by max-product belief propagation: own costs (K,h,w), and pictures (K,3,h,w) whose differences
    are those of seams."""
    same = torch.eye(len(own), device=own.device)[:, :, None, None]

    def seams(dim: int) -> Tensor:
        pairs = [shown.narrow(dim, at, shown.shape[dim] - 1) for at in (0, 1)]
        unlike = [(one[:, None] - one[None]).square().mean(2) for one in pairs]
        return (unlike[0] + unlike[1]).clamp(max=SEAM) + 0.004 * (1 - same)

    between = {1: seams(2), 2: seams(3)}
    ways = [(1, 0), (1, 1), (2, 0), (2, 1)]  # along rows or columns, forwards or backwards
    messages = {way: torch.zeros_like(own) for way in ways}
    for _ in range(ROUNDS):
        total = own + sum(messages.values())
        new = {}
        for dim, back in ways:
            sent = total - messages[dim, 1 - back]
            sent = sent.narrow(dim, back, sent.shape[dim] - 1)
            got = (sent[:, None] + between[dim]).amin(0)
            got = got - got.amin(0, keepdim=True)
            new[dim, back] = torch.zeros_like(own)
            new[dim, back].narrow(dim, 1 - back, got.shape[dim]).copy_(got)
        messages = {way: 0.5 * messages[way] + 0.5 * new[way] for way in ways}
    return (own + sum(messages.values())).argmin(0)


def _painted(image: Tensor, outside: Tensor, filled: Tensor, labels: Tensor, offsets: Tensor) -> Tensor:
    """Copies by offsets (K,2) in pixels, laid out by labels (h,w), in two bands: fine detail changes at once, colours softly."""
    height, width = image.shape[-2:]
    u, known = max(height, width) / 256, outside.to(image)
    share = gaussian_blur(known, 3 * u)
    low = torch.where(share > 0.02, gaussian_blur(image * known, 3 * u) / share.clamp_min(0.02), image)
    bands = torch.cat([image - low, low, known], 1)
    cells = F.one_hot(labels, len(offsets) + 1).permute(2, 0, 1)[None].to(image)
    weights = F.interpolate(cells, (height, width), mode="bilinear", align_corners=False).square()
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)
    grid = pixel_grid(height, width, image)[None]
    blurred = gaussian_blur(filled, 3 * u)
    first = torch.cat([filled - blurred, blurred, torch.ones_like(known)], 1)
    fine, coarse, total, covered = torch.zeros_like(image), torch.zeros_like(image), torch.zeros_like(known), torch.zeros_like(known)
    for number in labels.unique().tolist():
        copy = first
        if number < len(offsets):
            step = offsets[number].flip(0).to(image) * 2 / image.new_tensor([width, height])
            copy = F.grid_sample(bands, grid + step, padding_mode="border", align_corners=False)
        weight = weights[:, number : number + 1]
        wide = gaussian_blur(weight, 6 * u) * copy[:, 6:].clamp_min(0.01)
        fine, coarse, total = fine + weight * copy[:, :3], coarse + wide * copy[:, 3:6], total + wide
        covered = covered + weight * copy[:, 6:]
    copied = fine + coarse / total.clamp_min(1e-6)
    # in the colours that the background has along the rim
    rim = known * dilate(1 - known, odd(16 * u))
    rim = rim * torch.exp(-((image - copied).square().sum(1, keepdim=True) / OTHER**2))
    off = gaussian_blur((image - copied) * rim, 3 * u) / gaussian_blur(rim, 3 * u).clamp_min(0.05)
    copied = (copied + gaussian_blur(pull_push(off, rim), 2 * u)).clamp(0, 1)
    return torch.lerp(filled, copied, ramp(gaussian_blur(covered, 1.5 * u), 0.7, 0.95))
