"""The change of light on a moved photograph: target light over source light, from the two meshes'
normals.

Shape letters: B batch, V vertices, H and W picture height and width. Ratios are kept as logarithms
until they are applied: their differences are exactly zero where nothing changes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checkpoint import asset_path, load_checkpoint
from ..common.pixels import erode, gather, gaussian_blur, odd
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import Raster, interpolate
from ..head.shading import sh_shading
from .exposure import exposed
from .motion import Surface
from .options import CarryOptions
from .state import Maps, PosedHead, Source

SMILE_KIND = "smile"
SMILE = ("mouthSmileLeft", "mouthSmileRight")
FOLDS = 0.8  # deeper, light of the studio that the map still holds shows as patches
SMILES = -1.0, 1.3  # change of the coefficients beyond which folds deepen no more


def log_shading(normals: Tensor, light: Tensor, floor: float) -> Tensor:
    """Logarithm of the light on vertices.

    Args:
        normals: (B,V,3).
        light: (B,9,3) spherical harmonics.
        floor: least shading, as a share of its mean over the vertices.

    Returns:
        (B,V,3), RGB.
    """
    shading = sh_shading(normals, light)
    return shading.maximum(floor * shading.mean(1, keepdim=True).clamp_min(0.05)).log()


def log_light_ratio(source: Source, posed: PosedHead, target: FaceAttributes) -> Tensor:
    """Logarithm of the target's light over the source's on every vertex, exactly zero for equal
    normals and lights.

    Args:
        source: the source.
        posed: the target's head.
        target: its light, and how far that was set by numbers.

    Returns:
        (B,V,3), RGB.
    """
    o = source.options
    own = log_shading(posed.normals, source.face.light, o.shading_floor)
    turned = _limited(own - source.log_shading, o.turn_limit)
    ratio = log_shading(posed.normals, target.light, o.shading_floor) - own + turned
    # a stressed light is no brighter: the mean ratio on what faces the viewer stays
    facing = posed.normals[..., 2:].clamp_min(0) + 1e-6
    stressed = o.light_gain * ratio
    stressed = stressed + ((facing * ratio.exp()).sum(1, keepdim=True) / (facing * stressed.exp()).sum(1, keepdim=True)).log()
    limited = _limited(stressed, o.ratio_limit)
    if target.lamp is None:
        return limited
    # numbers promise to leave the face's brightness alone; light of another picture is applied as it is
    # in one colour: where a lamp takes a coloured light away, little is known of the colour that is left
    colour = (target.light[:, :1].clamp_min(1e-3) / source.face.light[:, :1].clamp_min(1e-3)).log()
    grey = limited.mean(-1, keepdim=True) + colour - colour.mean(-1, keepdim=True)
    return torch.lerp(limited, exposed(source, grey, turned).clamp(-math.log(o.ratio_limit), math.log(o.ratio_limit)), target.lamp[:, None])


def _limited(log_ratio: Tensor, factor: float) -> Tensor:
    """The logarithm of a ratio that softly stays between a factor and its inverse."""
    limit = math.log(factor)
    return limit * torch.tanh(log_ratio / limit)


def spread_light(source: Source, target: PosedHead, surface: Surface, maps: Maps | None) -> tuple[Tensor, Tensor]:
    """The light ratio of the mesh, smoothed, and carried on beside the mesh as far as it counts.

    Args:
        source: the source.
        target: the target's head.
        surface: what its mesh shows.
        maps: the source's maps, carried along, or None: then light only fades with the distance
            from the skin.

    Returns:
        (B,3,H,W) logarithm of the ratio, RGB, on what moves with the head, and the same on what stays on the shoulders.
    """
    o, raster = source.options, target.raster
    # shoulders are covered: a light fitted to bare skin says little about cloth below it, so it
    # fades from the neck down
    skin = raster.mask & ~target.shoulders
    nearest, distance = target.nearest_above
    reach = o.light_reach if maps is None else o.matte_light_reach
    fade = torch.exp(-((distance / source.pixels(reach)) ** 2))[:, None] * inwards(
        source.size, source.pixels(o.light_border), raster.mask.device
    )
    # light near the silhouette comes from the skin that faces the camera: normals there were hardly
    # seen by any fit
    trust = target.mesh * (surface.facing.clamp(0, 1) ** 2 + 1e-3)
    blur = source.pixels(o.light_blur)
    weight = gaussian_blur(gather(trust, nearest), blur)
    log_ratio = gaussian_blur(gather(surface.log_ratio * trust, nearest), blur) / weight * fade
    if maps is None or source.person is None:
        return log_ratio, log_ratio
    # light goes as far as neck and hair do, less onto clothes, and not onto the background
    above_collar = skin & ~source.head.part_mask(raster, "neck")
    # whatever the matte says, a face's inside is lit; its mesh may stand out beyond the person
    inner = (erode(source.head.part_mask(of, "face")[:, None].to(maps.matte), odd(9 * source.unit)) for of in (raster, source.posed.raster))
    face, face_before = inner
    layers = source.person.layers
    return (
        log_ratio * torch.where(above_collar[:, None], (4 * maps.matte).clamp(max=1).maximum(face), maps.light),
        log_ratio * torch.where(above_collar[:, None], layers.person.maximum(face_before), layers.light),
    )


def inwards(size: tuple[int, int], width: float, device: torch.device) -> Tensor:
    """(H,W): 0 at the border of a picture, rising softly to 1 within `width` pixels."""
    rows, columns = ((torch.arange(n, device=device) + 0.5).minimum(n - 0.5 - torch.arange(n, device=device)) for n in size)
    x = (torch.minimum(rows[:, None], columns[None]) / width).clamp(max=1)
    return x * x * (3 - 2 * x)


def hidden_shading(head: HeadModel, raster: Raster, normals: Tensor, light: Tensor, o: CarryOptions) -> Tensor:
    """The light on skin that is guessed: an extrapolation there, so it is never dark.

    Args:
        head: the head model.
        raster: of the posed head.
        normals: (B,V,3) of its vertices.
        light: (B,9,3) spherical harmonics.
        o: floors of the shading.

    Returns:
        (B,3,H,W), RGB; 1 beside the head.
    """
    lit = sh_shading(normals, light)
    lit = lit.maximum(o.hidden_shading * lit.mean(1, keepdim=True)).clamp_min(o.shading_floor)
    return torch.where(raster.face[:, None] >= 0, interpolate(raster, head.faces, lit), 1.0)


def smile_folds(head: HeadModel) -> Tensor | None:
    """(1,1,R,R) logarithm of what a smile's folds do to the brightness of skin, on the head's
    surface, per unit of the smile's coefficients; None for a head model other than the bundled one.
    """
    found = load_checkpoint(asset_path("smile.safetensors"), SMILE_KIND)
    return found.tensors["folds"] if head.name == found.config["head"] else None


def fold_light(source: Source, target: FaceAttributes, posed: PosedHead) -> Tensor:
    """What the folds of a smile that grows do to light: they are too fine for the head model.

    Args:
        source: the source.
        target: B faces, with stretched expressions.
        posed: their head.

    Returns:
        (B,1,H,W) logarithm of a ratio; zero in rows whose smile stays.
    """
    if source.folds is None:
        return torch.zeros_like(source.image[:, :1])
    columns = [source.head.expression_names.index(name) for name in SMILE]
    change = (target.expression - source.face.expression)[:, columns].mean(1).clamp(*SMILES)[:, None, None, None]
    if not bool(change.any()):
        return torch.zeros_like(source.image[:, :1])
    shown = F.grid_sample(source.folds, source.head.uv_grid(posed.raster), padding_mode="border", align_corners=False)
    skin = source.head.part_mask(posed.raster, "face")[:, None].to(shown)
    return FOLDS * change * gaussian_blur(shown * skin, max(0.7, source.pixels(0.002)))
