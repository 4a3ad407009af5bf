"""Camera, normals and spherical-harmonics light, with DECA's conventions.

Shape letters: B batch, V vertices, F faces, H and W image height and width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# DECA's constants (decalib/utils/renderer.py): basis constant times the cosine kernel's attenuation, per band
SH_CONSTANTS = (
    1 / math.sqrt(4 * math.pi),
    *[(2 * math.pi / 3) * math.sqrt(3 / (4 * math.pi))] * 3,
    *[(math.pi / 4) * 3 * math.sqrt(5 / (12 * math.pi))] * 3,
    (math.pi / 4) * 1.5 * math.sqrt(5 / (12 * math.pi)),
    (math.pi / 4) * 0.5 * math.sqrt(5 / (4 * math.pi)),
)


def project(vertices: Tensor, camera: Tensor) -> Tensor:
    """Weak perspective, c of Eq. 3 (DECA's batch_orth_proj, then the y and z flips).

    Args:
        vertices: (B,V,3), x right, y up, z to the viewer.
        camera: (B,3) scale, tx, ty.

    Returns:
        (B,V,3), x right and y down in -1..1 over the crop, z in the same unit, smaller is nearer.
    """
    s, tx, ty = camera[:, None, :].unbind(-1)
    x, y, z = vertices.unbind(-1)
    return torch.stack([s * (x + tx), -s * (y + ty), -s * z], dim=-1)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Un-normalised outward normals (B,F,3), twice the face's area long."""
    a, b, c = (vertices.index_select(1, faces[:, k]) for k in range(3))
    return torch.linalg.cross(b - a, c - a, dim=-1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals (B,V,3) (DECA's util.vertex_normals: eps 1e-6)."""
    return F.normalize(vertex_sums(face_normals(vertices, faces), faces, vertices.shape[1]), dim=-1, eps=1e-6)


def vertex_sums(values: Tensor, faces: Tensor, count: int) -> Tensor:
    """Values of faces (B,F,C), added up at their vertices: (B,V,C) with V = count."""
    batch, number, channels = values.shape
    # flat rows: adding along an inner dimension is several times slower
    first = torch.arange(batch, device=faces.device)[:, None] * count
    total = values.new_zeros(batch * count, channels)
    for k in range(3):
        total = total.index_add(0, (first + faces[:, k]).flatten(), values.reshape(batch * number, channels))
    return total.view(batch, count, channels)


def sh_basis(normals: Tensor) -> Tensor:
    """Normals (...,3) -> the nine scaled basis functions (...,9); normals are not renormalised."""
    x, y, z = normals.unbind(-1)
    bands = [torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return torch.stack(bands, -1) * torch.tensor(SH_CONSTANTS, dtype=normals.dtype, device=normals.device)


def sh_shading(normals: Tensor, light: Tensor) -> Tensor:
    """Light on a surface, l of Eq. 3 (DECA's add_SHlight).

    Args:
        normals: (B,...,3) in world axes.
        light: (B,9,3).

    Returns:
        shading (B,...,3), not clamped.
    """
    basis = sh_basis(normals)
    return (basis.flatten(1, -2) @ light).view_as(normals)
