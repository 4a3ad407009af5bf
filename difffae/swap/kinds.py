"""Hair, skin and cloth told apart by their colours, where masks of 32x32 leak: hair that ends before a collar, a shadow under a chin.

Shape letters: B batch, R regions (4, in the order of `vocabulary.REGIONS`), H and W picture sides, N pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..common.pixels import closed, connected, dilate, erode, gaussian_blur, odd, opened
from .dressed import some
from .region_parts import BACKGROUND, CLOTHES, FACE, HAIR, FaceAreas

SAMPLES = 400  # colours of each kind that are compared
CORE = 0.03  # how far inside a mask they are taken, as a share of the side
FEWEST = 30  # samples of a kind, below which masks alone speak of it
FAR, FAR_COST = 0.25, 0.10  # distance that counts as far, as a share of the side, and what it costs as a difference of colours (0..1)
SHARPNESS = 0.03  # difference of costs that decides
SAID = 0.15  # how little masks say where they are sure
LIKE, ALIKE = 0.06, 0.1  # colours nearer than this to hair that is taken, or taken away, are no cloth's
LOW = 0.12  # so far below the chin hair of the colour of clothes is taken for clothes, as a share of the side
NEAR = 0.16  # window around hair in which colours decide, as a share of the side
FARTHER, FARTHEST = 0.3, 0.6  # the same where hair is taken away; where clothes have other colours
UNDER_BROWS = 0.3  # of the way from brows to mouth, from which on no hair is taken away
BESIDE = 0.1  # what skin costs where the head model has none, and cloth where it has a face
AMBIGUOUS = 0.3  # share of clothes of the hair's colour from which on colours do not tell the two apart
ALIKE_AT_MOST = 0.1  # the same up to which colours alone tell clothes from hair
SAME = 0.8  # and from which on clothes are where the masks say so
SAID_OF_GAPS = 0.1  # the same of hair before a background: what is called a gap is one
UNLIKE = 0.2  # least difference of hair from a background that is told apart from it
RIM = 0.12  # window around the background in which hair of the background's colour is a gap in it, as a share of the side
# over which hair still hangs together; what is taken away, behind ears; where no clothes are like it
GAP, GAP_AWAY, GAP_CLEAR = 0.015, 0.08, 0.7
PATCH = 0.02  # least width of hair that hangs beside a neck
MIDDLE = 0.45  # of the way from brows to mouth, above which hair that masks hold is hair for sure
ROUNDS = 3  # in which hair is followed
FOREHEAD = 0.08  # difference of colours from the lower face up to which a forehead is one
# a bare scalp is this bright in four fifths of it, as a share of skin, and has so much of a face's relief at most
SCALP, SMOOTHER = 0.8, 0.7
SCALP_HUE = 0.05  # and its shares of red, green and blue differ from those of skin by this at most
BESIDE_HEAD = 0.06  # how far around the head model a bare scalp may be, as a share of the side
STRAY, STRAY_WINDOW, STRAY_REACH = 0.15, 0.05, 0.15  # strands: least difference from an even background, its window, and how far from hair
BROW, FRINGE = 0.02, 0.4  # half the height of brows, as a share of the side, and how much of them hair covers that hangs over them
STROKE = 0.045  # height of hair around the eyes up to which it may be brows, as a share of the side
MOUTH = 0.16  # height of an open mouth, as a share of the side
THIN = 0.03  # strokes of hair around the eyes that are thinner are brows, as a share of the side


def told_apart(picture: Tensor, shares: Tensor, areas: FaceAreas, taken: bool) -> Tensor:
    """Shares of the regions (B,R,H,W), which sum to 1, with hair, skin and cloth as colours tell them.

    Args:
        picture: (B,3,H,W) RGB 0..1.
        shares: (B,R,H,W) by the masks.
        areas: of the head in the picture.
        taken: whether the hair is taken, so that nothing else may be called so, or taken away, so that none may be left.
    """
    side = areas.side
    brows = dilate(areas.features, odd(0.08 * side))
    hair = shares[:, HAIR : HAIR + 1]
    if taken:
        brows = brows.maximum(areas.skin)
    window = odd(THIN * side)
    thick = torch.lerp(hair, hair * dilate(opened((hair > 0.5).to(hair), window), window), brows)
    shares = torch.cat([shares[:, :1] + hair - thick, thick, shares[:, 2:]], 1)
    if taken:
        shares = _without_gaps(picture, shares, side)
    inner = areas.features if taken else sure_features(areas)
    start = _upper(areas, 0.0)
    sure = (hair_of(shares) > 0.9) & start
    found, clear = _followed(picture, shares, areas, inner, sure, brows, taken)
    hair = hair_of(found)
    near = hanging_together(hair, sure, odd(GAP * side))
    if not taken:
        near = near.maximum(_hanging_apart(hair, shares, sure, clear, areas))
    loose = hair * (1 - near)
    if not taken:  # tips beside a neck stay hair, a shoulder of its colour does not
        cloth = found[:, CLOTHES : CLOTHES + 1]
        worn = hanging_together(loose + cloth, erode(cloth, odd(CORE * side)) > 0.9, 3)
        loose = loose * areas.mesh.maximum(worn)
    worn = found[:, 2:3] + loose * (1 - areas.skin)
    high = worn * start  # brims and scarves are the head's
    return torch.cat([found[:, :1] + loose * areas.skin, hair - loose + high, worn - high, found[:, 3:]], 1)


def hair_of(shares: Tensor) -> Tensor:
    """(B,1,H,W): the share of hair in shares of the regions (B,R,H,W)."""
    return shares[:, HAIR : HAIR + 1]


def _followed(
    picture: Tensor, shares: Tensor, areas: FaceAreas, inner: Tensor, sure: Tensor, brows: Tensor, taken: bool
) -> tuple[Tensor, Tensor]:
    """Shares (B,R,H,W) by colours, and whether no clothes are like the hair (B,1,1,1 bool). Long hair is lighter at its ends: each round
    goes on from what the last one found, and hangs together with what is sure (B,1,H,W bool).

    inner (B,1,H,W): where no hair is, brows (B,1,H,W): where what has its colours is not followed.
    """
    side, upper = areas.side, _upper(areas, MIDDLE)
    grown = torch.zeros_like(sure)
    for _ in range(ROUNDS):
        ones = [
            _one(*each, side=side, taken=taken)
            for each in zip(*(values.split(1) for values in (picture, shares, areas.skin, inner, areas.mesh, upper, grown)), strict=True)
        ]
        found, clear = torch.cat([one for one, _ in ones]), torch.tensor([like < ALIKE_AT_MOST for _, like in ones], device=sure.device)
        hair = hair_of(found)
        grown = opened((hair > 0.9).to(hair), odd(CORE * side)) > 0.5
        grown &= (hanging_together(hair, sure, odd(GAP * side)) > 0.5) & (brows < 0.5)
    return found, clear[:, None, None, None]


def _hanging_apart(hair: Tensor, shares: Tensor, sure: Tensor, clear: Tensor, areas: FaceAreas) -> Tensor:
    """(B,1,H,W): 1 on hair below ears that hangs together with what is sure over a gap, but not on brows, ties and clothes of its colour.

    hair (B,1,H,W) by colours, shares (B,R,H,W) by masks, clear (B,1,1,1 bool) where no clothes are like it.
    """
    side = areas.side
    far = hanging_together(hair, sure, odd(GAP_AWAY * side)) * (hair_of(shares) > 0.3)
    if bool(clear.any()):
        far = torch.where(clear, hanging_together(hair, sure, odd(GAP_CLEAR * side)), far)
    far = far * dilate(opened((hair * far > 0.3).to(hair), odd(PATCH * side)), odd(3 * PATCH * side))  # a speck is none
    middle = areas.features.amax(-2, keepdim=True)  # there ties hang
    return far * (1 - areas.skin) * (1 - middle) * (shares[:, :1] < 0.5)


def _upper(areas: FaceAreas, share: float) -> Tensor:
    """(B,1,H,W) bool: above the brows, or so far below them on the way to the mouth; all of the picture where no face is known."""
    rows, first, last = rows_of(areas.features)
    line = torch.where(first < len(rows), torch.lerp(first, last, share), first)
    return (rows < line).expand(areas.features.shape)


def rows_of(area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of all rows (H,1), and of the first and the last that an area (B,1,H,W) lies in, each (B,1,1,1): H and -1 if in none."""
    rows = torch.arange(area.shape[-2], device=area.device, dtype=area.dtype)[:, None]
    there = (area > 0.5).any(-1, keepdim=True)
    return rows, torch.where(there, rows, len(rows)).amin(2, keepdim=True), torch.where(there, rows, -1.0).amax(2, keepdim=True)


def whole_face(areas: FaceAreas) -> FaceAreas:
    """The same with eyes and mouth as part of the skin."""
    window = odd(MOUTH * areas.side)
    return replace(areas, skin=areas.skin.maximum(erode(dilate(areas.skin, window), window)))


def sure_features(areas: FaceAreas) -> Tensor:
    """(B,1,H,W): 1 on eyes, nose and mouth, over which no hair is taken away; brows may be under it."""
    rows, first, last = rows_of(areas.features)
    return areas.features * (rows > torch.lerp(first, last, UNDER_BROWS)).to(areas.features)


def kept_face(areas: FaceAreas, hair: Tensor) -> Tensor:
    """(B,1,H,W): 1 on what of a face no swap of hair changes: eyes, nose and mouth, and brows that no hair (B,1,H,W) hangs over."""
    side = areas.side
    sure = sure_features(areas)
    whole = dilate(areas.features, odd(2 * BROW * side))
    band = whole * (1 - sure)
    fringe = (hair * band).sum((2, 3), keepdim=True) > FRINGE * band.sum((2, 3), keepdim=True)
    # what masks and colours call hair there hangs from above, too, but for strokes that are no higher than brows
    tall = 1 - closed(1 - hair, odd(STROKE * side), -2)
    free = (1 - 2 * dilate(tall, 3)).clamp(0, 1)
    kept = torch.where(fringe, sure, sure.maximum(whole * free))
    return gaussian_blur(kept, BROW / 3 * side).minimum(free.maximum(sure))


def hanging_together(share: Tensor, start: Tensor, gap: int) -> Tensor:
    """(B,1,H,W): 1 on what of a share (B,1,H,W) hangs together with some of it (B,1,H,W bool), over gaps less wide than an odd window."""
    there = (share > 0.3).to(share)
    return dilate(connected(there * start, there, gap), 5)


def _one(
    picture: Tensor, shares: Tensor, skin: Tensor, features: Tensor, mesh: Tensor, upper: Tensor, grown: Tensor, *, side: int, taken: bool
) -> tuple[Tensor, float]:
    """Shares (1,R,H,W) of one picture by colours, and how much of its clothes has the hair's (0..1). `features` is where no hair is,
    `upper` where hair of masks is sure, `grown` what an earlier round found, each (1,1,H,W)."""
    person = 1 - shares[:, BACKGROUND:]
    colours = picture[0].permute(1, 2, 0)
    cores = _cores(colours, shares, skin, features, upper, grown, side)
    if _bald(picture, colours, cores[1], cores[0]):
        bare = hair_of(shares) * dilate(mesh, odd(BESIDE_HEAD * side))
        return torch.cat([shares[:, :1] + bare, shares[:, 1:2] - bare, shares[:, 2:]], 1), 0.0
    if int(cores[1].sum()) < FEWEST or int(cores[0].sum()) < FEWEST:
        return shares, 1.0
    cores[2], like_hair = _clear_cloth(colours, cores, skin, side, taken)
    doubtful = ((person > 0.3) & (features < 0.5))[0, 0] & ~erode(cores[1][None, None].to(picture), 3)[0, 0].bool()
    if not taken and like_hair > SAME:
        doubtful &= (shares[:, CLOTHES : CLOTHES + 1] < 0.5)[0, 0]
    reach = NEAR if taken else FARTHER if like_hair > ALIKE_AT_MOST else FARTHEST
    doubtful &= (dilate(shares[:, HAIR : HAIR + 1], odd(reach * side)) > 0.1)[0, 0]
    there = doubtful.nonzero()
    if not len(there):
        return shares, like_hair
    own = colours[there[:, 0], there[:, 1]]
    cost = [
        _cost(own, there, *_some(colours, core), side) if int(core.sum()) >= FEWEST else own.new_full((len(own),), 0.15) for core in cores
    ]
    # beside the head and the neck is no skin, on the face no cloth
    cost[0] = cost[0] + BESIDE * (dilate(mesh, odd(0.02 * side)) < 0.5)[0, 0][doubtful]
    cost[2] = cost[2] + BESIDE * (skin > 0.5)[0, 0][doubtful]
    if not taken and like_hair > AMBIGUOUS:  # clothes of the hair's colour stay clothes
        cost[1] = cost[1] + BESIDE * (shares[:, CLOTHES : CLOTHES + 1] > 0.5)[0, 0][doubtful]
    said = shares[0, :BACKGROUND, there[:, 0], there[:, 1]].t()
    said = (said / said.sum(1, keepdim=True).clamp_min(1e-3)).clamp_min(SAID).log()
    kinds = torch.softmax(said - torch.stack(cost, 1) / SHARPNESS, 1)
    field = shares[:, :BACKGROUND].clone()
    field[0, :, there[:, 0], there[:, 1]] = kinds.t() * person[0, 0, there[:, 0], there[:, 1]]
    smooth = gaussian_blur(field, 0.004 * side)
    smooth = smooth / smooth.sum(1, keepdim=True).clamp_min(1e-3) * person
    return torch.cat([torch.where(doubtful, smooth, shares[:, :BACKGROUND]), shares[:, BACKGROUND:]], 1), like_hair


def _cores(colours: Tensor, shares: Tensor, skin: Tensor, features: Tensor, upper: Tensor, grown: Tensor, side: int) -> list[Tensor]:
    """Where a picture (H,W,3) shows face, hair and clothes for sure: three of (H,W) bool."""
    window = odd(CORE * side)
    face, hair, cloth = (erode(shares[:, kind : kind + 1], window)[0, 0] > 0.9 for kind in (FACE, HAIR, CLOTHES))
    face = erode(shares[:, FACE : FACE + 1] * skin, window)[0, 0] > 0.7
    # a raised shoulder may be called hair, too
    return [_lower_face(colours, face, features[0, 0]), hair & upper[0, 0] | grown[0, 0], cloth]


def _clear_cloth(colours: Tensor, cores: list[Tensor], skin: Tensor, side: int, taken: bool) -> tuple[Tensor, float]:
    """Of what is clothes for sure that (H,W bool) which has not the hair's colours, and the share of the rest."""
    cloth = cores[2]
    if not bool(cloth.any()):
        return cloth, 0.0
    clear = torch.cdist(colours[cloth], _some(colours, cores[1])[1]).amin(1) > (LIKE if taken else ALIKE)
    like_hair = 1 - float(clear.float().mean())
    if taken:
        rows = torch.arange(len(colours), device=colours.device)[:, None]
        chin = int((skin[0, 0] > 0.5).any(1).nonzero().amax()) if bool((skin > 0.5).any()) else len(colours)
        clear |= (rows > chin + LOW * side).expand_as(cloth)[cloth]
    if int(clear.sum()) > FEWEST:
        cloth = cloth.clone()
        cloth[cloth.clone()] = clear
    return cloth, like_hair


def _lower_face(colours: Tensor, core: Tensor, features: Tensor) -> Tensor:
    """Of a core of skin (H,W) what lies below the brows, and what has its colours: a hat may be called a forehead."""
    if not bool((features > 0.5).any()):
        return core
    rows = torch.arange(len(core), device=core.device)[:, None]
    low = core & (rows > int((features > 0.5).any(1).nonzero().amin()))
    high = core & ~low
    if int(low.sum()) < FEWEST or not bool(high.any()):
        return core
    alike = torch.cdist(colours[high], _some(colours, low)[1]).amin(1) < FOREHEAD
    high[high.clone()] = alike
    return low | high


def _bald(picture: Tensor, colours: Tensor, hair: Tensor, skin: Tensor) -> bool:
    """Whether what masks call hair (H,W) is a bare scalp: smooth, and of the colours of skin (H,W)."""
    if int(hair.sum()) < FEWEST or int(skin.sum()) < FEWEST:
        return False
    face, scalp = colours[skin].median(0).values, colours[hair].median(0).values
    relief = (picture - gaussian_blur(picture, 2.0)).abs().mean(1)[0]
    bright = bool(colours[hair].mean(1).quantile(0.2) > SCALP * face.mean())
    # grey hair is bright and smooth, too, but it has not skin's hue
    alike = float((face / face.sum().clamp_min(1e-3) - scalp / scalp.sum().clamp_min(1e-3)).abs().amax()) < SCALP_HUE
    return bright and alike and bool(relief[hair].mean() < SMOOTHER * relief[skin].mean())


def with_strays(picture: Tensor, shares: Tensor, side: int) -> Tensor:
    """Shares whose hair has curls and strands that the matte of the person missed, as colours tell them from an even background."""
    behind = shares[:, BACKGROUND:]
    clear = behind * (1 - dilate(1 - behind, odd(CORE * side)))
    near = gaussian_blur(clear, STRAY_WINDOW * side)
    smooth = gaussian_blur(picture * clear, STRAY_WINDOW * side) / near.clamp_min(1e-4)
    unlike = (picture - smooth).square().sum(1, keepdim=True).sqrt()
    uneven = gaussian_blur(unlike.square() * clear, STRAY_WINDOW * side) / near.clamp_min(1e-4)
    hair = shares[:, HAIR : HAIR + 1]
    core = (erode(hair, odd(CORE * side)) > 0.9).to(hair)
    count = core.sum((2, 3), keepdim=True)
    own = (picture * core).sum((2, 3), keepdim=True) / count.clamp_min(1)
    rather = (picture - own).square().sum(1, keepdim=True) < (picture - smooth).square().sum(1, keepdim=True)
    found = (unlike > STRAY + 2 * uneven.sqrt()) & rather & (near > 0.05) & (count > FEWEST)
    stray = found.to(hair) * behind * (dilate(hair, odd(2 * STRAY_REACH * side)) > 0.5)
    stray = stray * hanging_together(stray.maximum(hair), hair > 0.9, odd(2 * GAP * side))
    return torch.cat([shares[:, :HAIR], hair + stray, shares[:, CLOTHES:BACKGROUND], behind - stray], 1)


def _without_gaps(picture: Tensor, shares: Tensor, side: int) -> Tensor:
    """Shares whose hair has gaps where the background shows between strands, by its colour."""
    rows = []
    for image, share in zip(picture, shares, strict=True):
        colours, hair, behind = image.permute(1, 2, 0), share[HAIR], share[BACKGROUND]
        cores = [erode(one[None, None], odd(CORE * side))[0, 0] > 0.9 for one in (hair, behind)]
        near = dilate((behind > 0.5).to(image)[None, None], odd(RIM * side))[0, 0] > 0
        doubtful = near & (hair > 0.05) & ~cores[0]
        there = doubtful.nonzero()
        if not len(there) or min(int(core.sum()) for core in cores) < FEWEST:
            rows.append(share)
            continue
        samples = [_some(colours, core)[1] for core in cores]
        # a background of the hair's colours says nothing
        if float((torch.cdist(samples[0], samples[1]).amin(1) < UNLIKE).float().mean()) > 0.5:
            rows.append(share)
            continue
        cost = [_cost(colours[doubtful], there, *_some(colours, core), side) for core in cores]
        kept = torch.sigmoid((cost[1] - cost[0]) / (2 * SHARPNESS) + torch.logit(hair[doubtful], SAID_OF_GAPS))
        gone = torch.zeros_like(hair)
        gone[doubtful] = hair[doubtful] * (1 - kept)
        rows.append(torch.stack([share[FACE], hair - gone, share[CLOTHES], behind + gone]))
    return torch.stack(rows)


def _some(colours: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Places (N,2) and colours (N,3), evenly picked from a mask (H,W) of a picture (H,W,3)."""
    places = some(where.nonzero(), SAMPLES)
    return places, colours[places[:, 0], places[:, 1]]


def _cost(own: Tensor, there: Tensor, places: Tensor, colours: Tensor, side: int) -> Tensor:
    """(N,): how far the best sample is from each of N pixels, in colour and place."""
    scale = FAR_COST / (FAR * side)
    samples = places.to(own) * scale
    parts = zip(own.split(1024), (there.to(own) * scale).split(1024), strict=True)
    return torch.cat([(torch.cdist(at, samples).clamp_(max=FAR_COST) + torch.cdist(one, colours)).amin(1) for one, at in parts])
