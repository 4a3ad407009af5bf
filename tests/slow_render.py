"""A renderer by the plain rules, in double precision and one face at a time, to check the fast one against. Imports nothing of ours."""

from __future__ import annotations

import numpy as np


def rasterize(points: np.ndarray, faces: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """points (V,3) x right, y down in -1..1, nearest = smallest z. Face number (H,W), -1 where none, and barycentrics (H,W,3)."""
    number, best, bary = np.full((height, width), -1), np.full((height, width), np.inf), np.zeros((height, width, 3))
    px, py = -1 + (2 * np.arange(width) + 1) / width, -1 + (2 * np.arange(height) + 1) / height
    for k, face in enumerate(faces):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = points[face]
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        columns = np.flatnonzero((px >= min(x0, x1, x2)) & (px <= max(x0, x1, x2)))
        rows = np.flatnonzero((py >= min(y0, y1, y2)) & (py <= max(y0, y1, y2)))
        if area == 0 or not len(columns) or not len(rows):
            continue
        x, y = px[columns][None], py[rows][:, None]
        w0 = ((x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)) / area
        w1 = ((x2 - x) * (y0 - y) - (y2 - y) * (x0 - x)) / area
        w = np.stack([w0, w1, 1 - w0 - w1], -1)
        z = w @ np.array([z0, z1, z2])
        here = np.ix_(rows, columns)
        wins = (w > 0).all(-1) & (z < best[here])
        number[here] = np.where(wins, k, number[here])
        best[here] = np.where(wins, z, best[here])
        bary[here] = np.where(wins[..., None], w, bary[here])
    return number, bary


def attributes(number: np.ndarray, bary: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Corner values (F,3,C) at every pixel (H,W,C), zero where no face is."""
    return np.einsum("hwk,hwkc->hwc", bary, corners[np.maximum(number, 0)]) * (number >= 0)[..., None]


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    total = np.zeros_like(vertices)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    for k in range(3):
        np.add.at(total, faces[:, k], np.cross(b - a, c - a))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6)


def shade(normals: np.ndarray, light: np.ndarray) -> np.ndarray:
    """normals (...,3), light (9,3) -> (...,3), with the constants as the reference prints them."""
    k = [0.28209481, 1.02332675, 1.02332675, 1.02332675, 0.85808551, 0.85808551, 0.85808551, 0.42904276, 0.24770796]
    x, y, z = np.moveaxis(normals, -1, 0)
    bands = [np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return sum(k[b] * bands[b][..., None] * light[b] for b in range(9))


def sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear texture (R,R,C) at uv (...,2), v up; beyond the border is zero."""
    side = texture.shape[0]
    x, y = uv[..., 0] * side - 0.5, (1 - uv[..., 1]) * side - 0.5
    out = 0.0
    for dy in (0, 1):
        for dx in (0, 1):
            i, j = np.floor(y).astype(int) + dy, np.floor(x).astype(int) + dx
            weight = (1 - np.abs(y - i)) * (1 - np.abs(x - j)) * (i >= 0) * (j >= 0) * (i < side) * (j < side)
            out = out + weight[..., None] * texture[i.clip(0, side - 1), j.clip(0, side - 1)]
    return out


def project(vertices: np.ndarray, camera: np.ndarray) -> np.ndarray:
    s, tx, ty = camera
    return np.stack([s * (vertices[:, 0] + tx), -s * (vertices[:, 1] + ty), -s * vertices[:, 2]], -1)
