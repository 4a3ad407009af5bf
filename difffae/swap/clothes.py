"""Clothes that are replaced in a whole photograph: the reference's, on the source's body, which keeps its outline.

The reference is laid over the source so that heads and shoulders meet. What it does not show of its clothes (below its frame, under its
hair, beside its body) goes on as what is beside it; where it shows bare skin, so does the result, in the source's colour.

Shape letters: H and W picture height and width, h and w those of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.cutout import unmixed
from ..common.pixels import dilate, erode, gather, gaussian_blur, nearest_inside, odd, pull_push
from ..faces.crop import FaceCrop
from ..source.whole_matte import resized, working_size

# shares of the face's side
SHOULDERS = (0.2, 0.48)  # how far beside the neck shoulders are compared
NECK = 0.17  # half the width in which a neck may be bare
JAW = 0.012  # clothes keep so far from the face
TINTED = 0.04  # standard deviation of the window in which skin gets the source's colour
EDGE = 0.02  # width of the rim of old clothes on skin that goes with them
MIRRORED = 0.5  # how far what is not shown of clothes goes on as in a mirror
COLLAR, COLLAR_COLUMN = 0.06, 0.26  # how far a collar stands out from the neck, and half the width in which it may
FARTHEST = 0.3  # by which shoulders are moved up or down
ASIDE = 0.26  # how far beside the neck a body is dressed for sure
COARSE, SAMPLES, LIKE = 160, 600, 0.03  # side at which bare skin is looked for, colours that are compared, and how alike
SURE = 0.98  # alpha from which on a pixel is the person's alone
LARGEST_TINT = 2.5  # factor between the skins of two people


@dataclass(frozen=True, eq=False)
class Dressed:
    """A whole photograph of a person.

    Attributes:
        picture: (1,3,H,W) RGB 0..1.
        alpha: (1,1,H,W) share of the person.
        hair: (1,1,H,W) in 0..1.
        cloth: (1,1,H,W) in 0..1.
        face: (1,1,H,W) 1 on the head model's face and ears.
        square: of the face in the picture.
        camera: (3,) of the head in the square: p = s (x + t).
    """

    picture: Tensor
    alpha: Tensor
    hair: Tensor
    cloth: Tensor
    face: Tensor
    square: FaceCrop
    camera: Tensor

    def reduced(self) -> Dressed:
        """The same at the size at which whole pictures are worked on."""
        size = working_size(self.picture)
        fields = {name: resized(getattr(self, name), size) for name in ("picture", "alpha", "hair", "cloth", "face")}
        height, width = self.picture.shape[-2:]
        x, y = size[1] / width, size[0] / height
        one = self.square
        square = replace(one, left=round(one.left * x), top=round(one.top * y), side=round(one.side * x), height=size[0], width=size[1])
        return replace(self, square=square, **fields)

    @property
    def middle(self) -> float:
        """Column of the head's middle, in pixels."""
        scale, x, _ = self.camera.tolist()
        return self.square.left + (scale * x + 1) / 2 * self.square.side


def with_clothes(source: Dressed, reference: Dressed) -> Tensor:
    """A person in the clothes of a reference: (1,3,H,W)."""
    small = source.reduced()
    theirs = _fitted(reference.reduced(), small)
    side, free = small.square.side, (1 - small.hair) * _below_chin(small)
    front = torch.where(small.alpha > SURE, small.picture, unmixed(small.picture, small.alpha)[0])
    # skin stays unless their clothes lie over it, a rim of old clothes on it does not
    own_skin = (1 - small.hair) * (1 - gaussian_blur(dilate(small.cloth, odd(2 * EDGE * side)), max(0.5, EDGE / 2 * side)))
    own_skin = own_skin.clamp(0, 1) * (small.alpha > 0).to(small.alpha)
    skin = _like_own(theirs.skin, front, own_skin * (small.alpha > SURE), side)
    body = torch.lerp(torch.lerp(skin, front, own_skin), theirs.colours, theirs.cloth)
    head = dilate(small.face, odd(2 * JAW * side)) * (1 - small.cloth)
    changed = free * (1 - head) * torch.lerp(1 - own_skin, torch.ones_like(own_skin), theirs.cloth)
    # collars stand out from a neck that is bare so far
    near = ((dilate(small.alpha, odd(2 * COLLAR * side)) - 0.3) / 0.4).clamp(0, 1) * _column(small, COLLAR_COLUMN)
    beyond = theirs.worn * near * free * (1 - small.alpha)
    size = (source.picture.shape[-2], source.picture.shape[-1])
    front, body, changed, beyond, colours = (resized(values, size) for values in (front, body, changed, beyond, theirs.colours))
    front = torch.where(source.alpha > SURE, source.picture, front)
    return torch.lerp(source.picture + source.alpha * changed * (body - front), colours, beyond).clamp(0, 1)


def clothes_by_colour(whole: Dressed, known: Tensor) -> Tensor:
    """Clothes of a person, of which the square around the face is roughly known: below the chin everything is dressed but what hangs
    together with the face and has rather the colour of skin than that of clothes.

    Args:
        whole: the photograph, with `cloth` of the square alone.
        known: (1,1,H,W) 1 in the square.

    Returns:
        (1,1,H,W) in 0..1.
    """
    side, size = whole.square.side, (whole.picture.shape[-2], whole.picture.shape[-1])
    scale = min(1.0, COARSE / side)
    coarse = max(2, round(size[0] * scale)), max(2, round(size[1] * scale))
    below = _below_chin(whole)
    rough = torch.lerp(below * whole.alpha * (1 - whole.hair), whole.cloth, known)
    names = {"alpha": whole.alpha, "cloth": whole.cloth, "face": whole.face, "known": known, "rough": rough, "below": below}
    small = {name: resized(values, coarse)[0, 0] for name, values in names.items()}
    bare = resized((1 - whole.cloth - whole.hair).clamp_min(0) * known * whole.alpha, coarse)[0, 0] > 0.9
    body = (small["alpha"] > 0.5) & (small["below"] > 0)
    columns = torch.arange(coarse[1], device=body.device, dtype=whole.picture.dtype)
    aside = (columns - whole.middle * scale).abs() > ASIDE * side * scale
    skin = ((small["face"] > 0.95) & (small["alpha"] > 0.95)) | (bare & body)
    worn = body & (small["rough"] > 0.9) & ((small["known"] > 0.5) | aside)
    if not bool(body.any() and skin.any() and worn.any()):
        return rough
    colours = resized(whole.picture, coarse)[0].permute(1, 2, 0)
    cost = [torch.cdist(colours[body], _some(colours[sure])).amin(1) for sure in (skin, worn)]
    prior = torch.where(small["known"] > 0.5, 1 - small["cloth"], 0.5)[body]
    like = torch.zeros_like(small["alpha"])
    like[body] = torch.sigmoid((cost[1] - cost[0]) / LIKE + torch.logit(prior, 0.15))
    like = gaussian_blur(like[None, None], 1.5)
    free = ((like[0, 0] > 0.5) & body) | (small["face"] > 0.5)
    found = (small["face"] > 0.5).to(like)[None, None]
    for _ in range(2 * COARSE):
        grown = dilate(found, 3) * free
        if torch.equal(grown, found):
            break
        found = grown
    dressed = resized(1 - gaussian_blur(found * free, 0.6), size)
    return torch.lerp(rough, dressed * whole.alpha * (1 - whole.hair), below)


def _some(colours: Tensor) -> Tensor:
    """At most SAMPLES of some colours (N,3), evenly picked."""
    return colours[torch.linspace(0, len(colours) - 1, min(len(colours), SAMPLES), device=colours.device).round().long()]


def _like_own(skin: Tensor, own: Tensor, where: Tensor, side: float) -> Tensor:
    """Skin (1,3,H,W) in the colours of the own around it (1,3,H,W), which a mask (1,1,H,W) shows."""
    if not bool((where > 0.9).any()):
        return skin
    wanted, given = (gaussian_blur(values, TINTED * side) + 0.02 for values in (pull_push(own, where.square()), skin))
    return (skin * (wanted / given).clamp(1 / LARGEST_TINT, LARGEST_TINT)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A reference's clothes on a source's body, each (1,C,H,W) of the source.

    Attributes:
        colours: of the clothes, which go on everywhere.
        cloth: 1 where there are clothes rather than skin; goes on everywhere.
        worn: share of the clothes that the reference shows.
        skin: its skin in the source's colour.
    """

    colours: Tensor
    cloth: Tensor
    worn: Tensor
    skin: Tensor


def _fitted(reference: Dressed, source: Dressed) -> _Fitted:
    side, u = source.square.side, 0.01 * source.square.side
    front = torch.where(reference.alpha > SURE, reference.picture, unmixed(reference.picture, reference.alpha)[0])
    grid = _grid(reference, source)
    maps = torch.cat([front, reference.alpha, reference.cloth, reference.hair, reference.face], 1)
    there = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    colours, alpha, cloth, hair, face = there.split((3, 1, 1, 1, 1), 1)
    inside = (grid.abs().amax(-1)[:, None] < 1).to(alpha)
    seen = alpha * inside * (1 - dilate(hair, odd(u)).maximum(dilate(face, odd(2 * JAW * side))))
    sure, bare = (((erode(share * seen, odd(u))) > 0.9).to(seen) for share in (cloth, 1 - cloth))
    if not bool(sure.any()):
        return _Fitted(colours, torch.zeros_like(cloth), torch.zeros_like(cloth), colours)
    known = ((cloth * seen - 0.5) / 0.3).clamp(0, 1)
    going_on = torch.lerp(_going_on(colours, sure, side), colours, known)
    # in front of the neck goes on what is nearest, beside it clothes
    nearest = gaussian_blur(_nearest(cloth, sure.maximum(bare)), u)
    nearest = torch.lerp(torch.ones_like(nearest), nearest, _column(source, NECK))
    dressed = torch.lerp(nearest, cloth, ((seen - 0.5) / 0.4).clamp(0, 1)).clamp(0, 1)
    skin = gaussian_blur(_nearest(colours, bare), u) if bool(bare.any()) else source.picture
    skin = torch.lerp(skin, colours, bare)
    tint = _tint(source, reference) if bool(bare.any()) else 1.0
    return _Fitted(going_on, dressed, cloth * seen, (skin * tint).clamp(0, 1))


def _column(one: Dressed, half: float) -> Tensor:
    """(1,1,H,W): 1 around the column of the head's middle, to `half` of the face's side, 0 beyond it."""
    columns = torch.arange(one.alpha.shape[-1], device=one.alpha.device, dtype=one.alpha.dtype)
    return (1 - ((columns - one.middle).abs() / (half * one.square.side) - 0.8) / 0.4).clamp(0, 1).expand_as(one.alpha)


def _tint(source: Dressed, reference: Dressed) -> Tensor:
    """(1,3,1,1): the source's skin over the reference's."""

    def mean(one: Dressed) -> Tensor:
        where = erode(one.face, odd(0.03 * one.square.side)) * (1 - one.hair) + 1e-6
        return (one.picture * where).sum((2, 3), keepdim=True) / where.sum((2, 3), keepdim=True) + 0.02

    return (mean(source) / mean(reference)).clamp(1 / LARGEST_TINT, LARGEST_TINT)


def _below_chin(one: Dressed) -> Tensor:
    """(1,1,H,W): 1 below the middle of the face, where clothes may be."""
    rows = torch.arange(one.face.shape[-2], device=one.face.device, dtype=one.face.dtype)[:, None]
    there = one.face[0, 0].amax(1).nonzero()
    bottom = float(there.max()) if len(there) else one.square.centre[1]
    return ((rows - bottom) / (0.05 * one.square.side) + 3.5).clamp(0, 1).expand_as(one.face)


def _going_on(colours: Tensor, sure: Tensor, side: float) -> Tensor:
    """Colours (1,3,H,W) of clothes everywhere: near the border of what is sure (1,1,H,W) as in a mirror, farther on in one colour."""
    height, width = sure.shape[-2:]
    index, away = nearest_inside(sure[:, 0] > 0)
    row, column = (at.to(index) for at in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    row, column = 2 * torch.div(index, width, rounding_mode="floor") - row, 2 * (index % width) - column
    mirror = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    fits = gather(sure, mirror)
    nearest = gaussian_blur(gather(colours, index), 0.02 * side)
    mirrored = torch.lerp(nearest, gather(colours, mirror), gaussian_blur(fits, 1.0).minimum(fits))
    share = (away[:, None] / (MIRRORED * side)).clamp(0, 1)
    beyond = gaussian_blur(gather(colours, index), 0.08 * side)
    return torch.lerp(torch.lerp(mirrored, gaussian_blur(mirrored, 0.02 * side), share), beyond, share.square())


def _nearest(values: Tensor, where: Tensor) -> Tensor:
    """Every pixel's nearest value of those where a mask (1,1,H,W) is set: (1,C,H,W)."""
    return gather(values, nearest_inside(where[:, 0] > 0)[0])


def _grid(reference: Dressed, source: Dressed) -> Tensor:
    """Where the reference shows what lies on the source's body: (1,H,W,2) in -1..1 of its picture."""
    height, width = source.picture.shape[-2:]
    columns = torch.arange(width, dtype=source.picture.dtype, device=source.picture.device) + 0.5
    rows = torch.arange(height, dtype=source.picture.dtype, device=source.picture.device)[:, None] + 0.5
    x, y = _across(source, reference, columns.expand(height, -1), rows.expand(-1, width))
    shift = _shoulder_shift(reference, source, columns)
    y = y + shift
    size = x.new_tensor([reference.picture.shape[-1], reference.picture.shape[-2]])
    return (torch.stack([x, y], -1) * 2 / size - 1)[None]


def _across(source: Dressed, reference: Dressed, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of the source as the reference's camera sees the same places."""
    (s, tx, ty), (s2, tx2, ty2) = source.camera.tolist(), reference.camera.tolist()
    one, other = source.square, reference.square
    world_x = ((x - one.left) / one.side * 2 - 1) / s - tx
    world_y = (1 - (y - one.top) / one.side * 2) / s - ty
    return (
        other.left + (s2 * (world_x + tx2) + 1) / 2 * other.side,
        other.top + (1 - s2 * (world_y + ty2)) / 2 * other.side,
    )


def _shoulder_shift(reference: Dressed, source: Dressed, columns: Tensor) -> Tensor:
    """(W,): how much lower the reference's shoulders are than the source's, in its pixels, by the source's columns."""
    side = source.square.side
    tops = _shoulders(source)
    x, y = _across(source, reference, columns, tops)
    theirs = _shoulders(reference)
    at = x.round().long()
    inside = (at >= 0) & (at < len(theirs))
    difference = theirs[at.clamp(0, len(theirs) - 1)] - y
    difference = torch.where(inside, difference, torch.nan)
    beside = (columns - source.middle) / side
    found = []
    for sign in (-1, 1):
        here = difference[(sign * beside > SHOULDERS[0]) & (sign * beside < SHOULDERS[1])]
        here = here[here.isfinite()]
        found.append(float(here.median()) if len(here) > 0.2 * (SHOULDERS[1] - SHOULDERS[0]) * side else None)
    left, right = found[0] if found[0] is not None else found[1], found[1] if found[1] is not None else found[0]
    if left is None or right is None:
        return torch.zeros_like(columns)
    limit = FARTHEST * reference.square.side
    share = ((beside / SHOULDERS[0]) * 0.5 + 0.5).clamp(0, 1)
    return (left + (right - left) * share).clamp(-limit, limit)


def _shoulders(one: Dressed) -> Tensor:
    """(W,): the row in which the body begins, by columns; nan where hair is in front of it, or nothing is there."""
    below = _below_chin(one)[0, 0]
    body = (one.alpha * (1 - one.hair))[0, 0] * below > 0.5
    hair = dilate(one.hair, odd(0.03 * one.square.side))[0, 0] > 0.5
    height = body.shape[0]
    rows = torch.arange(height, device=body.device)[:, None]
    first = torch.where(body, rows, height).amin(0)
    there = first.clamp(max=height - 1)
    columns = torch.arange(body.shape[1], device=body.device)
    good = (first < height) & ~hair[there, columns] & (first > 0)
    return torch.where(good, first.to(one.picture), torch.nan)
