"""Lips, teeth and the inside of a mouth that opens.

Shape letters: B batch, V vertices, H and W picture sides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import Move, PosedHead
from ..common.pixels import dilate, gaussian_blur, pixel_grid, relit
from ..head.attributes import FaceAttributes
from ..head.morphable import LABELS, HeadModel
from ..head.rasterizer import Raster, interpolate
from ..head.shading import sh_shading

INNER = ("mouth", "teeth", "tongue", "sockets")  # parts that only an opening shows
MOUTH = INNER[:3]
LIPS = (13, 14)  # landmarks: middle of the upper and of the lower lip, inside
TIPS = 0.012  # how far below the teeth of a fit those of the photograph may reach, as a share of the side
INNER_DARKNESS = 0.75  # of the light reaches the inside of a mouth, which SH lighting without shadows does not know
DEEP = 0.014  # how far from the lips, as a share of the side, the middle of an open mouth lies
DEEP_DARKNESS = {"teeth": 0.6, "tongue": 0.3, "mouth": 0.15, "sockets": 1.0}  # of that light there


def lips_apart(head: HeadModel, points: Tensor) -> Tensor:
    """How far the lips of a projected head are apart.

    Args:
        head: the head model.
        points: (B,V,3) projected vertices, -1..1.

    Returns:
        (B,1,1,1) in units of half the side; 0 for heads without MediaPipe's landmarks.
    """
    if not head.has_face_mesh:
        return points.new_zeros(len(points), 1, 1, 1)
    marks = head.landmarks(points)
    return (marks[:, LIPS[0], :2] - marks[:, LIPS[1], :2]).norm(dim=-1)[:, None, None, None]


def upper_teeth(head: HeadModel) -> Tensor:
    """(V,) bool: vertices of teeth that no expression moves; none for a head without teeth."""
    teeth = head.vertex_mask("teeth")
    moves = head.expression_basis.norm(dim=-1).sum(0)
    return teeth & (moves < 0.1 * torch.where(teeth, moves, 0).max())


def teeth_in_sight(head: HeadModel, raster: Raster, upper: tuple[int, ...], validity: Tensor) -> Tensor:
    """Where a photograph shows upper teeth.

    A fit takes the tips of teeth for the tongue behind them, so what lies just below its teeth
    counts as well.

    Args:
        head: the head model.
        raster: of the photograph's head.
        upper: numbers of the vertices of `upper_teeth`.
        validity: (B,1,H,W) of the photograph.

    Returns:
        (B,1,H,W) in 0..1.
    """
    is_upper = torch.zeros_like(head.labels, dtype=torch.bool)
    is_upper[list(upper)] = True
    faces = is_upper[head.faces].all(1)
    shown = (faces[raster.face.clamp_min(0)] & raster.mask)[:, None].to(validity)
    tips = dilate(shown, 2 * round(TIPS * max(validity.shape[-2:])) + 1)
    return tips.minimum(dilate(head.part_mask(raster, *MOUTH)[:, None].to(validity), 3)) * validity


def kept_teeth(move: Move, teeth: Tensor) -> tuple[Tensor, Tensor]:
    """The upper teeth of a photograph, which stay at the skull while a mouth opens.

    The fit takes their tips for the tongue, and that moves with the jaw.

    Args:
        move: the move.
        teeth: (B,1,H,W) of `teeth_in_sight`.

    Returns:
        the picture with its teeth moved and relit (B,3,H,W), and where it shows them (B,1,H,W).
    """
    source, (height, width) = move.source, move.source.size
    skull = (source.posed.points - move.posed.points)[:, list(source.upper_teeth), :2]
    half = skull.new_tensor([width / 2, height / 2])
    shift = (skull * half).mean(1) / half
    grid = pixel_grid(height, width, teeth) + shift[:, None, None]
    moved = F.grid_sample(torch.cat([source.image, teeth], 1), grid, padding_mode="border", align_corners=False)
    here = source.head.part_mask(move.posed.raster, *MOUTH)[:, None].to(teeth)
    return relit(moved[:, :3], move.light_ratio), moved[:, 3:] * here


def inside_of_mouth(head: HeadModel, face: FaceAttributes, posed: PosedHead, where: Tensor) -> Tensor:
    """Mouth, teeth, tongue and eye sockets as the head model shows them, darker the deeper they
    lie.

    Args:
        head: the head model.
        face: B faces.
        posed: their head.
        where: (B,1,H,W) bool, the pixels of the parts INNER.

    Returns:
        (B,3,H,W) RGB 0..1.
    """
    raster = posed.raster
    facing = interpolate(raster, head.faces, posed.normals)
    albedo = F.grid_sample(head.albedo(face.albedo), head.uv_grid(raster), padding_mode="border", align_corners=False)
    shading = sh_shading(facing.permute(0, 2, 3, 1), face.light).permute(0, 3, 1, 2)
    shares = facing.new_tensor([DEEP_DARKNESS.get(name, 1.0) for name in LABELS])[head.face_labels]
    share = torch.where(where, shares[raster.face.clamp_min(0)][:, None], 1.0)
    deep = ((gaussian_blur(where.to(albedo.dtype), DEEP * max(where.shape[-2:])) - 0.35) / 0.5).clamp(0, 1)
    dark = gaussian_blur(1 - (1 - share) * deep, 1.0)
    return (INNER_DARKNESS * albedo * shading * dark).clamp(0, 1)
