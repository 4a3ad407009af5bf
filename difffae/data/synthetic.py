"""Synthetic portraits: the open head dressed with MakeHuman's CC0 assets, rendered with exact labels (training data).

Shape letters: B faces, V and F vertices and faces of the head, P vertices and Q triangles of a proxy, N fragments,
H = W side of the super-sampled picture (2 x size), C channels. Axes: x right in the image, y up, z to the viewer.
The light is the head render's own: sRGB albedo times second-order SH, so FaceAttributes describe the picture exactly, up to
ambient occlusion, small highlights and the finer textures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attributes import FaceAttributes
from ..head import LABELS, PARENTS, HeadModel
from ..render import interpolate, interpolate_corners, project, rasterize, sh_shading, vertex_normals
from ..rotations import axis_angle_to_matrix
from .fragments import blend, fragments, sample
from .people import Person, background, expressions, generator, lights, poses, random_person
from .proxies import Proxy
from .wardrobe import Wardrobe

FACE, HAIR, CLOTHES, BACKGROUND = 0, 1, 2, 3
OVERSAMPLING = 2
INNER = ("mouth", "teeth", "tongue", "sockets")
SMALLEST_LIGHT = 0.03  # second-order SH can go below zero behind a hard light


@dataclass(frozen=True)
class Synthetic:
    """image (B,3,H,W) 0..1; labels (B,H,W) uint8: 0 face (all bare skin), 1 hair, 2 clothes, 3 background; mask (B,1,H,W) share
    of the pixel that shows the person; depth (B,1,H,W) of the head, clothes and hair (z of `project`, smaller is nearer, 1 at the
    background); normals (B,3,H,W) world normals of head and clothes, zero elsewhere; attributes."""

    image: Tensor
    labels: Tensor
    mask: Tensor
    depth: Tensor
    normals: Tensor
    attributes: FaceAttributes


@dataclass(frozen=True)
class Worn:
    """A proxy placed in the scene: points (P,3) projected, normals (P,3)."""

    proxy: Proxy
    points: Tensor
    normals: Tensor


class SyntheticPeople:
    """Generator of portraits. makehuman: folder of the CC0 assets; head: the bundled open head; expressions (N,E): table of real
    scores in the head's order (see people.load_expressions); photographs: folder of pictures for backgrounds."""

    def __init__(
        self, makehuman: str | Path, head: HeadModel, *, expressions: Tensor | None = None, photographs: str | Path | None = None
    ) -> None:
        self.head = head
        self.wardrobe = Wardrobe(Path(makehuman), head)
        self.expressions = expressions
        self.photographs = Path(photographs) if photographs else None

    def person(self, seed: int) -> Person:
        """The person of this seed: identity, outfit, hair and camera."""
        with torch.no_grad():
            return random_person(seed, self.head, self.wardrobe)

    def attributes(self, person: Person, seed: int, count: int = 1) -> FaceAttributes:
        """`count` random poses, expressions and lights of a person; identity and camera are the person's."""
        rng = generator(person.seed, seed, 3)
        return FaceAttributes(
            head=self.head.name,
            shape=person.shape.expand(count, -1),
            albedo=person.albedo.expand(count, -1),
            pose=poses(rng, count),
            camera=person.camera.expand(count, -1),
            expression=expressions(rng, count, self.head.expression_names, self.expressions),
            light=lights(rng, count),
        )

    def pair(self, seed: int, size: int = 256) -> Synthetic:
        """B = 2: one person, outfit, hair, camera and background; two poses, expressions and lights."""
        person = self.person(seed)
        return self.render(person, self.attributes(person, seed, 2), seed, size)

    def portrait(self, seed: int, size: int = 256) -> Synthetic:
        """B = 1."""
        person = self.person(seed)
        return self.render(person, self.attributes(person, seed), seed, size)

    @torch.no_grad()
    def render(self, person: Person, attributes: FaceAttributes, background_seed: int, size: int = 256) -> Synthetic:
        """The person with these attributes (B faces) before one background."""
        backdrop = background(background_seed, size, self.photographs)
        rows = [self._one(person, attributes[k], backdrop, size) for k in range(len(attributes))]
        image, labels, mask, depth, normals = (torch.stack(part) for part in zip(*rows, strict=True))
        return Synthetic(image, labels, mask, depth, normals, attributes)

    def _one(self, person: Person, face: FaceAttributes, backdrop: Tensor, size: int) -> tuple[Tensor, ...]:
        head, side = self.head, size * OVERSAMPLING
        calm = head.unposed(face.shape, face.expression[:, :0])
        moved = head.unposed(face.shape, face.expression)
        matrices = joint_matrices(head, moved, face.pose)
        vertices = skinned(moved, head.skin_weights, matrices)
        top = self._wear("clothes", person.top, calm, moved, matrices, face)

        # opaque parts: head and top in one z-buffer
        hidden = top.proxy.hidden[head.faces].all(1)
        shown = (~hidden).nonzero()[:, 0]
        count = head.vertex_count
        points = torch.cat([project(vertices, face.camera), top.points[None]], 1)
        faces = torch.cat([head.faces[shown], top.proxy.faces + count])
        normals_v = torch.cat([vertex_normals(vertices, head.faces)[0], top.normals])[None]
        raster = rasterize(points, faces, side, side)
        normals = F.normalize(interpolate(raster, faces, normals_v)[0], dim=0)
        inside = raster.mask[0]
        cloth = inside & (raster.face[0] >= len(shown))
        skin = inside & ~cloth
        original = torch.cat([shown, torch.zeros(len(top.proxy.faces), dtype=torch.long)])[raster.face[0].clamp_min(0)]

        cover = self.wardrobe.scalp_cover(person.style) if person.style is not None else torch.zeros(count)
        covered = interpolate(raster, faces, torch.cat([cover, torch.zeros(len(top.points))])[None, :, None])[0, 0] * skin
        albedo = torch.zeros(3, side, side)
        albedo[:, skin] = self._skin(person, face, raster, faces, shown, original, skin)
        albedo = albedo * (1 - 0.85 * covered) + 0.85 * covered * person.hair_colour[:, None, None] * stubble(side, person.seed)
        corner_uv = torch.cat([torch.zeros(len(shown), 3, 2), top.proxy.uv])
        albedo[:, cloth] = self._cloth(person, interpolate_corners(raster, corner_uv)[0][:, cloth].T).T
        parts = head.face_labels[original]
        shading = sh_shading(normals.permute(1, 2, 0)[None], face.light)[0].permute(2, 0, 1).clamp_min(SMALLEST_LIGHT)
        depth = torch.where(inside, raster.depth[0], torch.ones(()))
        shading = shading * occlusion(depth, inside)
        inner = skin & torch.isin(parts, torch.tensor([LABELS.index(n) for n in INNER]))
        shading = torch.where(inner, shading * mouth_shade(depth, inner), shading)
        picture = albedo * shading + self._gloss(face, normals, parts, skin) * inside

        # hair, brows and lashes: transparent layers in front
        share_face, share_hair = (skin * (covered <= 0.5)).float(), (skin & (covered > 0.5)).float()
        share_cloth = cloth.float()
        layers = [(kind, name) for kind, name in (("eyebrows", person.brows), ("eyelashes", person.lashes)) if name]
        if person.style:
            layers.append(("hair", person.style))
        for kind, name in layers:
            worn = self._wear(kind, name, calm, moved, matrices, face)
            colour, cover_by, near = self._strands(person, kind, name, worn, face, depth, side)
            picture = picture * (1 - cover_by) + colour
            if kind == "hair":
                share_face, share_cloth = share_face * (1 - cover_by), share_cloth * (1 - cover_by)
                share_hair = share_hair * (1 - cover_by) + cover_by
                depth = torch.where(cover_by > 0.5, near, depth)

        shares = F.avg_pool2d(torch.stack([share_face, share_hair, share_cloth]), OVERSAMPLING)
        person_share = shares.sum(0).clamp(0, 1)
        image = F.avg_pool2d((picture * (share_face + share_hair + share_cloth).clamp(0, 1)).clamp(0, 1), OVERSAMPLING)
        image = image + backdrop * (1 - person_share)
        largest = shares.argmax(0)
        labels = torch.where(person_share >= 0.5, largest, torch.full_like(largest, BACKGROUND)).to(torch.uint8)
        small = [F.avg_pool2d(x, OVERSAMPLING) for x in (depth[None], normals * inside)]
        return image.clamp(0, 1), labels, person_share[None], small[0], small[1]

    def _wear(self, kind: str, name: str, calm: Tensor, moved: Tensor, matrices: Tensor, face: FaceAttributes) -> Worn:
        proxy = self.wardrobe.mesh(kind, name)
        rest = proxy.rest(moved if proxy.follows else calm)
        placed = skinned(rest, proxy.skin(self.head.skin_weights), matrices)
        return Worn(proxy, project(placed, face.camera)[0], vertex_normals(placed, proxy.faces)[0])

    def _skin(self, person: Person, face: FaceAttributes, raster, faces: Tensor, shown: Tensor, original: Tensor, skin: Tensor) -> Tensor:
        """Albedo (3,N) of the head's visible pixels: fine texture on skin, the head's own albedo on teeth and mouth, painted irises."""
        head = self.head
        pad = torch.zeros(len(faces) - len(shown), 3, 2)
        own = interpolate_corners(raster, torch.cat([head.uvs[head.uv_faces][shown], pad]))[0][:, skin].T
        out = sample(head.albedo(face.albedo)[0], own)
        parts = head.face_labels[original[skin]]
        bare = torch.isin(parts, torch.tensor([LABELS.index(n) for n in ("face", "scalp", "neck", "shoulders", "ears", "lips")]))
        fine = interpolate_corners(raster, torch.cat([self.wardrobe.uv[shown], pad]))[0][:, skin].T
        out[bare] = (sample(self.wardrobe.skin(person.skin)[0], fine[bare]) * person.tone).clamp(0.02, 1)
        eyes = parts == LABELS.index("eyes")
        if eyes.any():
            rect = head.uvs[head.uv_faces[head.face_labels == LABELS.index("eyes")]].flatten(0, 1)
            low, high = rect.amin(0), rect.amax(0)
            out[eyes] = (
                sample(self.wardrobe.iris(person.iris), ((own[eyes] - low) / (high - low)).clamp(0.002, 0.998)) * 0.85
            )  # lids shade the white
        return out.T

    def _cloth(self, person: Person, uv: Tensor) -> Tensor:
        """Albedo (N,3) of the top: its own texture, or its brightness tinted."""
        texture = self.wardrobe.texture("clothes", person.top)
        colour = sample(texture, uv)
        if person.top_tint is None:
            return colour
        grey = colour.mean(1, keepdim=True)
        middle = grey.median().clamp_min(0.05)
        return (person.top_tint * (grey / middle).clamp(0.4, 1.6) ** 0.7).clamp(0.02, 0.97)

    def _strands(self, person: Person, kind: str, name: str, worn: Worn, face: FaceAttributes, depth: Tensor, side: int):
        """Premultiplied colour (3,H,W), coverage (H,W) and depth (H,W) of a transparent proxy."""
        slack = {"hair": 0.0, "eyebrows": 0.02, "eyelashes": 0.004}[kind]  # brows hug the skin: a little z-fighting is forgiven
        found = fragments(worn.points, worn.proxy.faces, side, side, (depth + slack).flatten())
        rgba = sample(self.wardrobe.texture(kind, name), found.corners(worn.proxy.uv))
        keep = rgba[:, 3] > 0.04
        found, rgba = found.select(keep), rgba[keep]
        alpha = rgba[:, 3]
        normal = F.normalize(found.interpolate(worn.proxy.faces, worn.normals), dim=-1)
        normal = torch.where(normal[:, 2:] < 0, -normal, normal)  # cards are seen from both sides
        light = sh_shading(normal[None], face.light)[0].clamp_min(SMALLEST_LIGHT)
        grey = rgba[:, :3].mean(1, keepdim=True)
        if kind == "hair":
            alpha = (alpha * 1.25).clamp_max(1)
            strand = (grey / (grey * alpha[:, None]).sum().div(alpha.sum().clamp_min(1e-6)).clamp_min(0.02)).clamp(0.3, 2.2)
            colour = person.hair_colour * strand
        else:
            alpha = (alpha * (1.2 if kind == "eyebrows" else 0.55)).clamp_max(1)
            colour = (person.hair_colour * 0.45 if kind == "eyebrows" else torch.tensor([0.05, 0.04, 0.04])).expand(len(grey), 3)
        out, cover = blend(found, (colour * light).clamp(0, 1), alpha, side * side)
        near = torch.ones(side * side).scatter_reduce(0, found.pixel[alpha > 0.5], found.depth[alpha > 0.5], "amin")
        return out.T.reshape(3, side, side), cover.view(side, side), near.view(side, side)

    def _gloss(self, face: FaceAttributes, normals: Tensor, parts: Tensor, skin: Tensor) -> Tensor:
        """Highlights (3,H,W) of the main light: sharp on eyes, faint on skin."""
        light = face.light[0].mean(1)
        towards = F.normalize(light[1:4], dim=0)
        half = F.normalize(towards + torch.tensor([0.0, 0.0, 1.0]), dim=0)
        cosine = (normals * half[:, None, None]).sum(0).clamp_min(0)
        strength = light[1:4].norm() / light[0].abs().clamp_min(1e-3)
        eye = skin & (parts == LABELS.index("eyes"))
        wet = torch.isin(parts, torch.tensor([LABELS.index(n) for n in ("lips", "teeth")])) & skin
        value = torch.where(eye, 0.85 * cosine**140, torch.where(wet, 0.12 * cosine**30, 0.06 * cosine**14 * skin))
        return value * strength.clamp(0.3, 1.2)


def joint_matrices(head: HeadModel, rest: Tensor, pose: Tensor) -> Tensor:
    """Motion of every joint minus identity (B,J,3,4) for the unposed head (B,V,3), as HeadModel.forward applies it."""
    joints = torch.einsum("jv,bvk->bjk", head.joint_regressor, rest)
    rotations = axis_angle_to_matrix(pose)
    turns: list[Tensor] = []
    shifts: list[Tensor] = []
    for j, parent in enumerate(PARENTS):
        turn = rotations[:, j] if parent < 0 else turns[parent] @ rotations[:, j]
        place = joints[:, j] if parent < 0 else shifts[parent] + (turns[parent] @ joints[:, j, :, None])[..., 0]
        turns.append(turn)
        shifts.append(place - (turn @ joints[:, j, :, None])[..., 0])
    return torch.cat([torch.stack(turns, 1) - torch.eye(3), torch.stack(shifts, 1)[..., None]], -1)


def skinned(rest: Tensor, weights: Tensor, matrices: Tensor) -> Tensor:
    """rest (B,P,3), weights (P,J), matrices (B,J,3,4) -> (B,P,3)."""
    blended = (weights @ matrices.flatten(2)).view(*rest.shape[:2], 3, 4)
    return rest + (blended[..., :3] @ rest[..., None])[..., 0] + blended[..., 3]


def occlusion(depth: Tensor, inside: Tensor) -> Tensor:
    """Ambient occlusion (1,H,W) of at most 1: pixels behind their surroundings are darker (unsharp masking of the depth buffer,
    Luft et al. 2006)."""
    cell = 8  # the surroundings are averaged on a coarse grid: wide windows are slow
    weight = inside.float()
    coarse = F.avg_pool2d(torch.stack([depth * weight, weight])[None], cell)
    out = torch.ones_like(depth)
    for radius, reach, strength in ((coarse.shape[-1] // 24, 0.12, 0.35), (coarse.shape[-1] // 9, 0.3, 0.3)):
        both = coarse
        for _ in range(2):
            both = F.avg_pool2d(F.pad(both, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
        mean = F.interpolate(both[:, :1] / both[:, 1:].clamp_min(1e-4), depth.shape, mode="bilinear", align_corners=False)[0, 0]
        behind = (depth - mean).clamp(0, reach) / reach
        out = out * (1 - strength * behind)
    return torch.where(inside, out, torch.ones_like(out))[None]


def mouth_shade(depth: Tensor, inner: Tensor) -> Tensor:
    """Darkness (1,H,W) of the mouth's inside: light falls off with the depth behind its nearest visible part."""
    if not inner.any():
        return torch.ones_like(depth)[None]
    return torch.exp(-(depth - depth[inner].min()).clamp_min(0) * 4)[None] * 0.8


def stubble(side: int, seed: int) -> Tensor:
    """Brightness grain (1,H,W) of cropped hair."""
    noise = torch.from_numpy(generator(seed, 5).normal(1, 0.16, (1, 1, side, side))).float()
    return F.avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)[0].clamp(0.5, 1.5)
