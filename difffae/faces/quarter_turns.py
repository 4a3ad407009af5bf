"""Pictures turned by quarters, so that the faces in them stand within 45 degrees of upright: nothing is resampled.

What comes after the landmarks (the slots, the matte, the squares with their shoulders) knows upright people only.
Shape letters: B pictures, H and W picture height and width. Turns are counted counter-clockwise as seen in the picture, 0 to 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .rois import face_roi


def turns_to_upright(landmarks: Tensor) -> int:
    """How many quarter turns bring faces (B,478,3), the frames of a video or one picture, closest to upright on the whole."""
    angles = face_roi(landmarks)[:, 3]
    return round(math.atan2(float(angles.sin().mean()), float(angles.cos().mean())) / (math.pi / 2)) % 4


def turned(pictures: Tensor, turns: int) -> Tensor:
    """Pictures (B,C,H,W) after quarter turns; negative numbers undo positive ones. Without any it is the same object."""
    return torch.rot90(pictures, turns, (-2, -1)) if turns % 4 else pictures


def turned_points(points: Tensor, turns: int, height: int, width: int) -> Tensor:
    """Points (...,2 or 3) in pixels of pictures H x W, as they lie after the turns; depth stays.

    >>> import torch
    >>> from difffae.faces.quarter_turns import turned_points
    >>> turned_points(torch.tensor([[0.5, 2.5]]), 1, height=20, width=10)
    tensor([[2.5000, 9.5000]])
    """
    x, y, rest = points[..., :1], points[..., 1:2], points[..., 2:]
    for _ in range(turns % 4):
        x, y = y, width - x
        height, width = width, height
    return torch.cat([x, y, rest], dim=-1)
