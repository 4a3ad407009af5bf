"""Clothes that are replaced in a whole photograph: the reference's clothes on the source's body.

They lie on the source's shoulders (`fitted_clothes`); where its old collar stood and no new one does, the background goes on. Face, hair
and neck are the source's; where it was dressed and the reference is bare, skin has the source's tone and the reference's shade.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur, luma_of, nearest_inside, odd, opened, pull_push, relit
from ..source.whole_matte import resized
from .backgrounds import without_person
from .dressed import SURE, Dressed, foreground, inner_face, like_skin, some
from .fitted_clothes import Fitted, fitted_clothes

# shares of the face's side
JAW, JAW_SOFT = 0.012, 0.015  # clothes keep so far from the face, whose mask is jagged below
EDGE = 0.02  # width of the rim of old clothes on skin that goes with them
SAME = 0.05  # difference of colours up to which such a rim is skin
SEAM = 0.05  # width over which own skin goes over to the reference's above the old clothes
COLLARS = 0.15  # how much higher than clothes elsewhere collars may stand
SLIVER = 0.02  # width up to which clothes are none
AROUND = 0.04  # how far around the old body its background is not read
BARE = 0.34  # half the width in which the own neck stays where the reference has no body
SAMPLES, LIKE = 800, 0.015  # colours of hair and of clothes that are compared, and how alike
TONE, FADES, GREATEST = 0.03, 0.15, 1.2  # window in which tones are compared, how far their difference reaches, and its greatest logarithm
SHADE, HUE = 0.35, 0.06  # greatest logarithms of shade and hue of skin
# how much brighter than a person's lights white clothes are, what counts as either, the darkest white, how much clothes are dimmed at most,
# and how few pixels tell nothing
WHITE, BRIGHT, DIMMEST, DIMMED, FEWEST = 1.15, 0.97, 0.5, 0.8, 30
DARK = 0.02  # added to colours before they are divided
CRISP = (0.03, 1e-3)  # window of the guided filter that finds the edge of clothes on skin, and the variance that is no edge


def with_clothes(source: Dressed, reference: Dressed) -> Tensor:
    """A person in the clothes of a reference.

    Args:
        source: the person.
        reference: who wears the clothes.

    Returns:
        (1,3,H,W) RGB 0..1: the source's own pixels wherever neither the old body nor the new one is, and on face and hair.
    """
    small = _without_slivers(source.reduced())
    other = reference.reduced(small.square.side)
    theirs = fitted_clothes(other, small)
    if theirs is None:
        return source.picture
    side = small.square.side
    skin = _own_skin(small)
    front = foreground(small.picture, small.alpha)
    cloth = _crisp_cloth(theirs, side)
    theirs = replace(theirs, colours=_no_brighter(theirs, cloth, small))
    worn = _in_tone(theirs, cloth, front, skin * (small.alpha > SURE), _tone(small), _tone(other), side)
    head = _head(small, skin, cloth, theirs.alpha)
    body = theirs.alpha * small.below_chin(COLLARS)
    removed = (small.alpha - head - body).clamp(0, 1)
    person = dilate((small.alpha > 0.02).to(front), odd(2 * AROUND * side))
    gone = gaussian_blur(dilate((removed > 0.05).to(front), odd(2 * AROUND * side)), max(0.5, 0.3 * AROUND * side))
    instead = without_person(small.picture, person)
    # beyond the old outline what looks like the background already is its own
    unlike = gaussian_blur((((instead - small.picture).abs().amax(1, keepdim=True) - 0.03) / 0.03).clamp(0, 1), 1.0)
    gone = gone * torch.where(small.alpha > 0, 1.0, unlike)
    behind = torch.lerp(small.picture, instead, gone.maximum(((small.alpha - 0.02) / 0.08).clamp(0, 1)))
    own = foreground(small.picture, small.alpha * (1 - small.cloth))
    changed = (body > 0).to(gone).maximum(gone)
    size = (source.picture.shape[-2], source.picture.shape[-1])
    head, body, behind, worn, own, changed = (resized(values, size) for values in (head, body, behind, worn, own, changed))
    own = torch.where(head > SURE, source.picture, own)
    made = torch.lerp(torch.lerp(behind, worn, body), own, head)
    return torch.where(head >= 1, source.picture, torch.lerp(source.picture, made, changed)).clamp(0, 1)


def _without_slivers(one: Dressed) -> Dressed:
    """The same without thin lines of clothes, as they are found along the outline of a neck."""
    broad = opened((one.cloth > 0.5).to(one.cloth), odd(SLIVER * one.square.side))
    return replace(one, cloth=one.cloth * gaussian_blur(dilate(broad, odd(2 * SLIVER * one.square.side)), 0.7))


def _own_skin(one: Dressed) -> Tensor:
    """(1,1,H,W): bare skin; a rim of clothes on it is none."""
    u = EDGE * one.square.side
    seam = SEAM * one.square.side
    rim = gaussian_blur(dilate(one.cloth, odd(2 * u + seam)), max(0.5, seam / 3))
    free = (1 - one.hair) * (1 - rim)
    free = free.clamp(0, 1) * like_skin(one) * (one.alpha > 0).to(one.alpha)
    # what is left between beads and buttons is too little
    broad = opened((free > 0.5).to(free), odd(2 * u))
    return free * gaussian_blur(dilate(broad, odd(2 * u)), 0.7)


def _head(one: Dressed, skin: Tensor, cloth: Tensor, body: Tensor) -> Tensor:
    """(1,1,H,W): what stays of a person: face, hair, and skin over which no new clothes (1,1,H,W) of the new body (1,1,H,W) lie."""
    side = one.square.side
    face = gaussian_blur(dilate(one.face, odd(2 * JAW * side)), max(0.5, JAW_SOFT * side))
    # the head model's jaw may lie over a collar
    face = ((face - 0.35) / 0.3).clamp(0, 1) * like_skin(one).maximum(inner_face(one))
    hair = _crisp_hair(one)
    # beside the neck, skin ends where the new body does
    near = torch.lerp(body, torch.ones_like(skin), one.column(BARE))
    stays = torch.maximum(hair, face * (1 - one.cloth.maximum(_old_rim(one, skin)))).maximum(skin * (1 - cloth * body) * near)
    # collars reach higher
    collar = one.cloth.maximum(dilate(one.cloth, odd(0.06 * side)) * (1 - skin))
    above = 1 - collar * (1 - hair) * (1 - one.hair) * (1 - face) * one.below_chin(COLLARS)
    return one.alpha * torch.lerp(above, stays, one.below_chin())


def _old_rim(one: Dressed, skin: Tensor) -> Tensor:
    """(1,1,H,W): what of a face has the shade or the colours of the clothes beside it rather than those of skin (1,1,H,W) farther in."""
    side, inner = one.square.side, inner_face(one)
    beside = gaussian_blur(dilate(one.cloth, odd(EDGE * side)), max(0.5, EDGE / 2 * side)) * (1 - inner)
    level = pull_push(one.picture, (inner * skin).square())
    return beside * (((one.picture - level).abs().amax(1, keepdim=True) - SAME) / SAME).clamp(0, 1)


def _crisp_hair(one: Dressed) -> Tensor:
    """Hair (1,1,H,W), which near clothes is what has rather its colour than theirs."""
    side = one.square.side
    hair = ((one.hair - 0.35) / 0.3).clamp(0, 1)
    inner, worn = (erode(one.hair, odd(0.06 * side)) > 0.9)[0, 0], (erode(one.cloth, odd(0.03 * side)) > 0.9)[0, 0]
    near = dilate(one.cloth, odd(0.16 * side)) > 0.5
    band = ((dilate(one.hair, odd(0.03 * side)) > 0.05) & near & (one.alpha > 0.3))[0, 0] & ~worn
    if not bool(band.any() and inner.any() and worn.any()):
        return hair
    places = band.nonzero()
    own = torch.cat([one.picture[0].permute(1, 2, 0)[band], places * (0.15 / side)], 1)
    cost = []
    for sure in (inner, worn):
        at = some(sure.nonzero(), SAMPLES)
        known = torch.cat([one.picture[0, :, at[:, 0], at[:, 1]].T, at * (0.15 / side)], 1)
        cost.append(torch.cat([torch.cdist(part, known).amin(1) for part in own.split(4096)]))
    result = hair.clone()
    result[0, 0][band] = torch.sigmoid(torch.logit(one.hair[0, 0][band], 0.1) + (cost[1] - cost[0]) / LIKE)
    return torch.lerp(hair, gaussian_blur(result, 0.7), (gaussian_blur(band.to(hair)[None, None], 1.0)))


def _crisp_cloth(theirs: Fitted, side: float) -> Tensor:
    """Clothes (1,1,H,W) against skin, with the edge that colours show."""
    from kornia.filters import guided_blur

    window, eps = CRISP
    smooth = gaussian_blur(theirs.cloth, max(0.5, 0.006 * side))
    found = guided_blur(theirs.colours, smooth, odd(max(5, window * side)), eps, border_type="replicate")
    return ((gaussian_blur(found, max(0.5, 0.006 * side)) - 0.25) / 0.5).clamp(0, 1)


def _tone(one: Dressed) -> Tensor:
    """(1,3,1,1): the usual colour of a person's lower face."""
    rows = torch.arange(one.face.shape[-2], device=one.face.device)[:, None]
    lower = erode(one.face, odd(0.03 * one.square.side)) * (1 - one.hair) * (rows > one.chin - 0.45 * one.square.side)
    colours = one.picture[0].permute(1, 2, 0)[lower[0, 0] > 0.9]
    return ((colours if len(colours) else one.picture.flatten(2)[0].T).median(0).values)[None, :, None, None]


def _no_brighter(theirs: Fitted, cloth: Tensor, one: Dressed) -> Tensor:
    """The new body's colours (1,3,H,W), its clothes (1,1,H,W) as bright at most as a person's light makes what is white."""
    inside, there = (erode(one.alpha, odd(0.03 * one.square.side)) > 0.9), cloth * theirs.alpha * one.below_chin() > 0.9
    if int(inside.sum()) < FEWEST or int(there.sum()) < FEWEST:
        return theirs.colours
    own, new = (luma_of(picture)[where] for picture, where in ((one.picture, inside), (theirs.colours, there)))
    most = max(WHITE * float(some(own.sort().values, SAMPLES).quantile(BRIGHT)), DIMMEST)
    share = min(1.0, max(most / float(some(new, SAMPLES).quantile(BRIGHT)), DIMMED))
    return torch.lerp(theirs.colours, theirs.colours * share, cloth)


def _in_tone(theirs: Fitted, cloth: Tensor, front: Tensor, skin: Tensor, own_tone: Tensor, their_tone: Tensor, side: float) -> Tensor:
    """The new body (1,3,H,W), its skin in the tones of the own.

    Args:
        theirs: the new body.
        cloth: (1,1,H,W) what of it are clothes.
        front: (1,3,H,W) the person.
        skin: (1,1,H,W) bare skin of the person.
        own_tone: (1,3,1,1) usual colour of the person's face, which skin takes far from their own.
        their_tone: (1,3,1,1) the same of the reference: so do the two differ where they are not seen in the same place.
        side: of the face.
    """
    both = skin * theirs.neck * (1 - dilate(cloth, odd(0.02 * side)))
    near = gaussian_blur(both, TONE * side)
    mine, other = (gaussian_blur(values * both, TONE * side) / near.clamp_min(1e-4) + DARK for values in (front, theirs.colours))
    known = (near * (both > 0.5)).clamp(0, 1)
    lighter = ((own_tone + DARK) / (their_tone + DARK)).log().expand_as(front)
    if bool((known > 0.1).any()):
        away = nearest_inside((known > 0.1)[:, 0])[1][:, None] / side
        lighter = torch.lerp(pull_push((mine / other).log(), known), lighter, 1 - torch.exp(-away / FADES))
    lighter = gaussian_blur(lighter.clamp(-GREATEST, GREATEST), TONE * side)
    if not bool((skin > 0.5).any()):
        return torch.lerp(relit(theirs.colours, lighter.exp()), theirs.colours, cloth)
    away = nearest_inside((skin > 0.5)[:, 0])[1][:, None] / side
    level = torch.lerp(pull_push(front, skin.square()), own_tone, 1 - torch.exp(-away / FADES))
    level = gaussian_blur(level, TONE / 2 * side) + DARK
    # of the reference's skin relief and shade, as far as they are such
    other = (theirs.colours + DARK).log() + lighter - level.log()
    shade = other.mean(1, keepdim=True)
    other = SHADE * (shade / SHADE).tanh() + HUE * ((other - shade) / HUE / 3).tanh()
    toned = level * (other * theirs.neck).exp() - DARK
    return torch.lerp(toned, theirs.colours, cloth)
