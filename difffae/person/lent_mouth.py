"""The inside of a mouth that another photograph lends along with its expression: its teeth and tongue, not guessed ones.

Shape letters: B batch, N landmarks, h and w sides of a patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import LUMA, gaussian_blur, sampled
from ..head.attributes import FaceAttributes
from ..head.mouth_patch import PATCH, MouthPatch
from .mouth import MouthFrame, edge_at

SKIN = (50, 280, 36, 266, 205, 425, 101, 330)  # landmarks of cheeks, where hardly anybody's beard grows
LENDS = 0.07, 0.11  # openings of a mouth from which, and up to which, what it shows is lent
GREY = 0.06  # saturation of skin in a photograph without colours
BRIGHTER, TINT = 0.5, 0.5  # powers of the difference of two skins' brightness and of their tint that a mouth takes
FARTHEST = 0.6, 1.6  # the least and the most of the first
MOST_TINT = 1.12  # of the second, one way and the other
# teeth are less red than skin in any light, and yellower than tongues: by how much, how bright beside the brightest, and from which
# shares of a mouth they count
LESS_RED, LESS_BLUE, BRIGHT, TEETH_SHARE = 1.12, 0.97, 0.5, (0.02, 0.06)
SHINE = 1.12  # the brightest of teeth over their own brightness
TOOTH_TINT = 0.75  # how far teeth take the tint that they are to have
MOST_TOOTH_TINT = 1.5


def mouth_patches(pictures: Tensor, landmarks: Tensor) -> MouthPatch:
    """What photographs show inside their mouths.

    Args:
        pictures: (B,3,H,W) RGB 0..1.
        landmarks: (B,N,3) in their pixels.
    """
    found = []
    for row, points in enumerate(landmarks.to(pictures)):
        frame = MouthFrame.of(points)
        share, depth = (torch.linspace(0, 1, n, device=pictures.device, dtype=pictures.dtype) for n in PATCH[::-1])
        along = torch.lerp(frame.upper[0, 0], frame.upper[-1, 0], share)
        upper, lower = edge_at(frame.upper, along), edge_at(frame.lower, along)
        down = upper + (lower - upper).clamp_min(0) * depth[:, None]
        places = frame.places(torch.stack([along.expand_as(down), down], -1))
        found.append(sampled(pictures[row : row + 1], places[None]).clamp(0, 1))
    openings = pictures.new_tensor([MouthFrame.of(points).opening for points in landmarks])
    return MouthPatch(torch.cat(found), openings, skin_colours(pictures, landmarks))


def skin_colours(pictures: Tensor, landmarks: Tensor) -> Tensor:
    """(B,3): the colour of cheeks in pictures (B,3,H,W), by landmarks (B,N,3) in their pixels."""
    soft = gaussian_blur(pictures, 0.008 * pictures.shape[-1])
    cheeks = sampled(soft, landmarks[:, None, list(SKIN), :2].to(pictures))[:, :, 0]
    return cheeks.median(-1).values.clamp(0.02, 1)


def lent_mouth(source: FaceAttributes, target: FaceAttributes, row: int) -> MouthPatch | None:
    """The mouth of a row that another photograph lends, None for the source's own and for one that shows little."""
    theirs, own = target.mouth, source.mouth
    if theirs is None or float(theirs.opening[row]) <= LENDS[0] or (own is not None and bool(own.same(theirs)[row])):
        return None
    if own is not None and _colourful(theirs.skin[row]) < GREY < _colourful(own.skin[row]):
        return None  # a grey photograph has no colours to lend
    return theirs.map(lambda values: values[row : row + 1])


def _colourful(skin: Tensor) -> float:
    return float((skin.max() - skin.min()) / skin.max())


def lent_inside(patch: MouthPatch, share: Tensor, depth: Tensor, skin: Tensor, teeth: Tensor) -> Tensor:
    """Colours (3,h,w) of a lent mouth.

    Args:
        patch: of one row.
        share: (h,w) from corner to corner of the lips now, 0..1.
        depth: (h,w) from the upper lip to the lower one, 0..1.
        skin: (3,) colour of the skin around the mouth now.
        teeth: (3,) colour of bright teeth in the light there.
    """
    grid = torch.stack([2 * share - 1, 2 * depth - 1], -1)[None]
    inside = F.grid_sample(patch.picture, grid, mode="bicubic", padding_mode="border", align_corners=True)[0].clamp(0, 1)
    red, green, blue = inside * _gain(patch.picture[0].flatten(1), patch.skin[0], skin, teeth)[:, None, None]
    # nothing in a mouth is less red than its teeth
    red = red.maximum(green * (teeth[0] / teeth[1]))
    return torch.stack([red, green, blue.minimum(red)])


def _gain(colours: Tensor, their_skin: Tensor, skin: Tensor, teeth: Tensor) -> Tensor:
    """(3,): what the colours (3,M) of a lent mouth are multiplied by to fit another face."""
    weights = skin.new_tensor(LUMA)
    luma, ratio = weights @ colours, skin / their_skin
    brighter = (weights @ skin) / (weights @ their_skin)
    tint = ((ratio / brighter) ** TINT).clamp(1 / MOST_TINT, MOST_TINT)
    most = luma.quantile(0.95)
    red, green, blue = colours
    tooth = (luma > BRIGHT * most) & (green * their_skin[0] > LESS_RED * red * their_skin[1]) & (blue < LESS_BLUE * green)
    low, high = TEETH_SHARE
    trust = ((tooth.float().mean() - low) / (high - low)).clamp(0, 1) * TOOTH_TINT
    if trust > 0:
        seen = colours[:, tooth].mean(1)
        wanted = (teeth / (weights @ teeth)) / (seen / (weights @ seen)).clamp_min(0.05)
        tint = tint ** (1 - trust) * wanted.clamp(1 / MOST_TOOTH_TINT, MOST_TOOTH_TINT) ** trust
    # teeth of dark faces are as bright as those of pale ones
    level = (brighter**BRIGHTER).clamp(*FARTHEST).minimum(SHINE * (weights @ teeth) / most.clamp_min(0.02))
    return level * tint
