"""The square that DECA looks at, and the way back into the picture (decalib/datasets/datasets.py, TestData; util.transform_points).

Shape letters: B batch, N points, H and W picture height and width, S = 224 side of DECA's crop.
Pixel coordinates here are DECA's: x right, y down, pixel centres at whole numbers (the rest of the library has them at +0.5).

DECA's own arithmetic mixes two conventions: the crop's corners go to 0 and S-1, while points are divided by S. Its renders are therefore up
to one pixel off; that is kept, because its network learned with it and other people's results have it too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import ConfigError

SIZE = 224
ENLARGE = 1.25  # of the square around the box
POINTS_FACTOR = 1.1  # a box of 68 landmarks is smaller than a detector's
BOX_LIFT = 0.12  # a detector's box holds less chin

# MediaPipe's points beside iBUG's 68: jaw line from image left to right, brows, nose, eyes, mouth. Good for a box only.
IBUG_OF_MEDIAPIPE = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


def square_of_points(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (B,2) and side (B,) in pixels of DECA's square around 68 landmarks (B,68,2)."""
    low, high = points.amin(1), points.amax(1)
    return (low + high) / 2, _side((high - low).mean(-1) * POINTS_FACTOR)


def square_of_box(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a face detector's boxes (B,4): left, top, right, bottom."""
    low, high = boxes[:, :2], boxes[:, 2:]
    size = (high - low).mean(-1)
    shift = torch.stack([torch.zeros_like(size), BOX_LIFT * size], -1)
    return (low + high) / 2 + shift, _side(size)


def _side(size: Tensor) -> Tensor:
    return torch.floor(size * ENLARGE)


def crop_matrix(centre: Tensor, side: Tensor, size: int = SIZE) -> Tensor:
    """The way from the picture into the crop: the square's corners go to 0 and size-1 (DECA's tform).

    Args:
        centre: (B,2) pixels.
        side: (B,) pixels.
        size: side of the crop.

    Returns:
        (B,3,3), picture pixels to crop pixels on column vectors.

    Raises:
        ConfigError: a square that is no square.
    """
    if not bool(torch.isfinite(centre).all()) or not bool((side > 0).all()):
        raise ConfigError("DECA's crop: the face has no size; give the landmarks of a face, in pixels of the picture")
    scale = (size - 1) / side
    shift = -(centre - side[:, None] / 2) * scale[:, None]
    matrix = torch.zeros(len(side), 3, 3, dtype=centre.dtype, device=centre.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :2, 2] = shift
    matrix[:, 2, 2] = 1
    return matrix


def crop(images: Tensor, matrix: Tensor, size: int = SIZE) -> Tensor:
    """Bilinear crops (B,C,size,size) of pictures (B,C,H,W); black outside, no smoothing, as skimage.transform.warp does it."""
    height, width = images.shape[-2:]
    axis = torch.arange(size, dtype=torch.float64, device=images.device)
    scale = matrix[:, 0, 0].double()[:, None]
    x = (axis - matrix[:, 0, 2].double()[:, None]) / scale  # (B,size)
    y = (axis - matrix[:, 1, 2].double()[:, None]) / scale
    x, y = x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1).to(images.dtype)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=True)


def to_picture(points: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """Projected points of the crop over the picture (DECA's transform_points).

    Args:
        points: (B,N,3), x right and y down in -1..1 over the crop.
        matrix: (B,3,3) of `crop_matrix`.
        height, width: of the picture.

    Returns:
        (B,N,3), in -1..1 over the picture; z stays.
    """
    pixels = (points[..., :2] * 0.5 + 0.5) * SIZE
    pixels = (pixels - matrix[:, None, :2, 2]) / matrix[:, None, :1, 0]
    extent = points.new_tensor([width, height])
    return torch.cat([pixels / extent * 2 - 1, points[..., 2:]], -1)


def camera_in_frame(camera: Tensor, matrix: Tensor, side: int) -> Tensor:
    """The camera of the crop as a camera of the square picture that the crop was cut from.

    Projecting with it gives the x, y of `to_picture`, so that a head that was estimated in DECA's crop renders in its place in the
    frame, for example FOMM's 256x256 ones. Depths are scaled too, which changes no order.

    Args:
        camera: (B,3).
        matrix: (B,3,3) of `crop_matrix`.
        side: of the picture, in pixels.

    Returns:
        (B,3).
    """
    s, tx, ty = camera.unbind(-1)
    k = matrix[:, 0, 0]
    ratio = SIZE / (k * side)
    offset = ((SIZE / 2 - matrix[:, :2, 2]) / k[:, None]) * (2 / side) - 1  # where the crop's middle lies
    scale = s * ratio
    return torch.stack([scale, tx + offset[:, 0] / scale, ty - offset[:, 1] / scale], -1)
