"""Swaps by photograph: hair of a reference, its own pixels. Clothes and backgrounds are replaced in whole photographs.

Tokens say in 192 numbers what a region looks like; a photograph of it says more. The reference's head, carried to the target's, comes
before the source without its hair, and the source's face before that: a hairline stays with the forehead it grows on, whose skin gets
the source's colours, and no seam runs along it. The background that comes into view is the source's, drawn in from beside it.

Shape letters: B batch, R regions (4, in the order of `vocabulary.REGIONS`), K photographs, H and W
picture sides.

    prepared = prepare(picture, face, head, inside_picture, layers)
    areas = FaceAreas.of(head, target, picture)
    parts = source_parts(prepared, prepared.move(target), areas)
    theirs = reference_parts(other, its_inside_picture, its_face, target, areas, head, its_layers)
    swapped = take_hair(parts, theirs, areas).carried
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.options import TransferOptions
from ..common.pixels import dilate, erode, gather, gaussian_blur, nearest_inside, odd, opened, pull_push
from ..vocabulary import REGIONS
from .backgrounds import without_person
from .kinds import hanging_together, kept_face, rows_of, told_apart, whole_face, with_strays
from .region_parts import BACKGROUND, CLOTHES, FACE, HAIR, FaceAreas, Parts
from .uncovered import continued

# lengths as shares of the side
STRANDS = 0.03  # how far strands stand out from hair that masks hold
SEAM = 0.03  # of the reference's skin beside its hair, in which it turns into the source's
BROWS = 0.04  # how far above the brows the reference's forehead begins for sure
HIDDEN = 0.035  # of skin beside the old hair that shows its strands
PEAK = 0.11  # hair above the brows that is narrower than this is none
NECK = 1.3  # rows of the head model below the chin that are wider than its narrowest by this are shoulders
BESIDE_NECK = 0.04  # how far beside the head model's neck a neck may be
SOFT = 0.01  # standard deviation of the blur between what was seen and what hair hid
HAIRLINE, THIN = 0.05, 0.03  # width in which skin shows between hairs, and how far inside hair its colour is read
FAINT = 0.01  # squared difference of hair from skin up to which they are hardly told apart
USUAL = 0.2  # difference from a skin's usual colour up to which it is skin, as a share of that
AROUND = 0.015  # how far around a person and its hair the background is not read
BETWEEN = 0.01  # what shows between strands and is narrower says nothing of what lies below them
DEEP, GUESSED = 0.04, 0.8  # how far from what was seen a background is no guess, and how much less it is known beyond
CHIN = 0.03  # how far above the chin its skin ends


@dataclass(frozen=True, eq=False)
class _Swap:
    """What the steps of one swap share.

    Attributes:
        reference: the reference at the target's head.
        areas: of the target's head.
        skin: (B,3,H,W) the reference with its skin in the colours of the source's.
        own: (B,1,H,W) 1 where the source's skin is shown, 0 where the reference's is.
        head: (B,1,H,W) share of the reference's head in the result: its hair, and skin beside it.
        gone: (B,1,H,W) share of the source's hair, with its strands.
    """

    reference: Parts
    areas: FaceAreas
    skin: Tensor
    own: Tensor
    head: Tensor
    gone: Tensor


def take_hair(
    base: Parts,
    reference: Parts,
    areas: FaceAreas,
    strength: float = 1.0,
    transfer: TransferOptions | None = None,
) -> Parts:
    """The base with the hair of a reference.

    Args:
        base: the source, or what an earlier swap made of it.
        reference: the reference, carried to the same head.
        areas: of the head that both were carried to.
        strength: 0..1, below 1 the base shines through.
        transfer: settings of the swap.

    Returns:
        the base itself if nothing is taken; else parts with one more photograph in `owner_share`.
    """
    if strength == 0:
        return base
    areas = whole_face(areas)
    t = transfer or TransferOptions()
    base = _known_apart(base, areas)
    reference = replace(reference, shares=told_apart(reference.carried.image, reference.shares, areas, True))
    swap = _planned(base, reference, areas, t)
    whole = _over(_without(base, swap, t), swap, t)
    if strength == 1:
        return whole
    carried = replace(
        base.carried,
        image=torch.lerp(base.carried.image, whole.carried.image, strength),
        validity=torch.lerp(base.carried.validity, whole.carried.validity, strength),
    )
    shares = torch.lerp(base.shares, whole.shares, strength)
    return replace(base, carried=carried, shares=shares, owner_share=torch.lerp(base.owner_share, whole.owner_share, strength))


def _known_apart(base: Parts, areas: FaceAreas) -> Parts:
    """The base with one more photograph, and with regions as colours tell them."""
    image = base.carried.image
    shares = with_strays(image, told_apart(image, base.shares, areas, False), areas.side)
    return replace(base, shares=shares, owner_share=F.pad(base.owner_share, (0, 0, 0, 0, 0, 1)))


def _planned(base: Parts, reference: Parts, areas: FaceAreas, t: TransferOptions) -> _Swap:
    """Whose pixels go where."""
    side = areas.side
    above, upper = _above_brows(areas), _above_chin(areas)
    bare, hair, person = _worn(reference, areas, above, upper)
    old = base.shares[:, HAIR : HAIR + 1]
    kept = kept_face(areas, old)
    gone = ((dilate(old, odd(2 * STRANDS * side)) - 0.05) / 0.3).clamp(0, 1) * (1 - kept)
    # the forehead and what the old hair hid of face and ears are the reference's
    hidden = gaussian_blur(((dilate(old, odd(HIDDEN * side)) - 0.05) / 0.3).clamp(0, 1), 1.5) * dilate(areas.skin, 5) * (1 - kept)
    beside = gaussian_blur(dilate(hair, odd(SEAM * side)), SEAM / 2 * side) * dilate(areas.mesh, odd(SEAM * side))
    theirs = bare * upper * above.maximum(hidden).maximum(beside)
    below = bare * upper * dilate(areas.skin, 5) * base.shares[:, FACE : FACE + 1].maximum(above).maximum(hidden).maximum(beside)
    own = base.shares[:, FACE : FACE + 1].maximum(kept) * (1 - hidden)
    own = own * (1 - gaussian_blur(dilate((theirs * beside).maximum(hair), odd(0.5 * SEAM * side)), SEAM / 3 * side))
    # above the brows the head ends where the reference's does
    own = own * torch.lerp(torch.ones_like(own), person, above)
    head = (gaussian_blur(hair, 0.7) * (1 - areas.features) + below).maximum(person * above * dilate(areas.mesh, odd(0.1 * side)))
    head = head.minimum(gaussian_blur(person, 0.7))
    return _Swap(reference, areas, _tinted(base, reference, areas, own, t), ((own - 0.02) / 0.96).clamp(0, 1), head, gone)


def _worn(reference: Parts, areas: FaceAreas, above: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bare skin, hair and person of a reference (B,1,H,W), as far as they are known to be."""
    side = areas.side
    person = (1 - reference.shares[:, BACKGROUND:]) * ((reference.carried.validity - 0.08) / 0.08).clamp(0, 1)
    # hair that its frame cuts off is drawn out to a peak
    blunt = ((gaussian_blur(opened(person, odd(PEAK * side)), 0.012 * side) - 0.3) / 0.3).clamp(0, 1)
    person = torch.lerp(person, person.minimum(blunt), above)
    bare, hair = (reference.shares[:, kind : kind + 1].minimum(person) for kind in (FACE, HAIR))
    hair = hair * (1 - areas.features)
    return bare, hair * hanging_together(hair, upper > 0.5, odd(SEAM * side)), person


def _above_brows(areas: FaceAreas) -> Tensor:
    """(B,1,H,W): 1 above the brows, 0 below them, by rows."""
    rows, first, _ = rows_of(areas.features)
    return _above(rows, first, BROWS * areas.side, areas.skin)


def _above_chin(areas: FaceAreas) -> Tensor:
    """(B,1,H,W): 1 above the chin, 0 below it, by rows."""
    rows, _, last = rows_of(areas.skin)
    return _above(rows, last, CHIN * areas.side, areas.skin)


def _above(rows: Tensor, edge: Tensor, width: float, like: Tensor) -> Tensor:
    """(B,1,H,W): 1 where rows lie above an edge by a width, 0 from the edge on."""
    return ((edge - rows) / width).clamp(0, 1).expand_as(like)


def _tinted(base: Parts, reference: Parts, areas: FaceAreas, own: Tensor, t: TransferOptions) -> Tensor:
    """The reference (B,3,H,W), its skin in the colours of the base's, which goes on from where it is shown (B,1,H,W)."""
    bare = reference.shares[:, FACE : FACE + 1]
    side = areas.side
    sigma = t.tint_blur * side
    mine = erode(base.shares[:, FACE : FACE + 1] * own, 5) * dilate(areas.skin, 3) * _above_chin(areas)
    theirs = erode(bare, 5) * dilate(areas.skin, 3)
    if not bool((mine > 0.5).any() and (theirs > 0.5).any()):
        return reference.carried.image
    light = pull_push(areas.shading, erode(areas.mesh, 3))  # it goes on beside the head model
    pure = base.carried.image / light
    own = _smooth(pure, mine * _usual(pure, mine), sigma) * light
    # of the reference's skin only what is finer: its light and its colours are not the source's
    grey = reference.carried.image.mean(1, keepdim=True) + 0.02
    relief = grey / (_smooth(grey, theirs, sigma)).clamp_min(0.02) - 1
    skin = own * (1 + t.unlike * (relief / t.unlike).tanh())
    # what shows between hairs of a hairline is skin as well
    hair = erode(reference.shares[:, HAIR : HAIR + 1], odd(THIN * side)).square()
    theirs_low = _smooth(reference.carried.image, theirs, sigma)
    strand = pull_push(reference.carried.image, hair)
    line = theirs_low - strand
    share = ((reference.carried.image - strand) * line).sum(1, keepdim=True) / (line.square().sum(1, keepdim=True) + FAINT)
    near = gaussian_blur(dilate(bare, odd(2 * HAIRLINE * side)), HAIRLINE * side / 2)
    share = near * share.clamp(0, 1) * reference.shares[:, HAIR : HAIR + 1]
    hairline = reference.carried.image + share * (own - theirs_low)
    return torch.lerp(hairline, skin, gaussian_blur(bare, 1.0)).clamp(0, 1)


def _usual(picture: Tensor, where: Tensor) -> Tensor:
    """How near a picture (B,3,H,W) is to the most usual colour of a place (B,1,H,W): (B,1,H,W). Eyes, brows, lips and beards are not."""
    weight = torch.ones_like(where)
    for _ in range(3):
        share = where * weight
        typical = (picture * share).sum((2, 3), keepdim=True) / share.sum((2, 3), keepdim=True).clamp_min(1e-3)
        weight = torch.exp(-((picture - typical) / (USUAL * typical + 0.02)).square().sum(1, keepdim=True))
    return weight


def _smooth(picture: Tensor, where: Tensor, sigma: float) -> Tensor:
    """Smooth colours (B,3,H,W) of what a mask (B,1,H,W) shows, going on beyond it."""
    near = gaussian_blur(where, sigma)
    return gaussian_blur(pull_push(gaussian_blur(picture * where, sigma) / near.clamp_min(1e-4), (near * 2).clamp(0, 1).square()), sigma)


def _over(base: Parts, swap: _Swap, t: TransferOptions) -> Parts:
    """The base with the reference's head behind its own face."""
    head = swap.head
    hair = swap.reference.shares[:, HAIR : HAIR + 1]
    core = erode(head, 3)
    around = gather(swap.skin, nearest_inside(core[:, 0] > 0.9)[0])
    colours = torch.lerp(gaussian_blur(around, 0.7), swap.skin, ((core - 0.7) / 0.2).clamp(0, 1))
    cover = head * (1 - swap.own)
    hairy = cover * hair / head.clamp_min(1e-3)
    validity = torch.lerp(
        torch.full_like(head, t.skin_validity), swap.reference.carried.validity.clamp_min(t.skin_validity), hairy / cover.clamp_min(1e-3)
    )
    carried = replace(
        base.carried,
        image=torch.lerp(base.carried.image, colours, cover),
        validity=torch.lerp(base.carried.validity, validity, cover),
    )
    taken = torch.cat([cover - hairy, hairy, torch.zeros_like(cover), torch.zeros_like(cover)], 1)
    return replace(base, carried=carried, shares=base.shares * (1 - cover) + taken, owner_share=_owned(base, 1 - cover, cover))


@dataclass(frozen=True, eq=False)
class _Body:
    """The source without its hair, each (B,C,H,W).

    Attributes:
        alpha: share of the person.
        colours: of the person.
        cloth: share of clothes in what hair hid.
        hidden: share of what hair hid and now shows.
    """

    alpha: Tensor
    colours: Tensor
    cloth: Tensor
    hidden: Tensor


def _without(base: Parts, swap: _Swap, t: TransferOptions) -> Parts:
    """The base without its own hair, and without what of its head stands out from the reference's."""
    image, shares = base.carried.image, base.shares
    person, behind, side = 1 - shares[:, BACKGROUND:], shares[:, BACKGROUND:], swap.areas.side
    body = _without_hair(base, swap)
    covered = (dilate(person.maximum(swap.gone), odd(AROUND * side)) > 0.02).to(image)
    background = torch.cat([without_person(*one) for one in zip(image.split(1), covered.split(1), strict=True)])
    # a background that is to be painted anew stays so where it goes on, and deep behind old hair it is a guess
    deep = gaussian_blur(((nearest_inside(covered[:, 0] < 0.5)[1][:, None] / side - DEEP) / DEEP).clamp(0, 1), SOFT * side)
    known = pull_push(base.carried.validity, 1 - covered) * (1 - GUESSED * deep)
    near = covered * (dilate(swap.gone, odd(AROUND * side)) > 0.02)
    # beyond it the fill is what is there, which hides its edge
    near = near.maximum(gaussian_blur(dilate(near, odd(2 * SOFT * side)), SOFT * side) * (behind > 0.5))
    changed = swap.gone.maximum(body.hidden).maximum(_above_brows(swap.areas) * person).maximum(near * behind)
    # at an outline the person's colours are mixed with the old background
    sure = erode(shares[:, FACE : FACE + 1] + shares[:, CLOTHES : CLOTHES + 1], 5) > 0.9
    pure = torch.where(behind > 0.02, gather(image, nearest_inside(sure[:, 0])[0]), body.colours)
    result = torch.lerp(image, torch.lerp(background, pure, body.alpha), changed)
    guess = torch.lerp(known.clamp(0, t.skin_validity), torch.full_like(known, t.skin_validity), body.alpha)
    validity = torch.lerp(base.carried.validity, guess, changed)
    worn = body.alpha * body.cloth * body.hidden
    hairless = torch.cat([body.alpha - worn, torch.zeros_like(worn), worn, 1 - body.alpha], 1)
    rest = shares * (1 - _hair_alone(shares))
    shares = torch.lerp(rest / rest.sum(1, keepdim=True).clamp_min(1e-3), hairless, changed)
    carried = replace(base.carried, image=result, validity=validity)
    return replace(base, carried=carried, shares=shares, owner_share=base.owner_share * (1 - changed))


def _without_hair(base: Parts, swap: _Swap) -> _Body:
    image, shares, areas = base.carried.image, base.shares, swap.areas
    side, above = areas.side, _above_brows(areas)
    bare, cloth = (shares[:, kind : kind + 1] for kind in (FACE, CLOTHES))
    below = _body_below(shares, swap)
    total = below.sum(1, keepdim=True)
    skin, firm = _inner(bare * (1 - swap.gone)), (_inner(cloth * (1 - swap.gone)) > 0.8).to(image)
    firm = opened(firm, odd(BETWEEN * side))
    skin = (pull_push(image / areas.shading, skin) * areas.shading).clamp(0, 1)
    worn = continued(image, firm) if bool(firm.any()) else skin
    soft = gaussian_blur(swap.gone, SOFT * side)
    near = gaussian_blur(dilate(shares[:, HAIR : HAIR + 1], odd(STRANDS * side)), SOFT * side)
    soft = soft * near.maximum(1 - above)
    share = below[:, 1:] / total.clamp_min(1e-3)
    alpha = torch.lerp(bare + cloth, total, soft)
    # the head above the brows ends where the reference's does: what its pixels leave of the source's is the source's alone
    mine = (swap.own / (1 - swap.head * (1 - swap.own)).clamp_min(1e-3)).clamp(0, 1)
    alpha = torch.lerp(alpha, mine, above)
    colours = torch.lerp(image, torch.lerp(skin, worn, share), soft)
    return _Body(alpha, colours, share, soft * total * (1 - above))


def _body_below(shares: Tensor, swap: _Swap) -> Tensor:
    """What of the body lies below hair that is taken away: skin and clothes (B,2,H,W) in 0..1."""
    side = swap.areas.side
    known, low = erode(1 - swap.gone, 3), 1 - _above_chin(swap.areas)
    bare, cloth, behind = (shares[:, kind : kind + 1] for kind in (FACE, CLOTHES, BACKGROUND))

    def rather(one: Tensor, other: Tensor, steep: float) -> Tensor:
        """1 where the one lies around, 0 where the other does."""
        around = pull_push(torch.cat([one, other], 1), known * (one + other))
        return ((around[:, :1] / around.sum(1, keepdim=True).clamp_min(1e-3) - 0.5) * steep + 0.5).clamp(0, 1)

    beside = (known * (cloth + behind)) > 0.9
    worn = gaussian_blur(gather(cloth, nearest_inside(beside[:, 0])[0]), SOFT * side)
    worn = ((worn - 0.3) / 0.4).clamp(0, 1) * low
    on_mesh = ((gaussian_blur(swap.areas.mesh, 0.008 * side) - 0.3) / 0.4).clamp(0, 1)
    # below the chin only the neck is bare, if what is beside it is
    skin = rather(bare, cloth, 8) * gaussian_blur(_throat(swap.areas), SOFT * side)
    skin = on_mesh * torch.lerp(torch.ones_like(skin), skin, low)
    # beside the neck its outline goes on upwards
    neck = low * dilate(_throat(swap.areas), odd(2 * BESIDE_NECK * side))
    up = gaussian_blur(_nearest_below(bare, known > 0.9) * neck, SOFT * side)
    skin = skin.maximum(((up - 0.3) / 0.4).clamp(0, 1))
    return torch.cat([skin, worn.maximum(on_mesh * low) * (1 - skin)], 1)


def _nearest_below(values: Tensor, known: Tensor) -> Tensor:
    """Every pixel's nearest known value (B,1,H,W) in its column at or below it, 0 where there is none."""
    height = values.shape[-2]
    rows = torch.arange(height, device=values.device)[:, None]
    at = torch.where(known, rows, height).flip(-2).cummin(-2).values.flip(-2)
    return values.gather(-2, at.clamp(max=height - 1)) * (at < height)


def _throat(areas: FaceAreas) -> Tensor:
    """(B,1,H,W): 1 in the columns of the neck, by the head model."""
    below = areas.mesh * (1 - _above_chin(areas))
    width = (below > 0.5).to(below).sum(-1, keepdim=True)
    narrowest = torch.where(width > 0, width, torch.inf).amin(2, keepdim=True)
    neck = below * (width < NECK * narrowest)
    return neck.amax(2, keepdim=True).expand_as(below)


def _inner(share: Tensor) -> Tensor:
    """Where a share (B,1,H,W) is sure enough to give colours to others."""
    return erode(share, 5).clamp(0, 1).square()


def _owned(base: Parts, own: Tensor, theirs: Tensor) -> Tensor:
    """The share of each photograph (B,K,H,W) where the base counts by own and the reference in hand
    by theirs (B,1,H,W).
    """
    count = base.owner_share.shape[1]
    last = F.one_hot(torch.tensor(count - 1, device=theirs.device), count).to(theirs)[None, :, None, None]
    return base.owner_share * own + last * theirs


def _hair_alone(like: Tensor) -> Tensor:
    """(1,R,1,1): 1 for hair."""
    return F.one_hot(torch.tensor(HAIR, device=like.device), len(REGIONS)).to(like)[None, :, None, None]
