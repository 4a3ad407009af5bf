"""How much of every pixel of a whole photograph is one person, at the photograph's own resolution.

`matte.PersonMatte` says it at 256x256. Here it looks at the whole picture and at squares around the head, those parts are kept that
hang together with the face, and the outline is fitted to the picture's colours.

Shape letters: H and W picture height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import connected, dilate, erode, gather, gaussian_blur, nearest_inside, odd, opened
from ..faces.crop import FaceCrop, extract
from .matte import INPUT_SIZE, PersonMatte

SQUARES = (1.0, 1.6)  # sides of the squares around the head that are looked at, in sides of the face's own
LOWERED = 0.25  # how much lower than the face their middle is, per side that they are wider
LARGEST = 1024  # pixels: sides of larger pictures are fitted at this size, and their outline is then read from the full picture
LONGEST = 2.2  # sides of more unequal pictures are not squeezed into the network's square
# of the face's side: half the width of the outline that colours decide, and the same beside the head, where strands stand out
OUTLINE, STRANDS = 0.018, 0.05
WINDOWS = (0.05, 0.025, 0.012)  # of the guided filters that fit the outline, as shares of the face's side
EPS, PLAIN_EPS = 2e-5, 4e-4  # variance of colours that is no edge to them, beside hair and elsewhere
EARS = 0.55  # alpha of the head model's ears before colours decide
SURE = 0.05  # how wrong the network may be where it is sure
SAMPLES, LIKE = 1200, 0.025  # colours of person and of background that doubtful places are compared with; their difference that decides
# shares of the picture's longer side: what is narrower is a crumb unless it hangs together with more, and how far beside that outlines are
# soft; and the alpha by which parts hang together
CRUMB, BESIDE, FAINT = 0.06, 0.015, 0.25
COARSE = 320  # pixels: side at which that is done
APART = (0.12, 0.3)  # difference of the colours on both sides of an outline (0..1) from which on they alone say how they mix


def whole_matte(network: PersonMatte, picture: Tensor, square: FaceCrop, inner: Tensor, face: Tensor, ears: Tensor, hair: Tensor) -> Tensor:
    """The share of one person.

    Args:
        network: the matte at 256x256.
        picture: (1,3,H,W) RGB 0..1.
        square: of the person's face.
        inner: (1,1,S,S) the share of the person in the square.
        face: (1,1,H,W) 1 where the person's face lies, which is person in any case.
        ears: (1,1,H,W) 1 where the head model has a face and ears: they may stand off more than the person's, so colours decide.
        hair: (1,1,H,W) in 0..1, the person's hair: beside it strands stand out.

    Returns:
        (1,1,H,W) in 0..1.
    """
    size = working_size(picture)
    scale = max(size) / max(picture.shape[-2:])
    rough = _connected(_seen(network, picture, square, inner).maximum(EARS * ears).maximum(face), square)
    small, rough, face, hair = (resized(values, size) for values in (picture, rough, face, hair))
    rough = _by_colour(small, rough, square.side * scale)
    alpha = _in_one_piece(_fitted(small, rough, hair, square.side * scale)).maximum(face).clamp(0, 1)
    if size == tuple(picture.shape[-2:]):
        return alpha
    return _enlarged(picture, small, alpha, square.side * scale)


def working_size(picture: Tensor) -> tuple[int, int]:
    """The size at which whole pictures (1,C,H,W) are worked on: at most LARGEST pixels, and even, as `nearest_inside` needs it."""
    height, width = picture.shape[-2:]
    scale = min(1.0, LARGEST / max(height, width))
    return max(2, round(height * scale) // 2 * 2), max(2, round(width * scale) // 2 * 2)


def resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,C,h,w) at another size, anti-aliased; values of that size are returned as they are."""
    if tuple(values.shape[-2:]) == size:
        return values
    return F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)


def _seen(network: PersonMatte, picture: Tensor, square: FaceCrop, inner: Tensor | None) -> Tensor:
    """(1,1,H,W) what the network says of the whole picture and of squares around the head, as a mean of log odds."""
    height, width = picture.shape[-2:]
    odds, count = torch.zeros_like(picture[:, :1]), torch.zeros_like(picture[:, :1])
    if max(height, width) <= LONGEST * min(height, width):
        small = resized(picture, (INPUT_SIZE, INPUT_SIZE)).clamp(0, 1)
        both = network(torch.cat([small, small.flip(-1)]))
        odds = 2 * resized(_odds((both[:1] + both[1:].flip(-1)) / 2), (height, width))
        count = count + 2
    for share in SQUARES:
        side = 2 * round(square.side * share / 2)
        x, y = square.centre
        left, top = round(x - side / 2), round(y - side / 2 + LOWERED * (side - square.side))
        one = FaceCrop(left, top, side, height, width, INPUT_SIZE)
        said = inner if share == 1 and inner is not None else network(extract(picture, one)[0])
        rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
        here = (..., slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        # what a square cuts off is seen worse at its border
        place = (torch.arange(side, device=picture.device, dtype=picture.dtype) + 0.5) / side
        ramp = (torch.minimum(place, 1 - place) / 0.1).clamp(max=1)
        weight = torch.minimum(ramp[:, None], ramp[None])[None, None]
        odds[..., rows, columns] += (resized(_odds(said.to(picture)), (side, side)) * weight)[here]
        count[..., rows, columns] += weight[here]
    seen = torch.sigmoid(odds / count.clamp_min(1e-3)) * (count > 0)
    return ((seen - SURE) / (1 - 2 * SURE)).clamp(0, 1)


def _odds(share: Tensor) -> Tensor:
    return torch.logit(share, SURE)


def _connected(share: Tensor, square: FaceCrop) -> Tensor:
    """A matte (1,1,H,W) without what does not hang together with the face."""
    size = (INPUT_SIZE, INPUT_SIZE)
    small = resized(share, size)
    inside = (small > 0.5).to(share)
    x, y = (round(at * INPUT_SIZE / whole) for at, whole in zip(square.centre, (square.width, square.height), strict=True))
    reach = max(1, round(0.15 * square.side * INPUT_SIZE / max(square.height, square.width)))
    found = torch.zeros_like(inside)
    found[..., max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 1
    found, before = found * inside, torch.zeros_like(inside)
    while not torch.equal(found, before):
        before, found = found, dilate(found, 5) * inside
    if not bool(found.any()):
        return share
    # soft shares around it belong to it, if nothing else is nearer
    others = inside - found
    near = (dilate(found, 9) > 0) & (others == 0)
    return share * resized(gaussian_blur(near.to(share), 1.0), (share.shape[-2], share.shape[-1])).clamp(0, 1)


def _by_colour(picture: Tensor, rough: Tensor, side: float) -> Tensor:
    """A matte (1,1,h,w) whose doubtful places went to the side that has their colour."""
    size = (picture.shape[-2], picture.shape[-1])
    scale = min(1.0, COARSE / max(size))
    small = (round(size[0] * scale), round(size[1] * scale))
    colours, share = resized(picture, small)[0].permute(1, 2, 0), resized(rough, small)
    doubtful = (erode(((share > 0.06) & (share < 0.94)).to(share), odd(0.012 * side * scale)) > 0)[0, 0]
    doubtful = (dilate(doubtful[None, None].to(share), odd(0.03 * side * scale)) > 0)[0, 0] & (share > 0.03)[0, 0] & (share < 0.97)[0, 0]
    inside, outside = (share > 0.97)[0, 0], (share < 0.03)[0, 0]
    if not bool(doubtful.any() and inside.any() and outside.any()):
        return rough
    there = doubtful.nonzero()
    own = colours[doubtful]
    # a colour far away says less
    reach = 0.2 / (side * scale)
    cost = []
    for sure in (inside, outside):
        places = sure.nonzero()
        places = places[torch.linspace(0, len(places) - 1, min(len(places), SAMPLES)).round().long()]
        known = torch.cat([colours[places[:, 0], places[:, 1]], places * reach], 1)
        cost.append(torch.cat([torch.cdist(part, known).amin(1) for part in torch.cat([own, there * reach], 1).split(4096)]))
    odds = torch.logit(share[0, 0][doubtful], 0.03) + (cost[1] - cost[0]) / LIKE
    change = torch.zeros_like(share)
    change[0, 0][doubtful] = torch.sigmoid(odds) - share[0, 0][doubtful]
    return (rough + resized(gaussian_blur(change, 1.0), size)).clamp(0, 1)


def _fitted(picture: Tensor, rough: Tensor, hair: Tensor, side: float) -> Tensor:
    """A rough matte with the outline that the picture's colours show.

    Args:
        picture: (1,3,h,w), even sides.
        rough: (1,1,h,w).
        hair: (1,1,h,w).
        side: of the face's square in pixels.
    """
    from kornia.filters import guided_blur

    strands = ((dilate(hair, odd(2 * STRANDS * side)) - 0.2) / 0.4).clamp(0, 1)
    inside, outside = _sure(rough, strands, side)
    alpha = ((rough - 0.2) / 0.6).clamp(0, 1)
    for window in WINDOWS:
        for _ in range(2):
            alpha = guided_blur(picture, alpha, odd(max(5, window * side)), EPS, border_type="replicate")
            alpha = alpha.clamp(0, 1).maximum(inside).minimum(1 - outside)
    plain = guided_blur(picture, ((rough - 0.2) / 0.6).clamp(0, 1), odd(max(5, WINDOWS[1] * side)), PLAIN_EPS, border_type="replicate")
    plain = gaussian_blur(plain.maximum(inside).minimum(1 - outside).clamp(0, 1), max(0.5, 0.004 * side))
    plain = ((plain - 0.25) / 0.5).clamp(0, 1)
    front, back = (gaussian_blur(gather(picture, nearest_inside(sure[:, 0] > 0)[0]), 1.5) for sure in (inside, outside))
    line = front - back
    length = line.norm(dim=1, keepdim=True)
    mixed = ((picture - back) * line).sum(1, keepdim=True) / length.square().clamp_min(1e-4)
    off = (picture - back - mixed.clamp(0, 1) * line).norm(dim=1, keepdim=True)
    sure = ((length - APART[0]) / (APART[1] - APART[0])).clamp(0, 1) * (1 - off / (0.35 * length).clamp_min(1e-3)).clamp(0, 1)
    alpha = torch.lerp(alpha, ((mixed - 0.08) / 0.8).clamp(0, 1), 0.7 * sure)
    alpha = torch.lerp(plain, alpha, strands).maximum(inside).minimum(1 - outside)
    return ((alpha - 0.06) / 0.88).clamp(0, 1)


def _in_one_piece(alpha: Tensor) -> Tensor:
    """A matte (1,1,h,w) without crumbs apart from its broad parts: there the background has colours like the person's."""
    side = max(alpha.shape[-2:])
    broad = opened((alpha > 0.95).to(alpha), odd(CRUMB * side))
    if not bool(broad.any()):
        return alpha
    held = connected(broad, (alpha > FAINT).to(alpha).maximum(broad))
    return alpha * (dilate(held, odd(2 * BESIDE * side)) > 0)


def _sure(rough: Tensor, strands: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Where a rough matte is surely right: person and background, (1,1,h,w) each, 0 or 1."""
    near = 2 * OUTLINE * side
    soft = ((rough > 0.1) & (rough < 0.9)).to(rough)
    # where the network's own outline is wide, there are strands
    wide = dilate(erode(soft, odd(0.012 * side)), odd(2 * STRANDS * side)) * strands
    inside = erode((rough > 0.85).to(rough), odd(near)) * (1 - wide * (1 - erode((rough > 0.95).to(rough), odd(2 * near))))
    outside = erode((rough < 0.15).to(rough), odd(near)) * (1 - wide * (1 - erode((rough < 0.05).to(rough), odd(2 * near))))
    return inside, outside


def _enlarged(picture: Tensor, small: Tensor, alpha: Tensor, side: float) -> Tensor:
    """A matte of a smaller picture at the picture's own size, by what its guided filter says of colours."""
    window = odd(max(5, 0.012 * side))

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(values, (window // 2,) * 4, mode="replicate"), window, 1)

    centre, level = mean(small), mean(alpha)
    slope = (mean(small * alpha) - centre * level) / (mean(small.square()) - centre.square() + 1e-3) / 3
    size, offset = (picture.shape[-2], picture.shape[-1]), level - (slope * centre).sum(1, keepdim=True)
    slope, offset = (F.interpolate(values, size, mode="bilinear", align_corners=False) for values in (slope, offset))
    fitted = (slope * picture).sum(1, keepdim=True) + offset
    soft = F.interpolate(alpha, size, mode="bicubic", align_corners=False)
    edge = ((soft > 0.02) & (soft < 0.98)).to(soft)
    return torch.lerp(soft, (0.5 * (fitted + soft)), edge).clamp(0, 1)
