"""A photograph taken apart: how much of each pixel is the person, the person's own colours, and what is behind.

The layers of a source (`source.regions`) know the person's outline to a few pixels. That is enough to relight a picture, but a
head that moves shows it: a rim of the old background travels with it, and a ring of its old outline stays. Here the
outline is found at the photograph's own resolution and both colours that mix in it are estimated.

Shape letters: B batch, H and W picture height and width. Lengths are in units u, 1/256 of the picture's longer side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, gather, gaussian_blur, nearest_inside, odd, opened, pull_push
from ..source.regions import Layers
from .backdrop import behind, grown, straight_lines
from .hair_volume import ramp
from .options import CutoutOptions
from .state import Backdrop, PosedHead


@dataclass(frozen=True, eq=False)
class Cutout:
    """A person apart from the background.

    Attributes:
        alpha: (B,1,H,W) share of the person.
        colours: (B,3,H,W) the person's own colours; beyond the person those of its edge go on.
        backdrop: the picture as if the person were not in it.
        plain: (B,1,H,W) how plain the background is around.
    """

    alpha: Tensor
    colours: Tensor
    backdrop: Backdrop
    plain: Tensor


def cut_out(image: Tensor, layers: Layers, options: CutoutOptions | None = None, shown: Tensor | None = None) -> Cutout:
    """Take a photograph apart.

    Args:
        image: (B,3,H,W) RGB 0..1.
        layers: of the same picture.
        options: how.
        shown: (B,1,H,W) in 0..1, where the image is the photograph; None for all of it.
    """
    o = options or CutoutOptions()
    cloth = (layers.loose - layers.hair).clamp_min(0)
    wide = _person_and_strands(layers, cloth, image, o)
    filled, plain, wall = behind(image, wide, o, shown)
    alpha = _projected(image, filled, plain, layers, cloth, o)
    strays = _strays(image, layers.person, plain, wall, o)
    if bool((strays > wide).any()):
        wide = wide.maximum(strays)
        filled, plain, wall = behind(image, wide, o, shown)
    colours, _ = unmixed(image, alpha)
    colours = torch.where(alpha > 0.97, image, colours)
    if o.structure and bool((wall < 1).any()):
        filled = torch.lerp(grown(image, wide, filled, o), filled, wall)
    place, wall = wide, ramp(wall, 0.0, 0.5)
    if bool(wall.any()):
        own = _own_wall(image, alpha, filled, o)
        meets = gaussian_blur(pull_push(image - filled, own), 2 * _units(image))
        filled = torch.lerp(filled, torch.lerp((filled + meets).clamp(0, 1), image, own), wall)
        place = wide * (1 - wall * own)
    return Cutout(alpha, colours, Backdrop(place, filled, wall, o.fill_validity * plain, straight_lines(image, alpha)), plain)


def _units(image: Tensor) -> float:
    """u in pixels."""
    return max(image.shape[-2:]) / 256


def _person_and_strands(layers: Layers, cloth: Tensor, image: Tensor, o: CutoutOptions) -> Tensor:
    """Everything that may hold some of the person (B,1,H,W): a few pixels around it, and more around hair."""
    u = _units(image)
    around = dilate(layers.person, odd(o.margin * u))
    strands = dilate(layers.person * layers.hair * (1 - dilate(cloth, odd(3 * u))), odd(o.hair_margin * u))
    return around.maximum(((strands - 0.2) / 0.3).clamp(0, 1))


def _projected(image: Tensor, filled: Tensor, plain: Tensor, layers: Layers, cloth: Tensor, o: CutoutOptions) -> Tensor:
    """The person's matte, corrected along hair over a plain background: how far each pixel lies from the background's colour
    to the hair's. (B,1,H,W).
    """
    u, matte = _units(image), layers.person
    inside = erode(matte, odd(5 * u)) > 0.95
    hair = gaussian_blur(gather(image, nearest_inside(inside[:, 0])[0]), 1.5 * u)
    line = hair - filled
    length = line.norm(dim=1, keepdim=True)
    share = (((image - filled) * line).sum(1, keepdim=True) / length.square().clamp_min(1e-4) - 0.06) / 0.84
    sure = ((length - 0.15) / 0.2).clamp(0, 1) * ((plain - 0.3) / 0.4).clamp(0, 1)
    hairy = ((dilate(layers.hair, odd(7 * u)) - 0.3) / 0.4).clamp(0, 1) * (1 - ((dilate(cloth, odd(3 * u)) - 0.1) / 0.3).clamp(0, 1))
    band = (dilate(matte, odd(o.band * u)) > 0.02) & (erode(matte, odd(3 * u)) < 0.98)
    return torch.where(band, torch.lerp(matte, share.clamp(0, 1), sure * hairy), matte)


def _strays(image: Tensor, matte: Tensor, plain: Tensor, wall: Tensor, o: CutoutOptions) -> Tensor:
    """Single hairs far from the person, where a plain background shows them (B,1,H,W): fainter ones before a wall that is plain all over
    (B,1,1,1).
    """
    u, side = _units(image), max(image.shape[-2:])
    near = dilate(matte, odd(o.stray_reach * side * (1 + wall.amax().item())))
    beyond = (near < 0.05).to(image)
    far = gaussian_blur(gather(image, nearest_inside(beyond[:, 0] > 0)[0]), o.fill_blur * side)
    far = torch.lerp(far, gaussian_blur(pull_push(image, beyond), o.fill_blur * side), wall)
    unlike = (image - far).abs().amax(1, keepdim=True) > o.stray_difference * (1 - 0.5 * wall)
    # what is broad is the wall's own: a shadow, or its texture
    thin = (unlike & (near > 0.1)).to(image)
    thin = thin - opened(thin, odd(o.strand * u))
    found = dilate(thin, odd(2 * u))
    return gaussian_blur(found * ((plain - 0.5) / 0.3).clamp(0, 1), 1.0)


def _own_wall(image: Tensor, alpha: Tensor, filled: Tensor, o: CutoutOptions) -> Tensor:
    """Where a picture (B,3,H,W) before a plain wall `filled` is the wall itself, with its grain (B,1,H,W): neither the person of alpha
    (B,1,H,W), nor close to it, nor strands and light, which are told from the wall by their colours.
    """
    u = _units(image)
    close = gaussian_blur(dilate((alpha > 0.1).to(image), odd(o.beside_wall * u)), 0.7 * u)
    unlike = gaussian_blur(image - filled, max(1.0, 0.7 * u))
    # what is as broad as this is light on the wall, unless it is as strong as that
    away = 1 - close
    broad = gaussian_blur(unlike * away, o.strand * u / 2) / gaussian_blur(away, o.strand * u / 2).clamp_min(0.05)
    thin, any_ = (dilate(part.abs().amax(1, keepdim=True), 3) for part in (unlike - broad, unlike))
    return 1 - close.maximum(ramp(thin, *o.unlike_wall)).maximum(ramp(any_, *o.unlike_wall_at_all))


def unmixed(
    image: Tensor, alpha: Tensor, smoothness: float = 1e-5, coarse: int = 32, many: int = 20, few: int = 4
) -> tuple[Tensor, Tensor]:
    """The two colours that mix in every pixel of a picture.

    Multi-level estimation (Germer et al., "Fast multi-level foreground estimation", 2020): image = alpha foreground + (1 -
    alpha) background, both smooth where alpha changes; solved from coarse to fine by Jacobi steps.

    Args:
        image: (B,3,H,W) RGB 0..1.
        alpha: (B,1,H,W).
        smoothness: weight of smooth colours where alpha does not change.
        coarse: levels up to this size get many steps, finer ones few.
        many: steps.
        few: steps.

    Returns:
        foreground and background (B,3,H,W).

    >>> import torch
    >>> alpha = torch.linspace(0, 1, 32)[None, None, None].expand(1, 1, 32, 32)
    >>> red, blue = torch.tensor([1.0, 0, 0])[:, None, None], torch.tensor([0, 0, 1.0])[:, None, None]
    >>> front, back = unmixed(alpha * red + (1 - alpha) * blue, alpha)
    >>> [round(value, 1) for value in front[0, :, 16, 16].tolist()]
    [1.0, 0.0, 0.0]
    """
    height, width = alpha.shape[-2:]
    levels = max(1, math.ceil(math.log2(max(height, width))))
    front, back = (_mean(image, share) for share in ((alpha > 0.9).to(image), (alpha < 0.1).to(image)))
    for level in range(levels + 1):
        size = max(1, round(height ** (level / levels))), max(1, round(width ** (level / levels)))
        picture, share, front, back = (F.interpolate(x, size, mode="nearest") for x in (image, alpha, front, back))
        padded = F.pad(share, (1, 1, 1, 1), mode="replicate")
        weights = [smoothness + (share - near).abs() for near in _neighbours(padded)]
        total = torch.stack(weights).sum(0)
        aa, ab, bb = share.square() + total, share * (1 - share), (1 - share).square() + total
        scale = (aa * bb - ab.square()).clamp_min(1e-12)
        for _ in range(many if max(size) <= coarse else few):
            f = share * picture + _weighted(front, weights)
            b = (1 - share) * picture + _weighted(back, weights)
            front, back = ((bb * f - ab * b) / scale).clamp(0, 1), ((aa * b - ab * f) / scale).clamp(0, 1)
    return front, back


def _mean(image: Tensor, weight: Tensor) -> Tensor:
    """(B,3,1,1)."""
    return (image * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1)


def _neighbours(padded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, right, upper and lower neighbours of the pixels of a picture that was padded by one."""
    return padded[..., 1:-1, :-2], padded[..., 1:-1, 2:], padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]


def _weighted(colours: Tensor, weights: list[Tensor]) -> Tensor:
    near = _neighbours(F.pad(colours, (1, 1, 1, 1), mode="replicate"))
    return weights[0] * near[0] + weights[1] * near[1] + weights[2] * near[2] + weights[3] * near[3]


def wall_seen_through(image: Tensor, cut: Cutout, hair: Tensor) -> Tensor:
    """Where a plain wall shows through hair, by its colour, if that is not the hair's (B,1,H,W): gaps that no matte holds.

    Args:
        image: (B,3,H,W).
        cut: the person.
        hair: (B,1,H,W) hair.
    """
    own = hair * (erode(cut.alpha, odd(5 * _units(image))) > 0.95)
    usual = (image * own).sum((2, 3), keepdim=True) / own.sum((2, 3), keepdim=True).clamp_min(1)
    wall = cut.backdrop.filled
    unlike = ((usual - wall).abs().amax(1, keepdim=True) / 0.15 - 1).clamp(0, 1)
    plain = ((cut.plain - 0.3) / 0.4).clamp(0, 1)
    same = (1.5 - (image - wall).abs().amax(1, keepdim=True) / 0.08).clamp(0, 1)
    return gaussian_blur(same, 0.4 * _units(image)) * unlike * plain


def resting_share(alpha: Tensor, cloth: Tensor, hair: Tensor, posed: PosedHead) -> Tensor:
    """What of a person does not turn with the head: clothes, chest, whatever is far from the head model.

    Args:
        alpha: (B,1,H,W) share of the person.
        cloth: (B,1,H,W) clothes.
        hair: (B,1,H,W) hair.
        posed: the head.
    """
    u = max(alpha.shape[-2:]) / 256
    away = posed.nearest_above[1][:, None] / u
    hairy = ((gaussian_blur(dilate(hair, odd(14 * u)), 2 * u) - 0.1) / 0.2).clamp(0, 1)
    still = cloth.maximum(alpha * ((away - 10) / 8).clamp(0, 1) * (1 - hairy))
    shoulders = posed.shoulders[:, None].to(alpha)
    bare = alpha * gaussian_blur(erode(shoulders, 3), 1.5) * (1 - hair)
    return still.maximum(bare).minimum(alpha)


def going_on(resting: Tensor, hidden: Tensor) -> Tensor:
    """What rests on the shoulders, going on behind what hides it: there is cloth where there is cloth beside it, and none where there is
    none.

    Args:
        resting: (B,1,H,W) share of what rests.
        hidden: (B,1,H,W) what may lie in front of it.
    """
    u = max(resting.shape[-2:]) / 256
    known = 1 - ((dilate(hidden, odd(5 * u)) - 0.1) / 0.3).clamp(0, 1)
    inner = ((pull_push(resting, known) - 0.5) * 4 + 0.5).clamp(0, 1)
    return torch.lerp(inner, resting, known).maximum(resting)


def two_coats(image: Tensor, cut: Cutout, body: Tensor, resting: Tensor, cloth: Tensor, hair: Tensor) -> tuple[Tensor, Tensor]:
    """The colours of what moves and of what rests, each going on where the other hides it.

    Args:
        image: (B,3,H,W).
        cut: the person.
        body: (B,1,H,W) share of what moves.
        resting: (B,1,H,W) share of what rests.
        cloth: (B,1,H,W) clothes.
        hair: (B,1,H,W) hair.

    Returns:
        two pictures (B,3,H,W).
    """
    u = _units(image)
    sure = erode(body, odd(2 * u)) > 0.9
    core = sure & (dilate(cloth, odd(5 * u)) < 0.3)
    core = torch.where(core.flatten(1).any(1)[:, None, None, None], core, sure)
    beyond = gaussian_blur(gather(cut.colours, nearest_inside(core[:, 0])[0]), 1.0)
    keep = ((body - 0.5) / 0.4).clamp(0, 1) * (1 - ((dilate(resting, 3) - 0.1) / 0.3).clamp(0, 1))
    keep = keep * ((erode(body, odd(3 * u)) - 0.6) / 0.3).clamp(0, 1)
    hairy = ((hair - 0.3) / 0.3).clamp(0, 1) * ((cut.alpha - 0.1) / 0.3).clamp(0, 1)
    moving = torch.lerp(beyond, cut.colours, keep.maximum(hairy * (1 - resting)))
    firm = erode(resting, odd(2 * u)) > 0.9
    index, away = nearest_inside(firm[:, 0])
    around = torch.where(away[:, None].isfinite(), gaussian_blur(gather(cut.colours, index), 1.0), cut.colours)
    return moving, torch.lerp(around, cut.colours, ((resting - 0.6) / 0.35).clamp(0, 1))
