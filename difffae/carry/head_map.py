"""The whole head's colours, completed once a photograph: what a turned head shows of its far side, its
temples and its crown.

Shape letters: B batch, V vertices, H and W picture height and width, h and w rows and columns of the
map, Y and X those of one of its levels, n texels, K features.

The map is polar, around the middle of the skull: columns go around the line of sight of the unposed
head (0 up, to the right of the picture first), rows from its front to its back. It holds logarithms of
colours in even light. What the camera did not see is mirrored from the other side of the head; what
neither side showed goes on smoothly in the colour of hair or skin, with detail copied from what was
seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur
from ..head.morphable import label_index, labelled
from ..head.rasterizer import interpolate, rasterize
from ..head.shading import sh_shading
from ..source.regions import Layers
from .grain import COLUMNS, LAST, ROWS, continued, degrees, grain, smoothed, wrapped
from .hair_volume import hair_weight, has_scalp, middle_of_skull, ramp
from .options import MapOptions
from .state import Maps, Move, Source

SKIN = ("face", "scalp")  # parts that the map holds: a neck is behind the chin, seen from the skull
LEAST_CONTRAST = 0.005  # variance of logarithms of light below which little can be explained
DARKEST = 0.006  # added to colours before their logarithm


@dataclass(frozen=True, eq=False)
class HeadMap:
    """A head's colours all around.

    Attributes:
        log_colour: (B,3,h,w) logarithm of the colours (plus DARKEST) over the light.
        seen: (B,1,h,w) how well the photograph shows each texel, or the one on the head's other side, 0..1.
        grows: (B,1,h,w) how far hair may grow there, 0..1.
        places: (B,V,3) row in 0..1, and cosine and sine of the column, of the head's vertices.
        other_ears: (B,V,4) of the vertices on the other side of the head: position in the photograph, -1..1, logarithm of the light there,
            and how well the photograph shows an ear there.
        contrast: (B,1,1) of the light, as a share of the fitted light's.
        light: (B,V,1) logarithm of the photograph's light on the head's vertices.
    """

    log_colour: Tensor
    seen: Tensor
    grows: Tensor
    places: Tensor
    other_ears: Tensor
    contrast: Tensor
    light: Tensor

    def look_up(self, move: Move) -> Completed:
        """The map's colours on a moved head, in the target's light.

        Args:
            move: of the source that the map was made of.
        """
        head, raster = move.source.head, move.posed.raster
        light = self.contrast * _even_light(move.posed.normals, move.target.light)
        facing = move.posed.normals[..., 2:]
        found = interpolate(raster, head.faces, torch.cat([self.places, light, light - self.light, facing], -1))
        row, cos, sin, lit, change, facing = found.split(1, dim=1)
        # in the colour of light, and all in all as bright, as what the photograph shows
        seen = move.seen + 1e-6
        bias = ((move.light_ratio.log() - change) * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
        # nothing that was not seen is brighter or darker than what was: a fitted light says little of other directions
        lit = _within(lit, lit, seen > 0.3)
        column = torch.atan2(sin, cos) / math.pi
        texels = torch.cat([self.log_colour, self.seen, self.grows], 1)
        # where the head turns away, many texels are one pixel
        found = torch.lerp(_sampled(texels, column, row), _sampled(F.avg_pool2d(texels, 4), column, row), (1 - facing / 0.4).clamp(0, 1))
        log_colour, seen, grows = found.split([3, 1, 1], dim=1)
        colour = (log_colour.exp() - DARKEST) * (lit + bias).exp()
        labels = head.label_map(raster)[:, None]
        scalp, face, ears = ((labels == label_index(name)).to(seen) for name in ("scalp", "face", "ears"))
        # skin that neither side of the head showed goes on better from what is beside it in the picture
        where = erode(scalp.maximum(face), 3).maximum(scalp) * seen.maximum(grows * scalp)
        # parts of the mesh end in saw teeth
        inner = gaussian_blur(torch.where(move.posed.mesh, where, 1.0), 1.5 * move.source.unit)
        where = where * (2 * inner - 0.8).clamp(0, 1)
        partners, shown = self._ears(move, ears, light, bias)
        image = torch.where(shown > 0, partners, colour).clamp(0, 1)
        return Completed(image, torch.lerp(torch.ones_like(seen), seen, scalp), where.maximum(shown))

    def _ears(self, move: Move, ears: Tensor, light: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Ears (B,1,H,W) as their partners look (B,3,H,W), and how well these were seen (B,1,H,W); light (B,V,1) and bias (B,3,1,1)
        are logarithms."""
        head, raster = move.source.head, move.posed.raster
        only = replace(raster, face=torch.where(ears[:, 0] > 0, raster.face, -1))
        found = interpolate(only, head.faces, torch.cat([self.other_ears, light], -1))
        place, was, shown, lit = found.split([2, 1, 1, 1], dim=1)
        colour = F.grid_sample(move.source.image, place.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
        soft = gaussian_blur(shown, 0.8) * ears
        return colour.clamp(0, 1) * (lit - was + bias).exp().clamp(1 / 3, 3), soft


@dataclass(frozen=True, eq=False)
class Completed:
    """A moved head as its map has it.

    Attributes:
        image: (B,3,H,W) RGB 0..1, lit by the target's light.
        seen: (B,1,H,W) how well the photograph shows the hair there, 0..1; 1 beside the scalp.
        where: (B,1,H,W) where the map says anything.
    """

    image: Tensor
    seen: Tensor
    where: Tensor


@dataclass(frozen=True, eq=False)
class _Texels:
    """What the photograph says of each texel: log_colour (B,3,h,w), and (B,1,h,w) each how well it was seen, whether well enough to
    tell hair from skin, how far it is hair, and how far hair may grow there."""

    log_colour: Tensor
    seen: Tensor
    glimpsed: Tensor
    hair: Tensor
    scalp: Tensor


def with_map(move: Move, validity: Tensor) -> tuple[Move, Tensor]:
    """A move with the head as its map has it; of hair that moves, what the camera saw at a grazing angle counts as not seen.

    Args:
        move: the move.
        validity: (B,1,H,W) of the moved picture.
    """
    person, o = move.source.person, MapOptions()
    whole = None if person is None else person.head_map.value
    if whole is None:
        return move, validity
    completed = whole.look_up(move)
    moves = (move.shift / move.source.pixels(o.moved) - 1).mul(0.5).clamp(0, 1)
    trust = 1 - moves * (1 - ((completed.seen - 0.3) / 0.6).clamp(0, 1))
    return replace(move, seen=move.seen * (trust > 0.5), completed=completed), validity * trust


def head_map(source: Source, layers: Layers, maps: Maps) -> HeadMap | None:
    """Complete the heads of photographs.

    Args:
        source: the photographs, without their `person`.
        layers, maps: of the same pictures.

    Returns:
        None for a head model without labels.
    """
    if not has_scalp(source.head):
        return None
    o = MapOptions()
    # cloth of any kind, as soft as its mask may be
    maps = replace(maps, hanging=maps.hanging.maximum(layers.loose - layers.hair))
    rest = source.head.unposed(source.face.shape, source.face.expression)
    away = rest + source.offsets - middle_of_skull(source.head, rest + source.offsets)
    radius = away.norm(dim=-1)
    row = torch.rad2deg((away[..., 2] / radius.clamp_min(1e-6)).clamp(-1, 1).acos()) / LAST
    column = torch.atan2(away[..., 0], away[..., 1])
    contrast = _contrast(source)
    light = contrast * _even_light(source.posed.normals, source.face.light)
    texels = _mirrored(_unrolled(source, maps, light, rest, torch.stack([column / math.pi, row * 2 - 1, -radius], -1), o))
    places = torch.stack([row, column.cos(), column.sin()], -1)
    return HeadMap(_completed(texels, o), texels.seen, texels.scalp, places, _other_ears(source, maps, light, o), contrast, light)


def _contrast(source: Source) -> Tensor:
    """(B,1,1): as high as the fitted light explains the photograph's skin well: where shadows fall and beards grow, the fit takes too much
    of them for light, and other sides of the head would glow."""
    head, skin = source.head, source.skin
    face = labelled(head.labels, "face")
    explains = _even_light(source.posed.normals[:, face], source.face.light)[..., 0]
    values = (skin.colours.mean(-1) + DARKEST).log()
    explains, values = (x - (x * skin.area).sum(1, keepdim=True) / skin.area.sum(1, keepdim=True) for x in (explains, values))
    both, least = (explains * values * skin.area).sum(1), LEAST_CONTRAST * skin.area.sum(1)
    alone = [(x.square() * skin.area).sum(1) for x in (explains, values)]
    explained = (both.clamp_min(0).square() + least**2) / (alone[0] * alone[1] + least**2)  # share of variance
    return explained.clamp(0.3, 1)[:, None, None]


def _even_light(normals: Tensor, light: Tensor) -> Tensor:
    """(B,V,1) logarithm of the light on vertices (normals B,V,3) over its mean, not below a floor, and without its colour: what a fit says
    of the colour of light on sides that it did not see is noise."""
    shading = sh_shading(normals, light).mean(2, keepdim=True)
    return (shading / shading.mean(1, keepdim=True).clamp_min(0.05)).clamp_min(MapOptions().floor).log()


def _within(values: Tensor, known: Tensor, where: Tensor) -> Tensor:
    """Values (B,C,H,W) limited to the range of nearly all the known ones (B,C,H,W), in each row and channel."""
    ends, bounds = values.new_tensor([0.03, 0.97]), []
    for row, there in zip(known, where, strict=True):
        found = row[:, there[0]]
        bounds.append(found.quantile(ends, dim=1) if found.numel() else values.new_tensor([[-9.0], [9.0]]).expand(2, len(row)))
    low, high = torch.stack(bounds)[..., None, None].unbind(1)
    return values.maximum(low).minimum(high)


def _unrolled(source: Source, maps: Maps, light: Tensor, rest: Tensor, places: Tensor, o: MapOptions) -> _Texels:
    """The photographs in the map's coordinates; light (B,V,1) is `HeadMap.light`, rest (B,V,3) are the unposed vertices, places (B,V,3) the
    same in the map."""
    head, posed, rows, shown = source.head, source.posed, [], []
    skin = labelled(head.face_labels, *SKIN)
    told = torch.cat([posed.points, posed.normals[..., 2:], light, _grows(source, maps, rest)[..., None]], -1)
    for place, of in zip(places.split(1), told.split(1), strict=True):  # each row by itself, so that a batch is as its rows are
        corners = place[0, head.faces]  # (F,3,3); faces across the seam, straight down, would cover all columns
        whole = (corners[..., 0].amax(1) - corners[..., 0].amin(1) < 0.7) & (corners[..., 1] < 1.1).all(1)
        raster = rasterize(place, faces := head.faces[whole & skin], ROWS, COLUMNS)
        rows.append(interpolate(raster, faces, of))
        shown.append(raster.mask[:, None])
    found = torch.cat(rows)
    points, facing, light, scalp = found.split([3, 1, 1, 1], dim=1)
    inside = torch.cat(shown).to(found)
    grid = points[:, :2].permute(0, 2, 3, 1)
    edge = source.window(o.edge)
    kept = erode(maps.body * source.validity, edge) * (1 - dilate(maps.hanging, source.window(o.cloth)))
    pictures = torch.cat([maps.hair, dilate(maps.hair, source.window(o.strands)), kept, maps.body * source.validity], 1)
    hair, around, kept, body = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False).split(1, dim=1)
    colour = F.grid_sample(maps.colours, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    glimpsed = inside * _visible(source, grid, points[:, 2:]) * (facing > o.grazing)
    seen = glimpsed * ((facing - o.grazing) / o.facing).clamp(0, 1) * ((kept - 0.6) / 0.35).clamp(0, 1)
    row, column = degrees(seen)
    above = 1 - ramp(column.abs(), 75, 100)
    # hair that hangs before a cheek is not the cheek's
    seen = seen * (1 - (2 * around * (1 - (scalp / 0.3).clamp(0, 1)) * (1 - above)).clamp(max=1))
    # behind ears hair grows as around; what the photograph did not show above them is behind the forehead
    scalp = torch.lerp(smoothed(scalp, inside), scalp, inside).maximum(ramp(row, 45, 55) * above * (1 - seen))
    return _Texels((colour * (-light).exp() + DARKEST).log(), seen, glimpsed * (body > 0.5), hair, scalp)


def _other_ears(source: Source, maps: Maps, light: Tensor, o: MapOptions) -> Tensor:
    """What `HeadMap.other_ears` holds, with `HeadMap.light` (B,V,1); nothing is shown for a head model that doesn't know its symmetry."""
    head, points = source.head, source.posed.points
    if len(head.mirror) != head.vertex_count:
        return points.new_zeros(*points.shape[:2], 4)
    bare = 1 - dilate((maps.hanging + maps.hair).clamp(max=1), source.window(o.edge))
    kept = erode(maps.body * source.validity, source.window(o.edge)) * bare
    kept = F.grid_sample(kept, points[:, None, :, :2], align_corners=False)[:, 0, 0]
    shown = kept * _visible(source, points[:, None, :, :2], points[:, None, None, :, 2])[:, 0, 0]
    shown = shown * ((source.posed.normals[..., 2] - 0.1) / 0.2).clamp(0, 1) * head.vertex_mask("ears")
    return torch.cat([points[..., :2], light, shown[..., None]], -1)[:, head.mirror]


def _visible(source: Source, grid: Tensor, depth: Tensor) -> Tensor:
    """Whether the photographs show what lies at places (B,h,w,2), -1..1, and depths (B,1,h,w): bool (B,1,h,w)."""
    farthest = F.grid_sample(source.depth, grid, mode="nearest", padding_mode="border", align_corners=False)
    return (depth <= farthest + source.options.depth_tolerance) & (grid.abs() <= 1).all(-1)[:, None]


def _grows(source: Source, maps: Maps, rest: Tensor) -> Tensor:
    """(B,V): how far hair may grow there: not below the lobes of the ears, unless the photograph shows hair on the neck."""
    head = source.head
    ears = rest[:, head.vertex_mask("ears"), 1]
    lobe, middle = ears.amin(1, keepdim=True), ears.mean(1, keepdim=True)
    neck = source.posed.points[:, head.vertex_mask("neck"), :2]
    hanging = F.grid_sample(maps.hair, neck[:, None], align_corners=False).mean((1, 2, 3))[:, None]
    low = 1 - ramp(rest[..., 1], lobe - 0.005, middle)
    return hair_weight(head, rest) * (1 - low * (1 - ((hanging - 0.1) / 0.15).clamp(0, 1)))


def _mirrored(texels: _Texels) -> _Texels:
    """What one side of the head does not show, the other side may, in this side's colours."""
    own, other = texels, replace(texels, **{name: getattr(texels, name).flip(-1) for name in ("log_colour", "seen", "hair")})
    alike = own.seen * other.seen * (1 - (own.hair - other.hair).abs())
    differs = continued(own.log_colour - other.log_colour, alike, alike)
    brighter = differs.mean(1, keepdim=True)
    differs = brighter.clamp(-0.7, 0.7) + (differs - brighter).clamp(-0.15, 0.15)
    taken = other.seen * (1 - own.seen)
    total = (own.seen + taken).clamp_min(1e-3)
    colour = (own.log_colour * own.seen + _within(other.log_colour + differs, own.log_colour, own.seen > 0.9) * taken) / total
    hair = (own.hair * own.seen + other.hair * taken) / total
    some = own.seen + taken > 1e-3
    return replace(
        own,
        log_colour=torch.where(some, colour, own.log_colour),
        hair=torch.where(some, hair, own.hair),
        seen=(own.seen + taken).clamp(max=1),
    )


def _completed(texels: _Texels, o: MapOptions) -> Tensor:
    """(B,3,h,w): the logarithms of the colours where the photograph shows them, and their continuation."""
    sure = (erode(wrapped(texels.seen, 2), 5)[..., 2:-2] > 0.9).to(texels.seen)
    # bald heads stay bald: what grows behind is what grows in front, column by column
    hair = texels.scalp * smoothed(texels.hair, texels.glimpsed * (texels.scalp > 0.5))
    kind = ((torch.lerp(hair, texels.hair, texels.seen) - 0.3) / 0.4).clamp(0, 1)
    of_hair = sure * ((texels.hair - 0.5) / 0.3).clamp(0, 1) * (texels.scalp > 0.3)
    row, column = degrees(sure)
    of_skin = sure * (texels.hair < 0.3) * ~((column.abs() > 120) & (row > 60))
    skin_colour, hair_colour = (continued(texels.log_colour, one, sure) for one in (of_skin, of_hair))
    smooth = torch.lerp(skin_colour, hair_colour, kind)
    hole = (texels.seen < 0.99) & (row < o.reach)
    of_skin = of_skin * (row > 35)
    made = grain(texels.log_colour - smooth, kind, of_hair, of_skin, sure, o) * hole
    return torch.lerp(smooth + made, texels.log_colour, texels.seen)


def _sampled(texels: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """A map (B,C,h,w) at places (B,1,H,W): columns in -1..1, rows in 0..1."""
    wide = texels.shape[-1]
    grid = torch.cat([column * (wide / (wide + 2)), row * 2 - 1], 1).permute(0, 2, 3, 1)
    return F.grid_sample(wrapped(texels, 1), grid, padding_mode="border", align_corners=False)
