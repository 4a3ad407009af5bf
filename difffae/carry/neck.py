"""A neck stays about where it is while its head turns.

Shape letters: B batch, V vertices, K rows of the neck. Positions in pictures are x right, y down, -1..1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..head.morphable import HeadModel
from .hair_volume import at_direction, has_scalp, nape, ramp

ROWS = 48
NEAR = 0.04  # half the height of a row's vertices
ROLL = (4.0, 12.0)  # degrees of roll from which a neck leans with its head, and at which all of it does


def steady_neck(head: HeadModel, before: Tensor, points: Tensor) -> Tensor:
    """What keeps a neck as wide as it was on either side.

    A neck is round and turns around its own middle, so that its outline hardly changes. The head model's turns with the skull, around a
    joint behind it, and leaves its place on the side that comes into view.

    Args:
        head: the head model.
        before: (B,V,3) projected vertices before the head turned.
        points: (B,V,3) the same afterwards.

    Returns:
        (B,V,3) to add to the points; zero where nothing turned, and for a head without labels for scalp and ears.
    """
    moved = torch.zeros_like(points)
    neck = head.vertex_mask("neck")
    if not has_scalp(head) or not bool(neck.any()):
        return moved
    back = neck | nape(head, before * before.new_tensor([1.0, -1.0, 1.0]))  # (B,V)
    ears = head.vertex_mask("ears")
    axis = before[:, neck, 0].mean(1, keepdim=True)
    top, low = points[:, ears, 1].mean(1, keepdim=True), points[:, neck, 1].quantile(0.9, dim=1, keepdim=True)
    lobe = points[:, ears, 1].amax(1, keepdim=True)
    share = torch.linspace(0, 1, ROWS, device=points.device, dtype=points.dtype)
    rows = torch.lerp(top, low, share)
    place = ((points[..., 1] - top) / (low - top) * (ROWS - 1)).clamp(0, ROWS - 1.001)
    for side in (-1, 1):
        was, now = (_reach(side * (at[..., 0] - axis), at[..., 1], rows, back) for at in (before, points))
        missing = (was - now).clamp_min(0) * ((was > 0) & (now > 0))
        out = side * (points[..., 0] - axis) / at_direction(now, place).clamp_min(1e-3)
        moved[..., 0] += side * at_direction(missing, place) * out.clamp(0, 1) * back
    weight = ramp(points[..., 1], top, lobe) * (1 - ramp((_roll(head, before) - _roll(head, points)).abs(), *ROLL))
    return moved * weight[..., None]


def _reach(out: Tensor, y: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """How far the vertices that count (B,V) reach to one side, out (B,V), at the heights of rows (B,K), y (B,V): (B,K)."""
    near = ((y[:, None] - rows[..., None]).abs() < NEAR) & counts[:, None]
    return torch.where(near, out[:, None], 0.0).amax(-1)


def _roll(head: HeadModel, points: Tensor) -> Tensor:
    """(B,1) degrees of the line through both ears."""
    ears = points[:, head.vertex_mask("ears"), :2]
    left = (ears[..., :1] < ears[..., :1].mean(1, keepdim=True)).to(ears)
    one, other = ((ears * share).sum(1) / share.sum(1) for share in (left, 1 - left))
    along = other - one
    return torch.atan2(along[:, 1:], along[:, :1]) * (180 / math.pi)
