"""What lies in front of a face: microphones, cups, masks, hands.

A network (`OccluderMatte`) says so in the face's upright square; a random walk takes its word to the picture's edges. What it finds
away from the face is left out, and so is what it is not sure of anywhere.

Shape letters: P points, L = 478 landmarks, S = GRID side of the upright square, H and W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import connected, dilate, gaussian_blur, odd, opened, pixel_grid
from ..faces.crop import OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP
from .bystanders import fitted, walk
from .occluder_matte import GRID, OccluderMatte

REACH = 2.2  # side of the upright square, in heights of the face
# a thing is there where the network is certain of so much of the square; then the rest of it is what it is sure of
CERTAIN, LEAST, SURE = 0.99, 0.002, 0.9
EDGE = 0.1, 0.9  # between these the picture's own edges decide
# what is alike, in logarithms of brightness, red over green, and green over blue; how many of the colours of a thing and of its
# surroundings are compared, and the most that colour says (a logit)
ALIKE, SAMPLES, BY_COLOUR = (0.3, 0.08, 0.08), 300, 6.0
LEAST_SHARE = 0.01  # the network is then taken to be no surer than this
# in sides of the square: how far around a thing its surroundings reach, and how far those from which its colours must differ, or they say
# nothing; and the share of the latter that may be alike
AROUND, BESIDE, ALIKE_BESIDE = 0.8, 0.12, 0.25
FACE = 0.8  # of the way from the face's middle to its outline: a thing lies before what is nearer
# landmarks of a mouth; a thing covers so much of it, or so much of it lies beyond the face: anything else is a shadow or a fold
MOUTH, AT_MOUTH, BEYOND = (61, 40, 37, 0, 267, 270, 291, 91, 84, 17, 314, 321, 78, 13, 14, 308), 0.2, 0.25


def occluders(network: OccluderMatte, image: Tensor, landmarks: Tensor) -> Tensor:
    """What lies in front of a face.

    Args:
        network: finds it.
        image: (1,3,H,W) RGB 0..1.
        landmarks: (L,2 or 3) in its pixels.

    Returns:
        (1,1,H,W) in 0..1, all zeros where nothing was found.
    """
    points = landmarks[:, :2].to(image)
    square, middle, sides = upright_square(image, points, GRID)
    found = network(square)
    certain, seeds = (opened((found > share).to(image), 3) * _before(middle, sides, points, FACE) for share in (CERTAIN, SURE))
    if float(certain.mean()) < LEAST:
        return torch.zeros_like(image[:, :1])
    claim = _by_colour(square, found)[0]
    share = walk(square, torch.cat([1 - claim, claim]), torch.cat([claim < EDGE[0], claim > EDGE[1]]))[1]
    share = connected(seeds, opened((share > 0.5).to(image)[None, None], 3))
    mouth = _at(share, ((points[list(MOUTH)] - middle) @ sides.T / sides.square().sum(-1) + 1) * (GRID / 2)).mean()
    beyond = (share * (1 - _before(middle, sides, points, 1.0))).sum() / share.sum().clamp_min(1)
    if mouth < AT_MOUTH and beyond < BEYOND:
        return torch.zeros_like(image[:, :1])
    back = _backwards(image, middle, sides)
    return fitted(image, F.grid_sample(share, back[None], padding_mode="zeros", align_corners=False))


def _at(values: Tensor, points: Tensor) -> Tensor:
    """(P,) of a picture (1,1,H,W) at points (P,2) in its pixels."""
    places = points / points.new_tensor([values.shape[-1], values.shape[-2]]) * 2 - 1
    return F.grid_sample(values, places[None, None], align_corners=False)[0, 0, 0]


def upright_square(image: Tensor, points: Tensor, side: int, wider: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The square that a face stands upright in.

    Args:
        image: (1,3,H,W).
        points: (L,2) landmarks in its pixels.
        side: of the square, in pixels.
        wider: how much larger than usual.

    Returns:
        The square (1,3,side,side), its middle (2,) in the picture, and the vectors (2,2) from there to its right and to its lower side.
    """
    top, bottom, left, right = (points[index] for index in (OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT))
    down = bottom - top
    length = down.norm().clamp_min(1e-6)
    half = length.maximum(1.2 * (right - left).norm()) * (REACH / 2)
    down = down / length * half
    middle = (top + bottom + left + right) / 4 + 0.3 * down  # things hang below a mouth
    sides = torch.stack([torch.stack([down[1], -down[0]]), down]) * wider
    places = middle + pixel_grid(side, side, points) @ sides
    coarse = 2 * float(half) * wider / side  # pixels of the picture in one of the square's
    places = places / points.new_tensor([image.shape[-1], image.shape[-2]]) * 2 - 1
    return F.grid_sample(gaussian_blur(image, 0.4 * coarse), places[None], padding_mode="border", align_corners=False), middle, sides


def _before(middle: Tensor, sides: Tensor, points: Tensor, reach: float) -> Tensor:
    """(1,1,S,S): 1 in a face's square before the face with landmarks (L,2), as far as `reach` of the way to its outline."""
    top, bottom, left, right = (points[index] for index in (OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT))
    axes = torch.stack([(right - left) / 2, (bottom - top) / 2])
    away = middle + pixel_grid(GRID, GRID, points) @ sides - (top + bottom + left + right) / 4
    return ((away @ torch.linalg.pinv(axes)).norm(dim=-1) < reach).to(points)[None, None]


def _by_colour(square: Tensor, found: Tensor) -> Tensor:
    """Shares (1,1,S,S) that the network found (the same) in a square (1,3,S,S), where it is not sure decided by whose colours are nearer:
    those of what it is sure of, or those around."""
    red, green, blue = (square[0].permute(1, 2, 0) + 0.03).log().unbind(-1)
    tones = torch.stack([(red + green + blue) / 3, red - green, green - blue], -1) / square.new_tensor(ALIKE)
    core = (found > SURE).to(found)
    around, beside = ((dilate(core, odd(reach * GRID)) * (found < 1 - SURE))[0, 0] > 0 for reach in (AROUND, BESIDE))
    thing, other = (_nearest(tones, tones[some]) for some in (core[0, 0] > 0, around))
    telling = BY_COLOUR * float(thing[beside].quantile(ALIKE_BESIDE).clamp(max=1)) if bool(beside.any()) else 0.0
    return (found.clamp(LEAST_SHARE, 1 - LEAST_SHARE).logit() + telling * torch.tanh(other - thing)).sigmoid()


def _nearest(tones: Tensor, some: Tensor) -> Tensor:
    """(S,S): how far tones (S,S,3) are from the nearest of some (n,3)."""
    some = some[:: len(some) // SAMPLES + 1]
    return torch.cdist(tones.flatten(0, 1), some).amin(-1).view(tones.shape[:2]) if len(some) else tones.new_zeros(tones.shape[:2])


def _backwards(image: Tensor, middle: Tensor, sides: Tensor) -> Tensor:
    """(H,W,2): where the pixels of a picture lie in an upright square, -1..1."""
    ys, xs = torch.meshgrid(*(torch.arange(n, device=image.device) + 0.5 for n in image.shape[-2:]), indexing="ij")
    return (torch.stack([xs, ys], dim=-1) - middle) @ sides.T / sides.square().sum(-1)
