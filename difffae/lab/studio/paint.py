"""Colours of a synthetic person's visible pixels: skin with age and beard, irises, teeth, garments.

Shape letters: V and F vertices and faces of the head, N pixels. Places are metres on the head model's template: x to the subject's left,
y up, z to the viewer. Colours are sRGB 0..1, without light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...head.morphable import labelled
from ..people.complexion import recolour
from ..people.fabric import Fabric
from ..people.randomness import generator
from ..people.wardrobe import PAINTED, Wardrobe
from .fragments import sample

if TYPE_CHECKING:
    from ..people.people import Person

BARE = ("face", "scalp", "neck", "shoulders", "ears", "lips")
EYE_GAIN = 0.88  # lids and lashes shade the white


def smooth(x: Tensor, low: float, high: float) -> Tensor:
    """0 below low, 1 above high, smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def noise_tile(seed: int) -> Tensor:
    """(1,256,256) grain about 0 that repeats."""
    noise = torch.from_numpy(generator(seed, 5).normal(0, 1, (1, 1, 256, 256))).float()
    return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(noise, (1, 1, 1, 1), mode="circular"), 3, stride=1)[0] * 2.2


def garment(kind: str, place: Tensor) -> Tensor:
    """0..1 (N,): share of the head model's skin at `place` (N,3) that a painted top covers."""
    x, y, z = place.unbind(-1)
    # the line around the neck: lower in front than behind
    line = -0.121 - 0.17 * (z + 0.01)
    front = smooth(z, -0.01, 0.04)
    if kind == "turtleneck":
        line = line + 0.026
    elif kind == "vneck":
        line = line - front * (0.075 * (1 - x.abs() / 0.055)).clamp_min(0) + 0.002
    elif kind == "scoop":
        line = line - front * 0.045 * torch.exp(-((x / 0.07) ** 4)) - 0.006
    return torch.sigmoid((line - y) / 0.0006)


def collar(kind: str, place: Tensor) -> Tensor:
    """0..1 (N,): the hem along a painted top's neckline, about 15 mm wide."""
    return garment(kind, place) * (1 - garment(kind, place + torch.tensor([0.0, 0.013, 0.0])))


def beard(style: str, place: Tensor) -> Tensor:
    """0..1 (N,): how densely hair grows on the face at `place` (N,3)."""
    x, y, z = place[:, 0].abs(), place[:, 1], place[:, 2]
    cheek = 0.012 - 0.56 * (z - 0.03)  # from the sideburn down to the corner of the mouth
    jaw = smooth(cheek - y, -0.006, 0.016) * smooth(y, -0.125, -0.095) * smooth(z, 0.004, 0.02)
    chin = smooth(-y, 0.052, 0.060) * (1 - smooth(x, 0.022, 0.034)) * smooth(y, -0.112, -0.09) * smooth(z, 0.05, 0.07)
    lip = smooth(-y, 0.026, 0.0305) * (1 - smooth(-y, 0.052, 0.060)) * (1 - smooth(x, 0.024, 0.033)) * smooth(z, 0.08, 0.09)
    return {"full": torch.maximum(jaw, lip), "goatee": torch.maximum(chin, lip), "moustache": lip * smooth(y, -0.047, -0.043)}[style]


def skin_colour(person: Person, wardrobe: Wardrobe, fine: Tensor, place: Tensor, lips: Tensor) -> Tensor:
    """(N,3) at the skin atlas' coordinates `fine` (N,2) and template places (N,3); lips (N,) bool."""
    colour = recolour(sample(wardrobe.atlas(person.skin), fine), wardrobe.skin(person.skin).colour, person.colour)
    aged = min(max((person.age - 35) / 35, 0.0), 1.1)
    if aged > 0 and "/old_" not in person.skin:
        colour = colour * (0.85 * aged * sample(wardrobe.relief(), fine)).exp()
    if person.beard > 0:
        dense = beard(person.beard_style, place) * (~lips)
        grain = sample(noise_tile(person.seed), fine * 9)[:, 0]
        hair = (person.brow_colour * 0.8)[None] * (1 + 0.35 * grain[:, None]).clamp(0.3, 2)
        cover = (dense * (0.25 + 0.7 * person.beard) * (1 + 0.45 * (1 - person.beard) * grain)).clamp(0, 0.95)[:, None]
        colour = colour * (1 - cover) + hair * cover
    return colour.clamp(0.012, 1)


def head_colour(person: Person, wardrobe: Wardrobe, albedo: Tensor, parts: Tensor, own: Tensor, fine: Tensor, place: Tensor) -> Tensor:
    """(N,3) of pixels of the head.

    albedo (1,A) the code; parts (N,) index into LABELS; own (N,2) the head's texture coordinates, fine (N,2) the skin's; place (N,3)."""
    head = wardrobe.head
    out = sample(head.albedo(albedo)[0], own)
    bare = labelled(parts, *BARE)
    out[bare] = skin_colour(person, wardrobe, fine[bare], place[bare], labelled(parts[bare], "lips"))
    teeth = labelled(parts, "teeth")
    out[teeth] = (out[teeth] * torch.tensor([1.06, 1.08, 1.1])).clamp(0, 0.97)
    eyes = labelled(parts, "eyes")
    if eyes.any():
        rect = head.uvs[head.uv_faces[labelled(head.face_labels, "eyes")]].flatten(0, 1)
        low, high = rect.amin(0), rect.amax(0)
        out[eyes] = sample(wardrobe.iris(person.iris), ((own[eyes] - low) / (high - low)).clamp(0.002, 0.998)) * EYE_GAIN
    if person.top in PAINTED:
        fabric = person.fabric or Fabric.plain(torch.tensor([0.85, 0.85, 0.83]))
        low_part = bare & (place[:, 1] < -0.07)
        at = place[low_part]
        share = garment(person.top, at)[:, None]
        cloth = fabric.paint(at)
        if person.top != "turtleneck":
            hem = collar(person.top, at)[:, None]
            cloth = cloth * (1 - hem) + (0.85 * fabric.colour) * hem
        out[low_part] = out[low_part] * (1 - share) + cloth * share
    return out


def top_colour(person: Person, wardrobe: Wardrobe, uv: Tensor, place: Tensor) -> Tensor:
    """(N,3) of a MakeHuman garment at its texture coordinates (N,2): its own texture, or that texture's shading on a fabric."""
    colour = sample(wardrobe.texture("clothes", person.top), uv)
    if person.fabric is None:
        return colour
    grey = colour.mean(1, keepdim=True)
    middle = grey.median().clamp_min(0.05)
    return (person.fabric.paint(place) * (grey / middle).clamp(0.45, 1.5) ** 0.6).clamp(0.02, 0.97)


def scalp_colour(person: Person, fine: Tensor) -> Tensor:
    """(N,3) of cropped hair, and of the scalp between strands."""
    grain = sample(noise_tile(person.seed + 1), fine * 12)
    return person.hair_colour * (1 + 0.3 * grain).clamp(0.4, 1.7)
