"""Hair, brows and lashes of a synthetic person: textured cards, blended fragment by fragment.

Shape letters: P and Q vertices and triangles of a part, N fragments, H = W side of the picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...head.shading import sh_shading
from ..people import accessories
from ..people.randomness import generator
from .fragments import Fragments, blend, fragments, sample
from .paint import smooth
from .scene import Layer, Scene, Worn

SMALLEST_LIGHT = 0.03
ROUND = 0.5  # how much hair is lit like a ball around the skull, so that single cards do not flicker
SHELLS, FUR = 5, 0.016  # layers of an afro's outermost fur, and its depth in metres
LASH = (0.05, 0.04, 0.04)
FLYAWAYS, HAIR_WIDTH = 260, 0.0019  # single hairs, and half their width in units of the picture, which is 2 wide
SLACK = {"eyebrows": 0.02, "eyelashes": 0.004}  # brows hug the skin: a little z-fighting is forgiven


def _light(scene: Scene, normal: Tensor) -> Tensor:
    """Shading (N,3) of cards, which are seen from both sides."""
    normal = torch.where(normal[:, 2:] < 0, -normal, normal)
    return sh_shading(F.normalize(normal, dim=-1)[None], scene.face.light)[0].clamp_min(SMALLEST_LIGHT)


def _layer(found: Fragments, colour: Tensor, alpha: Tensor, side: int, hair: bool) -> Layer:
    out, cover = blend(found, colour.clamp(0, 1), alpha, side * side)
    solid = alpha > 0.5
    near = torch.ones(side * side).scatter_reduce(0, found.pixel[solid], found.depth[solid], "amin")
    return Layer(out.T.reshape(3, side, side), cover.view(side, side), near.view(side, side), hair)


def strip_layers(scene: Scene, depth: Tensor, side: int) -> list[Layer]:
    """Brows and lashes in front of what lies at `depth` (H,W)."""
    person, layers = scene.person, []
    for kind, name, colour, gain in (
        ("eyebrows", person.brows, person.brow_colour * 0.8, 1.25),
        ("eyelashes", person.lashes, torch.tensor(LASH), 0.6),
    ):
        worn = scene.wear(kind, name)
        found = fragments(worn.points, worn.proxy.faces, side, side, (depth + SLACK[kind]).flatten())
        alpha = sample(scene.wardrobe.texture(kind, name), found.corners(worn.proxy.uv))[:, 3]
        found, alpha = found.select(alpha > 0.04), alpha[alpha > 0.04]
        light = _light(scene, F.normalize(found.interpolate(worn.proxy.faces, worn.normals), dim=-1))
        layers.append(_layer(found, colour * light, (alpha * gain).clamp_max(1), side, False))
    return layers


def _under_hat(scene: Scene, worn: Worn) -> Tensor:
    """(P,): metres by which hair stands above the rim of the hat."""
    hat = scene.person.hat
    assert hat is not None
    offset, slope = accessories.rim_height(hat, scene.head, scene.calm)
    return worn.rest[:, 1] - offset - slope * worn.rest[:, 2]


def hair_layers(scene: Scene, depth: Tensor, side: int) -> list[Layer]:
    """The hair in front of what lies at `depth` (H,W); none if the person has cropped hair or is bald."""
    person = scene.person
    if not person.style:
        return []
    worn = scene.wear("hair", person.style, person.mirrored)
    faces, uv, points = worn.proxy.faces, worn.proxy.uv, worn.points
    shell = torch.zeros(len(points))
    normals = worn.normals
    if person.style == "afro01":
        points, normals, shell, faces, uv = _fur(worn, float(scene.face.camera[0, 0]))
    found = fragments(points, faces, side, side, depth.flatten())
    texture = sample(scene.wardrobe.strands(person.style), found.corners(uv))
    strand, alpha = texture[:, :1], texture[:, 1]
    if person.style == "afro01":
        out = found.interpolate(faces, shell[:, None])[:, 0]
        alpha = torch.where(out < 0.01, torch.ones_like(out), smooth(alpha - out, -0.1, 0.15))
        strand = strand * (0.6 + 0.5 * out[:, None])
    else:
        rim = found.interpolate(faces, scene.wardrobe.border(person.style)[:, None])[:, 0]
        alpha = (alpha * 1.25).clamp_max(1) * (1 - smooth(rim, 0.8, 1.0))  # textures have stray lines along the borders of cards
    if person.hat is not None:
        lift = _under_hat(scene, worn)
        alpha = alpha * (1 - smooth(found.interpolate(faces, lift[:, None])[:, 0], 0.0, 0.006))
    keep = alpha > 0.04
    found, strand, alpha = found.select(keep), strand[keep], alpha[keep]
    normal = F.normalize(found.interpolate(faces, normals), dim=-1)
    normal = torch.where(normal[:, 2:] < 0, -normal, normal)
    if person.style != "afro01":
        # surfaces seen edge-on break up into strands, so that the outline of a smooth mesh is not a cut
        alpha = alpha * smooth(normal[:, 2] + 0.5 * (strand[:, 0] - 1), 0.02, 0.3)
    middle = points[:, :2].mean(0)
    xy = found.interpolate(faces, points)[:, :2] - middle
    reach = (points[:, :2] - middle).abs().amax(0).clamp_min(0.1)
    ball = torch.stack([xy[:, 0] / reach[0], -xy[:, 1] / reach[1], torch.full_like(xy[:, 0], 0.7)], -1)
    light = _light(scene, (1 - ROUND) * normal + ROUND * F.normalize(ball, dim=-1))
    return [_layer(found, shoulder(person.hair_colour * strand * light), alpha, side, True), _flyaways(scene, worn, depth, side)]


def _flyaways(scene: Scene, worn: Worn, depth: Tensor, side: int) -> Layer:
    """Single hairs that stand off the surface of the hair: thin ribbons in the picture's plane, rooted in the mesh."""
    rng = generator(scene.person.seed, 31)
    scale = float(scene.face.camera[0, 0])
    alpha = sample(scene.wardrobe.strands(str(scene.person.style)), worn.proxy.uv.mean(1))[:, 1]
    firm = (alpha > 0.6).nonzero()[:, 0].numpy()
    # the numbers are drawn before a hat hides some, so that they do not depend on it
    chosen = torch.from_numpy(rng.choice(firm, FLYAWAYS))
    numbers = torch.from_numpy(rng.normal(0, 1, (FLYAWAYS, 9))).float()
    corner = worn.proxy.faces[chosen]
    root = worn.points[corner].mean(1)
    out = worn.normals[corner].mean(1) * torch.tensor([1.0, -1.0, -1.0])
    out = F.normalize(out, dim=-1)
    down = torch.tensor([0.0, 1.0, 0.0]) + 0.5 * numbers[:, :3]
    down = F.normalize(down - (down * out).sum(-1, keepdim=True) * out, dim=-1)
    length = scale * (0.016 + 0.012 * numbers[:, 3:4].abs())
    t = torch.linspace(0, 1, 7)[None, :, None]
    lift = (0.12 + 0.1 * numbers[:, 4:5].abs())[:, None]
    wave = 0.12 * torch.sin(5 * t + numbers[:, None, 5:6]) * numbers[:, None, 6:9]
    curve = root[:, None] + length[:, None] * (t * down[:, None] + lift * (t * (1.6 - t)) * out[:, None] + wave * t)
    along = F.normalize(curve[:, 1:, :2] - curve[:, :-1, :2], dim=-1)
    along = torch.cat([along, along[:, -1:]], 1)
    across = torch.stack([-along[..., 1], along[..., 0], torch.zeros_like(along[..., 0])], -1) * HAIR_WIDTH
    points = torch.stack([curve - across, curve + across], 2).flatten(0, 2)  # (strand, t, side)
    first = (torch.arange(FLYAWAYS)[:, None] * 7 + torch.arange(6)).flatten() * 2
    faces = torch.cat([torch.stack([first, first + 1, first + 2], -1), torch.stack([first + 1, first + 3, first + 2], -1)])
    found = fragments(points, faces, side, side, depth.flatten())
    place = found.interpolate(faces, t.expand(FLYAWAYS, 7, 2).reshape(-1, 1))[:, 0]
    opacity = 0.4 * (1 - place) ** 0.5
    if scene.person.hat is not None:
        hidden = (_under_hat(scene, worn)[corner].mean(1) > -0.01).repeat_interleave(14)
        opacity = opacity * (found.interpolate(faces, (~hidden).float()[:, None])[:, 0] > 0.5)
    normal = out * torch.tensor([1.0, -1.0, -1.0])
    light = _light(scene, normal).repeat_interleave(14, 0)
    colour = scene.person.hair_colour * 1.1 * found.interpolate(faces, light)
    return _layer(found, colour, opacity, side, True)


def shoulder(colour: Tensor) -> Tensor:
    """Colours (N,3) whose brightest channel approaches 1 softly with the hue kept: clipped channels turn blond hair yellow."""
    top = colour.amax(-1, keepdim=True).clamp_min(1e-4)
    soft = torch.where(top > 0.7, 0.7 + 0.3 * torch.tanh((top - 0.7) / 0.3), top)
    return colour * soft / top


def _fur(worn: Worn, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A mesh repeated outward: points, normals, height 0..1 of each vertex, faces, uv. scale: projected units per metre."""
    count = len(worn.points)
    outward = worn.normals * torch.tensor([1.0, -1.0, -1.0])  # of projected points
    heights = torch.linspace(0, 1, SHELLS)
    points = torch.cat([worn.points + outward * h * FUR * scale for h in heights])
    ahead = worn.normals[worn.proxy.faces][..., 2].amax(1) > -0.25  # what looks away is never seen through the rest
    faces = torch.cat([worn.proxy.faces[ahead] + k * count for k in range(SHELLS)])
    return points, worn.normals.repeat(SHELLS, 1), heights.repeat_interleave(count), faces, worn.proxy.uv[ahead].repeat(SHELLS, 1, 1)


def hair_occluders(scene: Scene, start: int) -> tuple[Tensor, Tensor]:
    """Points (P,3) and those triangles (Q,3), counted from `start`, of the hair that are opaque enough to throw a shadow."""
    person = scene.person
    if not person.style or person.hat is not None:
        return torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long)
    worn = scene.wear("hair", person.style, person.mirrored)
    alpha = sample(scene.wardrobe.strands(person.style), worn.proxy.uv.mean(1))[:, 1]
    return worn.points, worn.proxy.faces[alpha > 0.6] + start
