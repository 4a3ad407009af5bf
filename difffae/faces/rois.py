"""The regions of interest (see `tiles`) that the landmark network looks into.

Shapes: N regions. Pixels: x right, y down, pixel centres at +0.5; angles in radians.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import detector as detection

OVAL = 468  # the landmarks before the ten of the irises
CORNER_LEFT, CORNER_RIGHT = 33, 263  # outer eye corners, as seen in the picture
ENLARGE = 1.5  # side of the landmark network's crop over the longer side of the face's box


def detection_roi(points: Tensor, angles: Tensor) -> Tensor:
    """Regions of detections: centred on the box, eyes level, enlarged.

    Args:
        points: (N,8,2) first and last corner of the box, then the keypoints, in pixels.
        angles: (N,) of the tiles that they were found in, along which the boxes have their edges.

    Returns:
        (N,4) ROIs.
    """
    low, high = points[:, 0], points[:, 1]
    x, y = (high - low).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    longer = torch.maximum(cos * x + sin * y, cos * y - sin * x)
    return _upright_roi((low + high) / 2, longer, points[:, 2 + detection.EYE_LEFT], points[:, 2 + detection.EYE_RIGHT])


def face_roi(landmarks: Tensor) -> Tensor:
    """Landmarks (N,478,2 or 3) in pixels -> ROIs (N,4), as MediaPipe follows a face from frame to frame."""
    points = landmarks[:, :OVAL, :2]
    low, high = points.amin(1), points.amax(1)
    return _upright_roi((low + high) / 2, (high - low).amax(dim=1), points[:, CORNER_LEFT], points[:, CORNER_RIGHT])


def _upright_roi(centre: Tensor, longer: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Centres (N,2), longer sides (N,) of the boxes and eyes (N,2) -> ROIs (N,4)."""
    across = right - left
    angle = torch.atan2(across[:, 1], across[:, 0])
    return torch.cat([centre, longer[:, None] * ENLARGE, angle[:, None]], dim=1)
