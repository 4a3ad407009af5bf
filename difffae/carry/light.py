"""The change of light on a moved photograph: target light over source light, from the two meshes'
normals.

Shape letters: B batch, V vertices, H and W picture height and width. Ratios are kept as logarithms
until they are applied: their differences are exactly zero where nothing changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.checkpoint import asset_path, load_checkpoint
from ..common.pixels import dilate, erode, flow_grid, gather, gaussian_blur, odd, pixel_grid, pull_push
from ..head.adjust import WARMEST
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import Raster, interpolate
from ..head.shading import sh_shading
from ..source.regions import Layers
from .exposure import brightest_cells, exposed, inwards, limited, unburnt
from .motion import Surface
from .options import CarryOptions
from .state import Maps, PosedHead, Source

SMILE_KIND = "smile"
SMILE = ("mouthSmileLeft", "mouthSmileRight")
FOLDS = 0.8  # deeper, light of the studio that the map still holds shows as patches
COARSE = 4  # pixels of a cell in which light that is blurred anyway is worked out
CELLS = 32  # of a square's side in which a body is known
BEVEL = 1.5  # tangent of the angle by which a body turns away from the viewer at its outline
ROUND = 0.8  # and at the ends of its shoulders
LOCKS = 24.0  # 256ths of the side over which the light of a head goes over into that of the body on hair that hangs down
BETWEEN = 9, 168, 133, 362  # landmarks between the brows, at the root of the nose, at the inner corners of the eyes
SMILES = -1.0, 1.3  # change of the coefficients beyond which folds deepen no more
# --- the shade below a jaw; lengths named u are 1/256 of the side ---
JAW = "jawOpen"
SHADE_REACH = 14.0  # u below a jaw at which its shade ends
SHADE_STEPS = 6
STANDS_OUT = 4.0, 12.0  # u by which what lies above stands out: from the first on it shades, by the second it does fully
CHIN_SHADE = 0.26  # most of the light that it takes; a photograph's own shade, which the jaw covers, took as much
JAW_DROPS = 0.15  # change of the jaw's coefficient from which all of it counts


@dataclass(frozen=True, eq=False)
class Body:
    """The person below the head, in P cells of a square grid over the picture, row by row.

    Attributes:
        normals: (B,P,3) unit vectors.
        log_shading: (B,P,3) logarithm of the source's light on them.
        brightest: (B,P,1) value of the brightest channel around each.
    """

    normals: Tensor
    log_shading: Tensor
    brightest: Tensor


def log_shading(normals: Tensor, light: Tensor, floor: float, count: int | None = None) -> Tensor:
    """Logarithm of the light on points.

    Args:
        normals: (B,N,3).
        light: (B,9,3) spherical harmonics.
        floor: least shading, as a share of its mean over the first `count` points.
        count: None for all.

    Returns:
        (B,N,3), RGB.
    """
    shading = sh_shading(normals, light)
    return shading.maximum(floor * shading[:, :count].mean(1, keepdim=True).clamp_min(0.05)).log()


def body_below(image: Tensor, posed: PosedHead, face: FaceAttributes, head: HeadModel, layers: Layers, o: CarryOptions) -> Body | None:
    """The body of a person as far as light needs it: which way it faces, to a few degrees, and how bright it is.

    The head model has no clothes. A trunk is about half a cylinder as wide as the model's shoulders, and near its outline,
    wherever that is, it curves away from the viewer.

    Args:
        image: (B,3,H,W) RGB 0..1.
        posed: the head in it.
        face: its light.
        head: the head model.
        layers: what the image shows where.
        o: how to relight.

    Returns:
        None for a head model without shoulders.
    """
    shoulders = head.vertex_mask("shoulders")
    if not bool(shoulders.any()):
        return None
    cells = F.adaptive_avg_pool2d(layers.person, CELLS)
    sigma = o.body_edge * CELLS
    inner = F.pad(gaussian_blur(cells, sigma), (1, 1, 1, 1), mode="replicate")
    slope = torch.cat([inner[..., 1:-1, 2:] - inner[..., 1:-1, :-2], inner[..., :-2, 1:-1] - inner[..., 2:, 1:-1]], 1) / 2
    # at a straight edge the slope is 1 / (sigma sqrt(2 pi))
    away = -BEVEL * math.sqrt(2 * math.pi) * sigma * slope
    x = posed.points[:, shoulders, 0]
    left, right = x.amin(1)[:, None, None, None], x.amax(1)[:, None, None, None]
    across = pixel_grid(CELLS, CELLS, image)[..., 0]
    round_ = ROUND * ((2 * across - left - right) / (right - left).clamp_min(1e-3)).clamp(-1, 1)
    normals = F.normalize(torch.cat([away[:, :1] + round_, away[:, 1:], torch.ones_like(round_)], 1), dim=1).flatten(2).transpose(1, 2)
    points = torch.cat([posed.normals, normals], 1)
    count = posed.normals.shape[1]
    return Body(normals, log_shading(points, face.light, o.shading_floor, count)[:, count:], brightest_cells(image, layers.person, CELLS))


def log_light_ratio(source: Source, posed: PosedHead, target: FaceAttributes) -> tuple[Tensor, Tensor | None]:
    """Logarithm of the target's light over the source's on every vertex and on the body, exactly zero for equal
    normals and lights.

    Args:
        source: the source.
        posed: the target's head.
        target: its light, and how far that was set by numbers.

    Returns:
        (B,V,3), RGB, and (B,P,3) on the cells of `Source.body`, or None.
    """
    o, body, count = source.options, source.body, posed.normals.shape[1]
    normals, before = posed.normals, source.log_shading
    if body is not None:
        normals, before = torch.cat([normals, body.normals], 1), torch.cat([before, body.log_shading], 1)
    own = log_shading(normals, source.face.light, o.shading_floor, count)
    turned = limited(own - before, o.turn_limit)
    change = log_shading(normals, target.light, o.shading_floor, count) - own
    found = _exposed_ratio(source, posed, target, change, turned)
    return found[:, :count], None if body is None else found[:, count:]


def _exposed_ratio(source: Source, posed: PosedHead, target: FaceAttributes, change: Tensor, turned: Tensor) -> Tensor:
    """The logarithm of a ratio of lights (B,V+P,3), stressed and within its limits, and exposed where numbers set it.

    Args:
        source: the source.
        posed: the target's head.
        target: its light.
        change: (B,V+P,3) what comes from the other light.
        turned: (B,V+P,3) what comes from the head's turn.
    """
    o, count = source.options, posed.normals.shape[1]
    facing = F.pad(posed.normals[..., 2:].clamp_min(0) + 1e-6, (0, 0, 0, change.shape[1] - count))
    mean = (facing * change).sum(1, keepdim=True) / facing.sum(1, keepdim=True)
    # over a face its colour does not change: where the fit's own does, surroundings of a colour are reflected, or skin is of another
    colour = mean - mean.mean(-1, keepdim=True)
    natural, gain = natural_colour(colour, o), torch.full_like(mean[..., :1], o.light_gain)
    if target.lamp is not None:
        natural = torch.lerp(natural, colour, target.lamp[:, None])
        gain = torch.lerp(gain, torch.full_like(gain, o.lamp_gain), target.lamp[:, None])
    change = change.mean(-1, keepdim=True) + natural
    ratio, stressed = change + turned, gain * change + turned
    # a stressed light is no brighter: the mean ratio on what of the head faces the viewer stays
    stressed = stressed + ((facing * ratio.exp()).sum(1, keepdim=True) / (facing * stressed.exp()).sum(1, keepdim=True)).log()
    soft = limited(stressed, o.ratio_limit)
    # numbers promise to leave the face's brightness alone; light of another picture may make it brighter or darker
    taken = turned + unburnt(source, soft - turned)
    if target.lamp is None:
        return taken
    # in one colour: where a lamp takes a coloured light away, little is known of the colour that is left
    colour = (target.light[:, :1].clamp_min(1e-3) / source.face.light[:, :1].clamp_min(1e-3)).log()
    grey = soft.mean(-1, keepdim=True) + colour - colour.mean(-1, keepdim=True)
    return torch.lerp(taken, exposed(source, grey, turned).clamp(-math.log(o.ratio_limit), math.log(o.ratio_limit)), target.lamp[:, None])


def natural_colour(colour: Tensor, o: CarryOptions) -> Tensor:
    """The colour of a light (...,3) as logarithms without their mean, as lamps and skies have it: on the line from warm to cold. A fit to a
    face takes part of it for the colour of skin, so that what it finds there is too little; green and magenta are what it gets wrong."""
    warm = colour.new_tensor(WARMEST)
    warm = warm - warm.mean()
    along = (colour * warm).sum(-1, keepdim=True) / warm.square().sum() * warm
    return o.warmth_gain * along + o.other_tint * (colour - along)


def spread_light(
    source: Source,
    target: PosedHead,
    surface: Surface,
    body: Tensor | None,
    maps: Maps | None,
    resting: Tensor,
    lamp: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The light ratio of the mesh, smoothed, and carried on beside the mesh, where it goes over into that of the body.

    Args:
        source: the source.
        target: the target's head.
        surface: what its mesh shows.
        body: (B,P,3) logarithm of the ratio on the body, or None.
        maps: the source's maps, carried along, or None: then light only fades with the distance
            from the skin.
        resting: (B,2,H,W) source minus target position of what rests on the shoulders, in pixels.
        lamp: (B,1) in 0..1, how far numbers set the light; None: not at all.

    Returns:
        (B,3,H,W) logarithm of the ratio, RGB, on what moves with the head, and the same on what stays on the shoulders.
    """
    o = source.options
    distance = target.nearest_above[1]
    reach = o.light_reach if maps is None else o.matte_light_reach
    fade = torch.exp(-((distance / source.pixels(reach)) ** 2))[:, None]
    border = inwards(source)
    near_hair = None if maps is None else _near_hair(source, maps)
    log_ratio = _smooth_light(source, target, surface, maps, near_hair, lamp)
    if maps is None or near_hair is None or source.person is None:
        return (log_ratio * fade * border,) * 2
    if body is not None:
        cells = body.transpose(1, 2).unflatten(2, (CELLS, CELLS))
        around = F.grid_sample(cells, flow_grid(resting), mode="bicubic", padding_mode="border", align_corners=False)
        # a matte may hold what is beside a body
        around = o.body_share * around * torch.exp(-((surface.distance / source.pixels(o.body_reach)) ** 2))[:, None]
        # from the neck down to the shoulders the body's light takes the place of the skin's, on a collar at once, and slowly along hair.
        # Elsewhere light ends away from skin: a matte of loose hair may hold what is behind it
        shoulders = gaussian_blur(gather(target.shoulders[:, None].to(log_ratio), target.nearest[0]), source.pixels(o.collar_blur))
        at_once, slowly = (gaussian_blur(maps.resting, size * source.unit) for size in (1, LOCKS))
        lies_there = torch.lerp(at_once, slowly, near_hair)
        log_ratio = torch.lerp(log_ratio * fade, around, shoulders.maximum(lies_there))
    else:
        log_ratio = log_ratio * fade
    # whatever the matte says, a face's inside is lit; its mesh may stand out beyond the person
    inner = (erode(of.part("face").to(maps.matte), odd(9 * source.unit)) for of in (target, source.posed))
    face, face_before = inner
    # of clothes whose body is not known little is said by a light that was fitted to bare skin
    fully = torch.ones_like(target.mesh)
    if body is None:
        fully = target.mesh & ~target.part("shoulders", "neck")
    layers, log_ratio = source.person.layers, log_ratio * border
    return (
        log_ratio * torch.where(fully, (4 * maps.matte).clamp(max=1).maximum(face), maps.light),
        log_ratio * torch.where(fully, layers.person.maximum(face_before), layers.light),
    )


def _smooth_light(
    source: Source, target: PosedHead, surface: Surface, maps: Maps | None, near_hair: Tensor | None, lamp: Tensor | None
) -> Tensor:
    """The light ratio of the mesh without what the photograph does not show of it, and going on beside it.

    Arguments as of `spread_light`, and `_near_hair` of the maps.

    Returns:
        (B,3,H,W) logarithm of the ratio, RGB.
    """
    o, nearest = source.options, target.nearest_above[0]
    # light near the silhouette comes from the skin that faces the camera: normals there were hardly
    # seen by any fit
    trust = target.mesh * (surface.facing.clamp(0, 1) ** 2 + 1e-3)
    blur = source.pixels(o.light_blur)
    log_ratio = gaussian_blur(gather(surface.log_ratio * trust, nearest), blur) / gaussian_blur(gather(trust, nearest), blur)
    # the mesh's eyeballs and lids are not where the photograph's are: eyes are lit as the skin around
    eyes = dilate(target.part("eyes", "sockets").to(trust), odd(o.eye_margin * source.side))
    around = _going_on(log_ratio, 1 - eyes, source.pixels(o.eye_blur))
    log_ratio = torch.lerp(log_ratio, around, gaussian_blur(eyes, source.pixels(o.eye_blur)))
    share = o.glabella_taken if lamp is None else o.glabella_taken + (1 - o.glabella_taken) * lamp[:, :, None, None]
    log_ratio = log_ratio + share * _without_frown(source, target, log_ratio, 1 - eyes)
    if maps is None or near_hair is None:
        return log_ratio
    # hair is a volume around the whole head that light enters: ears, jaws and necks under it do not show
    form = (trust * target.part("face", "scalp") * (1 - eyes)).clamp(max=1)
    volume = _going_on(surface.log_ratio, form, source.pixels(o.hair_light_blur))
    bare = target.part("face", "ears", "neck")
    hair = maps.hair.maximum(dilate(maps.hair, odd(9 * source.unit)) * ~bare)
    hair = gaussian_blur(hair, 1.5 * source.unit).maximum(maps.resting * near_hair)
    return torch.lerp(log_ratio, limited(volume, o.hair_ratio_limit), hair)


def _near_hair(source: Source, maps: Maps) -> Tensor:
    """(B,1,H,W) 0..1: near hair, whose locks may lie on shoulders, where masks take them for clothes."""
    return gaussian_blur(dilate(maps.hair, odd(LOCKS * source.unit)), LOCKS / 3 * source.unit)


def _without_frown(source: Source, target: PosedHead, log_ratio: Tensor, known: Tensor) -> Tensor:
    """What a light ratio (B,3,H,W) lacks between the brows to be as bright as it goes on from around: the head model frowns there where
    faces do not, and a lamp above would join the brows. (Light of another picture was fitted with that frown.) Only what is too dark on
    both sides of the face changes: lit from the side a nose has a bright and a dark flank, and from below that place shines.

    Args:
        known: (B,1,H,W) 0 on the eyes, where the ratio goes on from around, too.
    """
    head, size = source.head, target.points.new_tensor([source.size[1], source.size[0]])
    if not head.has_face_mesh or source.options.glabella == 0:
        return torch.zeros_like(log_ratio)
    above, root, inner, other = ((head.landmarks(target.points)[:, list(BETWEEN), :2] + 1) / 2 * size).unbind(1)
    middle, radius = (above + root)[:, None, None] / 2, source.options.glabella * (inner - other).norm(dim=-1).clamp_min(1e-3)
    away = (pixel_grid(*source.size, log_ratio) + 1) / 2 * size - middle
    frown = (3 - 2 * away.norm(dim=-1) / radius[:, None, None]).clamp(0, 1)[:, None]
    blur = source.pixels(source.options.eye_blur)
    change = (_going_on(log_ratio, known * (1 - frown), blur) - log_ratio) * gaussian_blur(frown, blur)
    across = F.normalize(inner - other, dim=-1)[:, None, None]
    mirrored = away - 2 * (away * across).sum(-1, keepdim=True) * across + middle
    other_side = F.grid_sample(change, mirrored / size * 2 - 1, padding_mode="border", align_corners=False)
    return torch.minimum(change, other_side).clamp_min(0)


def _going_on(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Values (B,C,H,W) where a weight (B,1,H,W) knows them, smoothly continued elsewhere, and blurred."""
    known = F.avg_pool2d(weight, COARSE, ceil_mode=True)
    cells = F.avg_pool2d(values * weight, COARSE, ceil_mode=True) / known.clamp_min(1e-6)
    smooth = gaussian_blur(pull_push(cells, known), sigma / COARSE)
    height, width = values.shape[-2:]
    return F.interpolate(smooth, scale_factor=COARSE, mode="bilinear", align_corners=False)[..., :height, :width]


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
    skin = posed.part("face").to(shown)
    return FOLDS * change * gaussian_blur(shown * skin, max(0.7, source.pixels(0.002)))


def chin_shade(source: Source, target: FaceAttributes, posed: PosedHead) -> Tensor:
    """What a jaw that moves does to the light on the neck, which the head model's light knows nothing of: its shade goes along.

    Args:
        source: the source.
        target: B faces, with stretched expressions.
        posed: their head.

    Returns:
        (B,1,H,W) logarithm of a ratio; zero beside the neck, and in rows whose jaw stays.
    """
    nothing = torch.zeros_like(source.image[:, :1])
    if JAW not in source.head.expression_names:
        return nothing
    column = source.head.expression_names.index(JAW)
    moves = (target.expression - source.face.expression)[:, column].abs().div(JAW_DROPS).clamp(max=1)[:, None, None, None]
    if not bool(moves.any()):
        return nothing
    now, before = (torch.log1p(-CHIN_SHADE * _shaded(one, source.unit)) for one in (posed, source.posed))
    neck = posed.part("neck", "shoulders").to(nothing)
    return moves * gaussian_blur(neck * (now - before), 1.2 * source.unit)


def _shaded(posed: PosedHead, unit: float) -> Tensor:
    """(B,1,H,W) in 0..1: how much of the neck's light the jaw above it takes; soft, so every other pixel tells."""
    raster, size = posed.raster, posed.labels.shape[-2:]
    depth = torch.where(raster.mask, raster.depth, torch.full_like(raster.depth, torch.inf))[:, None, ::2, ::2]
    neck = posed.part("neck", "shoulders")[..., ::2, ::2].to(depth)
    per_unit = max(size) / 2 / unit  # u in a unit of depth
    shade = torch.zeros_like(depth)
    low, high = STANDS_OUT
    for step in range(1, SHADE_STEPS + 1):
        rows = max(1, round(SHADE_REACH * unit / 2 * step / SHADE_STEPS))
        above = F.pad(depth, (0, 0, rows, 0), value=torch.inf)[..., : depth.shape[-2], :]
        gap = torch.where(depth.isinf() | above.isinf(), 0, depth - above) * per_unit
        shade = shade.maximum(((gap - low) / (high - low)).clamp(0, 1) * (1 - (step - 1) / SHADE_STEPS))
    return F.interpolate(gaussian_blur(shade * neck, unit), size, mode="bilinear", align_corners=False)
