"""The picture of a face: albedo times SH light on a zero background (paper section 4.1: the SPC condition).

Shape letters: B batch, H and W image height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import HeadModelMismatchError
from .attributes import FaceAttributes
from .rasterizer import Raster, interpolate, rasterize
from .shading import project, sh_shading, vertex_normals

if TYPE_CHECKING:
    from .detail import DetailSurface
    from .morphable import HeadModel


@dataclass(frozen=True)
class Render:
    """image (B,3,H,W) albedo times shading, zero background, may leave 0..1 slightly; mask (B,1,H,W) 0 or 1;
    normals (B,3,H,W) world normals that the light fell on (the mesh's, interpolated, or the detail normals), zero outside;
    depth (B,H,W); raster."""

    image: Tensor
    mask: Tensor
    normals: Tensor
    depth: Tensor
    raster: Raster


def render(
    head: HeadModel,
    attributes: FaceAttributes,
    size: int | tuple[int, int],
    detail: DetailSurface | None = None,
    backend: str = "torch",
) -> Render:
    """Render faces at `size` (side, or height and width).

    With a detail surface and attributes that have a detail code, the texture is lit in UV on the detail normals and then sampled, so that
    wrinkles show and follow the light. backend as in `rasterize`. Raises HeadModelMismatchError for another head's attributes.
    """
    if attributes.head != head.name:
        raise HeadModelMismatchError(f"attributes: made for head model '{attributes.head}', but '{head.name}' renders; load that head")
    height, width = (size, size) if isinstance(size, int) else size
    vertices = head(attributes.shape, attributes.expression, attributes.pose)
    raster = rasterize(project(vertices, attributes.camera), head.faces, height, width, backend)
    normals_v = vertex_normals(vertices, head.faces)
    if detail is not None and attributes.detail is not None:
        maps = detail(attributes, vertices, normals_v)
        both = torch.cat([maps.texture, maps.normals], 1)
        mask = raster.mask[:, None].to(both.dtype)
        seen = F.grid_sample(both, head.uv_grid(raster).to(both.dtype), padding_mode="zeros", align_corners=False) * mask
        return Render(seen[:, :3], mask, seen[:, 3:], raster.depth, raster)
    # not renormalised after interpolation, as in DECA
    normals = interpolate(raster, head.faces, normals_v)
    mask = raster.mask[:, None].to(normals.dtype)
    texture = head.albedo(attributes.albedo)
    albedo = F.grid_sample(texture, head.uv_grid(raster).to(texture.dtype), padding_mode="zeros", align_corners=False)
    shading = sh_shading(normals.permute(0, 2, 3, 1), attributes.light).permute(0, 3, 1, 2)
    return Render(albedo * shading * mask, mask, normals, raster.depth, raster)
