"""The edited person apart from everybody and everything else in the square.

Other people count as background for the person who is edited, and so does what lies in front of the face: they are taken out before a
photograph is moved, and laid over the moved one again, so that they keep their pixels. Where they cover the edited person, that one goes
on behind them.

Shape letters: B faces, b some of them, N side of the photographs (of their canvases, where there are some), L = 478 landmarks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, odd, pull_push
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.render import render
from ..source.bystanders import find_bystanders
from ..source.occlusion import covering
from ..source.regions import Layers
from .description import Faces, Parts
from .native import Canvas

log = logging.getLogger(__name__)
# landmarks of each feature, and how the names of its expressions start
FEATURES: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "mouth": ((61, 40, 37, 0, 267, 270, 291, 91, 84, 17, 314, 321, 78, 13, 14, 308), ("mouth", "jaw", "tongue", "cheekPuff")),
    "right eye": ((33, 159, 133, 145, 468), ("eyeBlinkRight", "eyeWideRight", "eyeSquintRight", "eyeLook")),
    "left eye": ((263, 386, 362, 374, 473), ("eyeBlinkLeft", "eyeWideLeft", "eyeSquintLeft", "eyeLook")),
}
JOINTS = {"mouth": [2], "right eye": [3, 4], "left eye": [3, 4]}  # rows of the pose
COVERED = 0.4  # mean share of a feature's landmarks
RIM = 0.012  # of the side: the colours of what is taken out reach so far beyond it


@dataclass(frozen=True, eq=False)
class Apart:
    """Photographs of b persons alone.

    image   (b,3,N,N) with guesses where somebody else was in front
    inside  (b,1,N,N) where they show the photograph, 0 on the person where that was covered
    layers  of these persons, or None where they are not known
    kept    (b,1,N,N) share of what is laid over the moved photographs, or None
    hidden  names of the features (FEATURES) of each person that things cover
    """

    image: Tensor
    inside: Tensor
    layers: Layers | None = None
    kept: Tensor | None = None
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
    behind, before = torch.zeros_like(image[:, :1]), torch.zeros_like(image[:, :1])
    hidden = []
    for index, row in enumerate(rows):
        one, face = slice(index, index + 1), landmarks[row if len(landmarks) > 1 else 0]
        others = _near(faces.others_of(row), size)
        zoom = canvas.zoom[one] if len(canvas.zoom) > 1 else canvas.zoom
        points = replace(canvas, zoom=zoom).points(torch.cat([face[None], others.to(face)]).to(image), size)
        thing = covering(image[one], points[0])
        if len(others) and matte is not None:
            found = find_bystanders(image[one], matte[one], points[0], points[1:])
            behind[one], before[one] = found.behind, found.before
        before[one] = before[one].maximum(thing)
        hidden.append(_hidden(thing, points[0]))
    if not bool((behind + before).any()):
        return photos
    return replace(_without(parts, own, photos, behind, before), hidden=tuple(hidden))


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
        log.warning("something covers the %s: it stays where it is while the head turns behind it", " and the ".join(sorted(names)))
    expression, pose = target.expression.clone(), target.pose.clone()
    for row in range(len(target)):
        for name in hidden[row if len(hidden) > 1 else 0]:
            columns = [index for index, one in enumerate(head.expression_names) if one.startswith(FEATURES[name][1])]
            joints = JOINTS[name]
            if (expression[row, columns] != own.expression[row, columns]).any() or (pose[row, joints] != own.pose[row, joints]).any():
                log.warning("something covers the %s: what was asked of it is left out", name)
            expression[row, columns], pose[row, joints] = own.expression[row, columns], own.pose[row, joints]
    return replace(target, expression=expression, pose=pose)


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
