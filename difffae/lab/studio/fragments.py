"""Transparent layers: every fragment of a mesh, sorted by depth in each pixel and blended (an A-buffer; Carpenter 1984).

Shape letters: P vertices, Q triangles, N fragments, H and W picture height and width, T texture side, C channels.
Conventions of points and depth: see render.rasterizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Fragments:
    """pixel (N,) row * W + column; face (N,); bary (N,3); depth (N,)."""

    pixel: Tensor
    face: Tensor
    bary: Tensor
    depth: Tensor

    def select(self, keep: Tensor) -> Fragments:
        return Fragments(self.pixel[keep], self.face[keep], self.bary[keep], self.depth[keep])

    def interpolate(self, faces: Tensor, values: Tensor) -> Tensor:
        """Vertex attributes (P,C) with faces (Q,3) -> (N,C)."""
        return (values[faces[self.face]] * self.bary[..., None]).sum(1)

    def corners(self, values: Tensor) -> Tensor:
        """Attributes (Q,3,C) per corner -> (N,C)."""
        return (values[self.face] * self.bary[..., None]).sum(1)


def fragments(points: Tensor, faces: Tensor, height: int, width: int, limit: Tensor | None = None) -> Fragments:
    """All covered pixel centres of all triangles of points (P,3). limit (H*W,): fragments deeper than it are left out."""
    xy = (points[:, :2] + 1) * torch.tensor([width / 2, height / 2]) - 0.5
    corner = xy[faces]  # (Q,3,2)
    low = corner.amin(1).ceil().clamp_min(0)
    high = torch.minimum(corner.amax(1).floor(), torch.tensor([width - 1.0, height - 1.0]))
    span = (high - low + 1).clamp_min(0)
    (x0, y0), (x1, y1), (x2, y2) = (corner[:, k].unbind(-1) for k in range(3))
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    counts = (span[:, 0] * span[:, 1] * (area.abs() > 1e-9)).long()
    if limit is not None:
        # the nearest corner bounds the depth: cards wholly behind everything cost nothing
        counts = counts * (points[faces, 2].amin(1) < limit.max())
    total = int(counts.sum())
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts, output_size=total)
    local = (torch.arange(total) - (counts.cumsum(0) - counts)[owner]).int()
    wide = span[owner, 0].int()
    dy = torch.div(local, wide, rounding_mode="floor")
    x, y = low[owner, 0] + local - dy * wide, low[owner, 1] + dy
    inverse = 1 / area
    w0 = ((x1[owner] - x) * (y2[owner] - y) - (y1[owner] - y) * (x2[owner] - x)) * inverse[owner]
    w1 = ((x2[owner] - x) * (y0[owner] - y) - (y2[owner] - y) * (x0[owner] - x)) * inverse[owner]
    bary = torch.stack([w0, w1, 1 - w0 - w1], -1)
    keep = (bary > 0).all(-1).nonzero()[:, 0]
    owner, bary = owner[keep], bary[keep]
    pixel = y[keep].long() * width + x[keep].long()
    depth = (bary * points[faces[owner], 2]).sum(-1)
    found = Fragments(pixel, owner, bary, depth)
    return found if limit is None else found.select(depth < limit[pixel])


def sample(texture: Tensor, uv: Tensor) -> Tensor:
    """Bilinear samples of texture (C,T,T) at uv (N,2), v up, which repeats outside 0..1 -> (N,C)."""
    grid = uv - uv.floor()
    grid = torch.stack([grid[:, 0] * 2 - 1, 1 - grid[:, 1] * 2], -1)
    return F.grid_sample(texture[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T


def blend(found: Fragments, colour: Tensor, alpha: Tensor, count: int, layers: int = 10) -> tuple[Tensor, Tensor]:
    """Front to back: colour (N,C), alpha (N,) -> premultiplied colour (count,C) and coverage (count,) of every pixel.

    At most `layers` fragments of a pixel count."""
    order = torch.argsort(found.depth, stable=True)
    order = order[torch.argsort(found.pixel[order], stable=True)]
    pixel = found.pixel[order]
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    place = torch.arange(len(pixel))
    start = torch.cummax(torch.where(first, place, torch.zeros_like(place)), 0).values if len(pixel) else place
    rank = place - start
    out, through = colour.new_zeros(count, colour.shape[1]), colour.new_ones(count)
    for layer in range(layers):
        here = order[rank == layer]
        if not len(here):
            break
        at = found.pixel[here]
        share = through[at] * alpha[here]
        out[at] += share[:, None] * colour[here]
        through[at] -= share
    return out, 1 - through
