"""Which pixels belong to other people than the one who is edited.

A matte says where people are, not who they are. Every face that was found claims a head and shoulders of usual proportions; between
the claims a random walk decides (Grady, "Multilabel random walker image segmentation using prior models", 2005): a walker that starts
at a pixel hardly crosses edges of the picture, and the person whose claim it most likely meets owns the pixel.

Shape letters: P people, the edited one first; H and W picture height and width, L = 478 landmarks, n side of the walker's grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, odd, opened
from ..faces.crop import OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP

GRID = 128  # side of the grid on which people are told apart; their edges are found afterwards
# of the walk: squared difference of two neighbours' colours at which it crosses e times less often, and how often it crosses any edge
COLOUR_STEP, LEAST_STEP = 2e-3, 1e-3
CLAIM = 0.02  # how strongly proportions claim a pixel beside what its neighbours say
SEED = 0.6  # of a face's oval, within which a pixel is that face's for certain
STEPS = 300  # of conjugate gradients at most
WINDOW, EDGE = 0.03, 1e-3  # of the guided filter that fits the shares to the picture: share of the side, variance of colours
BORDER = 0.008  # of the side, by which other people are widened: the soft rim of their hair is theirs
THINNEST = 0.03  # of the side: what is narrower is nobody
BOX_RIM = 0.04  # of the side: in the box of another's face the edited person's rim stays too, since shares are wrong by a few pixels


@dataclass(frozen=True, eq=False)
class Bystanders:
    """Other people in one picture.

    behind  (1,1,H,W) share of those whom the edited person covers
    before  (1,1,H,W) share of those who cover the edited person, or who stand apart
    """

    behind: Tensor
    before: Tensor


def find_bystanders(image: Tensor, matte: Tensor, own: Tensor, others: Tensor) -> Bystanders:
    """Tell the people of a picture apart.

    Args:
        image: (1,3,H,W) RGB 0..1.
        matte: (1,1,H,W) share of person, of all people.
        own: (L,2 or 3) landmarks of the person who is edited, in pixels of the picture.
        others: (P-1,L,2 or 3) those of the other faces, at least one.
    """
    side = max(image.shape[-2:])
    scale = GRID / side
    size = round(image.shape[-2] * scale), round(image.shape[-1] * scale)
    small = F.interpolate(image, size, mode="area")
    faces = torch.cat([own[None, :, :2], others[..., :2]]).to(image) * scale
    heads, near = distances(faces, size)
    shares = walk(small, torch.exp(-2 * near.square()), seeds(near, faces, size))
    before = _covers(heads, shares, F.interpolate(matte, size, mode="area")[0, 0])
    wide = fitted(image, F.interpolate(shares[None, 1:], image.shape[-2:], mode="bilinear", align_corners=False))
    claimed = wide.sum(1, keepdim=True).clamp(max=1)
    weight = wide + 1e-6  # beside everybody all count alike
    front = (weight * before[None, :, None, None]).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    # where nobody is, nothing is anybody's, but for the strands that a matte misses; the edited person's own rim is too thin for a body
    people = opened(claimed * ((matte - 0.4) / 0.3).clamp(0, 1), odd(THINNEST * side))
    theirs = claimed.minimum(dilate(people, odd((THINNEST + 2 * BORDER) * side)))
    around = torch.stack([dilate(theirs, odd(BOX_RIM * side)) * _box(points, image) for points in others[..., :2].to(image)])
    theirs = theirs.maximum(around.amax(0))
    return Bystanders(theirs * (1 - front), theirs * front)


def _box(points: Tensor, image: Tensor) -> Tensor:
    """(1,1,H,W): 1 in the box around points (L,2)."""
    (left, top), (right, bottom) = points.amin(0).floor().tolist(), points.amax(0).ceil().tolist()
    ys, xs = (torch.arange(n, device=image.device) + 0.5 for n in image.shape[-2:])
    inside = ((ys > top) & (ys < bottom))[:, None] & ((xs > left) & (xs < right))[None]
    return inside[None, None].to(image)


def distances(faces: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How far every pixel is from the person of each face, by usual proportions: 0 in the middle of head or body, 1 at the outline.

    Args:
        faces: (P,L,2) landmarks in pixels.
        size: (H,W).

    Returns:
        (P,H,W) of the head alone, and of head and body.
    """
    ys, xs = torch.meshgrid(*(torch.arange(n, device=faces.device) + 0.5 for n in size), indexing="ij")
    pixels = torch.stack([xs, ys], dim=-1).to(faces)
    x, up, width = _in_faces(pixels, faces)
    head = ((x / (1.2 * width)).square() + ((up - 0.15) / 0.75).square()).sqrt()
    down = -0.5 - up  # below the chin
    reach = 0.4 + (1.5 * down).clamp(0, 1)  # half the width of neck and shoulders
    body = torch.where(down > -0.1, x.abs() / reach, torch.inf)
    return head, torch.minimum(head, body)


def _in_faces(pixels: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (H,W,2) in the frame of each face, whose height is 1: to the side and upwards of its middle (P,H,W), and half its width
    (P,1,1), that of a face seen from the front at least."""
    top, bottom, left, right = (faces[:, index] for index in (OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT))
    across = right - left
    axis = top - bottom
    # a nod shortens the height, a turn the width
    height = axis.norm(dim=-1).maximum(1.2 * across.norm(dim=-1)).clamp_min(1e-3)
    width = (across.norm(dim=-1) / height / 2).clamp_min(0.38)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    middle = (top + bottom + left + right) / 4
    away = (pixels[None] - middle[:, None, None]) / height[:, None, None, None]
    up = (away * axis[:, None, None]).sum(-1)
    side = away[..., 0] * -axis[:, None, None, 1] + away[..., 1] * axis[:, None, None, 0]
    return side, up, width[:, None, None]


def seeds(near: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """(P,H,W) bool: the middle of each face, as far as no other face claims it."""
    ys, xs = torch.meshgrid(*(torch.arange(n, device=faces.device) + 0.5 for n in size), indexing="ij")
    x, up, width = _in_faces(torch.stack([xs, ys], dim=-1).to(faces), faces)
    inner = ((x / width).square() + (up / 0.5).square()).sqrt() < SEED
    nearest = near == near.amin(0, keepdim=True)
    return inner & nearest


def walk(image: Tensor, claims: Tensor, certain: Tensor) -> Tensor:
    """Shares of the people in every pixel, as random walks find them.

    Args:
        image: (1,3,h,w) RGB 0..1.
        claims: (P,h,w) how much each claims a pixel, from 0.
        certain: (P,h,w) bool, pixels whose owner is known.

    Returns:
        (P,h,w), summing to 1.
    """
    across = _passing(image[..., 1:] - image[..., :-1])
    down = _passing(image[..., 1:, :] - image[..., :-1, :])
    known = certain.any(0, keepdim=True)
    # a known pixel is a claim that outweighs everything around
    claims = CLAIM * claims * ~known + 1e3 * certain
    total = claims.sum(0, keepdim=True) + 1e-6
    degree = F.pad(across, (0, 1)) + F.pad(across, (1, 0)) + F.pad(down, (0, 0, 0, 1)) + F.pad(down, (0, 0, 1, 0))
    diagonal = degree + total

    def system(x: Tensor) -> Tensor:
        flow_x, flow_y = across * (x[..., 1:] - x[..., :-1]), down * (x[:, 1:] - x[:, :-1])
        return total * x + F.pad(flow_x, (1, 0)) - F.pad(flow_x, (0, 1)) + F.pad(flow_y, (0, 0, 1, 0)) - F.pad(flow_y, (0, 0, 0, 1))

    found = _solved(system, claims + 1e-6 / len(claims), diagonal, claims / total)
    found = found.clamp(0, 1)
    return found / found.sum(0, keepdim=True).clamp_min(1e-6)


def _passing(step: Tensor) -> Tensor:
    """(1,h,w): how often a walk crosses from one pixel to the next, by the difference of their colours (1,3,h,w)."""
    return torch.exp(-step.square().sum(1) / COLOUR_STEP) + LEAST_STEP


def _solved(system: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, start: Tensor) -> Tensor:
    """Conjugate gradients for several right sides (P,h,w), scaled by the diagonal."""
    x, residual = start, right - system(start)
    scaled = residual / diagonal
    direction, energy = scaled, (residual * scaled).sum((1, 2), keepdim=True)
    for _ in range(STEPS):
        moved = system(direction)
        step = energy / (direction * moved).sum((1, 2), keepdim=True).clamp_min(1e-20)
        x, residual = x + step * direction, residual - step * moved
        if float((residual / diagonal).abs().amax()) < 1e-5:
            break
        scaled = residual / diagonal
        before, energy = energy, (residual * scaled).sum((1, 2), keepdim=True)
        direction = scaled + energy / before.clamp_min(1e-20) * direction
    return x


def _covers(heads: Tensor, shares: Tensor, person: Tensor) -> Tensor:
    """(P-1,): 1 for the people whose heads own more of what is rather the edited person's head than that one owns of theirs.

    Args:
        heads: (P,h,w), as `distances`.
        shares: (P,h,w) of the people.
        person: (h,w) share of person.
    """
    both = (heads[:1] < 1) & (heads[1:] < 1)
    taken = (shares[1:] * person * (both & (heads[:1] < heads[1:]))).sum((1, 2))
    given = (shares[:1] * person * (both & (heads[1:] < heads[:1]))).sum((1, 2))
    return (taken >= given).to(shares)


def fitted(image: Tensor, shares: Tensor) -> Tensor:
    """Shares (1,P-1,H,W) fitted to the edges of the picture."""
    from kornia.filters import guided_blur

    window = max(3, round(WINDOW * max(image.shape[-2:])) | 1)
    rough = guided_blur(image, shares, window, EDGE, border_type="replicate")
    return ((rough - 0.3) / 0.4).clamp(0, 1)
