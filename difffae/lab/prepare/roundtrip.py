"""Round-trip pairs: any still becomes a training pair with a known answer.

Shape letters: B batch, H and W image height and width.

Still I with attributes a, random target b: J = carry(I, a to b), K = carry(J, b to a). K has the holes, smears and light errors
of a real edit, and the truth is I.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...carry.options import EXACT_LIGHT
from ...common.pixels import flow_grid
from ...common.rotations import axis_angle_to_matrix, from_yaw_pitch_roll, matrix_to_axis_angle, to_yaw_pitch_roll
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...person.prepared import carry
from ...source.regions import Layers


@dataclass(frozen=True)
class TargetOptions:
    """How far random targets lie from the source. Degrees are standard deviations."""

    yaw: float = 18.0
    pitch: float = 7.0
    roll: float = 6.0
    largest_yaw: float = 45.0  # of the target itself, not of the change
    shift: float = 0.03  # of the camera's translation, in units of the crop (2 wide)
    pose_share: float = 0.85  # how often each group changes at all
    expression_share: float = 0.7
    light_share: float = 0.7


def random_targets(
    source: FaceAttributes, pool: FaceAttributes, generator: torch.Generator, options: TargetOptions | None = None
) -> FaceAttributes:
    """Random attributes for every source face: turned heads, expressions and lights of random faces of the pool."""
    o = options or TargetOptions()
    b = len(source)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    pose, camera = source.pose.clone(), source.camera.clone()
    for row in range(b):
        if uniform(1) < o.pose_share:
            yaw, pitch, roll = (torch.randn(3, generator=generator) * torch.tensor([o.yaw, o.pitch, o.roll])).tolist()
            turned, back = (_turned(pose[row, 1], change, pitch, roll) for change in (yaw, -yaw))
            pose[row, 1] = back if to_yaw_pitch_roll(turned)[0].abs() > o.largest_yaw else turned
            camera[row, 1:] += torch.randn(2, generator=generator) * o.shift / camera[row, 0]
    other = pool[torch.randint(len(pool), (b,), generator=generator)]
    take_expression = uniform(b) < o.expression_share
    pose[:, 2:] = torch.where(take_expression[:, None, None], other.pose[:, 2:], pose[:, 2:])
    expression = torch.where(take_expression[:, None], other.expression, source.expression)
    other = pool[torch.randint(len(pool), (b,), generator=generator)]
    light = torch.where((uniform(b) < o.light_share)[:, None, None], other.light, source.light)
    return replace(source, pose=pose, camera=camera, expression=expression, light=light)


def _turned(pose: Tensor, yaw: float, pitch: float, roll: float) -> Tensor:
    """A rotation (3,), axis-angle, turned further by so many degrees."""
    return matrix_to_axis_angle(axis_angle_to_matrix(from_yaw_pitch_roll(yaw, pitch, roll)) @ axis_angle_to_matrix(pose))


def round_trip(
    images: Tensor,
    known: Tensor,
    source: FaceAttributes,
    target: FaceAttributes,
    head: HeadModel,
    layers: Layers | None = None,
) -> tuple[Tensor, Tensor]:
    """Carry there and back.

    Args:
        images: (B,3,H,W) in 0..1.
        known: Where they show the photograph, (B,1,H,W) in 0..1.
        source, target: Attributes of the images, and those to go to and come back from.
        head: Their head model.
        layers: What the images show where, or None.

    Returns:
        The images with the wear of two carries, (B,3,H,W), and their validity (B,1,H,W).
    """
    there = carry(images, source, target, head, known, layers, EXACT_LIGHT)
    if layers is not None:
        grid = flow_grid(there.offset_to_source)
        moved = layers.map(lambda layer: F.grid_sample(layer, grid, padding_mode="border", align_corners=False) * there.person_alpha)
        layers = replace(moved, person=there.person_alpha)
    back = carry(there.image, target, source, head, there.validity, layers, EXACT_LIGHT)
    return back.image, back.validity
