"""Carry: the source photograph moved and relit to the target attributes through the two meshes (design section 4a).

Shape letters: B batch, V vertices, F faces, H and W image height and width.

The two posed meshes say where every visible point of the source's skin goes, so the photograph itself can be moved there.
What the meshes cannot know (disocclusions, the inside of a newly opened mouth) is marked by the validity map and left
to the diffusion model. Carrying to equal attributes is the identity, bit for bit: displacements are interpolated as
differences, and light as the logarithm of a ratio, so both are exactly zero where nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import Memo, erode, flow_grid, gather, gaussian_blur, gradient_norm, nearest_inside, pixel_grid, relit, remembered
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import Raster, interpolate, rasterize
from ..head.shading import project, sh_shading, vertex_normals
from ..source.regions import Layers
from .expression_gain import stretch_expression
from .eyelids import lid_offsets
from .filling import closed_lines, upper_teeth
from .hair_volume import below_chin, hair_offsets, has_scalp, motion_around, shoulder_motion
from .person_layer import CarryOptions, Motion, separate

LIPS = (13, 14)  # landmarks: middle of the upper and of the lower lip, inside


@dataclass(frozen=True)
class Carried:
    """image (B,3,H,W) RGB 0..1; validity (B,1,H,W) 0..1; flow (B,2,H,W) source minus target position in pixels (x, y);
    ratio (B,3,H,W) light ratio; mask (B,1,H,W) 1 where the target mesh covers the pixel; front (B,1,H,W) share of the moved person,
    the rest being background that stayed (all ones without layers)."""

    image: Tensor
    validity: Tensor
    flow: Tensor
    ratio: Tensor
    mask: Tensor
    front: Tensor


def carry(
    image: Tensor,
    source: FaceAttributes,
    target: FaceAttributes,
    head: HeadModel,
    validity: Tensor | None = None,
    layers: Layers | None = None,
    options: CarryOptions | None = None,
    memo: Memo | None = None,
) -> Carried:
    """Move and relight a photograph from the source's to the target's attributes.

    image (B,3,H,W) RGB 0..1, the crop that the source attributes describe; validity (B,1,H,W) of that image itself
    (0 at padding and at holes of an earlier carry) or None for all valid; layers of that image, or None:
    then light reaches only as far as the skin, and the background is dragged along near the head. source and target have B or 1 faces.
    Differentiable with respect to the image. memo: an empty dict that a caller keeps for one image with its attributes and layers, when
    only the target changes from call to call: what depends on the source alone is worked out once.
    """
    o = options or CarryOptions()
    b, _, h, w = image.shape
    side = max(h, w)
    source, target = source.expand(b), target.expand(b)
    if o.stretch_expression:
        target = stretch_expression(source, target, head.expression_names)
    offsets, points_s, normals_s, raster_s, upper = remembered(memo, "source", lambda: _source_side(head, source, layers, image))
    vertices_t = head(target.shape, target.expression, target.pose, offsets + lid_offsets(head, target.expression))
    points_t, normals_t = project(vertices_t, target.camera), vertex_normals(vertices_t, head.faces)
    raster_t = rasterize(points_t, head.faces, h, w)
    inside = raster_t.face >= 0
    mask = inside[:, None].to(image.dtype)

    # per-vertex quantities are differences, so that they are exactly zero where nothing changes
    half = torch.tensor([w / 2, h / 2], device=image.device, dtype=image.dtype)
    motion_v = (points_s - points_t)[..., :2] * half
    light_v = _log_ratio(normals_s, normals_t, source.light, target.light, o)
    per_vertex = torch.cat([motion_v, light_v, points_s[..., 2:3], normals_s[..., 2:3], normals_t[..., 2:3]], -1)
    motion, log_ratio, depth_s, facing_s, facing_t = interpolate(raster_t, head.faces, per_vertex).split([2, 3, 1, 1, 1], dim=1)

    index, distance = nearest_inside(inside)
    fade = torch.exp(-((distance / (o.reach * side)) ** 2))[:, None]
    # shoulders are covered: a light fitted to bare skin says little about cloth below it, so it fades from the neck down
    skin = inside & ~head.part_mask(raster_t, "shoulders")
    lit_index, lit_distance = nearest_inside(skin)
    light_reach = o.light_reach if layers is None else o.matte_light_reach
    light_fade = torch.exp(-((lit_distance / (light_reach * side)) ** 2))[:, None]
    # far from the mesh the field is smooth, near it it meets the mesh's own
    extended = gather(motion, index)
    near = torch.exp(-((distance / (1.5 * o.motion_blur * side)) ** 2))[:, None]
    spread = torch.lerp(gaussian_blur(extended, o.motion_blur * side), gaussian_blur(extended, o.motion_blur * side / 4), near) * fade
    if layers is not None and has_scalp(head):
        beside, holds = motion_around(head, points_s[..., :2], points_t[..., :2], pixel_grid(h, w, image))
        beside = beside * half[:, None, None] * torch.exp(-((distance / (o.hair_reach * side)) ** 2))[:, None]
        spread = torch.lerp(spread, beside, holds)
    body = torch.zeros_like(spread)
    if layers is not None:
        # clothes, and hair below the chin, lie on the shoulders: what is there stays with them while the head turns
        resting = (layers.loose - layers.hair).clamp_min(0) + layers.hair * below_chin(head, points_s[..., :2], pixel_grid(h, w, image))
        body = shoulder_motion(head, raster_t, motion) * fade
        spread = torch.lerp(spread, body, resting.clamp(max=1))
    flow = torch.where(inside[:, None], motion, spread)
    # light near the silhouette comes from the skin that faces the camera: normals there were hardly seen by any fit
    trust = mask * (facing_t.clamp(0, 1) ** 2 + 1e-3)
    weight = gaussian_blur(gather(trust, lit_index), o.light_blur * side)
    log_ratio = gaussian_blur(gather(log_ratio * trust, lit_index), o.light_blur * side) / weight * light_fade

    grid = flow_grid(flow)
    moved = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
    still = (flow.flatten(1).abs().amax(1) == 0)[:, None, None, None]
    moved = torch.where(still, image, moved)
    if layers is not None:
        # light goes as far as neck and hair do, less onto clothes, and not onto the background
        lit = F.grid_sample(layers.light, grid, padding_mode="border", align_corners=False)
        above_collar = skin & ~head.part_mask(raster_t, "neck")
        log_ratio = torch.where(above_collar[:, None], log_ratio, log_ratio * lit)
    ratio = log_ratio.exp()
    unlit = (log_ratio.flatten(1).abs().amax(1) == 0)[:, None, None, None]
    carried = torch.where(unlit & still, moved, relit(moved, ratio))

    shown = (facing_s / facing_t.clamp_min(0.05) / o.grazing).clamp(0, 1)  # source texels per target pixel
    seen = _seen(raster_s, depth_s, grid, inside, o) * shown
    stretched = torch.exp(-((gradient_norm(flow) / o.stretch) ** 2))
    on_mesh = (raster_s.face >= 0)[:, None].to(image.dtype)
    covered = F.grid_sample(on_mesh, grid, padding_mode="border", align_corners=False)
    outside = stretched * (1 - covered * (1 - fade * 0.5))  # a background pixel that samples the source's head is a smear
    valid = torch.where(inside[:, None], seen * stretched.sqrt(), outside)
    valid = torch.where(still, torch.ones_like(valid), valid)
    if validity is not None:
        sampled = F.grid_sample(validity, grid, padding_mode="zeros", align_corners=False)
        valid = torch.where(still, validity, valid * sampled)
    front = torch.ones_like(valid)
    if layers is not None:
        parted = (_mouth(head, points_t) - _mouth(head, points_s)).clamp_min(0) * h / 2
        skull = motion_v[:, upper].mean(1) if bool(upper.any()) else None
        origin = Motion(raster_s, raster_t, normals_t, offsets, flow, body, grid, seen, parted, upper, skull, memo)
        known = torch.ones_like(valid) if validity is None else validity
        apart = separate(image, carried, ratio, valid, known, layers, origin, head, target, o)
        carried = torch.where(unlit & still, image, apart.image)
        valid = torch.where(still, known, apart.validity)
        front = torch.where(still, apart.person, apart.front)
        size = round(o.line * side) | 1
        carried, valid = closed_lines(carried, valid, erode(mask, size) * (1 - still.to(mask)), size)
    return Carried(carried, valid.clamp(0, 1), flow, ratio, mask, front)


def _source_side(
    head: HeadModel, source: FaceAttributes, layers: Layers | None, image: Tensor
) -> tuple[Tensor, Tensor, Tensor, Raster, Tensor]:
    """Of the source's head with its hair: offsets (B,V,3), projected points (B,V,3), normals (B,V,3), raster; vertices (V,)
    of its upper teeth."""
    offsets = image.new_zeros(len(image), head.vertex_count, 3)
    if layers is not None:
        offsets = hair_offsets(head, source, head(source.shape, source.expression, source.pose), layers.hair)
    vertices = head(source.shape, source.expression, source.pose, offsets + lid_offsets(head, source.expression))
    points = project(vertices, source.camera)
    return offsets, points, vertex_normals(vertices, head.faces), rasterize(points, head.faces, *image.shape[-2:]), upper_teeth(head)


def _mouth(head: HeadModel, points: Tensor) -> Tensor:
    """How far the lips of a projected head (B,V,3) are apart: (B,1,1,1), 0 for heads without MediaPipe's landmarks."""
    if len(head.landmark_faces) < 468:
        return points.new_zeros(len(points), 1, 1, 1)
    marks = head.landmarks(points)
    return (marks[:, LIPS[0], :2] - marks[:, LIPS[1], :2]).norm(dim=-1)[:, None, None, None]


def nothing_carried(image: Tensor) -> Carried:
    """For profiles that do not carry, as the paper's: the picture (B,3,H,W) where it was, none of it valid."""
    still, unlit, none = torch.zeros_like(image[:, :2]), torch.ones_like(image), torch.zeros_like(image[:, :1])
    return Carried(image, none, still, unlit, none, torch.ones_like(none))


def _log_ratio(normals_s: Tensor, normals_t: Tensor, light_s: Tensor, light_t: Tensor, o: CarryOptions) -> Tensor:
    """log of SH(target) / SH(source) per vertex: (B,V,3), exactly zero for equal normals and lights."""
    shading_s, shading_t = sh_shading(normals_s, light_s), sh_shading(normals_t, light_t)
    shading_s = shading_s.maximum(o.shading_floor * shading_s.mean(1, keepdim=True).clamp_min(0.05))
    shading_t = shading_t.maximum(o.shading_floor * shading_t.mean(1, keepdim=True).clamp_min(0.05))
    ratio = shading_t.log() - shading_s.log()
    # a stressed light is no brighter: the mean ratio on what faces the viewer stays
    facing = normals_t[..., 2:].clamp_min(0) + 1e-6
    stressed = o.light_gain * ratio
    stressed = stressed + ((facing * ratio.exp()).sum(1, keepdim=True) / (facing * stressed.exp()).sum(1, keepdim=True)).log()
    limit = math.log(o.ratio_limit)
    return limit * torch.tanh(stressed / limit)


def _seen(raster_s: Raster, depth_s: Tensor, grid: Tensor, inside: Tensor, o: CarryOptions) -> Tensor:
    """1 where the source camera saw the surface point that the target shows: (B,1,H,W)."""
    far = torch.full_like(raster_s.depth, 1e3)
    buffer = torch.where(raster_s.face >= 0, raster_s.depth, far)[:, None]
    # the farthest depth of the 3x3 neighbourhood: silhouettes must not hide their own surface
    buffer = torch.where(buffer > 1e2, -torch.full_like(buffer, 1e3), buffer)
    buffer = F.max_pool2d(buffer, 3, 1, 1)
    sampled = F.grid_sample(buffer, grid, mode="nearest", padding_mode="border", align_corners=False)
    on_mesh = sampled > -1e2
    in_frame = (grid.abs() <= 1).all(-1)[:, None]
    return ((depth_s <= sampled + o.depth_tolerance) & on_mesh & in_frame & inside[:, None]).to(grid.dtype)
