"""Where clothes begin: the slots know it to a cell of 32x32, colours know it to a pixel.

Shape letters: B batch, H and W picture height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur

REACH = 0.07  # window around a soft edge in which colours decide, as a share of the side
SAMPLES = 400  # colours of sure cloth and of sure skin that are compared with
FAR = 0.25  # distance that counts as far, as a share of the side
FAR_COST = 0.10  # what it costs, as a difference of colours (0..1, over RGB)
AT_ONCE = 1024  # pixels compared at a time, so that their distances stay in a processor's cache
SHARPNESS = 0.02  # difference of those costs that decides
LIKE_SKIN = 0.07  # difference of colours below which cloth cannot be told from skin
EDGE_WINDOW, EDGE_EPS = 0.02, 2e-4  # of the guided filter that fits the result to the picture


def crisp_cloth(image: Tensor, cloth: Tensor, person: Tensor, hair: Tensor, face: Tensor) -> Tensor:
    """Clothes with an edge of their own: near the soft edge each pixel goes to cloth or to skin, whichever has its colour nearby.

    Args:
        image: (B,3,H,W) RGB 0..1.
        cloth: (B,1,H,W) in 0..1, clothes by the masks.
        person: (B,1,H,W) in 0..1.
        hair: (B,1,H,W) in 0..1.
        face: (B,1,H,W) in 0..1, where the head model shows a face: its skin is a sample, too.

    Returns:
        (B,1,H,W); the soft mask itself where there is no cloth, or none that differs from skin.
    """
    from kornia.filters import guided_blur

    side = max(image.shape[-2:])
    u = side / 256
    rows = [
        _one(image[row : row + 1], cloth[row : row + 1], (person * (1 - hair))[row : row + 1] > 0.5, face[row : row + 1], u)
        for row in range(len(image))
    ]
    hard = torch.cat(rows)
    changed = dilate((hard != cloth).to(cloth), 3)
    rounded = torch.lerp(hard, ((gaussian_blur(hard, 3.2 * u) - 0.35) / 0.3).clamp(0, 1), 0.5)
    fitted = guided_blur(image, rounded, max(3, round(EDGE_WINDOW * side) | 1), EDGE_EPS, border_type="replicate")
    return torch.where(changed > 0, ((fitted - 0.25) / 0.5).clamp(0, 1), cloth)


def _one(image: Tensor, cloth: Tensor, counts: Tensor, face: Tensor, u: float) -> Tensor:
    """One picture's clothes (1,1,H,W), each pixel of the band decided by itself."""
    side = max(image.shape[-2:])
    window = max(3, round(REACH * side) | 1)
    sure_cloth = ((erode(cloth, window) > 0.9) & counts)[0, 0]
    sure_skin = ((dilate(cloth, window) < 0.1) & counts)[0, 0]
    core = (erode(face, max(3, round(9 * u) | 1)) > 0.7)[0, 0]
    if sure_cloth.sum() < 50 or sure_skin.sum() < 50 or not core.any():
        return cloth
    colours = image[0].permute(1, 2, 0)
    like_skin = torch.cdist(colours[sure_cloth], _some(colours, core)[1]).amin(1) < LIKE_SKIN
    sure_cloth[sure_cloth.clone()] = ~like_skin
    if sure_cloth.sum() < 50:
        return cloth
    band = (dilate(cloth * counts, window) > 0.03) & (erode(cloth, window) < 0.97) & counts
    there = band[0, 0].nonzero()
    if not len(there):
        return cloth
    own = colours[there[:, 0], there[:, 1]]
    cost = [_cost(own, there, *_some(colours, sure), side) for sure in (sure_cloth, sure_skin)]
    before = torch.logit(cloth[0, 0, there[:, 0], there[:, 1]], 0.03)
    result = cloth.clone()
    result[0, 0, there[:, 0], there[:, 1]] = torch.sigmoid((cost[1] - cost[0]) / SHARPNESS + before)
    return result


def _some(colours: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Places (N,2) and colours (N,3), evenly picked from a mask (H,W) of a picture (H,W,3)."""
    places = where.nonzero()
    places = places[torch.linspace(0, len(places) - 1, min(len(places), SAMPLES), device=places.device).round().long()]
    return places, colours[places[:, 0], places[:, 1]]


def _cost(own: Tensor, there: Tensor, places: Tensor, colours: Tensor, side: int) -> Tensor:
    """(M,): how far the best sample is from each of M pixels, in colour and place."""
    scale = FAR_COST / (FAR * side)
    samples = places.to(own) * scale
    parts = zip(own.split(AT_ONCE), (there.to(own) * scale).split(AT_ONCE), strict=True)
    return torch.cat([torch.cdist(at, samples).clamp_(max=FAR_COST).add_(torch.cdist(one, colours)).amin(1) for one, at in parts])
