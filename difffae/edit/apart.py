"""The edited person apart from everybody and everything else in the square.

Other people count as background for the person who is edited, and so does what lies in front of the face: they are taken out before a
photograph is moved, and laid over the moved one again, so that they keep their pixels. Where they cover the edited person, that one goes
on behind them. What hides a feature, such as a microphone at a mouth, goes along with the head in one piece: nobody knows what it hides.

Shape letters: B faces, b some of them, N side of the photographs (of their canvases, where there are some), L = 478 landmarks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.batches import expanded
from ..common.pixels import dilate, odd, pixel_grid, pull_push
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.render import render
from ..head.shading import project
from ..person.prepared import Carried
from ..source.bystanders import find_bystanders
from ..source.occlusion import MOUTH, occluders
from ..source.regions import Layers
from .description import Faces, Parts
from .native import Canvas

log = logging.getLogger(__name__)
# landmarks of each feature, and how the names of its expressions start
FEATURES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "mouth": (MOUTH, ("mouth", "jaw", "tongue", "cheekPuff")),
    "right eye": ((33, 159, 133, 145, 468), ("eyeBlinkRight", "eyeWideRight", "eyeSquintRight", "eyeLook")),
    "left eye": ((263, 386, 362, 374, 473), ("eyeBlinkLeft", "eyeWideLeft", "eyeSquintLeft", "eyeLook")),
}
JOINTS = {"mouth": [2], "right eye": [3, 4], "left eye": [3, 4]}  # rows of the pose
COVERED = 0.4  # mean share of a feature's landmarks
STILL = 0.02  # pixels
HELD = 0.3  # of the way from what a thing hides to where it leaves the picture: from there on it is held
RIM = 0.012  # of the side: the colours of what is taken out reach so far beyond it


@dataclass(frozen=True, eq=False)
class Apart:
    """Photographs of b persons alone.

    image   (b,3,N,N) with guesses where somebody else was in front
    inside  (b,1,N,N) where they show the photograph, 0 on the person where that was covered
    layers  of these persons, or None where they are not known
    kept    (b,1,N,N) share of what is laid over the moved photographs, or None
    borne   (b,1,N,N) share of what hides a feature and goes along with the head, or None
    hidden  names of the features (FEATURES) of each person that things cover
    """

    image: Tensor
    inside: Tensor
    layers: Layers | None = None
    kept: Tensor | None = None
    borne: Tensor | None = None
    hidden: tuple[frozenset[str], ...] = ()


def set_apart(parts: Parts, faces: Faces, canvas: Canvas, own: FaceAttributes, photos: Apart, matte: Tensor | None, rows: range) -> Apart:
    """Take everybody and everything else out of some photographs.

    Args:
        parts: the networks.
        faces: of all photographs.
        canvas: where their squares lie in them.
        own: (b) the numbers of the edited persons as the photographs show them.
        photos: the photographs as they are.
        matte: (b,1,N,N) share of person, or None: then nobody is known apart.
        rows: the numbers of the photographs among all.
    """
    size, image, landmarks = faces.picture.shape[-1], photos.image, faces.landmarks
    if landmarks is None or photos.layers is None:
        return photos
    behind, before, borne = (torch.zeros_like(image[:, :1]) for _ in range(3))
    hidden = []
    for index, row in enumerate(rows):
        one, face = slice(index, index + 1), landmarks[row if len(landmarks) > 1 else 0]
        others = _near(faces.others_of(row), size)
        zoom = canvas.zoom[one] if len(canvas.zoom) > 1 else canvas.zoom
        points = replace(canvas, zoom=zoom).points(torch.cat([face[None], others.to(face)]).to(image), size)
        thing = occluders(parts.occluders, image[one], points[0])
        if len(others) and matte is not None:
            found = find_bystanders(image[one], matte[one], points[0], points[1:])
            behind[one], before[one] = found.behind, found.before
        hidden.append(_hidden(thing, points[0]))
        if hidden[-1]:
            borne[one] = thing * (1 - before[one])
        else:
            before[one] = before[one].maximum(thing)
    if not bool((behind + before + borne).any()):
        return photos
    alone = _without(parts, own, photos, behind, before.maximum(borne))
    assert alone.kept is not None
    return replace(alone, kept=(alone.kept - borne).clamp_min(0), borne=borne if bool(borne.any()) else None, hidden=tuple(hidden))


def _hidden(thing: Tensor, points: Tensor) -> frozenset[str]:
    """The features of a face with landmarks (L,3) of which a thing (1,1,N,N) covers so much that they cannot be known."""
    side = thing.shape[-1]

    def share(marks: tuple[int, ...]) -> float:
        places = points[list(marks), :2].to(thing) / side * 2 - 1
        return float(F.grid_sample(thing, places[None, None], align_corners=False).mean())

    return frozenset(name for name, (marks, _) in FEATURES.items() if share(marks) > COVERED)


def held(head: HeadModel, own: FaceAttributes, target: FaceAttributes, hidden: tuple[frozenset[str], ...]) -> FaceAttributes:
    """Targets (b) whose hidden features stay as they are (own: 1 or b); a log line names them."""
    names = {name for some in hidden for name in some}
    if not names:
        return target
    own = own.expand(len(target))
    if (own.pose[:, :2] != target.pose[:, :2]).any():
        log.warning("something covers the %s: what covers it goes along with the head", " and the ".join(sorted(names)))
    expression, pose = target.expression.clone(), target.pose.clone()
    for row in range(len(target)):
        for name in hidden[row if len(hidden) > 1 else 0]:
            columns = [index for index, one in enumerate(head.expression_names) if one.startswith(FEATURES[name][1])]
            joints = JOINTS[name]
            if (expression[row, columns] != own.expression[row, columns]).any() or (pose[row, joints] != own.pose[row, joints]).any():
                log.warning("something covers the %s: what was asked of it is left out", name)
            expression[row, columns], pose[row, joints] = own.expression[row, columns], own.pose[row, joints]
    return replace(target, expression=expression, pose=pose)


@dataclass(frozen=True, eq=False)
class Borne:
    """What goes along with b moved heads.

    image   (b,3,N,N) the photographs, moved as it is
    share   (b,1,N,N) of it
    offset  (b,2,N,N) source minus target position in pixels
    still   (b,) bool: where it does not move at all
    """

    image: Tensor
    share: Tensor
    offset: Tensor
    still: Tensor


def borne_along(head: HeadModel, own: FaceAttributes, target: FaceAttributes, alone: Apart, pictures: Tensor) -> Borne | None:
    """Move what hides features as the head moves there, in one piece: shifted, turned in the picture, and scaled as the head.

    Args:
        head: the head model.
        own: (1 or b) the numbers of the photographs.
        target: (b) the numbers of the targets.
        alone: of the photographs (1 or b).
        pictures: (1 or b,3,N,N) the photographs as they are.

    Returns:
        None where nothing hides a feature.
    """
    if alone.borne is None:
        return None
    batch, side, like = len(target), pictures.shape[-1], pictures
    marks = [mark for name in FEATURES for mark in FEATURES[name][0] if any(name in some for some in alone.hidden)]
    was, now = (_marks(head, face.expand(batch), marks).to(like) * (side / 2) for face in (own, target))
    (start, was), (end, now) = ((points.mean(1), points - points.mean(1, keepdim=True)) for points in (was, now))
    cross = now[..., 1] * was[..., 0] - now[..., 0] * was[..., 1]
    turn = torch.atan2(cross.sum(1), (was * now).sum((1, 2)))
    scale = (target.camera[:, 0] / own.camera[:, 0]).to(like)
    still = ((end - start).norm(dim=1) < STILL) & (turn.abs() * side < STILL) & ((scale - 1).abs() * side < STILL)
    places = pixel_grid(side, side, like) * (side / 2)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    back = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], 1)  # a turn by -turn, and 1 / scale
    source = torch.einsum("bij,bhwj->bhwi", back, places - end[:, None, None]) + start[:, None, None]
    source = places + (source - places) * _loose(alone.borne, start, source)
    both = torch.cat([pictures, alone.borne], 1).expand(batch, -1, -1, -1)
    # beyond the frame a thing goes on as it leaves it
    moved = F.grid_sample(both, source * (2 / side), mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    moved = torch.where(still[:, None, None, None], both, moved)
    return Borne(moved[:, :3], moved[:, 3:], (source - places).permute(0, 3, 1, 2), still)


@dataclass(frozen=True, eq=False)
class PreparedMove:
    """Photographs at b targets.

    carried      the moved photographs
    owner_share  (b,1+R,N,N) whose pixels they show
    givers       the references as they were carried
    kept         (b,1,N,N) share of what keeps its pixels, or None
    """

    carried: Carried
    owner_share: Tensor
    givers: tuple[Carried, ...] = ()
    kept: Tensor | None = None


def with_things(made: PreparedMove, alone: Apart, borne: Borne | None, pictures: Tensor) -> PreparedMove:
    """Moved photographs with what goes along with the head, and what keeps its pixels, laid over them; alone and pictures as for
    `borne_along`."""
    if alone.kept is None:
        return made
    kept, pictures = (expanded(values, len(made.owner_share)) for values in (alone.kept, pictures))
    if borne is not None:
        made = _with_borne(made, borne)
        kept = torch.where(borne.still[:, None, None, None], kept.maximum(borne.share), kept * (1 - borne.share))
    image = torch.lerp(made.carried.image, pictures, kept)
    return replace(made, carried=replace(made.carried, image=image, validity=made.carried.validity.maximum(kept)), kept=kept)


def _with_borne(made: PreparedMove, borne: Borne) -> PreparedMove:
    """A move with what goes along with the heads laid over it: in its own light, and the photograph's own."""
    old, share = made.carried, borne.share
    carried = replace(
        old,
        image=torch.lerp(old.image, borne.image, share),
        validity=old.validity.maximum(share),
        offset_to_source=torch.lerp(old.offset_to_source, borne.offset, share),
        light_ratio=torch.lerp(old.light_ratio, torch.ones_like(old.light_ratio), share),
        person_alpha=old.person_alpha.maximum(share),
    )
    own = torch.zeros_like(made.owner_share)
    own[:, 0] = 1
    return replace(made, carried=carried, owner_share=torch.lerp(made.owner_share, own, share))


def _loose(share: Tensor, middle: Tensor, places: Tensor) -> Tensor:
    """(b,N,N,1): how far things (1 or b,1,N,N) go along at places (b,N,N,2), pixels from the picture's middle. One that leaves the picture
    is held there, and leans. middle: (b,2) of what it hides."""
    side, rim = share.shape[-1], share.clone()
    rim[..., 1:-1, 1:-1] = 0
    total = rim.sum((1, 2, 3))
    foot = (rim[:, 0, ..., None] * pixel_grid(side, side, share) * (side / 2)).sum((1, 2)) / total.clamp_min(1e-6)[:, None]
    way = foot - middle
    along = ((places - middle[:, None, None]) * way[:, None, None]).sum(-1) / way.square().sum(1)[:, None, None]
    loose = 1 - ((along - HELD) / (1 - HELD)).clamp(0, 1)
    return torch.where((total > 1)[:, None, None], loose, torch.ones_like(loose))[..., None]


def _marks(head: HeadModel, face: FaceAttributes, marks: list[int]) -> Tensor:
    """(b,P,2) some landmarks of posed heads, -1..1 over the picture."""
    return project(head.landmarks(head(face.shape, face.expression, face.pose)), face.camera)[:, marks, :2]


def _near(others: Tensor, size: int) -> Tensor:
    """Those of the other faces (n,L,3) that lie in a square of `size` pixels or not far from it."""
    middle = others[..., :2].mean(1) / size - 0.5
    return others[(middle.abs() < 1.5).all(1)]


def _without(parts: Parts, own: FaceAttributes, photos: Apart, behind: Tensor, before: Tensor) -> Apart:
    """Photographs without what is behind and before the persons (b,1,N,N); the former stays as background."""
    image, layers, side = photos.image, photos.layers, photos.image.shape[-1]
    assert layers is not None
    kept = (behind + before).clamp(max=1)
    layers = layers.map(lambda layer: layer * (1 - kept))
    if not bool((before > 0).any()):
        return replace(photos, layers=layers, kept=kept)
    mesh = render(parts.head, own, side).raster.mask[:, None].to(image)
    covered = dilate(before, odd(2 * RIM * side))
    person, known = layers.person.maximum(mesh), (1 - covered) * photos.inside
    # behind what covers it the person goes on as far as the head model says, and so does the background
    skin, ground = (pull_push(image, known * share) for share in (layers.person, 1 - layers.person))
    image = torch.lerp(image, torch.lerp(ground, skin, mesh), covered)
    layers = replace(layers, person=torch.lerp(layers.person, person, before), light=torch.lerp(layers.light, mesh, before))
    return Apart(image, photos.inside * (1 - before * mesh), layers, kept)
