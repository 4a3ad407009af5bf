"""FLAME_PARAMS, the numbers that comfyui-face3d's nodes hand on (of KaoLRM and SMIRK), to and from attributes of a FLAME head.

Letters: B faces. A dict of float tensors: shape (B,100), expression (B,50), pose (B,6) axis-angle in radians of global and jaw,
scale (B,1), translation (B,3), and fix_z_trans, bool. The head that they mean is FLAME(shape, expression, global, jaw) * scale +
translation, with neck and eyes at rest. Axes are ours: x right in the image, y up, z to the viewer.

KaoLRM sees it with a camera at (0, 0, 2) that looks along -z over a square picture (kaolrm/datasets/cam_utils.py). The focal length, in
sides of the picture, is 20 for its monocular model, which sets fix_z_trans, so that translation z counts as 0, and 0.75 for its multi-view
one (configs/infer-base-*.yaml). Our camera is a weak perspective: the two agree at the depth of FLAME's origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..common.errors import AttributeShapeError, ConfigError, HeadModelMismatchError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from .attributes import FaceAttributes
from .morphable import HeadModel
from .shading import SH_CONSTANTS

SIZES = {"shape": 100, "expression": 50, "pose": 6, "scale": 1, "translation": 3}
DISTANCE = 2.0  # of KaoLRM's camera from the origin
FOCAL = {True: 20.0, False: 0.75}  # by fix_z_trans, in sides of the picture


def to_flame_params(head: HeadModel, attributes: FaceAttributes) -> dict[str, Any]:
    """Attributes as FLAME_PARAMS for KaoLRM's monocular camera.

    The neck's rotation, which FLAME_PARAMS have no place for, joins the global one, and the translation makes up for the other pivot: the
    head stays where it is, only throat and shoulders turn along. Eyes, skin colour, light, detail and the mouth's inside are left out.

    Args:
        head: a FLAME head.
        attributes: B faces of it.

    Returns:
        FLAME_PARAMS of B faces, float32 on the CPU, fix_z_trans on.

    Raises:
        HeadModelMismatchError: another head than FLAME, or attributes of another head.
        AttributeShapeError: coefficients beyond FLAME_PARAMS' 100 and 50 that are not zero.
    """
    _check_head(head, attributes.head)
    face = attributes.detach().to(head.template.device)
    codes = {name: _first(getattr(face, name), SIZES[name], name) for name in ("shape", "expression")}
    turn, neck = (axis_angle_to_matrix(face.pose[:, row].double()) for row in range(2))
    whole = turn @ neck
    pivots = head.joints(codes["shape"], codes["expression"]).double()
    # what turns about the neck's joint (1) by `neck` is moved by this against turning about the root (0)
    apart = ((turn - whole) @ (pivots[:, 1] - pivots[:, 0])[..., None])[..., :2, 0]
    bent = face.pose[:, 1].any(-1, keepdim=True)
    whole_turn = torch.where(bent, matrix_to_axis_angle(whole).to(face.pose), face.pose[:, 0])
    scale = face.camera[:, :1] / FOCAL[True]
    translation = torch.cat([(face.camera[:, 1:] + apart.to(face.camera)) * scale, torch.zeros_like(scale)], 1)
    found = {**codes, "pose": torch.cat([whole_turn, face.pose[:, 2]], 1), "scale": scale, "translation": translation}
    return {name: value.float().cpu().contiguous() for name, value in found.items()} | {"fix_z_trans": True}


def from_flame_params(head: HeadModel, params: Mapping[str, Any], rest: FaceAttributes | None = None) -> FaceAttributes:
    """FLAME_PARAMS as attributes, with a camera for the square picture that they were read off.

    Args:
        head: a FLAME head.
        params: FLAME_PARAMS of B faces.
        rest: 1 or B faces of this head, which give what FLAME_PARAMS lack: eyes, skin colour, light and detail. None: eyes straight
            ahead, the head's mean skin, even white light.

    Returns:
        B faces; the neck is straight, and what is inside the mouth unknown.

    Raises:
        HeadModelMismatchError: another head than FLAME, or `rest` of another head.
        ConfigError: what is no FLAME_PARAMS, or a scale or translation that no camera sees.
        AttributeShapeError: `rest` of another number of faces.
    """
    _check_head(head, None if rest is None else rest.head)
    numbers = _checked(params)
    if rest is not None:
        numbers = {name: value.to(rest.shape) for name, value in numbers.items()}
    scale, shift, pose = numbers["scale"], numbers["translation"], numbers["pose"]
    flat = bool(params["fix_z_trans"])
    depth = DISTANCE - (torch.zeros_like(scale) if flat else shift[:, 2:])
    if not (bool((scale > 0).all()) and bool((depth > 0).all())):
        raise ConfigError("flame_params: scale must be above 0, translation z below 2, where the camera is; correct them at their source")
    # a point x is seen at 2 focal (scale x + shift) / depth, in -1..1 over the picture; ours is camera scale * (x + camera shift)
    camera = torch.cat([2 * FOCAL[flat] / depth * scale, shift[:, :2] / scale], 1)
    if rest is None:
        light = scale.new_zeros(len(scale), 9, 3)
        light[:, 0] = 1 / SH_CONSTANTS[0]
        albedo, eyes = scale.new_zeros(len(scale), head.albedo_count), scale.new_zeros(len(scale), 2, 3)
        rest = FaceAttributes(head.name, numbers["shape"], albedo, scale.new_zeros(len(scale), 5, 3), camera, numbers["expression"], light)
    else:
        rest = rest.expand(len(scale))
        eyes = rest.pose[:, 3:]
    rows = torch.cat([torch.stack([pose[:, :3], torch.zeros_like(pose[:, :3]), pose[:, 3:]], 1), eyes], 1)
    return replace(rest, shape=numbers["shape"], expression=numbers["expression"], pose=rows, camera=camera, mouth=None)


def _check_head(head: HeadModel, other: str | None) -> None:
    if not head.has_pose_basis or head.shape_count < SIZES["shape"] or head.expression_count < SIZES["expression"]:
        raise HeadModelMismatchError(
            f"difffae: its head model '{head.name}' is not FLAME, whose numbers FLAME_PARAMS are; load a checkpoint with a FLAME head, "
            "see docs/own-files.md"
        )
    if other not in (None, head.name):
        raise HeadModelMismatchError(f"attributes: made for head model '{other}', but difffae has '{head.name}'; use one checkpoint")


def _first(values: Tensor, count: int, name: str) -> Tensor:
    """(B,N) -> (B,count), filled up with zeros."""
    if bool(values[:, count:].any()):
        raise AttributeShapeError(
            f"attributes.{name}: {values.shape[1]} numbers, of which FLAME_PARAMS hold {count}, and the others are not zero; "
            "estimate them with DECA"
        )
    return torch.nn.functional.pad(values[:, :count], (0, max(count - values.shape[1], 0)))


def _checked(params: Any) -> dict[str, Tensor]:
    """The tensors, float32. Raises ConfigError."""
    advice = "wire FLAME_PARAMS of comfyui-face3d or of To FLAME_PARAMS"
    if not isinstance(params, Mapping) or (missing := [name for name in (*SIZES, "fix_z_trans") if name not in params]):
        raise ConfigError(f"flame_params: lacks {', '.join(missing) if isinstance(params, Mapping) else 'its fields'}; {advice}")
    found: dict[str, Tensor] = {}
    for name, size in SIZES.items():
        value = params[name]
        if not isinstance(value, Tensor) or value.dim() != 2 or value.shape[1] != size or not len(value):
            shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"flame_params: {name} is {shown}, expected Bx{size}; {advice}")
        if not bool(torch.isfinite(value).all()):
            raise ConfigError(f"flame_params: {name} has values that are not finite; correct them at their source")
        found[name] = value.detach().float()
    if len({len(value) for value in found.values()}) > 1:
        counts = ", ".join(f"{name} {len(value)}" for name, value in found.items())
        raise ConfigError(f"flame_params: fields of different numbers of faces ({counts}); {advice}")
    return found
