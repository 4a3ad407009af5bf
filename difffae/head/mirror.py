"""The attributes of a horizontally flipped photograph.

Shape letters: B batch, S shape, E expression, A albedo coefficients.
Axes: x right in the image, y up, z to the viewer. The reflection is x -> -x, about the middle of the crop.

A head whose file knows its own symmetry needs no fit: a coefficient of a symmetric component stays, one of an antisymmetric
component changes sign, and left and right expressions change places.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..common.errors import ConfigError, HeadModelMismatchError
from .attributes import FaceAttributes
from .morphable import HeadModel

ODD_LIGHT = (1, 4, 5)  # x, xy, xz: the functions of the SH basis (render.shading.sh_basis) that change sign under x -> -x


def mirror_rotation(r: Tensor) -> Tensor:
    """Axis-angle (...,3) of the reflected rotation: the axis is a pseudovector, so its x stays and y and z change sign."""
    return r * r.new_tensor([1.0, -1.0, -1.0])


def mirror(attributes: FaceAttributes, head: HeadModel) -> FaceAttributes:
    """Attributes of the mirrored picture: render(head, mirror(a)) is render(head, a) flipped left to right.

    Args:
        attributes: B faces.
        head: their head model, whose file knows its symmetry.

    Raises:
        HeadModelMismatchError: another head's attributes.
        ConfigError: a head whose file has no vertex permutation `mirror`, or attributes with a detail
            code, whose symmetry nobody knows.
    """
    if attributes.head != head.name:
        raise HeadModelMismatchError(f"attributes: made for head model '{attributes.head}', not '{head.name}'; load that head")
    if len(head.mirror) != head.vertex_count:
        raise ConfigError(f"head model '{head.name}': its file does not say which vertices mirror each other; use the open head")
    if attributes.detail is not None:
        raise ConfigError("attributes: a detail code cannot be mirrored; estimate the flipped picture instead")
    pose = mirror_rotation(attributes.pose[:, [0, 1, 2, 4, 3]])
    sign = torch.ones(9, 1, dtype=attributes.light.dtype, device=attributes.light.device)
    sign[list(ODD_LIGHT)] = -1
    return replace(
        attributes,
        shape=attributes.shape * head.shape_parity[: attributes.shape.shape[1]],
        albedo=attributes.albedo * head.albedo_parity[: attributes.albedo.shape[1]],
        pose=pose,
        camera=attributes.camera * attributes.camera.new_tensor([1.0, -1.0, 1.0]),
        expression=attributes.expression[:, head.expression_mirror],
        light=attributes.light * sign,
        mouth=None if attributes.mouth is None else replace(attributes.mouth, picture=attributes.mouth.picture.flip(-1)),
    )
