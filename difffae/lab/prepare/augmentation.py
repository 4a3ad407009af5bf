"""A still that is mirrored, framed and coloured otherwise, with the attributes that then describe it (for `round trips`).

Shape letters: B batch, N landmarks, S side of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...head.attributes import FaceAttributes
from ...head.mirror import mirror
from ...head.morphable import HeadModel


@dataclass(frozen=True)
class Augmentation:
    """How far stills are changed."""

    flip_share: float = 0.5
    scale: float = 0.12  # the picture is 1 - scale to 1 + scale times as large
    shift: float = 0.05  # of the side, standard deviation along each axis
    gain: float = 0.12  # standard deviation of the logarithm of the brightness
    tint: float = 0.06  # and of every channel beside it


@dataclass(frozen=True)
class Still:
    """picture (B,3,S,S) RGB 0..1; known (B,1,S,S); landmarks (B,N,2) in its pixels; face: its attributes."""

    picture: Tensor
    known: Tensor
    landmarks: Tensor
    face: FaceAttributes


def augment(still: Still, head: HeadModel, generator: torch.Generator, options: Augmentation | None = None) -> Still:
    """Mirrored, scaled and shifted, other colours. What comes from outside the picture is not known.

    Colours change by a factor of every channel, which is what a light of another colour does: light and picture stay in agreement.
    Raises ConfigError for a head that does not know its symmetry.
    """
    o = options or Augmentation()
    b, device = len(still.picture), still.picture.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    def uniform() -> Tensor:
        return torch.rand(b, generator=generator).to(device)  # drawn on the generator's device, whatever that of the pictures is

    flips = uniform() < o.flip_share
    scale = 1 + o.scale * (2 * uniform() - 1)
    shift = 2 * o.shift * normal(b, 2)  # in -1..1 coordinates, x right and y down
    colour = torch.exp(o.gain * normal(b, 1) + o.tint * normal(b, 3))
    return _coloured(_framed(flipped(still, head, flips, still.picture.shape[-1]), scale, shift), colour)


def where_rows(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of a (B,...) where rows (B,) bool is set, those of b (B,...) elsewhere."""
    return torch.where(rows.view(-1, *[1] * (a.dim() - 1)), a, b)


def flipped(still: Still, head: HeadModel, rows: Tensor, side: int) -> Still:
    """Mirrored left to right where rows (B,) is set. side: width of the picture in the pixels of the landmarks (B,N,2 or 3)."""
    own, other, points = still.face.tensors(), mirror(still.face, head).tensors(), still.landmarks[:, head.landmark_mirror]
    points = torch.cat([side - points[..., :1], points[..., 1:]], -1)
    values: dict[str, Any] = {name: where_rows(rows, other[name], value) for name, value in own.items()}
    return Still(
        where_rows(rows, still.picture.flip(-1), still.picture),
        where_rows(rows, still.known.flip(-1), still.known),
        where_rows(rows, points, still.landmarks),
        replace(still.face, **values),
    )


def _framed(still: Still, scale: Tensor, shift: Tensor) -> Still:
    """scale (B,), shift (B,2): a point p in -1..1, y down, comes to scale * p + shift."""
    b, side = len(scale), still.picture.shape[-1]
    theta = torch.zeros(b, 2, 3, device=scale.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale
    theta[:, :, 2] = -shift / scale[:, None]
    grid = F.affine_grid(theta, list(still.picture.shape), align_corners=False)
    picture = F.grid_sample(still.picture, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    known = F.grid_sample(still.known, grid, padding_mode="zeros", align_corners=False)
    centred = still.landmarks * 2 / side - 1
    landmarks = (centred * scale[:, None, None] + shift[:, None] + 1) * side / 2
    camera = still.face.camera.clone()
    camera[:, 0] *= scale
    camera[:, 1:] += shift * shift.new_tensor([1.0, -1.0]) / camera[:, :1]
    return Still(picture, known, landmarks, replace(still.face, camera=camera))


def _coloured(still: Still, colour: Tensor) -> Still:
    """colour (B,3): factor of every channel."""
    picture = (still.picture * colour[:, :, None, None]).clamp(0, 1)
    return replace(still, picture=picture, face=replace(still.face, light=still.face.light * colour[:, None]))
