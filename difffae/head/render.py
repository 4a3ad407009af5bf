"""The picture of a face: albedo times SH light on a zero background (paper section 4.1 and Eq. 3: the SPC condition).

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
    """A picture of the head and what it was made of.

    image    (B,3,H,W) albedo times shading, zero background; may leave 0..1 slightly
    mask     (B,1,H,W) 1 on the head, else 0
    normals  (B,3,H,W) world normals that the light fell on (the mesh's, interpolated, or the detail normals), zero outside
    depth    (B,H,W) smaller is nearer, in units of half the picture's side; zero outside
    raster   which face each pixel shows
    """

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
    """Render faces (R of Eq. 3).

    With a detail surface and attributes that have a detail code, the texture is lit in UV on the detail
    normals and then sampled, so that wrinkles show and follow the light.

    Args:
        head: the head model.
        attributes: B faces of that head.
        size: side, or height and width, in pixels.
        detail: the head's displaced surface, or None.
        backend: as in `rasterize`.

    Raises:
        HeadModelMismatchError: another head's attributes.
        ConfigError: a rasterizer that is not installed.

    >>> import torch
    >>> from difffae import FaceAttributes
    >>> from difffae.head.morphable import HeadModel
    >>> from difffae.head.render import render
    >>> head = HeadModel.load()
    >>> codes = {name: torch.zeros(1, n) for name, n in (("shape", 75), ("albedo", 6), ("expression", 52))}
    >>> camera, light = torch.tensor([[7.0, 0.0, 0.0]]), torch.ones(1, 9, 3)
    >>> face = FaceAttributes(head.name, pose=torch.zeros(1, 5, 3), camera=camera, light=light, **codes)
    >>> picture = render(head, face, 64)
    >>> picture.image.shape, picture.mask.shape
    (torch.Size([1, 3, 64, 64]), torch.Size([1, 1, 64, 64]))
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
    # Eq. 3: the head of Eq. 2, seen by the camera, its albedo times the light
    return Render(albedo * shading * mask, mask, normals, raster.depth, raster)
