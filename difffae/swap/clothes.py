"""Clothes that are replaced in a whole photograph: the reference's clothes on the source's body.

They lie on the source's shoulders (`fitted_clothes`); where its old collar stood and no new one does, the background goes on. Face, hair
and neck are the source's; where it was dressed and the reference is bare, skin has the source's tone and the reference's shade.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import connected, dilate, erode, gaussian_blur, luma_of, nearest_inside, odd, opened, pull_push
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
SLIVER, ISLAND = 0.02, 0.04  # width up to which clothes are none, and alone
AROUND = 0.04  # how far around the old body its background is not read
BARE = 0.34  # half the width in which the own neck stays where the reference has no body
SAMPLES, LIKE = 800, 0.015  # colours of hair and of clothes that are compared, and how alike
BAND, NEAR = 0.05, 0.1
TONE, FADES, GREATEST = 0.03, 0.2, 1.6  # window in which tones are compared, how far their difference reaches, and its greatest logarithm
LOCAL, SHADES, HUE = 0.25, (0.35, 1.2), 0.06  # greatest logarithms of shade and hue of skin
# how much brighter than a person's lights white clothes are, what counts as either, the darkest white, how much clothes are dimmed at most,
# and how few pixels tell nothing
WHITE, BRIGHT, DIMMEST, DIMMED, FEWEST = 1.15, 0.97, 0.5, 0.8, 30
COLOURLESS = 0.01  # mean difference of red, green and blue in black and white
OTHER = 0.25  # difference from the new neck of what is no neck
LOOSE = 0.06  # width beside hair in which there is more
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
    other = _without_slivers(reference.reduced(small.square.side))
    if float((small.picture.amax(1) - small.picture.amin(1)).mean()) < COLOURLESS:
        other = replace(other, picture=luma_of(other.picture).expand_as(other.picture))
    theirs = fitted_clothes(other, small)
    if theirs is None:
        return source.picture
    side = small.square.side
    skin = _own_skin(small)
    front = foreground(small.picture, small.alpha)
    theirs = replace(theirs, colours=_no_brighter(theirs, small))
    worn = _in_tone(theirs, front, skin * (small.alpha > SURE), _tone(small), _tone(other), small)
    head = _head(small, skin, theirs.alpha)
    bare = erode(skin * (small.alpha > SURE), odd(0.02 * side)) * theirs.guessed * (1 - theirs.cloth)
    bare = bare * ((OTHER - (front - worn).abs().amax(1, keepdim=True)) / (OTHER / 2)).clamp(0, 1)
    worn = torch.lerp(worn, front, gaussian_blur(bare, max(0.5, 0.015 * side)).minimum(skin))
    body = theirs.alpha
    removed = (small.alpha - head - body).clamp(0, 1)
    person = dilate((small.alpha > 0.02).to(front), odd(2 * AROUND * side))
    gone = gaussian_blur(dilate((removed > 0.05).to(front), odd(2 * AROUND * side)), max(0.5, 0.3 * AROUND * side))
    instead = without_person(small.picture, person)
    # beyond the old outline what looks like the background already is its own, and that meets it without a step
    unlike = gaussian_blur((((instead - small.picture).abs().amax(1, keepdim=True) - 0.03) / 0.03).clamp(0, 1), 1.0)
    alike = (1 - dilate((small.alpha > 0.02).to(front), odd(0.02 * side))) * (1 - unlike)
    instead = (instead + gaussian_blur(pull_push(small.picture - instead, alike), max(0.5, 0.01 * side))).clamp(0, 1)
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
    away = nearest_inside((one.face > 0.5)[:, 0])[1][:, None] / side
    face = gaussian_blur(dilate(one.face, odd(2 * JAW * side)), max(0.5, JAW_SOFT * side))
    # the head model's jaw may lie over a collar
    face = ((face - 0.35) / 0.3).clamp(0, 1) * like_skin(one).maximum(inner_face(one))
    band = (1 - away / BAND).clamp(0, 1)
    band = band * band * (3 - 2 * band) * skin
    hair = _crisp_hair(one)
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


def _in_tone(theirs: Fitted, front: Tensor, skin: Tensor, own_tone: Tensor, their_tone: Tensor, one: Dressed) -> Tensor:
    """The new body (1,3,H,W), its skin in the tones of the own: one smooth change, so that relief and shade stay.

    Args:
        theirs: the new body.
        front: (1,3,H,W) the person.
        skin: (1,1,H,W) bare skin of the person.
        own_tone: (1,3,1,1) usual colour of the person's lower face.
        their_tone: (1,3,1,1) the same of the reference.
        one: the person.
    """
    side = one.square.side
    ratio = ((own_tone + DARK) / (their_tone + DARK)).log()
    near = (nearest_inside((one.face > 0.5)[:, 0])[1][:, None] < NEAR * side).to(skin) * (1 - erode(one.face, odd(0.04 * side)))
    mine, other = skin * near * one.below_chin(), theirs.skin * near
    both = []
    for values, where in ((front, mine), (theirs.colours, other)):
        weight = gaussian_blur(where, TONE * side)
        both.append((gaussian_blur(values * where, TONE * side) / weight.clamp_min(1e-4) + DARK, weight))
    known = ((both[0][1].minimum(both[1][1]) - 0.02) / 0.1).clamp(0, 1)
    local = torch.zeros_like(front)
    if bool((known > 0.1).any()):
        away = nearest_inside((known > 0.1)[:, 0])[1][:, None] / side
        local = _limited(pull_push((both[0][0] / both[1][0]).log() - ratio, known), (LOCAL, LOCAL)) * torch.exp(-away / FADES)
    local = gaussian_blur(local, TONE * side)
    relief = _limited((theirs.colours + DARK).log() - (their_tone + DARK).log(), SHADES)
    toned = (own_tone + DARK) * (local + relief).exp() - DARK
    return torch.lerp(toned, theirs.colours, theirs.cloth).clamp(0, 1)


def _limited(relief: Tensor, shades: tuple[float, float]) -> Tensor:
    """Logarithms (1,3,H,W) of shade, which are at most so much above and below 0, and of hue, which are small."""
    shade = relief.mean(1, keepdim=True)
    high, low = shades
    return torch.where(shade > 0, high * (shade / high).tanh(), low * (shade / low).tanh()) + HUE * ((relief - shade) / HUE).tanh()
