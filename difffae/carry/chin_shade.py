"""The shade below a jaw, which the head model's light knows nothing of: it goes down along with a jaw that drops.

Shape letters: B batch, H and W picture height and width. Lengths named u are 1/256 of the side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import gaussian_blur
from ..head.attributes import FaceAttributes
from .state import PosedHead, Source

JAW = "jawOpen"
REACH = 14.0  # u below a jaw at which its shade ends
STEPS = 6
STANDS_OUT = 4.0, 12.0  # u by which what lies above stands out: from the first on it shades, by the second it does fully
SHADE = 0.26  # most of the light that it takes; a photograph's own shade, which the jaw covers, took as much
DROPS = 0.15  # change of the jaw's coefficient from which all of it counts


def chin_shade(source: Source, target: FaceAttributes, posed: PosedHead) -> Tensor:
    """What a jaw that moves does to the light on the neck.

    Args:
        source: the source.
        target: B faces, with stretched expressions.
        posed: their head.

    Returns:
        (B,1,H,W) logarithm of a ratio; zero beside the neck, and in rows whose jaw stays.
    """
    nothing = torch.zeros_like(source.image[:, :1])
    if JAW not in source.head.expression_names:
        return nothing
    column = source.head.expression_names.index(JAW)
    moves = (target.expression - source.face.expression)[:, column].abs().div(DROPS).clamp(max=1)[:, None, None, None]
    if not bool(moves.any()):
        return nothing
    now, before = (torch.log1p(-SHADE * _shaded(one, source.unit)) for one in (posed, source.posed))
    neck = posed.part("neck", "shoulders").to(nothing)
    return moves * gaussian_blur(neck * (now - before), 1.2 * source.unit)


def _shaded(posed: PosedHead, unit: float) -> Tensor:
    """(B,1,H,W) in 0..1: how much of the neck's light the jaw above it takes."""
    raster = posed.raster
    depth = torch.where(raster.mask, raster.depth, torch.full_like(raster.depth, torch.inf))[:, None]
    side = max(depth.shape[-2:]) / 2 / unit  # u in a unit of depth
    shade = torch.zeros_like(depth)
    low, high = STANDS_OUT
    for step in range(1, STEPS + 1):
        rows = max(1, round(REACH * unit * step / STEPS))
        above = F.pad(depth, (0, 0, rows, 0), value=torch.inf)[..., : depth.shape[-2], :]
        gap = torch.where(depth.isinf() | above.isinf(), 0, depth - above) * side
        shade = shade.maximum(((gap - low) / (high - low)).clamp(0, 1) * (1 - (step - 1) / STEPS))
    return gaussian_blur(shade * posed.part("neck", "shoulders").to(shade), 2 * unit)
