"""Filling the holes of a moved photograph with what is known around them.

Shape letters: B batch, C channels, H and W picture sides, F faces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur, pixel_grid, relit, trusted
from ..head.attributes import FaceAttributes
from ..head.morphable import LABELS, HeadModel
from ..head.rasterizer import Raster, interpolate
from ..head.shading import sh_shading

INNER = ("mouth", "teeth", "tongue", "sockets")
MOUTH = INNER[:3]
TIPS = 0.012  # how far below the teeth of a fit those of the photograph may reach, as a share of the side
INNER_DARKNESS = 0.75  # of the light reaches the inside of a mouth, which SH lighting without shadows does not know
DEEP = 0.014  # how far from the lips, as a share of the side, the middle of an open mouth lies
DEEP_DARKNESS = {"teeth": 0.6, "tongue": 0.3, "mouth": 0.15, "sockets": 1.0}  # of that light there


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


def upper_teeth(head: HeadModel) -> Tensor:
    """(V,) bool: vertices of teeth that no expression moves; none for a head without teeth."""
    teeth = head.labels == LABELS.index("teeth")
    moves = head.expression_basis.norm(dim=-1).sum(0)
    return teeth & (moves < 0.1 * torch.where(teeth, moves, 0).max())


def kept_teeth(
    image: Tensor, ratio: Tensor, head: HeadModel, source: Raster, target: Raster, upper: Tensor, skull: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """The upper teeth of a photograph, which stay at the skull while a mouth opens: picture (B,3,H,W), and where it shows them (B,1,H,W).

    A fit takes the tips of teeth for the tongue behind them, and that moves with the jaw. image (B,3,H,W), known (B,1,H,W): the source;
    ratio (B,3,H,W) of the lights; rasters of both heads; upper (V,) of upper_teeth; skull (B,2): their source minus target position in
    pixels.
    """
    height, width = image.shape[-2:]
    faces = upper[head.faces].all(1)
    tips = dilate((faces[source.face.clamp_min(0)] & (source.face >= 0))[:, None].to(image), 2 * round(TIPS * max(height, width)) + 1)
    shows = tips.minimum(dilate(head.part_mask(source, *MOUTH)[:, None].to(image), 3)) * known
    shift = skull / skull.new_tensor([width / 2, height / 2])
    grid = pixel_grid(height, width, image) + shift[:, None, None]
    moved = F.grid_sample(torch.cat([image, shows], 1), grid, padding_mode="border", align_corners=False)
    here = head.part_mask(target, *MOUTH)[:, None].to(image)
    return relit(moved[:, :3], ratio), moved[:, 3:] * here


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
