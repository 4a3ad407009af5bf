"""Z-buffer rasterizer in plain torch: any batch, CPU and CUDA, no loop over faces.

Shape letters: B batch, V vertices, F faces, H and W image height and width, C channels, P candidate pixels of all faces.

Conventions (those of pytorch3d's rasterize_meshes as DECA calls it): pixel (r,c) has its centre at
x = -1 + (2c+1)/W, y = -1 + (2r+1)/H; it is inside a triangle if all three barycentrics are strictly positive; both sides of a
triangle are drawn; the smallest z wins, and of equal z the lower face index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import ConfigError
from ..vocabulary import RASTERIZERS

EPSILON = 1e-8
CHUNK = 4_000_000  # candidate pixels handled at a time: bounds memory at large sizes


@dataclass(frozen=True)
class Raster:
    """What each pixel shows.

    face   (B,H,W) int64 index of the nearest face, -1 where none
    bary   (B,H,W,3) barycentrics in it, zero where none
    depth  (B,H,W) z, zero where none
    """

    face: Tensor
    bary: Tensor
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """(B,H,W) bool."""
        return self.face >= 0

    @cached_property
    def covered(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the P pixels that show a face: flat index (P,), row of the batch (P,), face (P,) and barycentrics (P,3)."""
        flat, batch = _covered(self.face)
        return flat, batch, self.face.reshape(-1).index_select(0, flat), self.bary.reshape(-1, 3).index_select(0, flat)


def rasterize(points: Tensor, faces: Tensor, height: int, width: int, backend: str = "torch") -> Raster:
    """The nearest face at every pixel.

    Barycentrics and depth are differentiable with respect to the points; which face is seen is not.

    Args:
        points: (B,V,3), x right and y down in -1..1, smaller z is nearer.
        faces: (F,3) indices into the vertices.
        height, width: of the picture, in pixels.
        backend: one of vocabulary.RASTERIZERS; "auto" is pytorch3d for points on a GPU if it is
            installed, else torch.

    Raises:
        ConfigError: another backend, or one that is not installed.
    """
    if backend not in RASTERIZERS:
        raise ConfigError(f"rasterizer backend '{backend}': unknown; choose from {', '.join(RASTERIZERS)}")
    if backend == "pytorch3d" or (backend == "auto" and points.is_cuda and find_spec("pytorch3d") is not None):
        from .pytorch3d_backend import rasterize as rasterize_pytorch3d

        return rasterize_pytorch3d(points, faces, height, width)
    face = _nearest_faces(points.detach().float(), faces, height, width)
    flat, batch = _covered(face)
    number = face.view(-1)[flat]
    corners = _gather_corners(points, faces, batch, number)  # (P,3,3)
    inner = flat - batch * (height * width)
    x = (inner % width).to(points.dtype) * (2 / width) + (1 / width - 1)
    y = torch.div(inner, width, rounding_mode="floor").to(points.dtype) * (2 / height) + (1 / height - 1)
    w = _barycentric(corners[..., 0], corners[..., 1], x, y)
    z = (w * corners[..., 2]).sum(-1)
    bary = points.new_zeros(face.numel(), 3).index_copy(0, flat, w).view(*face.shape, 3)
    depth = points.new_zeros(face.numel()).index_copy(0, flat, z).view(face.shape)
    return Raster(face, bary, depth)


def silhouette(points: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """(B,H,W) bool: which pixels faces cover; arguments as `rasterize`."""
    return _nearest_faces(points.detach().float(), faces, height, width) >= 0


def _covered(face: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices (P,) of covered pixels in a (B,H,W) map, and their batch row (P,)."""
    flat = (face.reshape(-1) >= 0).nonzero()[:, 0]
    return flat, torch.div(flat, face[0].numel(), rounding_mode="floor")


def _gather_corners(attributes: Tensor, faces: Tensor, batch: Tensor, number: Tensor) -> Tensor:
    """Attributes (B,V,C) of the corners of faces `number` (P,) in rows `batch` (P,): (P,3,C)."""
    v, c = attributes.shape[1:]
    vertex = faces.index_select(0, number) + (batch * v)[:, None]
    return attributes.reshape(-1, c).index_select(0, vertex.view(-1)).view(-1, 3, c)


def _barycentric(cx: Tensor, cy: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Barycentrics (P,3) of points (P,) in triangles with corners cx, cy (P,3)."""
    x0, x1, x2 = cx.unbind(-1)
    y0, y1, y2 = cy.unbind(-1)
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    area = area + torch.where(area < 0, -EPSILON, EPSILON)
    w0 = ((x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)) / area
    w1 = ((x2 - x) * (y0 - y) - (y2 - y) * (x0 - x)) / area
    return torch.stack([w0, w1, 1 - w0 - w1], -1)


@torch.no_grad()
def _nearest_faces(points: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """Index of the nearest face per pixel (B,H,W), -1 where none."""
    b, f = points.shape[0], faces.shape[0]
    device = points.device
    scale = torch.tensor([width / 2, height / 2], device=device)
    pixels = (points[..., :2] + 1) * scale - 0.5  # pixel centres at whole numbers
    corner_xy = pixels[:, faces].view(b * f, 3, 2)
    corner_z = points[..., 2][:, faces].view(b * f, 3)
    low = corner_xy.amin(1).ceil().clamp_min(0)
    high = torch.minimum(corner_xy.amax(1).floor(), torch.tensor([width - 1.0, height - 1.0], device=device))
    e1, e2 = corner_xy[:, 1] - corner_xy[:, 0], corner_xy[:, 2] - corner_xy[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    spans = (high - low + 1).clamp_min(0)
    counts = spans[:, 0] * spans[:, 1] * (area != 0) * corner_xy.flatten(1).isfinite().all(1)
    counts = counts.nan_to_num(0).long()
    chosen = counts.nonzero()[:, 0]
    buffer = torch.full((b * height * width,), torch.iinfo(torch.int64).max, device=device)
    if chosen.numel():
        counts = counts[chosen]
        # z over the pixel plane, relative to the box's first pixel: w_k = c_k + gx_k dx + gy_k dy
        first, span_x = low[chosen], spans[chosen, 0].long()
        planes = _edge_planes(corner_xy[chosen], area[chosen], first)
        z = corner_z[chosen]
        ends = counts.cumsum(0)
        start = 0
        while start < len(chosen):
            done = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(ends, done + CHUNK)))
            part = slice(start, stop)
            _splat(buffer, chosen[part], counts[part], first[part].long(), span_x[part], planes[part], z[part], f, height, width)
            start = stop
    empty = buffer == torch.iinfo(torch.int64).max
    face = torch.where(empty, -1, buffer & 0xFFFFFFFF)
    return face.view(b, height, width)


def _edge_planes(corners: Tensor, area: Tensor, first: Tensor) -> Tensor:
    """Barycentrics as planes over pixels: (P,3,3) with w_k = [k,0] + [k,1] dx + [k,2] dy from pixel `first` (P,2)."""
    local = corners - first[:, None]
    x, y = local[..., 0], local[..., 1]
    nx, ny = x.roll(-1, 1), y.roll(-1, 1)  # corner k+1
    px, py = x.roll(-2, 1), y.roll(-2, 1)  # corner k+2
    inverse = 1 / area[:, None]
    constant = (nx * py - ny * px) * inverse
    return torch.stack([constant, (ny - py) * inverse, (px - nx) * inverse], -1)


def _splat(
    buffer: Tensor, face: Tensor, counts: Tensor, first: Tensor, span_x: Tensor, planes: Tensor, z: Tensor, f: int, height: int, width: int
) -> None:
    """Write packed depth and face index of all candidate pixels of some faces into the buffer (B*H*W,)."""
    total = int(counts.sum())
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device, dtype=torch.int32), counts, output_size=total)
    # 32-bit arithmetic is several times faster than 64-bit; one part has fewer than 2^31 candidates
    starts = (counts.cumsum(0) - counts).int()
    small = torch.stack([starts, span_x.int()], -1).index_select(0, owner)
    local = torch.arange(total, device=counts.device, dtype=torch.int32) - small[:, 0]
    if height * width <= 1 << 20:
        dy = ((local.float() + 0.5) / small[:, 1]).floor()  # exact in float32 up to this size, and fast
    else:
        dy = torch.div(local, small[:, 1], rounding_mode="floor").float()
    dx = local - dy.int() * small[:, 1]
    offset = torch.stack([torch.ones_like(dy), dx.float(), dy], -1)  # (N,3)
    terms = owner[:, None] * 3 + torch.arange(3, device=owner.device, dtype=owner.dtype)
    w = F.embedding_bag(terms, planes.mT.reshape(-1, 3), mode="sum", per_sample_weights=offset)
    inside = (w.amin(-1) > 0).nonzero()[:, 0]
    owner, w = owner.index_select(0, inside), w.index_select(0, inside)
    depth = (w * z.index_select(0, owner)).sum(-1)
    # order-preserving integers of floats: negative numbers have their bits reversed
    bits = depth.view(torch.int32)
    key = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    number, origin = face.index_select(0, owner), first.index_select(0, owner)
    row = torch.div(number, f, rounding_mode="floor") * height + origin[:, 1] + dy.index_select(0, inside).long()
    pixel = row * width + origin[:, 0] + dx.index_select(0, inside).long()
    packed = (key << 32) | (number % f)
    buffer.scatter_reduce_(0, pixel, packed, "amin", include_self=True)


def interpolate(raster: Raster, faces: Tensor, attributes: Tensor) -> Tensor:
    """Vertex attributes (B,V,C) at every pixel: (B,C,H,W), zero where no face is. Differentiable in attributes and barycentrics."""
    flat, batch, number, bary = raster.covered
    v, c = attributes.shape[1:]
    vertex = faces.index_select(0, number) + (batch * v)[:, None]
    values = F.embedding_bag(vertex, attributes.reshape(-1, c), mode="sum", per_sample_weights=bary.to(attributes.dtype))
    return _placed(raster, values, flat)


def interpolate_corners(raster: Raster, corners: Tensor) -> Tensor:
    """Attributes (F,3,C) per face corner, shared by the batch, at every pixel: (B,C,H,W), zero where no face is."""
    flat, _, number, bary = raster.covered
    values = (bary.to(corners.dtype)[:, None] @ corners.index_select(0, number))[:, 0]
    return _placed(raster, values, flat)


def _placed(raster: Raster, values: Tensor, flat: Tensor) -> Tensor:
    """Values (P,C) of the covered pixels in their places: (B,C,H,W), zero elsewhere."""
    b, h, w = raster.face.shape
    out = values.new_zeros(b * h * w, values.shape[-1]).index_copy(0, flat, values)
    return out.view(b, h, w, -1).permute(0, 3, 1, 2)
