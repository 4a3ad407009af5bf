"""Pseudo labels (face, hair, clothes, background) of real portraits, to train the slot encoder's regions.

Face, hair and clothes follow from the bundled person matte, from the landmarks' geometry and from colour models of each picture's own sure
pixels. Labels: 0 face (neck and ears too), 1 hair, 2 clothes, 3 background, 255 unknown.

Shape letters: N pictures, H and W picture height and width, S crop side (256). Face frame: `along` runs from the chin (0) to the top of
the face oval (1), `across` from its left edge (-1) to its right edge (1), as seen in the picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ...report.sheet import OVAL
from ..people.complexion import to_lab
from ..studio.synthetic import BACKGROUND, CLOTHES, FACE, HAIR

UNKNOWN = 255
SIZE = 256
CHEEKS = [50, 280, 205, 425, 101, 330, 4, 151, 9]  # small discs of certain skin
SKIN_WEIGHT = np.array([0.45, 1.0, 1.0])  # of L, a, b: shadow on the neck must stay skin
PALETTE = np.array([[255, 60, 60], [255, 220, 0], [60, 120, 255], [60, 200, 90], [128, 128, 128]], np.float32)


class Colours:
    """Colour model of a set of pixels: up to `count` Gaussians around k-means centres, in Lab."""

    def __init__(self, pixels: np.ndarray, count: int, weight: np.ndarray | None = None, floor: float = 5.0) -> None:
        self.weight = np.ones(3) if weight is None else weight
        x = pixels[:: max(1, len(pixels) // 1500)] * self.weight
        order = np.argsort(x[:, 0])
        centres = x[order[((np.arange(count) + 0.5) / count * len(x)).astype(int)]]
        for _ in range(6):
            owner = ((x[:, None] - centres) ** 2).sum(-1).argmin(1)
            centres = np.stack([x[owner == k].mean(0) if (owner == k).any() else centres[k] for k in range(count)])
        self.centres = centres
        self.spread = np.sqrt(np.stack([x[owner == k].var(0) if (owner == k).any() else np.zeros(3) for k in range(count)]) + floor**2)

    def distance(self, lab: np.ndarray) -> np.ndarray:
        """(...,3) -> Mahalanobis distance to the nearest centre, with a penalty for wide Gaussians."""
        d = ((lab[..., None, :] * self.weight - self.centres) / self.spread) ** 2
        return np.sqrt((d.sum(-1) + 2 * np.log(self.spread / 5).sum(-1)).min(-1).clip(0))


def face_frame(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """landmarks (478,2) in crop pixels -> along and across (S,S), see the head of this file."""
    chin, top, left, right = (landmarks[i] for i in (152, 10, 234, 454))
    up = (top - chin) / np.maximum(np.linalg.norm(top - chin), 1e-3) ** 2
    # a turned face: the oval's own width shrinks, the neck's does not
    half = max(np.linalg.norm(right - left), 0.78 * np.linalg.norm(top - chin)) / 2
    side = np.array([-up[1], up[0]]) / np.linalg.norm(up) / half
    ys, xs = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    p = np.stack([xs, ys], -1)
    return (p - chin) @ up, (p - (left + right) / 2) @ side


def label(image: np.ndarray, matte: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """image (S,S,3) 0..1, matte (S,S), landmarks (478,2) crop pixels -> labels (S,S) uint8."""
    along, across = face_frame(landmarks)
    lab = ndimage.gaussian_filter(to_lab(image), (1.0, 1.0, 0))
    ring = Image.new("1", (SIZE, SIZE))
    ImageDraw.Draw(ring).polygon([(float(x), float(y)) for x, y in landmarks[list(OVAL)] - 0.5], fill=1)
    oval = np.array(ring)
    ys, xs = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    cheeks = np.any([(xs - x) ** 2 + (ys - y) ** 2 < 36 for x, y in landmarks[CHEEKS]], axis=0) & oval
    skin = Colours(lab[cheeks] if cheeks.any() else lab[oval], 2, SKIN_WEIGHT).distance(lab)
    person = (matte > 0.65) | oval
    unit = np.linalg.norm(landmarks[10] - landmarks[152])
    near = ndimage.distance_transform_edt(~oval) / unit  # distance from the oval in its heights

    hair_seed = person & (along > 1.03) & (near > 0.04) & (skin > 3.5)
    hair_seed |= person & (along > 0.62) & (near > 0.14) & (skin > 3.0)  # beside the face
    if hair_seed.sum() <= 150:
        hair_seed = faint_hair(lab, cheeks, person & ~oval & (along > 0.45) & ((along > 1.1) | (near > 0.2)))
    hairy = hair_seed.sum() > 150
    hair = Colours(lab[hair_seed], 2).distance(lab) if hairy else np.full(along.shape, 99.0)

    worn = person & ((along < -0.48) | ((along < -0.3) & (np.abs(across) > 1.35))) & ~((np.abs(across) < 0.8) & (skin < 3.0)) & (hair > 2.5)
    clothes = Colours(lab[worn], 4).distance(lab) if worn.sum() > 200 else np.full(along.shape, 6.0)

    distances = [ndimage.gaussian_filter(np.minimum(x, 12.0), 1.2) for x in (skin, hair, clothes)]
    cost = costs(np.stack(distances), along, np.abs(across), near, oval, hairy)
    order = np.sort(cost, 0)
    labels = cost.argmin(0).astype(np.uint8)
    labels[(order[1] - order[0] < 0.8) & ~(oval & (along < 0.6))] = UNKNOWN
    labels = connected(labels, oval, hair_seed, person)
    labels[~oval & (matte < 0.65)] = UNKNOWN
    labels[~oval & (matte < 0.35)] = BACKGROUND
    return labels


def costs(cost: np.ndarray, along: np.ndarray, aside: np.ndarray, near: np.ndarray, oval: np.ndarray, hairy: bool) -> np.ndarray:
    """Costs (3,S,S) of face, hair and clothes: colour distances `cost`, changed here, and a prior of the place.

    aside: how far from the face's middle line; near: distance from its oval in heights of it; hairy: whether sure hair was found."""
    never = 50.0
    column = aside < 0.62 + 0.5 * np.clip(-along - 0.15, 0, 0.35)  # the neck's
    above, below = along > 0.45, along < 0.0
    level = ~above & ~below
    cost[0] += np.where(oval, -6.0, 0)
    cost[0] += np.where(~oval & (along > 0), 12 * np.clip(near - 0.15, 0, None), 0)  # ears and high foreheads only
    cost[0] += np.where(below & column, np.where(along > -0.3, -3.0, -1.0), 0) + np.where(below & ~column, 4.0, 0)
    cost[0] += np.where(along < -0.75, 6.0, 0)
    cost[1] += np.where(oval & (along < 0.6), never, 0) + np.where(oval & (along >= 0.6), 3.0, 0)  # a fringe may hang into the oval
    rise = np.clip(near / 0.25, 0, 1)  # foreheads reach above the oval, ears beside it
    cost[0] += np.where(~oval & (along > 0.3) & (along < 0.75) & (near < 0.12), -1.0, 0)
    cost[1] += np.where(above & ~oval, -2.0 * rise, 0) + np.where(level & ~oval, -1.5 * rise, 0)
    cost[1] += np.where(below & column, 3.0, 0) + np.where(below, 1.0 + 8 * np.clip(-along - 0.4, 0, None), 0)
    cost[1] += np.where(aside > 2.1, never, 0)
    cost[2] += np.where(oval | above, never, 0) + np.where(level, 2.0 + 8 * np.clip(along, 0, None), 0)
    cost[2] += np.where(below & ~column, -2.0, 0) + np.where(below & column & (along > -0.2), 2.0, 0)
    cost[2] += np.where(along < -0.5, -2.5, 0)
    # above the face a person's pixel is hair or skin, whatever its colour: highlights, grey strands, hats
    cost[1] = np.where(above & ~oval & hairy, np.minimum(cost[1], 5.0 - 2 * rise), cost[1])
    cost[2] = np.where(along < -0.55, np.minimum(cost[2], 3.5), cost[2])
    # below the chin what is neither skin nor hair is worn: collars, ties
    cost[2] = np.where((along < -0.05) & ~oval, np.minimum(cost[2], np.where(along < -0.12, 2.0, 4.0)), cost[2])
    return cost


def faint_hair(lab: np.ndarray, skin: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Hair of nearly the skin's colour (grey pictures, red hair): candidates (S,S) that differ from the skin as a whole, else none."""
    middle = np.median(lab[skin if skin.any() else ~candidates], axis=0)
    if candidates.sum() < 400 or np.linalg.norm(np.median(lab[candidates], axis=0) - middle) < 12:
        return np.zeros_like(candidates)
    return candidates & (np.linalg.norm(lab - middle, axis=-1) > 9)


def connected(labels: np.ndarray, oval: np.ndarray, hair_seed: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Keep face joined to the oval and hair joined to the sure hair; small islands and loose parts become unknown."""
    out = labels.copy()
    for value, seed in ((FACE, oval), (HAIR, hair_seed)):
        here = ndimage.binary_opening((labels == value) & person, iterations=2) | ((labels == value) & seed)
        parts, count = ndimage.label(here)
        keep = np.zeros(count + 1, bool)
        keep[np.unique(parts[here & seed])] = True
        keep[0] = False
        out[(labels == value) & ~keep[parts]] = UNKNOWN
    clothes = labels == CLOTHES
    out[clothes & ~ndimage.binary_opening(clothes, iterations=3)] = UNKNOWN
    # holes: an unknown island wholly inside one region takes its label
    for value in (HAIR, CLOTHES, FACE):
        filled = ndimage.binary_fill_holes(out == value)
        out[filled & (out == UNKNOWN)] = value
    return out


def overlay(images: np.ndarray, labels: np.ndarray, columns: int = 8) -> Image.Image:
    """Contact sheet: every picture above its labels."""
    tint = PALETTE[np.where(labels == UNKNOWN, 4, labels)]
    rgb = images.transpose(0, 2, 3, 1).astype(np.float32)
    mixed = 0.5 * rgb + 0.5 * tint
    cells = np.concatenate([rgb, mixed], 1)[:, ::2, ::2]
    pad = -len(cells) % columns
    cells = np.concatenate([cells, np.zeros((pad, *cells.shape[1:]), np.float32)])
    rows = [np.concatenate(list(cells[i : i + columns]), 1) for i in range(0, len(cells), columns)]
    return Image.fromarray(np.concatenate(rows).astype(np.uint8))
