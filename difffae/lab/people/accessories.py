"""Glasses and hats of synthetic people: our own geometry, built on a person's head at rest.

Shape letters: V head vertices, P and Q vertices and triangles of a part, K points along a curve.
Metres; axes: x to the subject's left (right in the image), y up, z to the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...head.morphable import HeadModel, labelled
from .fabric import Fabric

FRAMES = ("round", "oval", "square", "wide", "aviator")
HATS = ("beanie", "cap")
# of the lens opening: half width, half height in metres, exponent of the superellipse, how much the lower inner corner is cut
OPENINGS = {"round": (0.0215, 0.021, 2.0, 0.0), "oval": (0.024, 0.0165, 2.3, 0.0), "square": (0.0245, 0.018, 4.5, 0.05),
            "wide": (0.0265, 0.021, 3.0, 0.1), "aviator": (0.027, 0.023, 2.3, 0.25)}  # fmt: skip
NOSE = 168  # landmark between the eyes
BROWS, OVAL_TOP = (9, 105, 334), 10
DOME = (73, 14)  # directions around and up a hat


@dataclass(frozen=True)
class Glasses:
    """shape: one of FRAMES; colour (3,) sRGB of the frame; thickness: half a rim's, metres; tint 0..1: how opaque the lenses are."""

    shape: str
    colour: Tensor
    thickness: float
    tint: float


@dataclass(frozen=True)
class Hat:
    """kind: one of HATS; low: metres that it is pulled down over the forehead (less is higher)."""

    kind: str
    low: float
    fabric: Fabric


@dataclass(frozen=True)
class Part:
    """A piece at rest: points (P,3), faces (Q,3), place (P,3) for `Fabric.paint`."""

    points: Tensor
    faces: Tensor
    place: Tensor


def tube(curve: np.ndarray, radius: float, closed: bool, sides: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A tube around a curve (K,3): points and triangles."""
    count = len(curve)
    ahead = np.roll(curve, -1, 0) - np.roll(curve, 1, 0) if closed else np.gradient(curve, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    guide = np.where(np.abs(ahead[:, 2:]) < 0.8, [[0.0, 0, 1]], [[0.0, 1, 0]])
    side = np.cross(ahead, guide)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, ahead)
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    points = (curve[:, None] + radius * ring).reshape(-1, 3)
    rows = np.arange(count if closed else count - 1)
    a, b = rows[:, None] * sides + np.arange(sides), rows[:, None] * sides + (np.arange(sides) + 1) % sides
    step = ((rows + 1) % count - rows)[:, None] * sides
    return points, np.concatenate([np.stack([a, b, b + step], -1).reshape(-1, 3), np.stack([a, b + step, a + step], -1).reshape(-1, 3)])


def lattice(rows: int, columns: int) -> np.ndarray:
    """Triangles (Q,3) of a net of points, row by row."""
    a = np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)
    b, c, d = a + 1, a + columns + 1, a + columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


def join(pieces: list[tuple[np.ndarray, np.ndarray]]) -> Part:
    """Several meshes as one; place = points."""
    start = np.cumsum([0, *(len(p) for p, _ in pieces)])
    points = torch.from_numpy(np.concatenate([p for p, _ in pieces])).float()
    faces = torch.from_numpy(np.concatenate([f + s for (_, f), s in zip(pieces, start, strict=False)])).long()
    return Part(points, faces, points)


def glasses(spec: Glasses, head: HeadModel, calm: Tensor) -> tuple[Part, Part]:
    """Frame and lenses on a head at rest (1,V,3)."""
    marks = head.landmarks(calm)[0].numpy()
    eyes = (head.joint_regressor[3:5] @ calm[0]).numpy()
    ears = calm[0][labelled(head.labels, "ears")].numpy()
    middle = eyes.mean(0)
    apart = abs(eyes[0, 0] - eyes[1, 0]) / 2
    wide, high, power, cut = OPENINGS[spec.shape]
    scale = apart / 0.0289
    wide, high = wide * scale, high * scale
    # lenses stand clear of the brows and of the bridge of the nose
    front = max(float(marks[list(BROWS), 2].max()) + 0.001, float(marks[NOSE, 2]) + 0.002, middle[2] + 0.024)
    centre_x = max(apart * 1.03, wide + 0.007)
    centre_y = middle[1] - 0.0035

    def bend(points: np.ndarray) -> np.ndarray:
        """The front is curved around the face."""
        points[:, 2] -= 2.2 * points[:, 0] ** 2
        return points

    t = np.arange(44) * 2 * np.pi / 44
    cos, sin = np.cos(t), np.sin(t)
    x = np.sign(cos) * np.abs(cos) ** (2 / power) * wide
    y = np.sign(sin) * np.abs(sin) ** (2 / power) * high
    x = x + cut * wide * np.clip(-y / high, 0, 1) * np.clip(-x / wide, 0, 1)  # x < 0 is the nose's side
    pieces, lenses = [], []
    for sign in (1, -1):
        rim = bend(np.stack([sign * (centre_x + x), centre_y + y, np.full_like(x, front)], -1))
        pieces.append(tube(rim, spec.thickness, True))
        fan = np.concatenate([rim.mean(0, keepdims=True), rim])
        k = np.arange(44)
        lenses.append((fan, np.stack([np.zeros(44, int), 1 + k, 1 + (k + 1) % 44], -1)))
        outer = rim[np.argmax(sign * rim[:, 0] + 0.5 * rim[:, 1])]
        side = ears[sign * ears[:, 0] > 0]
        root = np.array([sign * (np.abs(side[:, 0]).max() - 0.012), middle[1] + 0.004, side[:, 2].mean()])
        hook = root + np.array([-0.002 * sign, -0.025, -0.014])
        bow = np.array([sign * (abs(root[0]) + 0.003), middle[1] + 0.007, outer[2] - 0.018])
        arm = np.stack([outer, outer + (bow - outer) * [0.9, 0.7, 0.35], bow, (bow + root) / 2 + [0.002 * sign, 0, 0], root, hook])
        fine = np.linspace(0, len(arm) - 1, 24)
        curve = np.stack([np.interp(fine, np.arange(len(arm)), arm[:, c]) for c in range(3)], -1)
        pieces.append(tube(curve, spec.thickness * 1.1, False))
    s = np.linspace(-1, 1, 12)
    inner = centre_x - wide
    bridge = np.stack([s * inner, centre_y + 0.35 * high + 0.003 * (1 - s**2), np.full_like(s, front)], -1)
    pieces.append(tube(bend(bridge), spec.thickness * 1.1, False))
    return join(pieces), join(lenses)


def rim_height(spec: Hat, head: HeadModel, calm: Tensor) -> tuple[float, float]:
    """The plane of a hat's rim at rest, y = offset + slope z; what lies above it is inside."""
    marks = head.landmarks(calm)[0]
    front = float(marks[OVAL_TOP, 1]) - 0.008 - spec.low
    slope = 0.30 if spec.kind == "beanie" else 0.16
    return front - slope * float(marks[OVAL_TOP, 2]), slope


def hat(spec: Hat, head: HeadModel, calm: Tensor) -> Part:
    """A beanie with a folded cuff, or a cap with a visor, on a head at rest (1,V,3)."""
    skull = calm[0][labelled(head.labels, "scalp", "face")].numpy()
    offset, slope = rim_height(spec, head, calm)
    skull = skull[skull[:, 1] > offset + slope * skull[:, 2] - 0.02]
    z0 = float(skull[:, 2].max() + skull[:, 2].min()) / 2
    middle = np.array([0.0, offset + slope * z0, z0])
    around, up = DOME
    azimuth = np.linspace(-np.pi, np.pi, around)  # the pattern meets itself at the back
    height = np.linspace(0, np.pi / 2, up)
    level = np.array([[math.cos(h) * math.sin(a), math.sin(h), math.cos(h) * math.cos(a)] for h in height for a in azimuth])
    # the rim's plane is tilted, and directions with it
    tilt = math.atan(slope)
    direction = level.copy()
    direction[:, 1] = level[:, 1] * math.cos(tilt) + level[:, 2] * math.sin(tilt)
    direction[:, 2] = level[:, 2] * math.cos(tilt) - level[:, 1] * math.sin(tilt)
    reach = skull - middle
    length = np.linalg.norm(reach, axis=1)
    cosine = direction @ (reach / length[:, None]).T
    near = np.exp((cosine - 1) * 60)
    radius = (near * length).sum(1) / near.sum(1)
    h = np.repeat(height, around)
    loose = {"beanie": 0.012 + 0.022 * np.sin(h) ** 3, "cap": 0.010 + 0.006 * np.sin(2 * h)}[spec.kind]
    points = middle + direction * (radius + loose)[:, None]
    place = np.stack([np.tile(azimuth, up) * 0.09, h * 0.11, np.zeros(len(h))], -1)
    rows = [(points, lattice(up, around), place)]
    down = np.array([0, -math.cos(tilt), math.sin(tilt)])
    rim = points[:around]
    outward = rim - middle
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    if spec.kind == "beanie":
        profile = np.array([[0.0, -0.004], [0.006, 0.0], [0.008, 0.012], [0.008, 0.032], [0.004, 0.042], [0.0, 0.044]])
        band = [rim + out * outward - lift * down for out, lift in profile]
        n = len(profile)
        where = np.stack([np.tile(azimuth, n) * 0.09, np.repeat(profile[:, 1], around) + 0.003, np.zeros(n * around)], -1)
        rows.append((np.concatenate(band), lattice(n, around), where))
    else:
        arc, deep = np.linspace(-1, 1, 25), np.linspace(0, 1, 8)
        angle = np.radians(56) * arc
        base = np.stack([np.interp(angle, azimuth, rim[:, c]) for c in range(3)], -1)
        forward = np.array([0, -0.28, 0.96]) * 0.072
        visor = np.stack([base + d * forward * np.sqrt(1 - arc[:, None] ** 2) + [0, 0.001, 0] for d in deep])
        visor[..., 1] -= 0.10 * visor[..., 0] ** 2 / 0.08 * deep[:, None]
        rows.append((visor.reshape(-1, 3), lattice(len(deep), len(arc)), visor.reshape(-1, 3)))
    joined = join([(p, f) for p, f, _ in rows])
    return Part(joined.points, joined.faces, torch.from_numpy(np.concatenate([w for _, _, w in rows])).float())
