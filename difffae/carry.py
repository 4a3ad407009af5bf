"""Carry: the source photograph moved and relit to the target attributes through the two meshes (design section 4a).

Shape letters: B batch, V vertices, F faces, H and W image height and width.

The two posed meshes say where every visible point of the source's skin goes, so the photograph itself can be moved there.
What the meshes cannot know (disocclusions, the inside of a newly opened mouth) is marked by the validity map and left
to the diffusion model. Carrying to equal attributes is the identity, bit for bit: displacements are interpolated as
differences, and light as the logarithm of a ratio, so both are exactly zero where nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .attributes import FaceAttributes
from .head import HeadModel
from .render import Raster, interpolate, project, rasterize, sh_shading, vertex_normals


@dataclass(frozen=True)
class CarryOptions:
    """Lengths are fractions of the crop's side."""

    reach: float = 0.18  # outside the mesh the displacement fades as exp(-(distance / reach)^2)
    light_reach: float = 0.07  # same for the light ratio
    matte_light_reach: float = 0.14  # same, where a matte keeps the light off the background
    motion_blur: float = 0.03  # standard deviation of the blur of the extrapolated displacement
    light_blur: float = 0.01
    ratio_limit: float = 4.0  # light ratios approach limit and 1/limit softly
    shading_floor: float = 0.1  # of the mean shading: SH fitted to a visible face says little about directions it hides
    depth_tolerance: float = 0.03  # in units of the projected mesh (the crop is 2 wide)
    grazing: float = 0.4  # texture seen at less than this share of the target's foreshortening fades out: it is stretched
    fill_blur: float = 0.015  # of the colours that stand in for background which the person hid
    fill_validity: float = 0.6  # of these colours where the background around is plain
    plain_reach: float = 0.03  # how far around is looked at
    plain_spread: float = 0.04  # standard deviation of its colours (0..1) at which a background is plain no more
    outline: int = 2  # pixels around the person where the background is mixed with it, and not to be trusted once the person left
    mesh_edge: float = 0.012  # how far skin may reach beyond the mesh, because the fit is not exact
    closing: float = 0.05  # gaps in the moved person up to this width are no view of the background
    stretch: float = 0.8  # validity falls as exp(-(|gradient of displacement| / stretch)^2)


@dataclass(frozen=True)
class Layers:
    """What a photograph shows where, each (B,1,H,W) in 0..1 (regions.layers makes them).

    light   how far a change of light may change the pixel: 1 skin and hair, 0 background
    person  1 on the person, 0 on the background, which stays where it is when the person moves
    loose   1 on what stands out from the head model's surface: hair, hats, clothes; 0 on bare skin and on the background
    """

    light: Tensor
    person: Tensor
    loose: Tensor

    def __getitem__(self, index: slice) -> Layers:
        """Rows of the batch."""
        return Layers(self.light[index], self.person[index], self.loose[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> Layers:
        return Layers(function(self.light), function(self.person), function(self.loose))


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


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel centres (H,W,2) as (x right, y down) in -1..1."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


def nearest_inside(mask: Tensor) -> tuple[Tensor, Tensor]:
    """For every pixel a nearest pixel where mask is set, by jump flooding over 2x2 blocks.

    That costs up to two pixels against the true nearest for outlines of heads (0.6 on average), three for scattered dots.

    mask (B,H,W) bool with even sides -> index (B,H,W) into H*W, distance (B,H,W) in pixels. A pixel inside is its own nearest; where
    the whole mask is empty every pixel is its own too, and infinitely far.
    """
    h, w = mask.shape[-2:]
    far = 4.0 * max(h, w)
    blocks = mask.unflatten(1, (h // 2, 2)).unflatten(3, (w // 2, 2)).permute(0, 1, 3, 2, 4).flatten(3)  # (B,H/2,W/2,4)
    corner = blocks.to(torch.uint8).argmax(-1)
    ys, xs = torch.meshgrid(
        torch.arange(h // 2, device=mask.device, dtype=torch.float32) * 2,
        torch.arange(w // 2, device=mask.device, dtype=torch.float32) * 2,
        indexing="ij",
    )
    some = blocks.any(-1)
    seed_y = torch.where(some, ys + corner.div(2, rounding_mode="floor"), -far)
    seed_x = torch.where(some, xs + corner % 2, -far)
    ys, xs = ys + 0.5, xs + 0.5
    best = (seed_y - ys).square() + (seed_x - xs).square()
    step = 1 << ((max(h, w) // 2 - 1).bit_length() - 1)
    while step >= 1:
        padded_y, padded_x = F.pad(seed_y, (step,) * 4, value=-far), F.pad(seed_x, (step,) * 4, value=-far)
        for dy in (0, step, 2 * step):
            for dx in (0, step, 2 * step):
                if dy == dx == step:
                    continue
                other_y, other_x = padded_y[:, dy : dy + h // 2, dx : dx + w // 2], padded_x[:, dy : dy + h // 2, dx : dx + w // 2]
                distance = (other_y - ys).square() + (other_x - xs).square()
                closer = distance < best
                best = torch.where(closer, distance, best)
                seed_y, seed_x = torch.where(closer, other_y, seed_y), torch.where(closer, other_x, seed_x)
        step //= 2
    seed_y, seed_x = (seed.repeat_interleave(2, 1).repeat_interleave(2, 2) for seed in (seed_y, seed_x))
    ys, xs = torch.meshgrid(
        torch.arange(h, device=mask.device, dtype=torch.float32), torch.arange(w, device=mask.device, dtype=torch.float32), indexing="ij"
    )
    found = (seed_y >= 0) & ~mask
    seed_y, seed_x = torch.where(found, seed_y, ys), torch.where(found, seed_x, xs)
    distance = ((seed_y - ys).square() + (seed_x - xs).square()).sqrt()
    empty = ~mask.flatten(1).any(1)[:, None, None]
    return (seed_y * w + seed_x).long(), torch.where(empty, torch.inf, distance)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """(B,C,H,W) blurred by a Gaussian of `sigma` pixels, edges replicated; zero in, zero out."""
    radius = max(1, int(2.5 * sigma + 0.5))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    taps = (taps / taps.sum()).repeat(x.shape[1], 1)
    x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), taps[:, None, None, :], groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), taps[:, None, :, None], groups=x.shape[1])


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """x (B,C,H,W) at flat pixel indices (B,H,W) -> (B,C,H,W)."""
    b, c, h, w = x.shape
    return x.flatten(2).gather(2, index.reshape(b, 1, h * w).expand(b, c, h * w)).reshape(b, c, h, w)


def _dilate(x: Tensor, size: int) -> Tensor:
    """Largest value of x (B,C,H,W) in the square of an odd `size` around every pixel."""
    return F.max_pool2d(F.max_pool2d(x, (size, 1), 1, (size // 2, 0)), (1, size), 1, (0, size // 2))


def _gradient_norm(flow: Tensor) -> Tensor:
    """Frobenius norm of the gradient of a displacement (B,2,H,W) in pixels per pixel -> (B,1,H,W)."""
    dx = F.pad(flow[..., :, 1:] - flow[..., :, :-1], (0, 1, 0, 0), mode="replicate")
    dy = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1), mode="replicate")
    return (dx.square() + dy.square()).sum(1, keepdim=True).sqrt()


def carry(
    image: Tensor,
    source: FaceAttributes,
    target: FaceAttributes,
    head: HeadModel,
    validity: Tensor | None = None,
    layers: Layers | None = None,
    options: CarryOptions | None = None,
) -> Carried:
    """Move and relight a photograph from the source's to the target's attributes.

    image (B,3,H,W) RGB 0..1, the crop that the source attributes describe; validity (B,1,H,W) of that image itself
    (0 at padding and at holes of an earlier carry) or None for all valid; layers of that image, or None:
    then light reaches only as far as the skin, and the background is dragged along near the head. source and target have B or 1 faces.
    Differentiable with respect to the image.
    """
    o = options or CarryOptions()
    b, _, h, w = image.shape
    side = max(h, w)
    source, target = source.expand(b), target.expand(b)
    vertices_s = head(source.shape, source.expression, source.pose)
    vertices_t = head(target.shape, target.expression, target.pose)
    points_s, points_t = project(vertices_s, source.camera), project(vertices_t, target.camera)
    normals_s, normals_t = vertex_normals(vertices_s, head.faces), vertex_normals(vertices_t, head.faces)
    raster_t = rasterize(points_t, head.faces, h, w)
    raster_s = rasterize(points_s, head.faces, h, w)
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
    extended = _gather(motion, index)
    near = torch.exp(-((distance / (1.5 * o.motion_blur * side)) ** 2))[:, None]
    spread = torch.lerp(gaussian_blur(extended, o.motion_blur * side), gaussian_blur(extended, o.motion_blur * side / 4), near) * fade
    flow = torch.where(inside[:, None], motion, spread)
    # light near the silhouette comes from the skin that faces the camera: normals there were hardly seen by any fit
    trust = mask * (facing_t.clamp(0, 1) ** 2 + 1e-3)
    weight = gaussian_blur(_gather(trust, lit_index), o.light_blur * side)
    log_ratio = gaussian_blur(_gather(log_ratio * trust, lit_index), o.light_blur * side) / weight * light_fade

    grid = pixel_grid(h, w, image) + flow.permute(0, 2, 3, 1) / half
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
    carried = torch.where(unlit & still, moved, (moved * ratio).clamp(0, 1))

    shown = (facing_s / facing_t.clamp_min(0.05) / o.grazing).clamp(0, 1)  # source texels per target pixel
    seen = _seen(raster_s, depth_s, grid, inside, o) * shown
    stretched = torch.exp(-((_gradient_norm(flow) / o.stretch) ** 2))
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
        edge = 2 * round(o.mesh_edge * side) + 1
        # the mesh may stand out beyond the person (ears, skull): along its edge the matte decides, where the source showed that place
        person = layers.person.maximum(1 - _dilate(1 - on_mesh, 2 * edge + 1))
        on_person = F.grid_sample(person, grid, padding_mode="border", align_corners=False)
        # bare skin of the source is inside the target's mesh now; beside it, it would only be a smear. Hair and hats stand out
        apart = torch.lerp(layers.person, layers.loose, _dilate(on_mesh, edge))
        loose = F.grid_sample(apart, grid, padding_mode="border", align_corners=False)
        moved_person = torch.where(inside[:, None], torch.where(seen > 0, on_person, 1), loose)
        # no background shows in a gap between face and hair, but what does was not seen
        closing = round(o.closing * side) | 1
        gap = (-_dilate(-_dilate(moved_person, closing), closing) - moved_person).clamp(0, 1)
        moved_person, valid = moved_person + gap, valid * (1 - gap)
        front = torch.where(still, person, moved_person)
        known = torch.ones_like(valid) if validity is None else validity
        # edges of a matte are soft everywhere; only where something moves do they hide what is behind
        moves = flow.square().sum(1, keepdim=True).sqrt().clamp(max=1)
        behind, seen_behind = _background(image, person, front, moves, o)
        carried = torch.where(unlit & still, image, front * carried + (1 - front) * behind)
        valid = torch.where(still, known, front * valid + (1 - front) * seen_behind * known)
    return Carried(carried, valid.clamp(0, 1), flow, ratio, mask, front)


def _background(image: Tensor, person: Tensor, front: Tensor, moves: Tensor, o: CarryOptions) -> tuple[Tensor, Tensor]:
    """What is behind a person who moved: the picture (B,3,H,W) with the place the person left filled by the colours around, and how far
    it was seen (B,1,H,W). person and front (B,1,H,W): where the person was, and is now; moves: 0 where nothing does."""
    wide = _dilate(person, 2 * o.outline + 1)
    left = ((wide - front).clamp_min(0) / (1 - front).clamp_min(1e-3)).clamp(0, 1) * moves
    outside = wide < 0.05
    side = max(image.shape[-2:])
    around = _gather(image, nearest_inside(outside[:, 0])[0])
    fill = torch.where(outside, image, gaussian_blur(around, o.fill_blur * side))
    # a plain background goes on behind the person; of a busy one the fill says little
    reach = o.plain_reach * side
    spread = (gaussian_blur(around.square(), reach) - gaussian_blur(around, reach).square()).mean(1, keepdim=True).clamp_min(0)
    plain = o.fill_validity * torch.exp(-spread / o.plain_spread**2)
    return torch.lerp(image, fill, left), 1 - left * (1 - plain)


def nothing_carried(image: Tensor) -> Carried:
    """For profiles that do not carry, as the paper's: the picture (B,3,H,W) where it was, none of it valid."""
    still, unlit, none = torch.zeros_like(image[:, :2]), torch.ones_like(image), torch.zeros_like(image[:, :1])
    return Carried(image, none, still, unlit, none, torch.ones_like(none))


def _log_ratio(normals_s: Tensor, normals_t: Tensor, light_s: Tensor, light_t: Tensor, o: CarryOptions) -> Tensor:
    """log of SH(target) / SH(source) per vertex: (B,V,3), exactly zero for equal normals and lights."""
    shading_s, shading_t = sh_shading(normals_s, light_s), sh_shading(normals_t, light_t)
    shading_s = shading_s.maximum(o.shading_floor * shading_s.mean(1, keepdim=True).clamp_min(0.05))
    shading_t = shading_t.maximum(o.shading_floor * shading_t.mean(1, keepdim=True).clamp_min(0.05))
    limit = math.log(o.ratio_limit)
    return limit * torch.tanh((shading_t.log() - shading_s.log()) / limit)


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
