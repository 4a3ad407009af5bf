"""Skin, hair and clothes of a whole person, told apart by colours and edges: the masks of the square around the face know a neckline to a
tenth of it, and nothing of what lies below it.

Colours of what is known for sure say what each pixel is like; where neighbours are alike they agree, and part at edges (the random walker
with prior models of Grady, 2005). Two rounds: what the first finds are the second's colours.

Shape letters: H and W picture height and width, N pixels, K kinds (3: skin, hair, clothes).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.pixels import closed, connected, dilate, erode, gaussian_blur, odd, opened
from ..source.whole_matte import resized
from .dressed import Dressed, some

SIDE = 200  # of the face's square at which kinds are told apart, in pixels
SAMPLES = 500  # colours of each kind
NEIGHBOUR = 5  # the fifth nearest of them counts: some are always wrong
LUMA, CHROMA = 0.7, 1.6  # how much differences of brightness and of hue count
FAR, FAR_COST = 0.3, 0.05  # distance that counts as far, as a share of the face's side, and its cost as a difference of colours
SHARPNESS = 0.025  # difference of costs that decides
SHADES = (1.4, 1.2, 1.0, 0.75, 0.5)  # a neck lies in the chin's shade, a chest may be nearer to the light
SHADED = 0.05  # what being half as bright costs
LOWER = 0.35  # of the side: height of the lower face, on which glasses are none
USUAL = 0.85  # share of a face's colours that are skin's
ODD = 0.13  # what clothes cost at most: they may have any colours
ALIKE, LEFT = 0.06, 0.15  # colours nearer to skin or hair than this are no sure clothes', if so many of them are left
SHORT = 0.15  # of the side: hair that ends so far above the lowest sure skin is short
LOCK = 0.01  # of the side: hair that is narrower is an outline
GAP = 0.1  # of the side: hair may be hidden so far by an ear
LIGHTS = 0.035  # of the side: what is narrower between skin is skin
JOINED = 0.03  # of the side: skin that is reached through less than this is none
TIE = 0.06  # how far a pixel's own colour counts against its neighbours
EDGE = 6.0  # by how many times the usual squared difference of neighbours an edge parts them, inverse
SWEEPS = 120
FEWEST = 20  # samples of a kind, below which there is none of it
WIDE, WIDEST = 0.35, 0.22  # of the side: beside the middle where a body is dressed most likely, and where skin gets rarer
NECK, ASIDE = 0.15, 0.27  # of the side: half the width of necks, and how far beside the middle a body is dressed
NAPE = 0.2  # of the side above the chin: from there on masks miss hair beside a neck
LOW, OPEN = 0.12, 0.3  # of the side below the chin: from there on a neck is dressed as likely as this
SAID = 0.1  # how little masks say where they are sure


def body_parts(whole: Dressed, known: Tensor) -> tuple[Tensor, Tensor]:
    """Clothes and hair of a person.

    Args:
        whole: the photograph, with `cloth` and `hair` of the square around the face alone, as masks know them.
        known: (1,1,H,W) 1 in the square.

    Returns:
        clothes and hair (1,1,H,W) in 0..1, both within the person; the same as they came where too little of either is seen.
    """
    size = whole.picture.shape[-2], whole.picture.shape[-1]
    scale = min(1.0, SIDE / whole.square.side)
    coarse = max(2, round(size[0] * scale) // 2 * 2), max(2, round(size[1] * scale) // 2 * 2)
    one = {name: resized(getattr(whole, name), coarse) for name in ("picture", "alpha", "hair", "cloth", "face")}
    one["known"] = resized(known, coarse)
    side = whole.square.side * scale
    prior, seeds = _expected(one, whole.middle * scale, whole.chin * scale, side)
    kinds = prior
    features = _features(one["picture"])
    body = (one["alpha"] > 0.3)[0, 0]
    links = _links(one["picture"], body)
    seeds = _pure(features, one["picture"], seeds, side)
    for _ in range(2):
        like = _like(features, one["picture"], seeds, body, whole.middle * scale, side)
        kinds = _agreed((prior * like) / (prior * like).sum(1, keepdim=True).clamp_min(1e-6), seeds, links)
        sure = torch.cat([erode((kinds[:, k : k + 1] > 0.85).to(kinds), 3) for k in range(3)], 1) * body
        seeds = seeds.maximum(sure * (seeds.sum(1, keepdim=True) == 0))
    kinds = resized(_joined(kinds, one, whole.chin * scale, side), size).clamp(0, 1)
    low = whole.below_chin()
    return torch.lerp(whole.cloth, kinds[:, 2:] * whole.alpha, low), torch.lerp(whole.hair, kinds[:, 1:2] * whole.alpha, low)


def _expected(one: dict[str, Tensor], middle: float, chin: float, side: float) -> tuple[Tensor, Tensor]:
    """What is expected where before colours are looked at, and what is sure, each (1,K,h,w)."""
    alpha, hair, cloth, face, known = (one[name] for name in ("alpha", "hair", "cloth", "face", "known"))
    rows = torch.arange(alpha.shape[-2], device=alpha.device, dtype=alpha.dtype)[:, None]
    aside = (torch.arange(alpha.shape[-1], device=alpha.device, dtype=alpha.dtype) - middle).abs() / side
    below = (rows - chin) / side
    # below the head: bare in the neck's columns just under the chin, dressed beside and farther down
    worn = torch.maximum(((aside - NECK) / (WIDE - NECK)).clamp(0, 1) * ((below + 0.1) / 0.1).clamp(0, 1), OPEN * (below / LOW).clamp(0, 1))
    worn = worn.expand_as(alpha)
    said = torch.cat([(1 - hair - cloth).clamp(0, 1), hair.clamp(0, 1), cloth.clamp(0, 1)], 1)
    guess = torch.cat([1 - worn, 0.3 * torch.ones_like(worn), worn], 1)
    prior = torch.lerp(guess, torch.lerp(said, guess, 0.5 * ((below > -NAPE) & (face < 0.5)).to(said)), known).clamp_min(SAID)
    inside = erode(face, odd(0.05 * side))
    skin = (inside > 0.9) & (hair < 0.3)
    locks = (erode(hair, odd(0.04 * side)) > 0.9) & (below < 0) & (alpha > 0.5)
    dressed = (aside > ASIDE) & (below > 0.05) & (erode(alpha, odd(0.04 * side)) > 0.9)
    dressed &= (torch.lerp(torch.ones_like(cloth), cloth, known) > 0.9) & (dilate(hair, odd(0.1 * side)) < 0.1)
    dressed |= erode(cloth * (below > 0.02), odd(0.06 * side)) > 0.95
    return prior / prior.sum(1, keepdim=True), torch.cat([skin, locks, dressed & ~skin & ~locks], 1).to(alpha)


def _features(picture: Tensor) -> Tensor:
    """Colours (1,3,h,w) in which hue counts more than brightness."""
    red, green, blue = picture.split(1, 1)
    return torch.cat([LUMA * (red + green + blue) / 3 * 3**0.5, CHROMA * (red - green), CHROMA * ((red + green) / 2 - blue)], 1)


def _pure(features: Tensor, picture: Tensor, seeds: Tensor, side: float) -> Tensor:
    """What is sure (1,K,h,w) without clothes that may be bare shoulders or long hair."""
    worn = seeds[0, 2] > 0.5
    rows = torch.arange(worn.shape[0], device=worn.device, dtype=seeds.dtype)[:, None]
    for kind in (1, 0):
        at, own = _samples(features, seeds, kind, side), features[0].permute(1, 2, 0)[worn]
        if len(at) < FEWEST or not len(own):
            continue
        if kind == 1 and float(at[:, 0].max()) < float((seeds[0, 0] * rows).max()) - SHORT * side:
            continue  # short hair lies on no shoulder
        shades = (1.0,) if kind else SHADES[:-1]
        known = torch.cat([_features(picture * shade)[0, :, at[:, 0], at[:, 1]].T for shade in shades])
        clear = torch.cat([torch.cdist(part, known).kthvalue(NEIGHBOUR, 1).values for part in own.split(2048)]) > ALIKE
        if float(clear.sum()) > max(FEWEST, LEFT * len(clear)):
            worn = worn.clone()
            worn[worn.clone()] = clear
    return torch.cat([seeds[:, :2], worn[None, None].to(seeds)], 1)


def _samples(features: Tensor, seeds: Tensor, kind: int, side: float) -> Tensor:
    """Places (N,2) of sure pixels of a kind; of skin those of the lower face without the least usual colours."""
    at = seeds[0, kind].nonzero()
    if kind or len(at) < FEWEST:
        return some(at, SAMPLES)
    at = some(at[at[:, 0] > at[:, 0].max() - LOWER * side], SAMPLES)
    colours = features[0, :, at[:, 0], at[:, 1]].T
    away = (colours - colours.median(0).values).square().sum(1)
    return at[away <= away.quantile(USUAL)]


def _joined(kinds: Tensor, one: dict[str, Tensor], chin: float, side: float) -> Tensor:
    """Kinds (1,K,h,w) whose skin hangs together with the face, and whose hair with the hair that masks know; the rest is clothes."""
    skin, hair, cloth = kinds.split(1, 1)
    core = opened((skin > 0.5).to(kinds), odd(JOINED * side))
    found = connected(one["face"] * core, core)
    bare = skin * gaussian_blur(dilate(found, odd(JOINED * side)), 1.0).clamp(0, 1)
    bare = skin.minimum(bare.maximum(one["face"]))
    for dim in (-1, -2):  # lights and necklaces on skin
        bare = closed(bare, odd(LIGHTS * side), dim).minimum(1 - hair).maximum(bare)
    locks = opened((hair > 0.5).to(kinds), odd(LOCK * side))
    rows = torch.arange(hair.shape[-2], device=hair.device)[:, None]
    known = ((one["hair"] > 0.5) | (rows < chin - NAPE / 2 * side)).to(kinds)  # beside a face nothing else is a person's
    locks = connected(locks * known, locks, odd(2 * GAP * side))
    locks = hair * gaussian_blur(dilate(locks, odd(LOCK * side)), 1.0).clamp(0, 1)
    left = (1 - bare - locks).clamp_min(0)
    # what is no hair goes to what it is beside it
    more = (hair - locks) * (bare / (skin + cloth).clamp_min(1e-3)).clamp(max=1)
    return torch.cat([bare + more, locks, (left - more).clamp_min(0)], 1)


def _like(features: Tensor, picture: Tensor, seeds: Tensor, body: Tensor, middle: float, side: float) -> Tensor:
    """How far each pixel has the colours of each kind (1,K,h,w), as odds in 0..1."""
    places = body.nonzero()
    own = features[0].permute(1, 2, 0)[body]
    costs = []
    for kind in range(3):
        at = _samples(features, seeds, kind, side)
        if len(at) < FEWEST:
            costs.append(own.new_full((len(own),), 0.25))
            continue
        shades = (1.0,) if kind else SHADES
        colours = torch.cat([_features(picture * shade)[0, :, at[:, 0], at[:, 1]].T for shade in shades])
        spots = at.repeat(len(shades), 1).to(own) * (FAR_COST / (FAR * side))
        parts = zip(own.split(2048), (places.to(own) * (FAR_COST / (FAR * side))).split(2048), strict=True)
        far = (0.0, 1.0, 0.4)[kind] * FAR_COST  # skin is the same everywhere, but farther from the neck there is less
        dim = torch.tensor(shades).log2().abs().mul(SHADED).repeat_interleave(len(at)).to(own)
        found = [(torch.cdist(c, colours) + dim + torch.cdist(p, spots).clamp(max=far)).kthvalue(NEIGHBOUR, 1).values for c, p in parts]
        costs.append(torch.cat(found).clamp(max=ODD if kind == 2 else 1.0))
        if kind == 0:
            costs[0] = costs[0] + FAR_COST * (((places[:, 1] - middle).abs() / side - WIDEST) / (FAR - NECK)).clamp(0, 1.5)
    odds = torch.softmax(-torch.stack(costs) / SHARPNESS, 0)
    result = torch.full_like(seeds, 1 / 3)
    result[0][:, body] = odds.clamp_min(0.02)
    return result


def _links(picture: Tensor, body: Tensor) -> tuple[Tensor, Tensor]:
    """How alike pixels are to those at their right and below them (1,1,h,w), 0 where either is no person's."""
    there = body[None, None].to(picture)
    result = []
    for dim in (-1, -2):
        other, beside = picture.roll(-1, dim), there.roll(-1, dim)
        beside.select(dim, -1).zero_()
        square = (picture - other).square().sum(1, keepdim=True)
        both = there * beside
        usual = (square * both).sum() / both.sum().clamp_min(1)
        result.append(both * (torch.exp(-square / (2 * usual / EDGE).clamp_min(1e-6)) + 1e-3))
    return result[0], result[1]


def _agreed(likely: Tensor, seeds: Tensor, links: tuple[Tensor, Tensor]) -> Tensor:
    """Kinds (1,K,h,w) on which neighbours agree, as likely (1,K,h,w) as they are by themselves."""
    sure = seeds.sum(1, keepdim=True).clamp(max=1)
    right, down = links
    left, up = right.roll(1, -1), down.roll(1, -2)
    total = TIE + right + down + left + up
    kinds = torch.lerp(likely, seeds, sure)
    for _ in range(SWEEPS):
        around = right * kinds.roll(-1, -1) + down * kinds.roll(-1, -2) + left * kinds.roll(1, -1) + up * kinds.roll(1, -2)
        kinds = torch.lerp((TIE * likely + around) / total, seeds, sure)
    return kinds
