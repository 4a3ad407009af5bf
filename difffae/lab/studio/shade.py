"""Light on a synthetic scene beyond SH: ambient occlusion, the mouth's dark, cast shadows, highlights.

Shape letters: P vertices, Q triangles, H = W side of the picture, L side of the shadow map. Depth: z of `project`, smaller is nearer;
the picture is 2 wide.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.pixels import box_blur
from ...head.rasterizer import rasterize

SHADOW_MAP = 320
SHADOW_BIAS = 0.05


def occlusion(depth: Tensor, inside: Tensor) -> Tensor:
    """Ambient occlusion (1,H,W) of at most 1: pixels behind their surroundings are darker (unsharp masking of the depth buffer,
    Luft et al. 2006)."""
    cell = 8  # the surroundings are averaged on a coarse grid: wide windows are slow
    weight = inside.float()
    coarse = F.avg_pool2d(torch.stack([depth * weight, weight])[None], cell)
    out = torch.ones_like(depth)
    for radius, reach, strength in ((coarse.shape[-1] // 24, 0.12, 0.35), (coarse.shape[-1] // 9, 0.3, 0.3)):
        both = box_blur(coarse, radius, 2)
        mean = F.interpolate(both[:, :1] / both[:, 1:].clamp_min(1e-4), depth.shape, mode="bilinear", align_corners=False)[0, 0]
        behind = (depth - mean).clamp(0, reach) / reach
        out = out * (1 - strength * behind)
    return torch.where(inside, out, torch.ones_like(out))[None]


def mouth_shade(depth: Tensor, inner: Tensor, teeth: Tensor, scale: float) -> Tensor:
    """Brightness (1,H,W) of the mouth's inside: light falls off with the depth behind its nearest visible part, less on teeth, which
    stand in front and shine. scale: depth units per metre."""
    if not inner.any():
        return torch.ones_like(depth)[None]
    behind = (depth - depth[inner].min()).clamp_min(0) / scale
    return torch.where(teeth, 0.97 * torch.exp(-9 * behind), 0.9 * torch.exp(-13 * behind))[None]


def lid_shade(eyes: Tensor, radius: int) -> Tensor:
    """Brightness (H,W) of the eyeballs (H,W) bool: lids darken the rim that they overhang, the upper one more. radius in pixels."""
    if not eyes.any():
        return torch.ones_like(eyes, dtype=torch.float32)
    size = 2 * radius + 1
    share = F.avg_pool2d(F.pad(eyes.float()[None, None], (radius, radius, 2 * radius, 0)), size, stride=1)[0, 0]
    return torch.where(eyes, 0.7 + 0.3 * ((share - 0.35) / 0.6).clamp(0, 1), 1.0)


def cast_shadow(points: Tensor, faces: Tensor, world: Tensor, inside: Tensor, direction: Tensor, edge: float) -> Tensor:
    """1 in shadow, 0 in light (H,W), by a shadow map (Williams 1978) with a blurred edge.

    points (P,3) and world (3,H,W) in one space with axes x right, y down, z away from the viewer, the picture 2 wide; faces (Q,3);
    direction (3,) towards the light with y up and z to the viewer; edge: standard deviation of the blur, the picture being 2 wide."""
    ahead = direction * torch.tensor([1.0, -1.0, -1.0])
    side = F.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), ahead), dim=0)
    turn = torch.stack([side, torch.linalg.cross(ahead, side), -ahead])  # rows; depth grows away from the light
    seen = points @ turn.T
    centre, reach = (seen.amax(0) + seen.amin(0)) / 2, (seen.amax(0) - seen.amin(0)).amax() / 2 * 1.02
    raster = rasterize(((seen - centre) / reach)[None], faces, SHADOW_MAP, SHADOW_MAP)
    nearest = torch.where(raster.mask[0], raster.depth[0] * reach, torch.full((), 1e3))
    at = torch.einsum("ij,jhw->hwi", turn, world) - centre
    grid = (at[..., :2] / reach)[None]
    lit = torch.zeros_like(world[0])
    texel = 2 / SHADOW_MAP
    for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
        found = F.grid_sample(nearest[None, None], grid + torch.tensor([dx, dy]) * texel, mode="nearest", align_corners=False)[0, 0]
        lit = lit + (at[..., 2] < found + SHADOW_BIAS).float() / 4
    dark = (1 - lit) * inside
    sigma = edge * world.shape[-1] / 2
    if sigma > 0.5:
        both = box_blur(torch.stack([dark, inside.float()])[None], max(1, round(sigma * 0.8)), 3)
        dark = both[0, 0] / both[0, 1].clamp_min(1e-3) * inside
    return dark


def gloss(light: Tensor, normals: Tensor, eyes: Tensor, wet: Tensor, skin: Tensor, shine: float) -> Tensor:
    """Highlights (3,H,W) of the main direction of light (9,3): sharp on eyes, clear on lips and teeth, faint on skin.

    normals (3,H,W); eyes, wet, skin (H,W) bool; shine: strength on skin."""
    mean = light.mean(1)
    half = F.normalize(F.normalize(mean[1:4], dim=0) + torch.tensor([0.0, 0.0, 1.0]), dim=0)
    cosine = (normals * half[:, None, None]).sum(0).clamp_min(0)
    strength = (mean[1:4].norm() / mean[0].abs().clamp_min(1e-3)).clamp(0.3, 1.2)
    value = torch.where(eyes, 0.85 * cosine**140, torch.where(wet, 0.14 * cosine**30, shine * (0.6 * cosine**12 + 0.5 * cosine**40) * skin))
    colour = light[0] / light[0].mean().clamp_min(1e-3)
    return value * strength * colour.clamp(0.5, 1.5)[:, None, None]
