"""Wrinkles: DECA's displacement decoder, and the detail normals and lit texture that it gives in UV (decalib/deca.py, displacement2normal).

Shape letters: B batch, V vertices, F faces, E expression, R = 256 texels along a side of a UV map (row 0 at the top, v = 1).
Axes: x right in the image, y up, z to the viewer; metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.errors import ConfigError
from .attributes import FaceAttributes
from .morphable import HeadModel
from .rasterizer import Raster, interpolate, rasterize
from .shading import sh_shading, vertex_normals

CODE, EXPRESSION, JAW = 128, 50, 3
DEEPEST = 0.01  # metres
RESOLUTION = 256
MARGIN_X, MARGIN_Y = 2, 5  # texels at the border without triangles
START = 8  # side of the decoder's first map
WIDTHS = (128, 128, 64, 64, 32, 16)
EPSILON = 0.8  # DECA gives 0.8 as BatchNorm2d's second argument; that is eps, and its weights were trained with it


class DetailDecoder(nn.Module):
    """DECA's D_detail: jaw, expression and detail code -> a displacement along the normal, with DECA's names."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(JAW + EXPRESSION + CODE, WIDTHS[0] * START**2))
        blocks: list[nn.Module] = [nn.BatchNorm2d(WIDTHS[0])]
        for inputs, outputs in pairwise(WIDTHS):
            blocks += [
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs, eps=EPSILON),
                nn.LeakyReLU(0.2),
            ]
        blocks += [nn.Conv2d(WIDTHS[-1], 1, 3, padding=1), nn.Tanh()]
        self.conv_blocks = nn.Sequential(*blocks)

    def forward(self, jaw: Tensor, expression: Tensor, code: Tensor) -> Tensor:
        """jaw (B,3) axis-angle, expression (B,50), code (B,128) -> displacement (B,1,R,R) in metres, positive outwards."""
        latent = torch.cat([jaw, expression, code], 1)
        return self.conv_blocks(self.l1(latent).view(-1, WIDTHS[0], START, START)) * DEEPEST


@dataclass(frozen=True)
class DetailMaps:
    """UV maps of one batch.

    displacement  (B,1,R,R) metres, with the fixed one, unmasked
    normals       (B,3,R,R) in world axes
    shading       (B,3,R,R)
    texture       (B,3,R,R) albedo times shading
    """

    displacement: Tensor
    normals: Tensor
    shading: Tensor
    texture: Tensor


class DetailSurface(nn.Module):
    """A head's surface as a UV grid that a detail decoder displaces."""

    uv_face: Tensor
    uv_bary: Tensor
    grid_faces: Tensor

    def __init__(self, head: HeadModel, decoder: DetailDecoder) -> None:
        """Raises ConfigError for a head without the UV layout, mask and fixed displacement that this needs."""
        super().__init__()
        if not head.has_detail_maps:
            raise ConfigError(
                f"head model '{head.name}': has no UV layout, detail mask or fixed displacement; convert it again with DECA's "
                "head_template.obj, uv_face_eye_mask.png and fixed_displacement_256.npy"
            )
        for name, got in (("uv_detail_mask", head.uv_detail_mask), ("fixed_displacement", head.fixed_displacement)):
            if tuple(got.shape) != (RESOLUTION, RESOLUTION):
                raise ConfigError(
                    f"head model '{head.name}': {name} is {tuple(got.shape)}, not {RESOLUTION}x{RESOLUTION}; convert it again"
                )
        self.head, self.decoder = head, decoder
        raster = rasterize(uv_points(head)[None], head.uv_faces, RESOLUTION, RESOLUTION)
        self.register_buffer("uv_face", raster.face, persistent=False)
        self.register_buffer("uv_bary", raster.bary, persistent=False)
        self.register_buffer("grid_faces", grid_triangles(RESOLUTION, MARGIN_X, MARGIN_Y), persistent=False)

    def to_uv(self, values: Tensor) -> Tensor:
        """Vertex values (B,V,C) -> UV map (B,C,R,R), zero where no triangle is (DECA's world2uv)."""
        b = len(values)
        raster = Raster(self.uv_face.repeat(b, 1, 1), self.uv_bary.repeat(b, 1, 1, 1), self.uv_bary[..., 0])
        return interpolate(raster, self.head.faces, values)

    def normals(self, vertices: Tensor, normals: Tensor, displacement: Tensor) -> Tensor:
        """Normals of the displaced surface.

        Args:
            vertices, normals: (B,V,3) of the posed head.
            displacement: (B,1,R,R) metres, without the fixed one.

        Returns:
            (B,3,R,R). Unit length where the mask is 1; outside it the coarse normals, interpolated and not
            renormalised.
        """
        points, coarse = self.to_uv(vertices), self.to_uv(normals)
        mask = self.head.uv_detail_mask.to(points.dtype)
        points = points + (displacement * mask + self.head.fixed_displacement.to(points.dtype)) * coarse
        fine = vertex_normals(points.flatten(2).transpose(1, 2), self.grid_faces)
        return fine.transpose(1, 2).view_as(points) * mask + coarse * (1 - mask)

    def forward(self, attributes: FaceAttributes, vertices: Tensor, normals: Tensor) -> DetailMaps:
        """The maps of faces with a detail code.

        Args:
            attributes: B faces.
            vertices, normals: (B,V,3) of the head posed by them.

        Raises:
            ConfigError: attributes without a detail code, or of another head than FLAME.
        """
        if attributes.detail is None:
            raise ConfigError("attributes: no detail code; estimate them with DECA's detail encoder")
        if attributes.expression.shape[1] < EXPRESSION:
            raise ConfigError(f"attributes: {attributes.expression.shape[1]} expression numbers, DECA's detail decoder needs {EXPRESSION}")
        displacement = self.decoder(attributes.pose[:, 2], attributes.expression[:, :EXPRESSION], attributes.detail)
        fine = self.normals(vertices, normals, displacement)
        shading = sh_shading(fine.permute(0, 2, 3, 1), attributes.light).permute(0, 3, 1, 2)
        albedo = self.head.albedo(attributes.albedo)
        if albedo.shape[-2:] != shading.shape[-2:]:
            albedo = F.interpolate(albedo, shading.shape[-2:], mode="bilinear", align_corners=False)
        return DetailMaps(displacement + self.head.fixed_displacement, fine, shading, albedo * shading)


def uv_points(head: HeadModel) -> Tensor:
    """UV coordinates as points of a picture: (T,3), x right and y down in -1..1, z = 1."""
    u, v = head.uvs.unbind(-1)
    return torch.stack([2 * u - 1, 1 - 2 * v, torch.ones_like(u)], -1)


def grid_triangles(side: int, margin_x: int, margin_y: int) -> Tensor:
    """Two triangles for every four neighbouring texels.

    Their winding makes normals point outwards where u grows to the right and v upwards on the seen
    surface.

    Args:
        side: of the map, in texels.
        margin_x, margin_y: texels at the borders that get no triangles.

    Returns:
        (N,3) indices into a flattened side x side map.
    """
    y, x = torch.meshgrid(torch.arange(margin_y, side - 1 - margin_y), torch.arange(margin_x, side - 1 - margin_x), indexing="ij")
    a = (y * side + x).flatten()
    b, c, d = a + 1, a + side, a + side + 1
    return torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)])
