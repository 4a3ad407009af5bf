"""Random people for synthetic portraits: what stays the same between two pictures of one person. Everything follows from a seed.

Shape letters: S shape, A albedo. Colours are sRGB 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...faces.crop import CENTRE_AT, HEIGHT_PER_WIDTH, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT, OVAL_TOP, SIDE_PER_HEIGHT
from ...head.morphable import HeadModel
from .accessories import FRAMES, HATS, Glasses, Hat
from .complexion import group_of, hair_colour, hsv, random_tone, tone_colour
from .fabric import Fabric, random_fabric
from .randomness import drawn, generator
from .wardrobe import BROWS, LASHES, PAINTED, TOPS, Wardrobe

# hair styles and how often women and men wear them; "" is cropped, None is bald
STYLES: tuple[tuple[str | None, float, float], ...] = (
    ("short01", 1, 4), ("short02", 2, 4), ("short03", 1, 0.6), ("short04", 1.5, 4), ("bob01", 1.3, 0.1), ("bob02", 1.3, 0.1),
    ("long01", 4, 0.6), ("ponytail01", 4, 0.4), ("braid01", 2, 0.1), ("afro01", 1.2, 0.9), ("", 0.7, 3), (None, 0.25, 2),
)  # fmt: skip
# chances of African, Asian, Caucasian features by tone, from very light to dark
FEATURES = {
    "very light": (0.02, 0.2, 0.78), "light": (0.03, 0.35, 0.62), "intermediate": (0.08, 0.47, 0.45),
    "tan": (0.2, 0.45, 0.35), "brown": (0.55, 0.3, 0.15), "dark": (0.85, 0.1, 0.05),
}  # fmt: skip
AGE = (18.0, 85.0)
SPREAD = 0.5  # of faces around the average of their sex, age and origin, as a share of MakeHuman's random targets


@dataclass(frozen=True)
class Person:
    """What stays the same between two pictures of one person."""

    seed: int
    sex: str  # "female" or "male"
    age: float  # years
    tone: float  # ITA in degrees, see complexion
    shape: Tensor  # (1,S)
    albedo: Tensor  # (1,A), the code nearest to the skin
    skin: str  # a texture file
    colour: Tensor  # (3,), the face's median
    iris: str  # a texture file
    style: str | None  # a hair mesh, "" for cropped, None for bald
    mirrored: bool  # the fringe on the other side
    hair_colour: Tensor  # (3,)
    brows: str
    brow_colour: Tensor  # (3,), also of the beard
    lashes: str
    beard: float  # how dense, 0 none to 1
    beard_style: str  # see paint.beard
    top: str  # a MakeHuman garment or one of PAINTED
    fabric: Fabric | None  # None keeps the garment's own colours
    glasses: Glasses | None
    hat: Hat | None
    camera: Tensor  # (1,3), weak perspective


def random_person(seed: int, head: HeadModel, wardrobe: Wardrobe, skin_tone: float | None = None) -> Person:
    """A person in the code of a head.

    Args:
        seed: Decides everything.
        head: The open head.
        wardrobe: What there is to wear.
        skin_tone: ITA in degrees instead of a random one; nothing else changes, apart from hair colours and features that go with it.
    """
    rng = generator(seed, 1)
    own = random_tone(rng)
    tone = own if skin_tone is None else float(skin_tone)
    sex = ("female", "male")[rng.integers(2)]
    age = float(rng.uniform(*AGE))
    shape = _shape(rng, wardrobe, sex, age, FEATURES[group_of(tone)])
    skin = _skin(rng, wardrobe, sex, age, tone)
    colour = tone_colour(tone, float(rng.normal(0, 1.5)), float(rng.normal(0, 1.5)))
    weights = np.array([often[sex == "male"] for _, *often in STYLES])
    if tone > 28:
        weights[[w[0] == "afro01" for w in STYLES]] *= 0.1
    if sex == "male" and age > 50:
        weights[-1] *= 2
    style = drawn(rng, [name for name, _, _ in STYLES], weights)
    strands = hair_colour(rng, tone, age)
    dark = np.minimum(strands * rng.uniform(0.5, 0.85), 0.55 if age > 60 else 0.35)
    bearded = sex == "male" and rng.random() < 0.45
    return Person(
        seed=seed,
        sex=sex,
        age=age,
        tone=tone,
        shape=shape,
        albedo=wardrobe.complexion.code(wardrobe.skin(skin), colour),
        skin=skin,
        colour=colour,
        iris=_iris(rng, wardrobe, tone),
        style=style,
        mirrored=bool(rng.random() < 0.5),
        hair_colour=torch.from_numpy(strands).float(),
        brows=BROWS[rng.integers(len(BROWS))],
        brow_colour=torch.from_numpy(dark).float(),
        lashes=LASHES[rng.integers(len(LASHES))],
        beard=float(rng.uniform(0.25, 1.0)) if bearded else 0.0,
        beard_style=("full", "goatee", "moustache")[rng.choice(3, p=[0.65, 0.2, 0.15])],
        top=_top(rng, sex),
        fabric=random_fabric(rng),
        glasses=_glasses(rng, age),
        hat=_hat(rng) if style not in ("afro01", "ponytail01") else None,
        camera=frame(head, shape, rng),
    )


def with_skin_tone(person: Person, wardrobe: Wardrobe, skin_tone: float) -> Person:
    """The same person, in everything but the skin, with ITA `skin_tone` in degrees; the albedo code follows."""
    colour = tone_colour(skin_tone)
    return replace(person, tone=float(skin_tone), colour=colour, albedo=wardrobe.complexion.code(wardrobe.skin(person.skin), colour))


def _shape(rng: np.random.Generator, wardrobe, sex: str, age: float, chances: tuple[float, float, float]) -> Tensor:
    """(1,S): MakeHuman's average of a mixture of origins, a sex and an age, and a random person's difference from it."""
    origin = rng.dirichlet(0.2 + 2.5 * np.eye(3)[rng.choice(3, p=chances)])
    man = np.clip(rng.normal(0.95 if sex == "male" else 0.05, 0.1), 0, 1)
    old = np.clip((age - 25) / 65, 0, 1)
    corner = wardrobe.macro.numpy()  # (3,2,2,S)
    mean = np.einsum("o,s,a,osax->x", origin, [1 - man, man], [1 - old, old], corner)
    spread = wardrobe.spread.numpy()
    return torch.from_numpy(mean + SPREAD * spread * np.clip(rng.normal(0, 1, spread.shape), -2.2, 2.2)).float()[None]


def _skin(rng: np.random.Generator, wardrobe, sex: str, age: float, tone: float) -> str:
    """A painted skin of this sex, preferably of this age and near this tone."""
    paths = [p for p in wardrobe.skins if ("_female" in p) == (sex == "female")]
    years = {"young": 25, "middleage": 48, "old": 70}
    ages = np.array([next(years[word] for word in years if f"/{word}_" in p) for p in paths])
    dark = np.array(["african" in p for p in paths])
    weights = np.exp(-(((ages - age) / 25) ** 2)) * np.where(dark == (tone < 15), 1.0, 0.25)
    return drawn(rng, paths, weights + 1e-3)


def _iris(rng: np.random.Generator, wardrobe, tone: float) -> str:
    """Mostly brown beside tan and darker skin."""
    rare = 0.3 if tone > 41 else 0.1 if tone > 28 else 0.005
    return drawn(rng, wardrobe.irises, [2.0 if "/brown_" in p else 0.6 if "brownlight" in p else rare for p in wardrobe.irises])


def _top(rng: np.random.Generator, sex: str) -> str:
    """A garment; those made for the other sex are rarer."""
    names = (*TOPS, *PAINTED)
    return drawn(rng, names, [1.5 if n in PAINTED or n.startswith(sex) else 0.2 for n in names])


def _glasses(rng: np.random.Generator, age: float) -> Glasses | None:
    """Glasses for one in five, more often with age; one in eight of them dark."""
    wears = rng.random() < 0.14 + 0.25 * max(0.0, age - 40) / 45
    values = rng.random(6)
    if not wears:
        return None
    metal = values[1] < 0.35
    saturation, bright = (0.15, 0.25 + 0.5 * values[4]) if metal else (0.7 * values[3], 0.05 + 0.3 * values[4] ** 2)
    shade = np.array(hsv(float(values[2]), float(saturation), float(bright)))
    return Glasses(
        shape=FRAMES[int(values[0] * len(FRAMES))],
        colour=torch.from_numpy(shade).float(),
        thickness=0.0008 if metal else 0.0011 + 0.0012 * float(values[3]),
        tint=float(0.75 + 0.2 * values[4]) if values[5] < 0.125 else 0.05,
    )


def _hat(rng: np.random.Generator) -> Hat | None:
    """A hat for one in eight."""
    wears, kind, low = rng.random() < 0.125, HATS[rng.integers(len(HATS))], float(rng.uniform(-0.004, 0.012))
    fabric = random_fabric(rng)
    return Hat(kind, low, fabric if fabric is not None else Fabric.plain(torch.tensor([0.15, 0.16, 0.2]))) if wears else None


def frame(head: HeadModel, shape: Tensor, rng: np.random.Generator) -> Tensor:
    """Camera (1,3) that shows the straight, neutral head of a shape (1,S) as `crop.crop_square` frames it, give or take a little."""
    points = head.landmarks(head(shape, torch.zeros(1, head.expression_count), torch.zeros(1, 5, 3)))[0, :, :2]
    top, bottom, left, right = points[[OVAL_TOP, OVAL_BOTTOM, OVAL_LEFT, OVAL_RIGHT]]
    high, wide = float((top - bottom).norm()), HEIGHT_PER_WIDTH * float((left - right).norm())
    side = SIDE_PER_HEIGHT * ((high**8 + wide**8) / 2) ** (1 / 8) * rng.uniform(0.93, 1.12)
    centre = torch.stack([top, bottom, left, right]).mean(0)
    dx, dy = rng.normal(0, 0.02, 2)
    scale = 2 / side
    # the oval's centre lies at CENTRE_AT of the height, counted downwards: y = 1 - 2 CENTRE_AT in -1..1
    place = [scale, dx / scale - float(centre[0]), (1 - 2 * CENTRE_AT + dy) / scale - float(centre[1])]
    return torch.tensor([place], dtype=torch.float32)


def moved_camera(camera: Tensor, rng: np.random.Generator) -> Tensor:
    """Camera (1,3) of another moment: a step nearer or farther, a little aside."""
    out = camera.clone()
    out[:, 0] *= float(np.clip(rng.normal(1, 0.025), 0.94, 1.06))
    out[:, 1:] += torch.from_numpy(np.clip(rng.normal(0, 0.012, 2), -0.025, 0.025)).float() / camera[:, :1]
    return out
