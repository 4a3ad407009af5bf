"""Filling the holes of a moved photograph with what is known around them.

Shape letters: B batch, C channels, H and W picture sides, F faces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .attributes import FaceAttributes
from .fields import dilate, erode, gaussian_blur, trusted
from .head import LABELS, HeadModel
from .render import Raster, interpolate, sh_shading

INNER = ("mouth", "teeth", "tongue", "sockets")
INNER_DARKNESS = 0.75  # of the light reaches the inside of a mouth, which SH lighting without shadows does not know
DEEP = 0.014  # how far from the lips, as a share of the side, the middle of an open mouth lies
DEEP_DARKNESS = {"teeth": 0.6, "tongue": 0.3, "mouth": 0.15, "sockets": 1.0}  # of that light there


def pull_push(image: Tensor, weight: Tensor) -> Tensor:
    """Smooth continuation of the known pixels into the unknown ones (Gortler et al. 1996, "The Lumigraph").

    image (B,C,H,W); weight (B,1,H,W) in 0..1, how well each pixel is known. Pixels of weight 1 stay as they are; where nothing at all is
    known the result is mid-grey.
    """
    height, width = image.shape[-2:]
    if min(height, width) == 1:
        return torch.lerp(torch.full_like(image, 0.5), image, weight)
    even = (0, width % 2, 0, height % 2)
    weighted, known = F.pad(image * weight, even), F.pad(weight, even)
    total = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(weighted, 2) / total.clamp_min(1e-6)
    coarse = pull_push(mean, (4 * total).clamp(max=1))
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(coarse, image, weight)


def closed_lines(image: Tensor, validity: Tensor, where: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Lines narrower than an odd `size` of pixels that no camera saw, closed from both sides: picture (B,3,H,W) and validity (B,1,H,W).

    Where a surface folds over itself (lids, lips, nostrils) a line of the mesh hides behind another, and shows whatever the source had
    beside it. where (B,1,H,W) in 0..1: the pixels that may be closed.
    """
    closed = validity.maximum(erode(dilate(validity, size), size) * where)
    known = trusted(validity)
    weight = known + 1e-3  # nothing known around: the mean of all
    around = gaussian_blur(image * weight, 1.0) / gaussian_blur(weight, 1.0)
    return torch.lerp(image, around, trusted(closed) - known), closed


def inside_of_mouth(head: HeadModel, face: FaceAttributes, raster: Raster, normals: Tensor, where: Tensor) -> Tensor:
    """(B,3,H,W): mouth, teeth, tongue and eye sockets as the head model shows them, on a raster of the posed head; normals (B,V,3).

    where (B,1,H,W) bool: the pixels of these parts (INNER).
    """
    facing = interpolate(raster, head.faces, normals)
    albedo = F.grid_sample(head.albedo(face.albedo), head.uv_grid(raster), padding_mode="border", align_corners=False)
    shading = sh_shading(facing.permute(0, 2, 3, 1), face.light).permute(0, 3, 1, 2)
    shares = normals.new_tensor([DEEP_DARKNESS.get(name, 1.0) for name in LABELS])[head.face_labels]
    share = torch.where(where, shares[raster.face.clamp_min(0)][:, None], 1.0)
    deep = ((gaussian_blur(where.to(albedo.dtype), DEEP * max(where.shape[-2:])) - 0.35) / 0.5).clamp(0, 1)
    dark = gaussian_blur(1 - (1 - share) * deep, 1.0)
    return (INNER_DARKNESS * albedo * shading * dark).clamp(0, 1)
