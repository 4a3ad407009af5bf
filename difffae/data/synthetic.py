"""Synthetic portraits: the open head dressed with MakeHuman's CC0 assets and our own glasses and hats, with exact labels (training data).

Shape letters: B faces, V and F vertices and faces of the head, P vertices and Q triangles of a part, N fragments or pixels,
M lights, H = W side of the super-sampled picture (2 x size). Axes: x right in the image, y up, z to the viewer.

What the labels mean. Pose, expression, shape, camera: the very numbers that moved the mesh. Masks, depth, normals: of the mesh that was
drawn. Light: the head render's own, sRGB albedo times second-order SH; the picture differs from that by ambient occlusion (at most a
half), small highlights, and, where a rig casts shadows, the key light that is missing there: the label is the light that falls on
unshadowed skin. Albedo: the code that comes nearest to the recoloured skin (the rest, wrinkles and beards included, no code can say).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attributes import FaceAttributes
from ..head import LABELS, HeadModel
from ..render import interpolate, interpolate_corners, project, rasterize, sh_shading, vertex_normals
from . import paint
from .backdrops import background
from .lens import photograph
from .lighting import Rig, rigs
from .people import Person, expressions, generator, moved_camera, poses, random_person, with_skin_tone
from .scene import Layer, Scene, joint_matrices
from .shade import cast_shadow, gloss, lid_shade, mouth_shade, occlusion, world_places
from .strands import hair_layers, hair_occluders, strip_layers
from .wardrobe import PAINTED, Wardrobe

FACE, HAIR, CLOTHES, BACKGROUND = 0, 1, 2, 3
OVERSAMPLING = 2
INNER = ("mouth", "teeth", "tongue", "sockets")
SMALLEST_LIGHT = 0.03  # second-order SH can go below zero behind a hard light


@dataclass(frozen=True)
class Synthetic:
    """image (B,3,H,W) 0..1; labels (B,H,W) uint8: 0 face (all bare skin, beards and glasses), 1 hair, 2 clothes and hats, 3 background;
    shares (B,4,H,W) how much of each pixel they take, summing to 1; depth (B,1,H,W) of the head, clothes and hair (z of `project`, smaller
    is nearer, 1 at the background); normals (B,3,H,W) world normals of head and clothes, zero elsewhere; attributes."""

    image: Tensor
    labels: Tensor
    shares: Tensor
    depth: Tensor
    normals: Tensor
    attributes: FaceAttributes

    @property
    def mask(self) -> Tensor:
        """(B,1,H,W) share of the pixel that shows the person."""
        return 1 - self.shares[:, BACKGROUND:]


class SyntheticPeople:
    """Generator of portraits. makehuman: folder of the CC0 assets; head: the bundled open head; expressions (N,E): table of real
    scores in the head's order (see behaviour.load_expressions); photographs: folder of pictures for backgrounds."""

    def __init__(
        self, makehuman: str | Path, head: HeadModel, *, expressions: Tensor | None = None, photographs: str | Path | None = None
    ) -> None:
        self.head = head
        self.wardrobe = Wardrobe(Path(makehuman), head)
        self.expressions = expressions
        self.photographs = Path(photographs) if photographs else None

    @torch.no_grad()
    def person(self, seed: int, skin_tone: float | None = None) -> Person:
        """The person of this seed: identity, outfit, hair and camera. skin_tone: ITA in degrees (complexion.TONES) in place of its own."""
        return random_person(seed, self.head, self.wardrobe, skin_tone)

    def attributes(self, person: Person, seed: int, count: int = 1) -> tuple[FaceAttributes, Rig]:
        """`count` random poses, expressions and lights of a person, whose identity stays; from the second on the camera may move."""
        rng = generator(person.seed, seed, 3)
        rig = rigs(rng, count)
        pose = poses(rng, count)
        expression = expressions(rng, count, self.head.expression_names, self.expressions)
        cameras = [person.camera] + [moved_camera(person.camera, rng) if rng.random() < 0.5 else person.camera for _ in range(count - 1)]
        return self._faces(person, pose, torch.cat(cameras), expression, rig.light), rig

    def _faces(self, person: Person, pose: Tensor, camera: Tensor, expression: Tensor, light: Tensor) -> FaceAttributes:
        count = len(pose)
        return FaceAttributes(
            head=self.head.name,
            shape=person.shape.expand(count, -1),
            albedo=person.albedo.expand(count, -1),
            pose=pose,
            camera=camera,
            expression=expression,
            light=light,
        )

    def pair(self, seed: int, size: int = 256) -> Synthetic:
        """B = 2: one person, outfit, hair and background, one camera's blur and noise; two poses, expressions and lights."""
        person = self.person(seed)
        attributes, rig = self.attributes(person, seed, 2)
        made = self.render(person, attributes, seed, size, rig)
        return replace(made, image=photograph(made.image, seed))

    def portrait(self, seed: int, size: int = 256, *, skin_tone: float | None = None, light: Tensor | None = None) -> Synthetic:
        """B = 1, without the camera's blur and noise. skin_tone: ITA in degrees; light (1,9,3): without cast shadows then."""
        person = self.person(seed)
        attributes, rig = self.attributes(person, seed)
        if skin_tone is not None:
            person = with_skin_tone(person, self.wardrobe, skin_tone)
            attributes = replace(attributes, albedo=person.albedo)
        if light is not None:
            attributes, rig = replace(attributes, light=light), Rig.unshadowed(light)
        return self.render(person, attributes, seed, size, rig)

    def tone_light_grid(self, seed: int, skin_tones: Sequence[float], lights: Tensor | int, size: int = 256) -> Synthetic:
        """One person in one pose before one background, with every skin tone under every light: B = N*M, row n*M + m.

        skin_tones: N numbers, ITA in degrees, for instance 60, 48, 34, 19, -10, -45, which are the middles of the six groups of
        complexion.TONES; lights: (M,9,3), or how many random ones. Nothing but the skin's colour (and the albedo code) changes with the
        tone. No cast shadows, glasses, hats, blur or noise, so that the light label is exact up to occlusion and small highlights.

            head = HeadModel.load()
            people = SyntheticPeople("MAKEHUMAN", head, expressions=load_expressions("landmarks.npz", head.expression_names))
            grid = people.tone_light_grid(7, (60, 34, -10, -45), lights=6)
            grid.image.view(4, 6, 3, 256, 256), grid.attributes.light.view(4, 6, 9, 3)
        """
        person = replace(self.person(seed), glasses=None, hat=None)
        light = rigs(generator(seed, 21), lights).light if isinstance(lights, int) else lights
        attributes, _ = self.attributes(person, seed)
        rows = []
        for tone in skin_tones:
            toned = with_skin_tone(person, self.wardrobe, tone)
            count = len(light)
            pose, expression = attributes.pose.expand(count, -1, -1), attributes.expression.expand(count, -1)
            faces = self._faces(toned, pose, person.camera.expand(count, -1), expression, light)
            rows.append(self.render(toned, faces, seed, size))
        images, labels, shares, depth, normals = (
            torch.cat([getattr(row, name) for row in rows]) for name in ("image", "labels", "shares", "depth", "normals")
        )
        names = rows[0].attributes.tensors()
        every = FaceAttributes(self.head.name, **{name: torch.cat([getattr(row.attributes, name) for row in rows]) for name in names})
        return Synthetic(images, labels, shares, depth, normals, every)

    @torch.no_grad()
    def render(
        self, person: Person, attributes: FaceAttributes, background_seed: int, size: int = 256, rig: Rig | None = None
    ) -> Synthetic:
        """The person with these attributes (B faces) before one background. rig: how the light is made up, whose sum is the attributes'
        light; None for no cast shadows."""
        rig = rig or Rig.unshadowed(attributes.light)
        backdrop = background(background_seed, size, self.photographs)
        rows = [self._one(person, attributes[k], rig[k], backdrop, size) for k in range(len(attributes))]
        image, labels, shares, depth, normals = (torch.stack(part) for part in zip(*rows, strict=True))
        return Synthetic(image, labels, shares, depth, normals, attributes)

    def _one(self, person: Person, face: FaceAttributes, rig: Rig, backdrop: Tensor, size: int) -> tuple[Tensor, ...]:
        head, side = self.head, size * OVERSAMPLING
        calm = head.unposed(face.shape, face.expression[:, :0])
        moved = head.unposed(face.shape, face.expression)
        matrices = joint_matrices(head, moved, face.pose)
        scene = Scene(self.wardrobe, person, face, calm, moved, matrices)
        solids, lenses, hidden = scene.solids()

        # opaque parts: head, top, hat and frame of the glasses in one z-buffer
        vertices = scene.vertices
        shown = (~hidden[head.faces].all(1)).nonzero()[:, 0]
        starts = [head.vertex_count]
        for solid in solids.values():
            starts.append(starts[-1] + len(solid.points))
        points = torch.cat([project(vertices, face.camera)[0], *(s.points for s in solids.values())])
        faces = torch.cat([head.faces[shown], *(s.faces + b for s, b in zip(solids.values(), starts, strict=False))])
        normals_v = torch.cat([vertex_normals(vertices, head.faces)[0], *(s.normals for s in solids.values())])
        places_v = torch.cat([head.template, *(s.place for s in solids.values())])
        pad = torch.zeros(len(faces) - len(shown), 3, 2)
        solid_uv = torch.cat([torch.zeros(len(shown), 3, 2), *(s.uv for s in solids.values())])
        counts = torch.tensor([len(shown), *(len(s.faces) for s in solids.values())])
        owner = torch.repeat_interleave(torch.arange(len(counts)), counts)  # 0 the head, then the solids in their order
        number = torch.cat([shown, torch.zeros(len(pad), dtype=torch.long)])
        raster = rasterize(points[None], faces, side, side)
        inside = raster.mask[0]
        at = raster.face[0].clamp_min(0)
        parts = head.face_labels[number[at]]
        of = owner[at]
        skin = inside & (of == 0)
        normals = F.normalize(interpolate(raster, faces, normals_v[None])[0], dim=0)
        place = interpolate(raster, faces, places_v[None])[0]
        own = interpolate_corners(raster, torch.cat([head.uvs[head.uv_faces][shown], pad]))[0][:, skin].T
        fine = interpolate_corners(raster, torch.cat([self.wardrobe.uv[shown], pad]))[0][:, skin].T

        albedo = torch.zeros(3, side, side)
        albedo[:, skin] = paint.head_colour(person, self.wardrobe, face.albedo, parts[skin], own, fine, place[:, skin].T).T
        cover = torch.zeros(len(points))
        if person.style is not None:
            cover[: head.vertex_count] = self.wardrobe.scalp_cover(person.style, person.mirrored)
        covered = interpolate(raster, faces, cover[None, :, None])[0, 0] * skin
        scalp = torch.zeros(3, side, side)
        scalp[:, skin] = paint.scalp_colour(person, fine).T
        albedo = albedo * (1 - 0.85 * covered) + 0.85 * covered * scalp
        worn = torch.zeros(side, side)  # share of painted cloth
        if person.top in PAINTED:
            bare = skin & torch.isin(parts, torch.tensor([LABELS.index(n) for n in ("neck", "shoulders")]))
            worn[bare] = paint.garment(person.top, place[:, bare].T)
        frame = torch.zeros(side, side, dtype=torch.bool)
        for k, name in enumerate(solids):
            here = inside & (of == k + 1)
            uv = interpolate_corners(raster, solid_uv)[0][:, here].T if name == "top" else own[:0]
            albedo[:, here] = scene.solid_colour(name, uv, place[:, here].T).T
            if name == "frame":
                frame = here
            else:
                worn[here] = 1

        depth = torch.where(inside, raster.depth[0], torch.ones(()))
        light = sh_shading(normals.permute(1, 2, 0)[None], face.light)[0].permute(2, 0, 1)
        if float(rig.shadow) > 0:
            tops, caps = hair_occluders(scene, starts[-1])
            world = world_places(raster, faces, points)
            every, casters = torch.cat([points, tops]), torch.cat([faces, caps])
            dark = cast_shadow(every, casters, world, inside, rig.direction[0], float(rig.edge))
            key = sh_shading(normals.permute(1, 2, 0)[None], rig.key)[0].permute(2, 0, 1).clamp_min(0)
            light = light - float(rig.shadow) * dark * key
        inner = skin & torch.isin(parts, torch.tensor([LABELS.index(n) for n in INNER]))
        teeth = skin & (parts == LABELS.index("teeth"))
        open_ = occlusion(depth, inside)
        light = light.clamp_min(SMALLEST_LIGHT) * torch.where(inner, open_.sqrt(), open_)
        light = torch.where(inner, light * mouth_shade(depth, inner, teeth, float(face.camera[0, 0])), light)
        eyes = skin & (parts == LABELS.index("eyes"))
        light = light * lid_shade(eyes, max(1, round(0.0012 * side * float(face.camera[0, 0]))))
        wet = teeth | (skin & (parts == LABELS.index("lips"))) | frame
        bare = skin & (worn < 0.5) & (covered < 0.5)
        picture = albedo * light + gloss(face.light[0], normals, eyes, wet, bare, scene.shine)

        # transparent parts in front; each says how much of a pixel it takes
        shares = torch.stack([skin * (covered <= 0.5) * (1 - worn) + frame, skin * (covered > 0.5) * (1 - worn), worn * inside])
        layers: list[Layer] = strip_layers(scene, depth, side)
        if lenses is not None:
            layers.append(scene.lens_layer(lenses, depth, side))
        layers += hair_layers(scene, depth, side)
        for layer in layers:
            picture = picture * (1 - layer.cover) + layer.colour
            if layer.hair:
                shares = shares * (1 - layer.cover)
                shares[HAIR] += layer.cover
                depth = torch.where(layer.cover > 0.5, torch.minimum(depth, layer.near), depth)

        person_share = shares.sum(0)
        image = F.avg_pool2d((picture * person_share).clamp(0, 1), OVERSAMPLING)
        small = F.avg_pool2d(shares, OVERSAMPLING).clamp(0, 1)
        empty = (1 - small.sum(0, keepdim=True)).clamp(0, 1)
        shares = torch.cat([small, empty]) / (small.sum(0, keepdim=True) + empty)
        image = image + backdrop * shares[BACKGROUND]
        labels = torch.where(empty[0] > 0.5, torch.full_like(of[:size, :size], BACKGROUND), small.argmax(0)).to(torch.uint8)
        depth, normals = F.avg_pool2d(depth[None], OVERSAMPLING), F.avg_pool2d(normals * inside, OVERSAMPLING)
        return image.clamp(0, 1), labels, shares, depth, normals
