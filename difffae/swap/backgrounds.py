"""A background that is replaced in a whole photograph.

Shape letters: H and W picture height and width, h and w those of the reference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.backdrop import behind, grown
from ..carry.cutout import unmixed
from ..carry.options import CutoutOptions
from ..common.pixels import dilate, erode, gather, gaussian_blur, mirrored_places, nearest_inside, odd
from ..source.whole_matte import resized, working_size

# lengths as shares of the picture's longer side
AROUND = 0.03  # how far around the reference's person its background is not read
SOFT = 0.006  # width of the border of what is filled in its place
DEEP = 0.1  # so deep in its place colours are smooth
MIRROR = 0.5  # of DEEP, from where on the background's detail goes on there as in a mirror
# of the width, what is mirrored at least, and the picture's own edge, which is not; of the gap's, over which both sides meet
SMALLEST, EDGE, MEET = 0.08, 0.01, 0.1
RIM = 0.012  # width of the person's rim that the old background shone on
SPILL = 0.8  # share of that light which is taken away
MOST = 0.05  # how much of it (0..1) is approached at most: flowers, straw and strands have colours of their own
SURE = 0.98  # alpha from which on a pixel is the person's alone


def fitted_background(picture: Tensor, alpha: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The background of a reference, filled where its person stood, at the size of another picture: cut, not stretched.

    Args:
        picture: (1,3,h,w) RGB 0..1.
        alpha: (1,1,h,w) share of its person.
        size: (H,W).

    Returns:
        background (1,3,H,W), and where it is the reference's own (1,1,H,W), 0 or 1.
    """
    side = max(picture.shape[-2:])
    person = dilate((alpha > 0.02).to(picture), odd(2 * AROUND * side))
    place = gaussian_blur(dilate(person, odd(2 * SOFT * side)), max(0.5, SOFT * side)).maximum(person)
    small = working_size(picture)
    fill = without_person(resized(picture, small), (resized(person, small) > 0).to(person))
    fill = F.interpolate(fill, picture.shape[-2:], mode="bicubic", align_corners=False) if small != tuple(picture.shape[-2:]) else fill
    whole = torch.lerp(picture, fill, place)
    return covering(whole, size).clamp(0, 1), (dilate(covering(place, size).abs(), 7) < 1e-4).to(picture)


def without_person(picture: Tensor, person: Tensor) -> Tensor:
    """A background without what covers it: it goes on with its structure, and smoothly if it is a plain wall.

    Args:
        picture: (1,3,h,w) RGB 0..1.
        person: (1,1,h,w) 1 on what covers it, else 0.

    Returns:
        (1,3,h,w).
    """
    o = CutoutOptions()
    smooth, _, wall = behind(picture, person, o)
    # what goes on from both sides meets in the middle, without a seam
    side = max(picture.shape[-2:])
    deep = nearest_inside(person[:, 0] < 0.5)[1][:, None] / (DEEP * side)
    smooth = torch.lerp(smooth, gaussian_blur(smooth, 0.5 * DEEP * side), deep.clamp(0, 1).square())
    if bool((wall == 1).all()):
        return smooth
    first = torch.lerp(smooth, _mirrored(picture, person, smooth), (deep / MIRROR - 1).clamp(0, 1))
    return torch.lerp(grown(picture, person, first, o), smooth, wall)


def _mirrored(picture: Tensor, person: Tensor, smooth: Tensor) -> Tensor:
    """A background without what covers it, as `without_person` gives it: what lies beside, mirrored, in the colours of `smooth`."""
    width, side = picture.shape[-1], max(picture.shape[-2:])
    columns = (person[0, 0] > 0.5).any(0).nonzero()
    first, last, rim = int(columns[0]), int(columns[-1]), round(EDGE * width)
    ends = [end for end in ((rim, first - 1), (last + 1, width - 1 - rim)) if end[1] - end[0] + 1 > SMALLEST * width]
    if not ends:
        return smooth
    sides = [picture[..., mirrored_places(end, width, picture.device)] for end in ends]
    # each side serves in proportion to its width, so that neither is repeated more often
    counts = [end[1] - end[0] + 1 for end in ends]
    gap, at = last - first + 1, torch.arange(width, device=picture.device)
    middle = first + gap * counts[0] / sum(counts)
    copied = torch.lerp(sides[0], sides[-1], ((at - middle) / (MEET * gap) + 0.5).clamp(0, 1).to(picture))
    return (smooth + copied - gaussian_blur(copied, 0.5 * DEEP * side)).clamp(0, 1)


def covering(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of a picture (1,C,h,w) in the shape of another, resized: (1,C,H,W)."""
    height, width = picture.shape[-2:]
    scale = min(height / size[0], width / size[1])
    high, wide = max(1, min(height, round(size[0] * scale))), max(1, min(width, round(size[1] * scale)))
    top, left = (height - high) // 2, (width - wide) // 2
    part = picture[..., top : top + high, left : left + wide]
    if (high, wide) == tuple(size):
        return part
    return F.interpolate(part, size, mode="bicubic", antialias=True, align_corners=False)


def with_background(picture: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """A person before another background.

    Args:
        picture: (1,3,H,W) RGB 0..1.
        alpha: (1,1,H,W) share of the person.
        background: (1,3,H,W).

    Returns:
        (1,3,H,W): the background itself where alpha is 0, the picture's own pixels away from the person's rim.
    """
    small, size = working_size(picture), (picture.shape[-2], picture.shape[-1])
    reduced, share = resized(picture, small), resized(alpha, small)
    front, back = unmixed(reduced, share)
    front = torch.where(share > SURE, reduced, front)
    spill = _spill(front, back, share)
    front, spill = (resized(values, size) for values in (front, spill))
    own = (torch.where(alpha > SURE, picture, front) - spill).clamp(0, 1)
    return torch.where(alpha == 1, own, torch.lerp(background, own, alpha))  # lerp rounds at 1, too


def _spill(own: Tensor, old: Tensor, alpha: Tensor) -> Tensor:
    """What the old background (1,3,h,w) shone on the rim of a person's colours (1,3,h,w): (1,3,h,w); even sides."""
    side = max(alpha.shape[-2:])
    solid = (alpha > SURE).to(alpha)
    inner = erode(solid, odd(2 * RIM * side))
    if not bool((inner > 0).any()):
        return torch.zeros_like(own)
    rim = gaussian_blur(1 - erode(solid, odd(RIM * side)), max(0.5, RIM / 2 * side)) * (inner < 1)
    inside, beside = (gather(colours, nearest_inside(where[:, 0])[0]) for colours, where in ((own, inner > 0), (old, alpha < 0.02)))
    line = gaussian_blur(beside - inside, max(0.5, RIM / 2 * side))
    lit = ((own - inside) * line).sum(1, keepdim=True) / line.square().sum(1, keepdim=True).clamp_min(1e-3)
    spill = SPILL * rim * lit.clamp(0, 1) * line
    most = spill.abs().amax(1, keepdim=True).clamp_min(1e-6)
    return spill * (MOST * torch.tanh(most / MOST) / most)
