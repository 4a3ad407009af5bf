"""Heads as renders and as ComfyUI meshes.

Shape letters: B frames, V vertices, F faces.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management as mm
import torch
import torch.nn.functional as F
from comfy_api.v0_0_2 import Types
from torch import Tensor

from ..difffae.head.attributes import FaceAttributes
from ..difffae.head.detail import DetailSurface
from ..difffae.head.morphable import HeadModel
from ..difffae.head.render import Render, render
from ..difffae.head.shading import sh_shading
from .bundle import each_chunk
from .frames import on_device

CHUNK = 8
CLAY = 0.62  # albedo
BRIGHTEST = 0.97  # a strong light is dimmed until the clay stays below this, so that its form shows


def draw_heads(
    head: HeadModel, attributes: FaceAttributes, size: int, clay: bool = False, surface: DetailSurface | None = None
) -> tuple[Render, Types.MESH]:
    """Renders (B,3,size,size) on the compute device, and the posed meshes in world axes (x right, y up, z to the viewer). With DECA's
    surface the renders of attributes that have a detail code show its wrinkles; the meshes do not."""
    attributes = on_device(attributes)
    parts = [_draw(head, attributes[part], size, clay, surface) for part in each_chunk(len(attributes), CHUNK)]
    images = Render(
        torch.cat([part.image for part in parts]),
        torch.cat([part.mask for part in parts]),
        torch.cat([part.normals for part in parts]),
        torch.cat([part.depth for part in parts]),
        parts[0].raster,
    )
    return images, _mesh(head, attributes)


def _draw(head: HeadModel, attributes: FaceAttributes, size: int, clay: bool, surface: DetailSurface | None) -> Render:
    shown = render(head, attributes, size, surface)
    return replace(shown, image=clay_picture(shown, attributes.light)) if clay else shown


def clay_picture(shown: Render, light: Tensor) -> Tensor:
    """A render (B,3,H,W) of grey matter under the brightness of the light (B,9,3); colours of the light are left out."""
    grey = light.mean(-1, keepdim=True).expand_as(light)
    shading = sh_shading(shown.normals.permute(0, 2, 3, 1), grey).permute(0, 3, 1, 2) * shown.mask
    brightest = shading.flatten(1).amax(1).clamp_min(BRIGHTEST / CLAY)[:, None, None, None]
    return (BRIGHTEST / brightest * shading).clamp(0, 1)


def _mesh(head: HeadModel, attributes: FaceAttributes) -> Types.MESH:
    device = mm.intermediate_device()
    vertices = head(attributes.shape, attributes.expression, attributes.pose)
    corners = head.uvs.new_zeros(vertices.shape[1], 2)
    corners[head.faces.flatten()] = head.uvs[head.uv_faces.flatten()]  # of a vertex on a seam, one of its places in the texture
    grid = torch.stack([corners[:, 0] * 2 - 1, 1 - corners[:, 1] * 2], -1)[None, None].expand(len(vertices), -1, -1, -1)
    texture = head.albedo(attributes.albedo)
    colours = F.grid_sample(texture, grid.to(texture), align_corners=False)[:, :, 0].movedim(1, -1)
    faces = head.faces.long()[None].expand(len(vertices), -1, -1)
    return Types.MESH(vertices.to(device), faces.to(device), vertex_colors=colours.clamp(0, 1).to(device))
