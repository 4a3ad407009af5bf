"""The opaque part of a synthetic picture: head, top, hat and frame of the glasses in one z-buffer, painted and lit.

Shape letters: P and Q vertices and triangles of all opaque parts, H = W side of the picture, N visible pixels of the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...head.morphable import labelled
from ...head.rasterizer import interpolate, interpolate_corners, rasterize
from ...head.shading import project, sh_shading, vertex_normals
from ..people.wardrobe import PAINTED
from . import paint
from .lighting import Rig
from .scene import Scene
from .shade import cast_shadow, gloss, lid_shade, mouth_shade, occlusion
from .strands import hair_occluders

INNER = ("mouth", "teeth", "tongue", "sockets")
SMALLEST_LIGHT = 0.03  # second-order SH can go below zero behind a hard light
SCALP_COVER = 0.85  # of the skin's colour that hair on the scalp replaces
LID = 0.0024  # metres of the eyeball along the lids that lie in their shade


@dataclass(frozen=True)
class Paints:
    """albedo (3,H,W); covered (H,W) share of the head's skin that hair covers; cloth (H,W) share of garments and hats; hat (H,W) bool, hats
    alone; frame (H,W) bool, the frame of the glasses."""

    albedo: Tensor
    covered: Tensor
    cloth: Tensor
    hat: Tensor
    frame: Tensor


class Surface:
    """What is seen of a scene's opaque parts at H = W = side.

    inside, skin (H,W) bool: anything, the head itself; depth (H,W), 1 where nothing is; normals (3,H,W); place (3,H,W) as in `paint`."""

    def __init__(self, scene: Scene, side: int) -> None:
        head = scene.head
        self.scene, self.side = scene, side
        self.solids, self.lenses, hidden = scene.solids()
        solids = list(self.solids.values())
        shown = (~hidden[head.faces].all(1)).nonzero()[:, 0]
        starts = [head.vertex_count]
        for solid in solids:
            starts.append(starts[-1] + len(solid.points))
        self.points = torch.cat([project(scene.vertices, scene.face.camera)[0], *(s.points for s in solids)])
        self.faces = torch.cat([head.faces[shown], *(s.faces + start for s, start in zip(solids, starts, strict=False))])
        normals = torch.cat([vertex_normals(scene.vertices, head.faces)[0], *(s.normals for s in solids)])
        places = torch.cat([head.template, *(s.place for s in solids)])
        counts = torch.tensor([len(shown), *(len(s.faces) for s in solids)])
        owner = torch.repeat_interleave(torch.arange(len(counts)), counts)  # 0 the head, then the solids in their order
        pad = torch.zeros(len(self.faces) - len(shown), 3, 2)

        self.raster = rasterize(self.points[None], self.faces, side, side)
        self.inside = self.raster.mask[0]
        at = self.raster.face[0].clamp_min(0)
        self.parts = head.face_labels[torch.cat([shown, pad.new_zeros(len(pad), dtype=torch.long)])[at]]
        self.owner = owner[at]
        self.skin = self.inside & (self.owner == 0)
        self.depth = torch.where(self.inside, self.raster.depth[0], torch.ones(()))
        self.normals = F.normalize(interpolate(self.raster, self.faces, normals[None])[0], dim=0)
        self.place = interpolate(self.raster, self.faces, places[None])[0]
        # texture coordinates: the head's own, the skin atlas', the garments'
        self._own = interpolate_corners(self.raster, torch.cat([head.uvs[head.uv_faces][shown], pad]))[0]
        self._fine = interpolate_corners(self.raster, torch.cat([scene.wardrobe.uv[shown], pad]))[0]
        self._worn = interpolate_corners(self.raster, torch.cat([torch.zeros(len(shown), 3, 2), *(s.uv for s in solids)]))[0]

    def part(self, *names: str) -> Tensor:
        """(H,W) bool: visible pixels of the head with one of these labels."""
        return self.skin & labelled(self.parts, *names)

    def paint(self) -> Paints:
        """Colours without light."""
        scene, skin, side = self.scene, self.skin, self.side
        person, wardrobe = scene.person, scene.wardrobe
        own, fine, place = (x[:, skin].T for x in (self._own, self._fine, self.place))
        colour = paint.head_colour(person, wardrobe, scene.face.albedo, self.parts[skin], own, fine, place)
        hairy = torch.zeros(len(self.points))
        if person.style is not None:
            hairy[: scene.head.vertex_count] = wardrobe.scalp_cover(person.style, person.mirrored)
        covered = interpolate(self.raster, self.faces, hairy[None, :, None])[0, 0] * skin
        share = SCALP_COVER * covered[skin][:, None]
        albedo = torch.zeros(3, side, side)
        albedo[:, skin] = (colour * (1 - share) + paint.scalp_colour(person, fine) * share).T
        cloth = torch.zeros(side, side)
        if person.top in PAINTED:
            low = self.part("neck", "shoulders")
            cloth[low] = paint.garment(person.top, self.place[:, low].T)
        hat, frame = torch.zeros(2, side, side, dtype=torch.bool)
        for k, name in enumerate(self.solids):
            here = self.inside & (self.owner == k + 1)
            albedo[:, here] = scene.solid_colour(name, self._worn[:, here].T, self.place[:, here].T).T
            if name == "frame":
                frame = here
            else:
                cloth[here] = 1
            if name == "hat":
                hat = here
        return Paints(albedo, covered, cloth, hat, frame)

    def lit(self, paints: Paints, rig: Rig) -> Tensor:
        """(3,H,W) under the scene's light, of which `rig` tells what can be in shadow."""
        scene = self.scene
        scale = float(scene.face.camera[0, 0])
        normals = self.normals.permute(1, 2, 0)[None]
        light = sh_shading(normals, scene.face.light)[0].permute(2, 0, 1)
        if float(rig.shadow) > 0:
            tops, caps = hair_occluders(scene, len(self.points))
            world = interpolate(self.raster, self.faces, self.points[None])[0]
            casters = torch.cat([self.points, tops]), torch.cat([self.faces, caps])
            dark = cast_shadow(*casters, world, self.inside, rig.direction[0], float(rig.edge))
            key = sh_shading(normals, rig.key)[0].permute(2, 0, 1).clamp_min(0)
            light = light - float(rig.shadow) * dark * key
        inner, teeth, eyes = self.part(*INNER), self.part("teeth"), self.part("eyes")
        open_ = occlusion(self.depth, self.inside)
        light = light.clamp_min(SMALLEST_LIGHT) * torch.where(inner, open_.sqrt(), open_)
        light = torch.where(inner, light * mouth_shade(self.depth, inner, teeth, scale), light)
        light = light * lid_shade(eyes, max(1, round(LID * scale * self.side / 2)))
        wet = teeth | self.part("lips") | paints.frame
        bare = self.skin & (paints.cloth < 0.5) & (paints.covered < 0.5)
        return paints.albedo * light + gloss(scene.face.light[0], self.normals, eyes, wet, bare, scene.shine)
