"""pytorch3d's rasterizer behind the interface of ours. Imported only when it is asked for; pytorch3d is no requirement.

Shape letters: B batch, V vertices, F faces, H and W image height and width.

pytorch3d's axes are x left, y up, with -1..1 over the shorter side of the picture, and it draws only what has a positive z. Its
perspective correction, blur, back-face culling and clipping of barycentrics are off, as in DECA.
"""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from ..common.errors import ConfigError
from .rasterizer import Raster


def rasterize(points: Tensor, faces: Tensor, height: int, width: int) -> Raster:
    """As `rasterizer.rasterize`. Raises ConfigError if pytorch3d is not installed."""
    try:
        meshes = import_module("pytorch3d.structures").Meshes
        rasterize_meshes = import_module("pytorch3d.renderer.mesh.rasterize_meshes").rasterize_meshes
    except ImportError as error:
        raise ConfigError(f"rasterizer backend 'pytorch3d': cannot be imported ({error}); install pytorch3d or use 'torch'") from error
    x, y, z = points.float().unbind(-1)
    # the nearest vertex comes to lie at z = 1; a shift changes no order
    shift = 1 - z.detach().amin(1, keepdim=True)
    x, y = -x * max(1.0, width / height), -y * max(1.0, height / width)
    mesh = meshes(verts=torch.stack([x, y, z + shift], -1), faces=faces.expand(len(points), -1, -1))
    number, depth, bary, _ = rasterize_meshes(
        mesh,
        image_size=(height, width),
        blur_radius=0.0,
        faces_per_pixel=1,
        bin_size=None,
        max_faces_per_bin=None,
        perspective_correct=False,
        clip_barycentric_coords=False,
        cull_backfaces=False,
    )
    number, depth, bary = number[..., 0], depth[..., 0], bary[..., 0, :]
    hit = number >= 0
    face = torch.where(hit, number % faces.shape[0], -1)  # pytorch3d counts faces through the whole batch
    weights = torch.where(hit[..., None], bary, torch.zeros_like(bary)).to(points.dtype)
    depth = torch.where(hit, depth - shift[..., None], torch.zeros_like(depth)).to(points.dtype)
    return Raster(face, weights, depth)
