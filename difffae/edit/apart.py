"""The edited person apart from everybody else in the square.

Other people count as background for the person who is edited: they are taken out before a photograph is moved, and laid over the
moved one again, so that they keep their pixels. Where they cover the edited person, that one goes on behind them.

Shape letters: B faces, b some of them, N side of the photographs (of their canvases, where there are some), L = 478 landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..common.pixels import dilate, odd, pull_push
from ..head.attributes import FaceAttributes
from ..head.render import render
from ..source.bystanders import find_bystanders
from ..source.regions import Layers
from .description import Faces, Parts
from .native import Canvas

RIM = 0.008  # of the side: the colours of what is taken out reach so far beyond it


@dataclass(frozen=True, eq=False)
class Apart:
    """Photographs of b persons alone.

    image   (b,3,N,N) with guesses where somebody else was in front
    inside  (b,1,N,N) where they show the photograph, 0 on the person where that was covered
    layers  of these persons, or None where they are not known
    kept    (b,1,N,N) share of what is laid over the moved photographs, or None
    """

    image: Tensor
    inside: Tensor
    layers: Layers | None = None
    kept: Tensor | None = None


def set_apart(parts: Parts, faces: Faces, canvas: Canvas, own: FaceAttributes, photos: Apart, matte: Tensor | None, rows: range) -> Apart:
    """Take everybody else out of some photographs.

    Args:
        parts: the networks.
        faces: of all photographs.
        canvas: where their squares lie in them.
        own: (b) the numbers of the edited persons as the photographs show them.
        photos: the photographs as they are.
        matte: (b,1,N,N) share of person, or None: then nobody is known apart.
        rows: the numbers of the photographs among all.
    """
    size = faces.picture.shape[-1]
    image, landmarks = photos.image, faces.landmarks
    if matte is None or landmarks is None or photos.layers is None or not any(len(faces.others_of(row)) for row in rows):
        return photos
    behind, before = torch.zeros_like(matte), torch.zeros_like(matte)
    for index, row in enumerate(rows):
        others = _near(faces.others_of(row), size)
        if len(others):
            one, face = slice(index, index + 1), landmarks[row if len(landmarks) > 1 else 0]
            zoom = canvas.zoom[one] if len(canvas.zoom) > 1 else canvas.zoom
            points = replace(canvas, zoom=zoom).points(torch.cat([face[None], others.to(face)]).to(image), size)
            found = find_bystanders(image[one], matte[one], points[0], points[1:])
            behind[one], before[one] = found.behind, found.before
    return _without(parts, own, photos, behind, before)


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
