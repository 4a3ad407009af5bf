"""How far a head can turn in a tight frame.

Where a face fills its photograph, a turn moves it out of the frame, and brings into view what lies beyond it, of which nothing is known.

Shape letters: B faces, V vertices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..head.attributes import FaceAttributes, compose
from ..head.morphable import HeadModel
from ..head.shading import project, vertex_normals

LARGEST_UNKNOWN = 0.02  # of the visible head: what may come into view that lay beyond the frame
LARGEST_LOST = 0.02  # of the visible face: what may leave the frame
STEPS = 16  # in which a turn is taken back
FACING = 0.1  # least cosine of a normal towards the camera that counts as visible


def within_frame(
    head: HeadModel, own: FaceAttributes, target: FaceAttributes, frame: Tensor, tell: Callable[[str], None]
) -> FaceAttributes:
    """Targets whose heads turn as far as the frames of their photographs allow.

    Args:
        head: the head model.
        own: (1 or B) what the photographs show.
        target: (B) what is asked for.
        frame: (1 or B,4) left, top, right and bottom of the photographs in their squares, whose borders lie at -1 and 1.
        tell: called with one line if a turn was limited.

    Returns:
        the targets; the same object where no frame is in the way.
    """
    parts = head.vertex_mask("face", "ears", "scalp")
    inner = frame.abs().amin() < 1
    if not bool(inner) or not bool(head.vertex_mask("face").any()):
        return target
    own, frame = own.expand(len(target)), frame.expand(len(target), -1)
    before = _seen(head, own, frame)
    share = target.pose.new_ones(len(target))
    # a chin that drops out of the frame turns nothing
    turns = (_angle(own, target) > 0.5) | (own.camera != target.camera).any(1)
    for step in range(STEPS + 1):
        fits = _fits(head, before, _seen(head, _turned(own, target, share), frame), parts) | ~turns
        if bool(fits.all()):
            break
        share = torch.where(fits, share, 1 - (step + 1) / STEPS).clamp_min(0)
    if bool((share == 1).all()):
        return target
    worst = int(share.argmin())
    asked = float(_angle(own, target)[worst])
    given = float(_angle(own, _turned(own, target, share))[worst])
    where = f" in frame {worst}" if len(target) > 1 else ""
    tell(f"turned by {given:.0f} instead of {asked:.0f} degrees{where}: the face fills the picture and would leave it; use a wider one")
    return _turned(own, target, share)


def _turned(own: FaceAttributes, target: FaceAttributes, share: Tensor) -> FaceAttributes:
    """Targets of which each turns by its share (B,) only."""
    rows = [compose(target[row], pose=own[row], strength=1 - float(part)) for row, part in enumerate(share)]
    pose, camera = (torch.cat([getattr(row, name) for row in rows]) for name in ("pose", "camera"))
    return replace(target, pose=pose, camera=camera)


def _angle(own: FaceAttributes, target: FaceAttributes) -> Tensor:
    """(B,) degrees between two heads."""
    turns = [axis_angle_to_matrix(face.pose[:, 0]) @ axis_angle_to_matrix(face.pose[:, 1]) for face in (own, target)]
    return matrix_to_axis_angle(turns[0].transpose(-1, -2) @ turns[1]).norm(dim=-1) * (180 / math.pi)


def _seen(head: HeadModel, face: FaceAttributes, frame: Tensor) -> tuple[Tensor, Tensor]:
    """(B,V) bool: vertices that face the camera, and those that lie in the frame."""
    vertices = head(face.shape, face.expression, face.pose)
    points = project(vertices, face.camera)[..., :2]
    inside = ((points > frame[:, None, :2]) & (points < frame[:, None, 2:])).all(-1)
    return vertex_normals(vertices, head.faces)[..., 2] > FACING, inside


def _fits(head: HeadModel, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], parts: Tensor) -> Tensor:
    """(B,) bool: whether little comes in from beyond the frame, and little of the face leaves it."""
    shown = after[0] & after[1] & parts
    unknown = shown & before[0] & ~before[1]
    face = head.vertex_mask("face") & after[0]
    lost = face & before[0] & before[1] & ~after[1]
    counts = [mask.sum(1).float() for mask in (unknown, shown, lost, face)]
    return (counts[0] <= LARGEST_UNKNOWN * counts[1]) & (counts[2] <= LARGEST_LOST * counts[3])
