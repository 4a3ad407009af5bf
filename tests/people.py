"""People made of numbers, for tests that need to know the true answer."""

from __future__ import annotations

import torch
from torch import Tensor

from difffae.common.rotations import from_yaw_pitch_roll
from difffae.faces.blendshapes import BLENDSHAPE_NAMES
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.shading import SH_CONSTANTS, project


def directional(x: float, y: float, z: float, ambient: float = 0.75) -> Tensor:
    """SH light (1,9,3) with shading ambient + x n_x + y n_y + z n_z."""
    light = torch.zeros(1, 9, 3)
    light[:, 0] = ambient / SH_CONSTANTS[0]
    for index, value in enumerate((x, y, z)):
        light[:, 1 + index] = value / SH_CONSTANTS[1]
    return light


def person(
    head: HeadModel,
    seed: int = 0,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    light: Tensor | None = None,
    expression: float = 0.15,
) -> FaceAttributes:
    """A random person, the same for the same seed; the neck is turned by yaw, pitch, roll in degrees."""
    generator = torch.Generator().manual_seed(seed)
    pose = torch.zeros(1, 5, 3)
    pose[0, 1] = from_yaw_pitch_roll(yaw, pitch, roll)
    weights = torch.rand(1, head.expression_count, generator=generator) * expression
    if "tongueOut" in head.expression_names:
        weights[:, head.expression_names.index("tongueOut")] = 0  # the landmarker has no score for it
    generator.manual_seed(seed)
    return FaceAttributes(
        head.name,
        shape=torch.randn(1, head.shape_count, generator=generator) * 0.7,
        albedo=torch.randn(1, head.albedo_count, generator=generator) * 0.5,
        pose=pose,
        camera=torch.tensor([[6.0, 0.01, 0.02]]),
        expression=weights,
        light=directional(0.15, 0.1, 0.25) if light is None else light,
    )


def true_landmarks(head: HeadModel, face: FaceAttributes, size: int) -> Tensor:
    """The 478 landmarks (B,478,3) in pixels of a square picture, as a perfect landmarker would find them."""
    points = head.landmarks(project(head(face.shape, face.expression, face.pose), face.camera))
    return torch.cat([(points[..., :2] + 1) * size / 2, points[..., 2:] * size / 2], -1)


def true_scores(head: HeadModel, face: FaceAttributes) -> Tensor:
    """The 52 blendshape scores (B,52) in the landmarker's order; what the head lacks is zero."""
    scores = face.expression.new_zeros(len(face), len(BLENDSHAPE_NAMES))
    for index, name in enumerate(BLENDSHAPE_NAMES):
        if name in head.expression_names:
            scores[:, index] = face.expression[:, head.expression_names.index(name)]
    return scores
