"""MakeHuman proxies (hair, clothes, brows, lashes) read, fitted on the base mesh and bound to the open head's vertices.

Shape letters: N hm08 vertices (19,158 with invisible helpers), V and F vertices and faces of the head, P and Q vertices and
triangles of a proxy, K head vertices that carry a proxy vertex.
MakeHuman's unit is the decimetre, ours the metre; axes: x to the subject's left (right in the image), y up, z to the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ...common.errors import ConfigError

DECIMETRE = 0.1
NEIGHBOURS = 16


@dataclass(frozen=True)
class Proxy:
    """A mesh that follows the head: position = sum_k weight_k head[index_k] + offset.

    index (P,K), weight (P,K), offset (P,3) metres; faces (Q,3); uv (Q,3,2) with v up; hidden (V,) bool: head vertices under it;
    follows: whether expressions move it."""

    index: Tensor
    weight: Tensor
    offset: Tensor
    faces: Tensor
    uv: Tensor
    hidden: Tensor
    follows: bool

    def rest(self, head_rest: Tensor) -> Tensor:
        """(B,V,3) -> (B,P,3)."""
        return (head_rest[:, self.index] * self.weight[..., None]).sum(2) + self.offset

    def skin(self, skin_weights: Tensor) -> Tensor:
        """(V,J) -> (P,J)."""
        return (skin_weights[self.index] * self.weight[..., None]).sum(1)

    def mirrored(self, mirror: Tensor) -> Proxy:
        """Its reflection in the plane x = 0; mirror (V,) is the head's permutation of vertices."""
        return Proxy(
            mirror[self.index],
            self.weight,
            self.offset * torch.tensor([-1.0, 1.0, 1.0]),
            self.faces.flip(1),
            self.uv.flip(1),
            self.hidden[mirror],
            self.follows,
        )


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A Wavefront file's triangles: vertex indices (Q,3) and texture coordinates (Q,3,2)."""
    uvs, faces, corners = [], [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "vt":
            uvs.append([float(w) for w in words[1:3]])
        elif words[0] == "f":
            polygon = [[int(n) - 1 for n in w.split("/")[:2]] for w in words[1:]]
            for k in range(1, len(polygon) - 1):
                triangle = (polygon[0], polygon[k], polygon[k + 1])
                faces.append([c[0] for c in triangle])
                corners.append([c[1] for c in triangle])
    if not faces or not uvs:
        raise ConfigError(f"{path}: no textured polygons; give MakeHuman's own .obj file")
    return np.array(faces), np.array(uvs)[np.array(corners)]


def fit(path: Path, base: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A .mhclo file on the base mesh (N,3): positions (P,3) decimetres, base vertices (P,3) they hang on, hidden base vertices.

    A vertex line is one base index, or three indices, three weights and an offset that is scaled by distances on the mesh.
    """
    refs, weights, offsets, hidden = [], [], [], []
    scale = np.ones(3)
    part = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            axis = "xyz".index(words[0][0])
            scale[axis] = abs(base[int(words[1]), axis] - base[int(words[2]), axis]) / float(words[3])
        elif words[0] in ("verts", "delete_verts"):
            part = words[0]
        elif part == "verts" and words[0].lstrip("-").isdigit():
            single = len(words) == 1
            refs.append([int(words[0])] * 3 if single else [int(w) for w in words[:3]])
            weights.append([1.0, 0.0, 0.0] if single else [float(w) for w in words[3:6]])
            offsets.append([0.0] * 3 if single else [float(w) for w in words[6:9]])
        elif part == "delete_verts":
            hidden += _ranges(words)
    points = (base[np.array(refs)] * np.array(weights)[..., None]).sum(1) + scale * np.array(offsets)
    return points, np.array(refs), np.array(hidden, dtype=int)


def _ranges(words: list[str]) -> list[int]:
    """`3 5 - 7 9` -> [3, 5, 6, 7, 9]; words that are no numbers are skipped."""
    out: list[int] = []
    k = 0
    while k < len(words):
        if words[k] == "-" and out and k + 1 < len(words):
            out += range(out[-1] + 1, int(words[k + 1]) + 1)
            k += 1
        elif words[k].isdigit():
            out.append(int(words[k]))
        k += 1
    return out


def bind(mesh: Path, clo: Path, base: np.ndarray, source: np.ndarray, carriers: np.ndarray, *, follows: bool, spread: float) -> Proxy:
    """Attach a fitted proxy to the head.

    base (N,3) hm08 in decimetres; source (V,) hm08 index of every head vertex or -1; carriers (V,) bool, head vertices that may
    carry it. Every proxy vertex hangs on its nearest head vertices with Gaussian weights whose width is `spread` decimetres plus
    half the distance, so that far strands move smoothly.
    """
    faces, uv = read_mesh(mesh)
    points, _, hidden = fit(clo, base)
    if faces.max() >= len(points):
        raise ConfigError(f"{clo}: places {len(points)} vertices, but {mesh.name} has more; the two files do not belong together")
    chosen = np.flatnonzero(carriers & (source >= 0))
    places = base[source[chosen]]
    distance, near = cKDTree(places).query(points, k=NEIGHBOURS)
    width = spread + 0.5 * distance[:, :1]
    weight = np.exp(-(distance**2 - distance[:, :1] ** 2) / (2 * width**2))
    weight /= weight.sum(1, keepdims=True)
    offset = (points - (places[near] * weight[..., None]).sum(1)) * DECIMETRE
    # far below the head model's lower edge nothing is ever seen
    seen = (points[faces][..., 1] > places[:, 1].min() - 1.5).any(1)
    return Proxy(
        torch.from_numpy(chosen[near]),
        torch.from_numpy(weight).float(),
        torch.from_numpy(offset).float(),
        torch.from_numpy(faces[seen]),
        torch.from_numpy(uv[seen]).float(),
        torch.from_numpy(np.isin(source, hidden) & (source >= 0)),
        follows,
    )
