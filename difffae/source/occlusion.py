"""What lies in front of a mouth: microphones, cups, cloths.

Lips are redder than the skin around them, or as red, in whatever light. Where the lips' place is of another colour than lips can have
beside this skin, and the skin around that place has this colour too, something covers them; what no edge of the picture parts from there
is the thing. A beard, lipstick or an open mouth are none: there the lips' own colour is seen, or it ends at the lips.

Shape letters: N faces, P points, L = 478 landmarks, S = GRID side of the upright square, H and W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import connected, dilate, gaussian_blur, odd, opened
from ..faces.crop import OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP
from .bystanders import fitted, walk

GRID = 128
REACH = 2.2  # side of the upright square, in heights of the face
# landmarks: skin that things at a mouth leave free, and inner and outer edge of the lips, lower and upper
SKIN = (151, 9, 8, 108, 337, 69, 299, 6, 197, 195, 5, 4, 45, 275, 50, 280, 101, 330, 117, 346, 118, 347)
INNER = (88, 178, 87, 14, 317, 402, 318, 80, 81, 82, 13, 312, 311, 310)
OUTER = (91, 181, 84, 17, 314, 405, 321, 40, 39, 37, 0, 267, 269, 270)
BLUR = 0.012  # of the face's height, over which colours are averaged
# What lips can be beside their skin, in logarithms: red over green, and brightness. On 508 portraits 99 % lie in LIPS_RED, and those that
# are less red than PALE differ in brightness by less than STEP
LIPS_RED = (-0.3, 0.7)
PALE, STEP = -0.08, 0.2
DARKEST = -1.4
# what is of one colour, in logarithms of brightness, red over green, and green over blue
ALIKE = (0.5, 0.12, 0.14)
BEYOND = (84, 17, 314, 37, 0, 267)  # landmarks: middle of the lips' outer edge
# both lips, and the lower one, of INNER and of BEYOND; over the upper one alone hangs a moustache
PARTS = ((slice(None), slice(None)), (slice(7), slice(3)))
AROUND = 1.6  # of the way from the lips' middle to these: where a thing must go on
SHARE = 0.6  # of these points, and of those on the lips, that it must cover
WIDTH = 0.4  # of half the square: things reach so far to the sides of a mouth, and above it; downwards they may go on
CORNER = 0.16  # of the face's height, the width in which a thing's outline may be rounded
FARTHEST = 1.0  # the same of things that end before: what goes on there may be anything of their colour


def covering(image: Tensor, landmarks: Tensor) -> Tensor:
    """What lies in front of a mouth.

    Args:
        image: (1,3,H,W) RGB 0..1.
        landmarks: (L,2 or 3) in its pixels.

    Returns:
        (1,1,H,W) in 0..1, all zeros where nothing was found.
    """
    points = landmarks[:, :2].to(image)
    middle, sides = _upright(points)
    tones = _tones(gaussian_blur(image, max(0.6, BLUR * 2 * float(sides[1].norm()) / REACH)))
    lips = (points[list(INNER)] + points[list(OUTER)]) / 2
    beyond = torch.lerp(lips.mean(0, keepdim=True), points[list(BEYOND)], AROUND)
    skin = _at(tones, points[list(SKIN)]).median(0).values
    colour = None
    for some, rows in PARTS:
        lip, around = _at(tones, lips[some]), _at(tones, beyond[rows])
        tone = lip.median(0).values
        if _foreign(tone - skin) and bool((_alike(torch.cat([lip, around]), tone) > 0.5).float().mean() > SHARE):
            colour = tone
            break
    if colour is None:
        return torch.zeros_like(image[:, :1])
    axis = (torch.arange(GRID, device=image.device, dtype=image.dtype) + 0.5) / GRID * 2 - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    places = middle + u[..., None] * sides[0] + v[..., None] * sides[1]
    square = _at(torch.cat([image, tones], dim=1), places.flatten(0, 1)).T.reshape(1, 6, GRID, GRID)
    thing, own = (_alike(square[0, 3:].permute(1, 2, 0), tone) for tone in (colour, skin))
    seeds = torch.zeros_like(thing, dtype=torch.bool)
    column, row = (((lips - middle) @ sides.T / sides.square().sum(-1) + 1) / 2 * GRID).long().clamp(0, GRID - 1).T
    seeds[row, column] = True
    seeds = (dilate(seeds[None, None].to(image), 3)[0, 0] > 0) & (thing > 0.5)
    # averaged tones are mixed along its edge, where only the picture's own colours can tell
    other = ((thing < 0.05) | ((own > 0.6) & (own > thing))) & (dilate(thing[None, None], 5)[0, 0] < 0.3)
    mouth = ((lips.mean(0) - middle) @ sides.T) / sides.square().sum(-1)
    away = ((u - mouth[0]).square() + (mouth[1] - v).clamp_min(0).square()).sqrt()
    claim = thing * torch.exp(-(away / WIDTH).square())
    share = walk(square[:, :3], torch.stack([(1 - claim).maximum(own), claim]), torch.stack([other & ~seeds, seeds]))[1]
    share = opened((share > 0.5).to(image)[None, None], 3)
    share = connected(share * seeds, share)
    whole = connected(share, ((thing > 0.7) & ~other & (away < FARTHEST)).to(image)[None, None].maximum(share))
    if not bool((whole[0, 0] * (away > 0.9 * FARTHEST)).any()):
        share = whole
    back = _backwards(image, middle, sides)
    rough = F.grid_sample(share, back[None], padding_mode="zeros", align_corners=False)
    share = fitted(image, rough)
    # its corners, which a soft outline rounds
    beside = dilate(share, odd(CORNER * 2 * float(sides[1].norm()) / REACH)) > 0.5
    return share.maximum((beside & (_alike(_tones(image)[0].permute(1, 2, 0), colour) > 0.7)).to(share))


def _foreign(step: Tensor) -> bool:
    """Whether lips cannot differ from skin by this much (3,)."""
    brightness, red, _ = step.tolist()
    pale = red < PALE and abs(brightness) > STEP
    return pale or not LIPS_RED[0] < red < LIPS_RED[1] or brightness < DARKEST


def _alike(tones: Tensor, one: Tensor) -> Tensor:
    """(...): 1 for tones (...,3) that are the same as one (3,), falling to 0."""
    return torch.exp(-((tones - one) / one.new_tensor(ALIKE)).square().sum(-1))


def _tones(image: Tensor) -> Tensor:
    """RGB (1,3,H,W) as logarithms of brightness, of red over green and of green over blue."""
    red, green, blue = (image + 0.03).log().split(1, dim=1)
    return torch.cat([(red + green + blue) / 3, red - green, green - blue], dim=1)


def _at(values: Tensor, points: Tensor) -> Tensor:
    """(P,C) of a picture (1,C,H,W) at points (P,2) in its pixels."""
    places = points / points.new_tensor([values.shape[-1], values.shape[-2]]) * 2 - 1
    return F.grid_sample(values, places[None, None], padding_mode="border", align_corners=False)[0, :, 0].T


def _upright(points: Tensor) -> tuple[Tensor, Tensor]:
    """The middle (2,) of the square that a face stands upright in, and the vectors (2,2) from there to its right and to its lower side."""
    top, bottom, left, right = (points[index] for index in (OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT))
    down = bottom - top
    length = down.norm().clamp_min(1e-6)
    down = down / length * (length.maximum(1.2 * (right - left).norm()) * REACH / 2)
    middle = (top + bottom + left + right) / 4 + 0.3 * down  # things hang below a mouth
    return middle, torch.stack([torch.stack([down[1], -down[0]]), down])


def _backwards(image: Tensor, middle: Tensor, sides: Tensor) -> Tensor:
    """(H,W,2): where the pixels of a picture lie in an upright square, -1..1."""
    ys, xs = torch.meshgrid(*(torch.arange(n, device=image.device) + 0.5 for n in image.shape[-2:]), indexing="ij")
    return (torch.stack([xs, ys], dim=-1) - middle) @ sides.T / sides.square().sum(-1)
