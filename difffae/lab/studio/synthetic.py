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

from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ..people.behaviour import expressions, poses
from ..people.people import Person, moved_camera, random_person, with_skin_tone
from ..people.randomness import generator
from ..people.wardrobe import Wardrobe
from .backdrops import background
from .lens import photograph
from .lighting import Rig, rigs
from .scene import Layer, Scene
from .strands import hair_layers, strip_layers
from .surface import Surface

FACE, HAIR, CLOTHES, BACKGROUND = 0, 1, 2, 3
OVERSAMPLING = 2


@dataclass(frozen=True)
class Synthetic:
    """Pictures and everything that is true of them.

    image       (B,3,H,W) 0..1
    labels      (B,H,W) uint8: 0 face (all bare skin, beards and glasses), 1 hair and hats, 2 clothes, 3 background
    shares      (B,4,H,W) how much of each pixel these take, summing to 1
    depth       (B,1,H,W) of head, clothes and hair: z of `project`, smaller is nearer, 1 at the background
    normals     (B,3,H,W) world normals of head and clothes, zero elsewhere
    attributes  B faces
    """

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
    """Generator of portraits. Everything follows from seeds.

    Args:
        makehuman: Folder of the CC0 assets.
        head: The bundled open head.
        expressions: (N,E) real scores in the head's order (see behaviour.load_expressions); None leaves them out.
        photographs: Folder of pictures for backgrounds; None draws all of them.

    Raises:
        ConfigError: If the folder lacks assets, or the head is another one.
    """

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
        """Random poses, expressions and lights of a person, whose identity stays; from the second on the camera may move.

        Returns:
            Attributes (B = count), and how their light is made up.
        """
        rng = generator(person.seed, seed, 3)
        rig = rigs(rng, count)
        pose = poses(rng, count)
        expression = expressions(rng, count, self.head.expression_names, self.expressions)
        cameras = [person.camera] + [moved_camera(person.camera, rng) if rng.random() < 0.5 else person.camera for _ in range(count - 1)]
        return self._faces(person, pose, torch.cat(cameras), expression, rig.light), rig

    def _faces(self, person: Person, pose: Tensor, camera: Tensor, expression: Tensor, light: Tensor) -> FaceAttributes:
        count = len(pose)
        shape, albedo = person.shape.expand(count, -1), person.albedo.expand(count, -1)
        return FaceAttributes(self.head.name, shape, albedo, pose, camera, expression, light)

    def pair(self, seed: int, size: int = 256) -> Synthetic:
        """B = 2: a clip of two frames."""
        return self.clip(seed, 2, size)

    def clip(self, seed: int, frames: int, size: int = 256) -> Synthetic:
        """B = frames: one person, outfit, hair and background, one camera's blur and noise; as many poses, expressions and lights."""
        person = self.person(seed)
        attributes, rig = self.attributes(person, seed, frames)
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
        every = FaceAttributes.cat([row.attributes for row in rows])
        names = ("image", "labels", "shares", "depth", "normals")
        return replace(rows[0], attributes=every, **{name: torch.cat([getattr(row, name) for row in rows]) for name in names})

    @torch.no_grad()
    def render(
        self, person: Person, attributes: FaceAttributes, background_seed: int, size: int = 256, rig: Rig | None = None
    ) -> Synthetic:
        """The person with these attributes (B faces) before one background.

        Args:
            person: Of `person`.
            attributes: B faces.
            background_seed: Of `backdrops.background`.
            size: Side of the pictures in pixels.
            rig: How the light is made up, whose sum is the attributes' light; None for no cast shadows.
        """
        rig = rig or Rig.unshadowed(attributes.light)
        backdrop = background(background_seed, size, self.photographs)
        rows = [self._one(person, attributes[k], rig[k], backdrop, size) for k in range(len(attributes))]
        image, labels, shares, depth, normals = (torch.stack(part) for part in zip(*rows, strict=True))
        return Synthetic(image, labels, shares, depth, normals, attributes)

    def _one(self, person: Person, face: FaceAttributes, rig: Rig, backdrop: Tensor, size: int) -> tuple[Tensor, ...]:
        side = size * OVERSAMPLING
        scene = Scene(self.wardrobe, person, face)
        surface = Surface(scene, side)
        paints = surface.paint()
        picture = surface.lit(paints, rig)
        skin, worn, depth = surface.skin, paints.cloth, surface.depth
        bald = paints.covered <= 0.5
        # a hat goes where the hair goes: it turns with the head, and masks of real portraits count it so
        hair, clothes = skin * ~bald * (1 - worn) + paints.hat, worn * surface.inside * ~paints.hat
        shares = torch.stack([skin * bald * (1 - worn) + paints.frame, hair, clothes])

        # transparent parts in front; each says how much of a pixel it takes
        layers: list[Layer] = strip_layers(scene, depth, side)
        if surface.lenses is not None:
            layers.append(scene.lens_layer(surface.lenses, depth, side))
        layers += hair_layers(scene, depth, side)
        for layer in layers:
            picture = picture * (1 - layer.cover) + layer.colour
            if layer.hair:
                shares = shares * (1 - layer.cover)
                shares[HAIR] += layer.cover
                depth = torch.where(layer.cover > 0.5, torch.minimum(depth, layer.near), depth)

        image = F.avg_pool2d((picture * shares.sum(0)).clamp(0, 1), OVERSAMPLING)
        small = F.avg_pool2d(shares, OVERSAMPLING).clamp(0, 1)
        empty = (1 - small.sum(0, keepdim=True)).clamp(0, 1)
        shares = torch.cat([small, empty]) / (small.sum(0, keepdim=True) + empty)
        image = (image + backdrop * shares[BACKGROUND]).clamp(0, 1)
        largest = small.argmax(0)
        labels = torch.where(empty[0] > 0.5, torch.full_like(largest, BACKGROUND), largest).to(torch.uint8)
        normals = F.avg_pool2d(surface.normals * surface.inside, OVERSAMPLING)
        return image, labels, shares, F.avg_pool2d(depth[None], OVERSAMPLING), normals
