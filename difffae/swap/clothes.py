"""Clothes that are replaced in a whole photograph: the source's head on the reference's body.

Neck, chest, collar and clothes are one piece of the reference's photograph (`fitted_clothes`), its skin in the source's tone. Face, hair
and background are the source's; own skin goes over to the new neck along the jaw. Where the old body stood and the new one does not, the
background goes on.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import connected, dilate, erode, gaussian_blur, luma_of, nearest_inside, odd, opened, pull_push
from ..source.whole_matte import resized
from .backgrounds import without_person
from .dressed import SURE, Dressed, foreground, inner_face, like_skin, some, whole_face
from .fitted_clothes import Fitted, fitted_clothes

log = logging.getLogger(__name__)
LEAST, FEW = 0.3, 0.6  # share of the new body that a reference has to show, and up to which it is said how little that is
# shares of the face's side
JAW, JAW_SOFT = 0.012, 0.015  # clothes keep so far from the face, whose mask is jagged below
EDGE = 0.02  # width of the rim of old clothes on skin that goes with them
SAME = 0.05  # difference of colours up to which such a rim is skin
SEAM = 0.05  # width over which own skin ends above the old clothes
COLLARS = 0.15  # how much higher than clothes elsewhere collars may stand
SLIVER, ISLAND = 0.02, 0.04  # width up to which clothes are none, and alone
AROUND = 0.04  # how far around the old body its background is not read
SAMPLES, LIKE = 800, 0.015  # colours of hair and of clothes that are compared, and how alike
BAND, CUT = 0.05, 0.3  # width over which own skin goes over to the new neck below the jaw, and the share of that where there is none
NEAR, TONE, FADES = 0.1, 0.03, 0.2  # how far from the face and in which window tones are compared, and how far their difference reaches
# greatest logarithms: by how much a neck differs from the face, of light and shade and of hue of skin; of the tone that needs this in full
LOCAL, SHADES, HUE, FAR = 0.25, (0.35, 1.2), 0.06, 0.5
NO_SKIN = 0.3  # logarithm of hue from which on something lies on skin
# how much brighter than a person's lights white clothes are, what counts as either, the darkest white, how much clothes are dimmed at most,
# and how few pixels tell nothing
WHITE, BRIGHT, DIMMEST, DIMMED, FEWEST = 1.15, 0.97, 0.5, 0.8, 30
LIGHTER = 0.015  # difference that a background without a person may have
COLOURLESS = 0.01  # mean difference of red, green and blue in black and white
OWN = 0.03  # half the width over which the own neck goes over to the new chest
LOOSE = 0.06  # width beside hair in which there is more
DARK = 0.02  # added to colours before they are divided


def with_clothes(source: Dressed, reference: Dressed) -> tuple[Tensor, Tensor]:
    """A person in the clothes of a reference.

    Args:
        source: the person.
        reference: who wears the clothes.

    Returns:
        (1,3,H,W) RGB 0..1: the source's own pixels wherever neither the old body nor the new one is, and on face and hair; and the person's
        share of it (1,1,H,W).
    """
    small = _without_slivers(source.reduced())
    other = _without_slivers(reference.reduced(small.square.side))
    if float((small.picture.amax(1) - small.picture.amin(1)).mean()) < COLOURLESS:
        other = replace(other, picture=luma_of(other.picture).expand_as(other.picture))
    theirs = fitted_clothes(other, small)
    if theirs is None:
        return source.picture, source.alpha
    skin, front = _own_skin(small), foreground(small.picture, small.alpha)
    theirs = replace(theirs, colours=_no_brighter(theirs, small))
    worn = _in_tone(theirs, small, other, skin * (small.alpha > SURE), front)
    head, body = _head(small, skin, theirs.alpha), theirs.alpha
    shown = _shown(theirs, head)
    if shown < LEAST:
        log.warning("the reference shows %d %% of the clothes that this picture has room for: too little, they stay", 100 * shown)
        return source.picture, source.alpha
    if shown < FEW:
        log.warning("the reference shows %d %% of the clothes that this picture has room for: the rest is made up", 100 * shown)
    behind, gone = _behind(small, (small.alpha - head - body).clamp(0, 1))
    own = foreground(small.picture, small.alpha * (1 - small.cloth))
    changed = (body > 0).to(gone).maximum(gone)
    size = (source.picture.shape[-2], source.picture.shape[-1])
    head, body, behind, worn, own, changed = (resized(values, size) for values in (head, body, behind, worn, own, changed))
    own = torch.where(head > SURE, source.picture, own)
    made = torch.lerp(torch.lerp(behind, worn, body), own, head)
    alpha = torch.where(changed > 0, head + (1 - head) * body, source.alpha)
    return torch.where(head >= 1, source.picture, torch.lerp(source.picture, made, changed)).clamp(0, 1), alpha.clamp(0, 1)


def _shown(theirs: Fitted, head: Tensor) -> float:
    """How much of what shows of a new body beside a head (1,1,H,W) is to be seen in the reference, 0..1."""
    body = theirs.alpha * (1 - head)
    return float((body * (1 - theirs.guessed)).sum() / body.sum().clamp_min(1))


def _behind(one: Dressed, removed: Tensor) -> tuple[Tensor, Tensor]:
    """What is behind a person (1,3,H,W) of whom some is removed (1,1,H,W), and where that replaces the photograph (1,1,H,W)."""
    side, picture = one.square.side, one.picture
    there = (one.alpha > 0.02).to(picture)
    gone = gaussian_blur(dilate((removed > 0.05).to(picture), odd(2 * AROUND * side)), max(0.5, 0.3 * AROUND * side))
    instead = without_person(picture, dilate(there, odd(2 * AROUND * side)))
    # beyond the old outline what looks like the background already is its own, and that meets it without a step
    unlike = (gaussian_blur(instead - picture, 1.0).abs().amax(1, keepdim=True) / LIGHTER - 1).clamp(0, 1)
    alike = (1 - dilate(there, odd(EDGE * side))) * (1 - unlike)
    instead = (instead + gaussian_blur(pull_push(picture - instead, alike), max(0.5, EDGE / 2 * side))).clamp(0, 1)
    gone = gone * torch.where(one.alpha > 0, 1.0, unlike)
    return torch.lerp(picture, instead, gone.maximum(((one.alpha - 0.02) / 0.08).clamp(0, 1))), gone


def _without_slivers(one: Dressed) -> Dressed:
    """The same without thin lines of clothes, as they are found along the outline of a neck, and small ones."""
    broad = opened((one.cloth > 0.5).to(one.cloth), odd(SLIVER * one.square.side))
    broad = connected(opened(broad, odd(ISLAND * one.square.side)), broad)
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


def _head(one: Dressed, skin: Tensor, body: Tensor) -> Tensor:
    """(1,1,H,W): what stays of a person: face, hair, and a band of skin (1,1,H,W) along the jaw, which fades out."""
    side = one.square.side
    face = whole_face(one)
    away = nearest_inside((face > 0.5)[:, 0])[1][:, None] / side
    face = gaussian_blur(dilate(face, odd(2 * JAW * side)), max(0.5, JAW_SOFT * side))
    # the head model's jaw may lie over a collar
    face = ((face - 0.35) / 0.3).clamp(0, 1) * like_skin(one).maximum(inner_face(one))
    band = (1 - away / (BAND * torch.lerp(torch.full_like(body, CUT), torch.ones_like(body), body))).clamp(0, 1)
    band = band * band * (3 - 2 * band) * skin
    hair = _crisp_hair(one, skin)
    # masks of hair are too narrow: beside it there is more, if nothing else
    near = F.max_pool2d(hair, (1, odd(LOOSE * side)), 1, (0, odd(LOOSE * side) // 2))
    near = near * (1 - dilate(one.cloth, odd(LOOSE * side))) * (1 - skin)
    stays = torch.maximum(hair.maximum(near), face.maximum(band) * (1 - one.cloth.maximum(_old_rim(one, skin))))
    # collars reach higher
    collar = one.cloth.maximum(dilate(one.cloth, odd(0.06 * side)) * (1 - skin))
    above = 1 - collar * (1 - one.hair) * (1 - face) * one.below_chin(COLLARS)
    alpha = torch.lerp(one.alpha, ((one.alpha - 0.4) / 0.6).clamp(0, 1), body * (1 - hair))
    return alpha * torch.lerp(above, stays, one.below_chin())


def _old_rim(one: Dressed, skin: Tensor) -> Tensor:
    """(1,1,H,W): what of a face has the shade or the colours of the clothes beside it rather than those of skin (1,1,H,W) farther in."""
    side, inner = one.square.side, inner_face(one)
    beside = gaussian_blur(dilate(one.cloth, odd(EDGE * side)), max(0.5, EDGE / 2 * side)) * (1 - inner)
    level = pull_push(one.picture, (inner * skin).square())
    return beside * (((one.picture - level).abs().amax(1, keepdim=True) - SAME) / SAME).clamp(0, 1)


def _crisp_hair(one: Dressed, skin: Tensor) -> Tensor:
    """Hair (1,1,H,W), which near clothes is what has rather its colour than theirs or that of skin (1,1,H,W)."""
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
    for sure in (inner, worn | (erode(skin, odd(0.03 * side)) > 0.9)[0, 0]):
        at = some(sure.nonzero(), SAMPLES)
        known = torch.cat([one.picture[0, :, at[:, 0], at[:, 1]].T, at * (0.15 / side)], 1)
        cost.append(torch.cat([torch.cdist(part, known).amin(1) for part in own.split(4096)]))
    result = hair.clone()
    result[0, 0][band] = torch.sigmoid(torch.logit(one.hair[0, 0][band], 0.1) + (cost[1] - cost[0]) / LIKE)
    return torch.lerp(hair, gaussian_blur(result, 0.7), (gaussian_blur(band.to(hair)[None, None], 1.0)))


def _tone(one: Dressed) -> Tensor:
    """(1,3,1,1): the usual colour of a person's lower face."""
    rows = torch.arange(one.face.shape[-2], device=one.face.device)[:, None]
    lower = erode(one.face, odd(0.03 * one.square.side)) * (1 - one.hair) * (rows > one.chin - 0.45 * one.square.side)
    colours = one.picture[0].permute(1, 2, 0)[lower[0, 0] > 0.9]
    return ((colours if len(colours) else one.picture.flatten(2)[0].T).median(0).values)[None, :, None, None]


def _no_brighter(theirs: Fitted, one: Dressed) -> Tensor:
    """The new body's colours (1,3,H,W), its clothes as bright at most as a person's light makes what is white."""
    inside, there = (erode(one.alpha, odd(0.03 * one.square.side)) > 0.9), theirs.cloth * theirs.alpha * one.below_chin() > 0.9
    if int(inside.sum()) < FEWEST or int(there.sum()) < FEWEST:
        return theirs.colours
    own, new = (luma_of(picture)[where] for picture, where in ((one.picture, inside), (theirs.colours, there)))
    most = max(WHITE * float(some(own.sort().values, SAMPLES).quantile(BRIGHT)), DIMMEST)
    share = min(1.0, max(most / float(some(new, SAMPLES).quantile(BRIGHT)), DIMMED))
    return torch.lerp(theirs.colours, theirs.colours * share, theirs.cloth)


def _in_tone(theirs: Fitted, one: Dressed, other: Dressed, skin: Tensor, front: Tensor) -> Tensor:
    """The new body (1,3,H,W), its skin in the tones of the own: one smooth change, so that relief and shade stay. Where the reference shows
    no neck, the own skin is it.

    Args:
        theirs: the new body.
        one: the person.
        other: the reference.
        skin: (1,1,H,W) bare skin of the person.
        front: (1,3,H,W) the person's colours.
    """
    side, own_tone, their_tone = one.square.side, _tone(one) + DARK, _tone(other) + DARK
    lighter = (own_tone / their_tone).log()
    beside = 1 - erode(one.face, odd(2 * EDGE * side))
    mine, share = _mean(front, skin * beside * one.below_chin(), TONE * side)
    new, their_share = _mean(theirs.colours, theirs.skin * beside, TONE * side)
    known = ((share.minimum(their_share) - 0.02) / 0.1).clamp(0, 1)
    local = torch.zeros_like(front)
    if bool((known > 0.1).any()):
        away = nearest_inside((known > 0.1)[:, 0])[1][:, None] / side
        local = pull_push(((mine + DARK) / (new + DARK)).log() - lighter, known)
        local = gaussian_blur(_limited(local, (LOCAL, LOCAL)) * torch.exp(-away / FADES), TONE * side)
    relief = (theirs.colours + DARK).log() - their_tone.log()
    # what is made much lighter or darker has stronger lights than skin of that tone
    needed = (lighter.abs().amax() / FAR).clamp(max=1)
    toned = (own_tone * (local + torch.lerp(relief, _limited(relief, SHADES), needed)).exp() - DARK).clamp(0, 1)
    hue = gaussian_blur((relief - relief.mean(1, keepdim=True)).abs().amax(1, keepdim=True), 1.0)
    toned = torch.lerp(toned, theirs.colours, theirs.cloth.maximum(((hue - NO_SKIN) / 0.1).clamp(0, 1)))
    # the own neck and chest stay where they are bare
    bare = erode(skin, odd(EDGE * side)) * (1 - theirs.cloth)
    seam = gaussian_blur(erode(bare, odd(2 * OWN * side)), max(0.5, OWN / 1.5 * side))
    return torch.lerp(toned, front, seam.minimum(skin))


def _mean(values: Tensor, where: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Values (1,C,H,W) of where they are (1,1,H,W), averaged around every pixel, and how many they are (1,1,H,W) in 0..1."""
    share = gaussian_blur(where, sigma)
    return gaussian_blur(values * where, sigma) / share.clamp_min(1e-4), share


def _limited(relief: Tensor, shades: tuple[float, float]) -> Tensor:
    """Logarithms (1,3,H,W) of shade, which are at most so much above and below 0, and of hue, which are small."""
    shade = relief.mean(1, keepdim=True)
    high, low = shades
    return torch.where(shade > 0, high * (shade / high).tanh(), low * (shade / low).tanh()) + HUE * ((relief - shade) / HUE).tanh()
