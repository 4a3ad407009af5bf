"""Rendering a posed head: z-buffer rasterizer, camera, SH light (paper section 4.1, SPC)."""

from __future__ import annotations

from .rasterizer import Raster, interpolate, interpolate_corners, rasterize
from .scene import Render, render
from .shading import SH_CONSTANTS, face_normals, project, sh_basis, sh_shading, vertex_normals

__all__ = [
    "SH_CONSTANTS",
    "Raster",
    "Render",
    "face_normals",
    "interpolate",
    "interpolate_corners",
    "project",
    "rasterize",
    "render",
    "sh_basis",
    "sh_shading",
    "vertex_normals",
]
