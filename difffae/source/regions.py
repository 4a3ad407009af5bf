"""What the slots' regions mean for an edit: where light may change the picture, what turns, and what a swap must redraw.

The slots' masks are coarse (32x32) and take flags, foliage and walls of hair's colour for hair. Where a matte of the person is given
(`matte`), it says who is person; the slots then only tell face, hair and clothes apart.

Shape letters: B batch, S slots, R regions (4, in the order of vocabulary.REGIONS), h and w mask sides, H and W picture sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import ConfigError
from ..common.pixels import connected, dilate, opened, pull_push
from ..vocabulary import REGIONS
from .slots import UNKNOWN_ORDER

# share of a change of light that each region takes
LIT = {"face": 1.0, "hair": 1.0, "clothes": 0.2, "background": 0.0}
# of the guided filter: its window as a share of the side, and the variance of colours that is no edge
GUIDE_WINDOW, GUIDE_EPS = 0.05, 1e-3
MATTE_WINDOW = 0.03  # same, for a matte, whose own edges are a few pixels wide instead of a cell of the slots
# of the slots' log odds of person is added to the matte's: they decide where the matte does not know (0.5), and change little where it
# does. Least mean error on labelled portraits, real and synthetic, among 0, 0.25, 0.5 and 1
SLOTS_SAY = 0.5
COARSE, GAP = 128, 0.12  # side at which hair is followed from the head on, and how wide the gap before a plait may be (share of the side)
SAMPLES, FIFTH, LIKE = 300, 5, 0.05  # colours that are compared, which of the nearest counts, and how alike hair is to sure hair
SHADES, UNSURE = (0.75, 0.5, 0.35), 0.01  # a neck lies in the chin's shade; how much nearer to that than to hair hair may be
UNDER = 0.04  # how far beside the face's columns a neck may be (share of the side)
WHOLE = 0.06  # least width of a part of the person that the slots missed, not just a rim of two cells (share of the side)
TRUSTED = (0.5, 0.8)  # share of the sure hair that a network of hair finds, from which on it counts, and counts fully
SURE_FACE = (0.85, 0.99)  # from here to there the face's slot overrules the matte


@dataclass(frozen=True)
class Layers:
    """What a photograph shows where, each (B,1,H,W) in 0..1 (regions.layers makes them).

    light   how far a change of light may change the pixel: 1 skin and hair, 0 background
    person  1 on the person, 0 on the background, which stays where it is when the person moves
    loose   1 on what stands out from the head model's surface: hair, hats, clothes; 0 on bare skin and on the background
    hair    1 on hair and hats: what turns with the head
    """

    light: Tensor
    person: Tensor
    loose: Tensor
    hair: Tensor

    def __getitem__(self, index: slice) -> Layers:
        """Rows of the batch."""
        return self.map(lambda layer: layer[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> Layers:
        """Apply a function to every layer."""
        return Layers(*(function(getattr(self, field.name)) for field in fields(self)))


def light_matte(masks: Tensor, order: Sequence[str], size: tuple[int, int]) -> Tensor:
    """How far light may change each pixel: skin and hair fully, clothes a little, the background not at all.

    Args:
        masks: (B,S,h,w) of the slots.
        order: the region of each slot.
        size: (H,W).

    Returns:
        (B,1,H,W) in 0..1.
    """
    share = masks.new_tensor([LIT[name] for name in REGIONS])[None, :, None, None]
    return (region_shares(masks, order, size) * share).sum(1, keepdim=True)


def layers(masks: Tensor, order: Sequence[str], image: Tensor, matte: Tensor | None = None, hair_share: Tensor | None = None) -> Layers:
    """What a picture shows where, for `carry`.

    Masks and mattes are coarse, so a guided filter (He et al. 2013) fits them to the colours of the picture.

    Args:
        masks: (B,S,h,w) of the slots.
        order: the region of each slot.
        image: (B,3,H,W) RGB 0..1.
        matte: (B,1,H,W), the share of person; None: the slots say that too.
        hair_share: (B,1,H,W), the share of hair as a network of its own finds it; counts with a matte alone.
    """
    size = (image.shape[-2], image.shape[-1])
    sharp = region_shares(masks, order, size)
    if matte is None:
        _, hair, clothes, background = sharp.split(1, dim=1)
        rough = torch.cat([1 - background, hair + clothes, hair], dim=1)
        person, loose, hair = _fitted(image, rough, GUIDE_WINDOW).split(1, dim=1)
        return Layers(light_matte(masks, order, size), person, loose, hair)
    found = with_matte(sharp, matte)
    if hair_share is not None:
        found = with_hair(found, hair_share, image)
    person = _fitted(image, 1 - found[:, 3:], MATTE_WINDOW)
    lit = (found[:, :3] * found.new_tensor([LIT[name] for name in REGIONS[:3]])[:, None, None]).sum(1, keepdim=True)
    loose, hair = _fitted(image, torch.cat([found[:, 1:2] + found[:, 2:3], found[:, 1:2]], dim=1), GUIDE_WINDOW).split(1, dim=1)
    # light keeps the slots' soft borders: a collar's edge is no edge of what light may change
    return Layers(lit.minimum(person), person, loose.minimum(person), hair.minimum(person))


def region_shares(masks: Tensor, order: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Slot masks as shares of the regions at the picture's size, with one clear winner in most pixels.

    Args:
        masks: (B,S,h,w).
        order: the region of each slot; several slots of one region count as one.
        size: (H,W).

    Returns:
        (B,R,H,W), summing to 1; a region without a slot has no share.

    Raises:
        ConfigError: an order that is not known.
    """
    if not order:
        raise ConfigError(f"regions: {UNKNOWN_ORDER}")
    wide = F.interpolate(masks, size, mode="bicubic", align_corners=False)
    summed = torch.cat([wide[:, [own == name for own in order]].sum(1, keepdim=True) for name in REGIONS], dim=1)
    absent = torch.tensor([name not in order for name in REGIONS], device=masks.device)[None, :, None, None]
    return torch.softmax((8 * summed).masked_fill(absent, -torch.inf), dim=1)


def with_matte(shares: Tensor, matte: Tensor) -> Tensor:
    """Shares of the regions, corrected by a matte of the person.

    Background is what the matte calls so, and wide parts of the person that the slots call background
    become hair or clothes, whichever is nearer, or hair above the face's middle and clothes below it.

    Args:
        shares: (B,R,H,W).
        matte: (B,1,H,W) in 0..1.

    Returns:
        (B,R,H,W), summing to 1.
    """
    face, background = shares[:, :1], shares[:, 3:]
    person = torch.sigmoid(torch.logit(matte, 1e-3) + SLOTS_SAY * torch.logit(1 - background, 0.02))
    # a matte may miss a face, a drawn one for example
    person = person.maximum(((face - SURE_FACE[0]) / (SURE_FACE[1] - SURE_FACE[0])).clamp(0, 1))
    missed = ((background - 0.6) / 0.35).clamp(0, 1) * person
    seen = person * (1 - missed)
    # a rim that the coarse masks left out goes on as what is beside it; a whole hat, braid or shoulder is worn, even with skin beside it
    own = pull_push(shares[:, :3] / (1 - background).clamp_min(1e-6), seen)
    worn = pull_push(shares[:, 1:3], seen) + 0.02 * torch.cat([_above_middle(face), 1 - _above_middle(face)], dim=1)
    worn = worn / worn.sum(1, keepdim=True)
    window = max(3, round(WHOLE * max(face.shape[-2:])) | 1)
    whole = opened(missed, window).minimum(missed)
    inside = torch.lerp(own / own.sum(1, keepdim=True).clamp_min(1e-6), torch.cat([torch.zeros_like(face), worn], dim=1), whole)
    return torch.cat([inside * person, 1 - person], dim=1)


def _above_middle(face: Tensor) -> Tensor:
    """1 above the middle of the face (B,1,H,W), 0 below its lower half, by rows; around the picture's middle where there is no face."""
    rows = torch.arange(face.shape[-2], device=face.device, dtype=face.dtype)[:, None] / face.shape[-2]
    weight = face + 1e-4
    total = weight.sum((2, 3), keepdim=True)
    middle = (weight * rows).sum((2, 3), keepdim=True) / total
    spread = ((weight * (rows - middle).square()).sum((2, 3), keepdim=True) / total).sqrt()
    return (1 - (rows - middle) / (1.5 * spread)).clamp(0, 1).expand_as(face)


def with_hair(shares: Tensor, hair: Tensor, image: Tensor) -> Tensor:
    """Shares of the regions, corrected by a network that knows hair alone.

    It knows where long hair ends and where clothes of its colour begin, but it misses hair of unusual colours: it counts as far as it
    finds the hair that the shares are sure of, and only what hangs together with that or has its colours: it takes rough coats and
    shadows for hair, too. What the shares call hair above the face's middle stays so, since hats turn with heads.

    Args:
        shares: (B,R,H,W), summing to 1.
        hair: (B,1,H,W) in 0..1.
        image: (B,3,H,W) RGB 0..1.

    Returns:
        (B,R,H,W), summing to 1.
    """
    face, own, worn, background = shares.split(1, dim=1)
    person, above = 1 - background, (2 * _above_middle(face) - 1).clamp(0, 1)
    sure = ((own - 0.8) / 0.1).clamp(0, 1) * above
    found = (hair * sure).sum((2, 3), keepdim=True) / sure.sum((2, 3), keepdim=True).clamp_min(1)
    trust = ((found - TRUSTED[0]) / (TRUSTED[1] - TRUSTED[0])).clamp(0, 1)
    hair = hair * person * (1 - ((face - 0.9) / 0.08).clamp(0, 1))
    either = hair.maximum(own)  # it has holes, too
    told = torch.lerp(own, (either * _of_one_head(hair, own, sure, face, image)).maximum(own * above), trust)
    # what is hair no longer goes on as what is beside it
    rest = torch.cat([face, worn], dim=1)
    beside = pull_push(rest / rest.sum(1, keepdim=True).clamp_min(1e-4), rest.sum(1, keepdim=True).clamp(0, 1).square())
    kind = torch.lerp(beside, rest / rest.sum(1, keepdim=True).clamp_min(1e-4), rest.sum(1, keepdim=True).clamp(0, 1))
    rest = kind / kind.sum(1, keepdim=True).clamp_min(1e-4) * (person - told).clamp_min(0)
    return torch.cat([rest[:, :1], told, rest[:, 1:], background], dim=1)


def _of_one_head(hair: Tensor, own: Tensor, sure: Tensor, face: Tensor, image: Tensor) -> Tensor:
    """How far hair (B,1,H,W) hangs together with what is sure (B,1,H,W), or is near to it and has the colours of it in an image (B,3,H,W),
    rather than, below a face (B,1,H,W), those of that in the shade; what shares alone call hair, own (B,1,H,W), has to have its colours:
    (B,1,H,W) in 0..1."""
    scale = min(1.0, COARSE / max(hair.shape[-2:]))
    coarse = round(scale * hair.shape[-2]), round(scale * hair.shape[-1])
    there, said, core, skin, colours = (F.adaptive_avg_pool2d(values, coarse) for values in (hair, own, sure, face, image))
    there, said, alike = (there > 0.3).to(hair), (said > 0.5).to(hair), torch.zeros_like(there)
    for row, (asked, known, bare) in enumerate(zip((there + said)[:, 0] > 0, core[:, 0] > 0.7, skin[:, 0] > 0.95, strict=True)):
        asked &= ~known
        known, shaded = _some(colours[row], known), _some(colours[row], bare)
        if len(known) <= FIFTH or len(shaded) <= FIFTH or not bool(asked.any()):
            continue
        shaded = torch.cat([shaded * share for share in SHADES])
        to_hair, to_skin = (torch.cdist(colours[row, :, asked].T, one).kthvalue(FIFTH, 1).values for one in (known, shaded))
        # a neck lies under its face: beside that, what is dark is hair
        under = dilate(bare.any(0).to(hair).expand(1, 1, 1, -1), round(2 * UNDER * COARSE) | 1)[0, 0] > 0
        beside = ~under.expand_as(asked)[asked]
        there[row, 0][asked] *= (beside | (to_hair < to_skin + UNSURE)).to(hair)
        alike[row, 0][asked] = (to_hair < LIKE).to(hair)
    there = there.maximum(said * alike)
    near = connected((core > 0.7).to(hair) * there, there)
    near = near.maximum(connected(near, near.maximum(alike * there), round(2 * GAP * COARSE) | 1))
    return F.interpolate(dilate(near, 3), hair.shape[-2:], mode="bilinear", align_corners=False)


def _some(colours: Tensor, where: Tensor) -> Tensor:
    """Colours (N,3) of a picture (3,h,w), evenly picked from a mask (h,w)."""
    found = colours[:, where].T
    return found[:: max(1, len(found) // SAMPLES)]


def fitted_regions(
    masks: Tensor, order: Sequence[str], image: Tensor, matte: Tensor | None = None, hair_share: Tensor | None = None
) -> Tensor:
    """Shares of the regions (B,R,H,W), fitted to the picture as in `layers`; they sum to 1."""
    size = (image.shape[-2], image.shape[-1])
    shares = region_shares(masks, order, size)
    if matte is None:
        return _guided(image, shares, GUIDE_WINDOW)
    found = with_matte(shares, matte)
    if hair_share is not None:
        found = with_hair(found, hair_share, image)
    person = _fitted(image, 1 - found[:, 3:], MATTE_WINDOW)
    inside = _guided(image, found[:, :3], GUIDE_WINDOW).clamp_min(1e-4)
    return torch.cat([inside / inside.sum(1, keepdim=True) * person, 1 - person], dim=1)


def _guided(image: Tensor, rough: Tensor, window: float) -> Tensor:
    from kornia.filters import guided_blur

    return guided_blur(image, rough, max(3, round(window * max(image.shape[-2:])) | 1), GUIDE_EPS, border_type="replicate")


def _fitted(image: Tensor, rough: Tensor, window: float) -> Tensor:
    return ((_guided(image, rough, window) - 0.15) / 0.7).clamp(0, 1)


def swapped_region(masks: Tensor, other_masks: Tensor, regions: Sequence[str], order: Sequence[str]) -> Tensor:
    """Where a swap changes the picture: the source's own region, and what the reference's region would newly cover.

    Args:
        masks, other_masks: (B,S,h,w) of source and reference.
        regions: those that are swapped.
        order: the region of each slot.

    Returns:
        (B,1,h,w) in 0..1.
    """
    chosen = masks.new_tensor([float(name in regions) for name in order])[None, :, None, None]
    return ((masks * chosen).sum(1, keepdim=True) + 0.5 * (other_masks * chosen).sum(1, keepdim=True)).clamp(0, 1)


def kept_pixels(region: Tensor, face: Tensor, size: tuple[int, int]) -> Tensor:
    """The validity of a photograph of which a region will be redrawn.

    What is in front of the reference's hair is not redrawn with it, but the source's own fringe over the
    forehead is (regions of `swapped_region` above 0.6 are mostly the source's own).

    Args:
        region: (B,1,h,w) in 0..1, what will be redrawn.
        face: (B,1,H,W) bool, where the head model covers the picture with skin.
        size: (H,W).

    Returns:
        (B,1,H,W) in 0..1, 0 where it will be redrawn.
    """
    redraw = F.interpolate(region, size, mode="bilinear", align_corners=False)
    keep, over_face = (1 - ((redraw - low) / width).clamp(0, 1) for low, width in ((0.2, 0.4), (0.6, 0.3)))
    return torch.where(face, over_face, keep)
