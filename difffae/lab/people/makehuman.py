"""Readers of MakeHuman's plain-text files: meshes and proxies fitted on the base mesh hm08.

Shape letters: N vertices of hm08 (19,158 with its invisible helpers), P and Q vertices and triangles of a mesh, T texture coordinates.
MakeHuman's unit is the decimetre; axes: x to the subject's left, y up, z to the front.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...common.errors import ConfigError

Corner = tuple[int, int]  # vertex, texture coordinate


@dataclass
class Obj:
    """A Wavefront mesh: vertices (P,3), uvs (T,2) with v up, and of every group its polygons."""

    vertices: np.ndarray
    uvs: np.ndarray
    groups: dict[str, list[list[Corner]]] = field(default_factory=dict)

    def triangles(self) -> tuple[np.ndarray, np.ndarray]:
        """All polygons as fans of triangles: vertices (Q,3) and texture coordinates (Q,3) as indices."""
        polygons = (polygon for group in self.groups.values() for polygon in group)
        corners = np.array([(p[0], p[k], p[k + 1]) for p in polygons for k in range(1, len(p) - 1)])
        return corners[..., 0], corners[..., 1]


def read_obj(path: Path) -> Obj:
    """A Wavefront file. Raises ConfigError for one without textured polygons."""
    vertices, uvs, group = [], [], "all"
    groups: dict[str, list[list[Corner]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append([float(w) for w in words[:3]])
        elif kind == "vt":
            uvs.append([float(w) for w in words[:2]])
        elif kind == "g":
            group = words[0]
        elif kind == "f":
            vertex, texture = zip(*(w.split("/")[:2] for w in words), strict=True)
            groups.setdefault(group, []).append([(int(v) - 1, int(t) - 1) for v, t in zip(vertex, texture, strict=True)])
    if not groups or not uvs:
        raise ConfigError(f"{path}: no textured polygons; give MakeHuman's own .obj file")
    return Obj(np.array(vertices), np.array(uvs), groups)


@dataclass
class Fit:
    """A .mhclo fit: position = sum_k weight_k hm08[ref_k] + scale * offset.

    refs, weights, offsets (P,3); scales: of every axis two hm08 vertices and their distance along it at scale 1, or None; hidden: hm08
    vertices that the proxy covers."""

    refs: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    scales: list[tuple[int, int, float] | None]
    hidden: np.ndarray

    def apply(self, base: np.ndarray) -> np.ndarray:
        """hm08 (N,3) -> the proxy's vertices (P,3)."""
        scale = [1.0 if s is None else abs(base[s[0], axis] - base[s[1], axis]) / s[2] for axis, s in enumerate(self.scales)]
        return (base[self.refs] * self.weights[..., None]).sum(1) + np.array(scale) * self.offsets


def read_mhclo(path: Path) -> Fit:
    """A proxy's fit. A vertex is one line: one hm08 index, or three indices, three weights and an offset."""
    rows: list[list[float]] = []
    hidden: list[int] = []
    scales: list[tuple[int, int, float] | None] = [None, None, None]
    part = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            scales["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] in ("verts", "delete_verts"):
            part = words[0]
        elif part == "verts" and words[0].lstrip("-").isdigit():
            rows.append([float(w) for w in words[:9]] if len(words) > 1 else [float(words[0])] * 3 + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        elif part == "delete_verts":
            hidden += ranges(words)
    refs, weights, offsets = np.split(np.array(rows), 3, axis=1)
    return Fit(refs.astype(int), weights, offsets, scales, np.array(hidden, dtype=int))


def ranges(words: list[str]) -> list[int]:
    """`3 5 - 7 9` -> [3, 5, 6, 7, 9]; words that are no numbers are skipped."""
    out: list[int] = []
    through = False
    for word in words:
        if word.isdigit():
            out += range(out[-1] + 1, int(word) + 1) if through else [int(word)]
        through = word == "-" and bool(out)
    return out
