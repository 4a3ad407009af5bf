"""Rotations as axis-angle vectors and matrices.

Axes: x right in the image, y up, z to the viewer (right-handed). Angles are radians; degrees only where a name says so.
"""

from __future__ import annotations

import torch
from torch import Tensor


def axis_angle_to_matrix(r: Tensor) -> Tensor:
    """(...,3) -> (...,3,3), Rodrigues' formula; exact identity and finite gradients at zero."""
    x, y, z = r.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    square = (r * r).sum(-1)[..., None, None]
    small = square < 1e-8
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    return torch.eye(3, dtype=r.dtype, device=r.device) + a * cross + b * (cross @ cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """(...,3,3) -> (...,3) with an angle in 0..pi, through a unit quaternion (stable near zero and near pi)."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    candidates = torch.stack(
        [
            torch.stack([1 + trace, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1),
            torch.stack(
                [m[..., 2, 1] - m[..., 1, 2], 1 + 2 * m[..., 0, 0] - trace, m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0]], -1
            ),
            torch.stack(
                [m[..., 0, 2] - m[..., 2, 0], m[..., 0, 1] + m[..., 1, 0], 1 + 2 * m[..., 1, 1] - trace, m[..., 1, 2] + m[..., 2, 1]], -1
            ),
            torch.stack(
                [m[..., 1, 0] - m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1], 1 + 2 * m[..., 2, 2] - trace], -1
            ),
        ],
        -2,
    )  # each row is 4 * q_i * q; the row with the largest q_i is the best conditioned
    diagonal = candidates.diagonal(dim1=-2, dim2=-1)
    row = diagonal.argmax(-1)[..., None, None].expand(*diagonal.shape[:-1], 1, 4)
    q = torch.nn.functional.normalize(candidates.gather(-2, row).squeeze(-2), dim=-1)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., :1])
    factor = torch.where(sine > 1e-7, angle / sine.clamp_min(1e-12), torch.full_like(sine, 2.0))
    return q[..., 1:] * factor


def slerp(a: Tensor, b: Tensor, strength: float | Tensor) -> Tensor:
    """Shortest-path interpolation of axis-angle rotations (...,3): a at strength 0, b at 1."""
    ra, rb = axis_angle_to_matrix(a), axis_angle_to_matrix(b)
    delta = matrix_to_axis_angle(ra.transpose(-1, -2) @ rb)
    return matrix_to_axis_angle(ra @ axis_angle_to_matrix(delta * strength))


def from_yaw_pitch_roll(yaw: float, pitch: float, roll: float) -> Tensor:
    """A rotation by three angles: R = Ry(yaw) Rx(-pitch) Rz(-roll); the roll happens first, in the face's own frame.

    Args:
        yaw: degrees, positive turns the face to image right.
        pitch: degrees, positive lifts the chin.
        roll: degrees, positive turns clockwise in the image.

    Returns:
        axis-angle (3,) in radians.
    """
    angles = torch.deg2rad(torch.tensor([yaw, -pitch, -roll], dtype=torch.float64))
    ry = axis_angle_to_matrix(torch.stack([angles[0] * 0, angles[0], angles[0] * 0]))
    rx = axis_angle_to_matrix(torch.stack([angles[1], angles[1] * 0, angles[1] * 0]))
    rz = axis_angle_to_matrix(torch.stack([angles[2] * 0, angles[2] * 0, angles[2]]))
    return matrix_to_axis_angle(ry @ rx @ rz).float()


def to_yaw_pitch_roll(r: Tensor) -> Tensor:
    """Axis-angle (...,3) -> degrees (...,3), the inverse of `from_yaw_pitch_roll` for |pitch| < 90."""
    m = axis_angle_to_matrix(r)
    yaw = torch.atan2(m[..., 0, 2], m[..., 2, 2])
    pitch = torch.asin((-m[..., 1, 2]).clamp(-1, 1))
    roll = torch.atan2(m[..., 1, 0], m[..., 1, 1])
    return torch.rad2deg(torch.stack([yaw, -pitch, -roll], -1))
