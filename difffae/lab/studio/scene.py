"""A synthetic person placed in the picture: the posed head, and everything worn that moves with it.

Shape letters: B faces, V head vertices, J joints, P and Q vertices and triangles of a part, N pixels, H = W side of the picture.
Axes: x right in the image, y up, z to the viewer; projected points as in render.project.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.rotations import axis_angle_to_matrix
from ...head.attributes import FaceAttributes
from ...head.morphable import joint_motion, labelled, skinned
from ...head.shading import project, sh_shading, vertex_normals
from ..people import accessories
from ..people.people import Person
from ..people.proxies import Proxy
from ..people.wardrobe import PAINTED, Wardrobe
from . import paint
from .fragments import blend, fragments

CLOTH_THICKNESS = 0.003  # metres that a painted top stands off the skin
NECK = 1  # the joint that turns the head


@dataclass(frozen=True)
class Solid:
    """An opaque part in the scene: points (P,3) projected, normals (P,3), faces (Q,3), uv (Q,3,2), place (P,3) for `Fabric.paint`."""

    points: Tensor
    normals: Tensor
    faces: Tensor
    uv: Tensor
    place: Tensor


@dataclass(frozen=True)
class Worn:
    """A proxy in the scene: points (P,3) projected, normals (P,3), rest (P,3) its vertices before posing."""

    proxy: Proxy
    points: Tensor
    normals: Tensor
    rest: Tensor


@dataclass(frozen=True)
class Layer:
    """A transparent part: premultiplied colour (3,H,W), cover (H,W), near (H,W) depth of what is mostly opaque, 1 elsewhere."""

    colour: Tensor
    cover: Tensor
    near: Tensor
    hair: bool


class Scene:
    """One person with the attributes `face` (one face).

    calm, moved  (1,V,3) the head at rest, without and with its expression
    motion       (1,J,3,4) what the pose does to its joints
    vertices     (1,V,3) the posed head, with the thickness of a painted top
    shine        of its skin: dry to oily
    """

    def __init__(self, wardrobe: Wardrobe, person: Person, face: FaceAttributes) -> None:
        self.wardrobe, self.head, self.person, self.face = wardrobe, wardrobe.head, person, face
        self.calm = self.head.unposed(face.shape, face.expression[:, :0])
        self.moved = self.head.unposed(face.shape, face.expression)
        self.motion = joint_motion(axis_angle_to_matrix(face.pose), self.head.joints(face.shape, face.expression))
        self.shine = 0.035 + 0.05 * ((person.seed * 7919) % 97) / 97
        rest = self.moved
        if person.top in PAINTED:
            low = labelled(self.head.labels, "neck", "shoulders")
            lift = CLOTH_THICKNESS * paint.garment(person.top, self.head.template) * low
            rest = rest + vertex_normals(rest, self.head.faces) * lift[:, None]
        self.vertices = skinned(rest, self.head.skin_weights, self.motion)

    def wear(self, kind: str, name: str, mirrored: bool = False) -> Worn:
        proxy = self.wardrobe.mesh(kind, name, mirrored)
        rest = proxy.rest(self.moved if proxy.follows else self.calm)
        placed = skinned(rest, proxy.skin(self.head.skin_weights), self.motion)
        return Worn(proxy, project(placed, self.face.camera)[0], vertex_normals(placed, proxy.faces)[0], rest[0])

    def _with_head(self, part: accessories.Part) -> Solid:
        """A part that turns with the head as a whole."""
        weights = torch.zeros(len(part.points), self.motion.shape[1])
        weights[:, NECK] = 1
        placed = skinned(part.points[None], weights, self.motion)
        uv = torch.zeros(len(part.faces), 3, 2)
        return Solid(project(placed, self.face.camera)[0], vertex_normals(placed, part.faces)[0], part.faces, uv, part.place)

    def solids(self) -> tuple[dict[str, Solid], Solid | None, Tensor]:
        """Opaque parts by name ("top", "hat", "frame"), the lenses or None, and the head's vertices (V,) bool that a garment hides."""
        person, out = self.person, {}
        hidden = torch.zeros(self.head.vertex_count, dtype=torch.bool)
        if person.top not in PAINTED:
            worn = self.wear("clothes", person.top)
            place = worn.proxy.rest(self.head.template[None])[0]
            out["top"] = Solid(worn.points, worn.normals, worn.proxy.faces, worn.proxy.uv, place)
            hidden = worn.proxy.hidden
        if person.hat is not None:
            out["hat"] = self._with_head(accessories.hat(person.hat, self.head, self.calm))
        lenses = None
        if person.glasses is not None:
            frame, glass = accessories.glasses(person.glasses, self.head, self.calm)
            out["frame"], lenses = self._with_head(frame), self._with_head(glass)
        return out, lenses, hidden

    def solid_colour(self, name: str, uv: Tensor, place: Tensor) -> Tensor:
        """Albedo (N,3) of a solid's pixels at texture coordinates (N,2) and places (N,3)."""
        person = self.person
        if name == "top":
            return paint.top_colour(person, self.wardrobe, uv, place)
        if name == "hat" and person.hat is not None:
            colour = person.hat.fabric.paint(place)
            if person.hat.kind == "cap":  # six panels
                seam = (place[:, 0] / 0.09 * 3 / math.pi + 0.5) % 1 - 0.5
                dome = place[:, 2] == 0
                colour = colour * torch.where(dome & (seam.abs() < 0.03), 0.75, 1.0)[:, None]
            return colour
        assert person.glasses is not None
        return person.glasses.colour.expand(len(place), 3)

    def lens_layer(self, lenses: Solid, depth: Tensor, side: int) -> Layer:
        """Lenses: a tint, and a reflection of the room that grows towards the upper edge."""
        glasses = self.person.glasses
        assert glasses is not None
        found = fragments(lenses.points, lenses.faces, side, side, depth.flatten())
        height = found.interpolate(lenses.faces, lenses.place)[:, 1]
        top = (height - lenses.place[:, 1].min()) / (lenses.place[:, 1].max() - lenses.place[:, 1].min())
        normal = F.normalize(found.interpolate(lenses.faces, lenses.normals), dim=-1)
        light = sh_shading(torch.where(normal[:, 2:] < 0, -normal, normal)[None], self.face.light)[0].clamp_min(0.05)
        shine = 0.10 * top**3
        alpha = (glasses.tint + shine).clamp_max(0.97)
        colour = (0.06 * glasses.tint + 0.9 * shine)[:, None] * light / alpha[:, None]
        out, cover = blend(found, colour.clamp(0, 1), alpha, side * side)
        far = torch.ones(side, side)
        return Layer(out.T.reshape(3, side, side), cover.view(side, side), far, False)
