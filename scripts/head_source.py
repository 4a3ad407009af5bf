"""Readers of MakeHuman's plain-text files: base mesh, morph targets, fitted proxies. Used by build_head.py only.

Shape letters: N vertices of the whole hm08 mesh (19,158 with its invisible helpers), P vertices of a proxy.
Units are MakeHuman's decimetres; axes: x to the subject's left, y up, z to the front.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Obj:
    """A Wavefront mesh: vertices (N,3), uvs (T,2), and per group a list of polygons [(vertex, uv), ...]."""

    vertices: np.ndarray
    uvs: np.ndarray
    groups: dict[str, list[list[tuple[int, int]]]] = field(default_factory=dict)

    def polygons(self) -> list[list[tuple[int, int]]]:
        return [polygon for group in self.groups.values() for polygon in group]


def read_obj(path: Path) -> Obj:
    vertices, uvs, groups, group = [], [], {}, "all"
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == "vt":
            uvs.append([float(w) for w in words[1:3]])
        elif words[0] == "g":
            group = words[1]
        elif words[0] == "f":
            corners = [w.split("/") for w in words[1:]]
            groups.setdefault(group, []).append([(int(c[0]) - 1, int(c[1]) - 1) for c in corners])
    return Obj(np.array(vertices), np.array(uvs), groups)


def read_target(path: Path, count: int) -> np.ndarray:
    """Morph target (.target or .target.gz): lines `index dx dy dz` -> dense offsets (N,3)."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    offsets = np.zeros((count, 3), np.float32)
    if rows:
        offsets[[int(r[0]) for r in rows]] = np.array([r[1:4] for r in rows], np.float32)
    return offsets


@dataclass
class Fit:
    """A .mhclo fit: position = sum_k weight_k V[ref_k] + scale * offset; scale axes are measured on V."""

    refs: np.ndarray  # (P,3)
    weights: np.ndarray  # (P,3)
    offsets: np.ndarray  # (P,3)
    scales: list[tuple[int, int, float] | None]

    def apply(self, vertices: np.ndarray) -> np.ndarray:
        """vertices (...,N,3) of the morphed hm08 mesh -> (...,P,3)."""
        scale = np.ones((*vertices.shape[:-2], 1, 3), vertices.dtype)
        for axis, entry in enumerate(self.scales):
            if entry is not None:
                p, q, d = entry
                scale[..., 0, axis] = np.abs(vertices[..., p, axis] - vertices[..., q, axis]) / d
        corners = vertices[..., self.refs, :]
        return (corners * self.weights[..., None]).sum(-2) + scale * self.offsets


def read_mhclo(path: Path) -> Fit:
    refs, weights, offsets = [], [], []
    scales: list[tuple[int, int, float] | None] = [None, None, None]
    in_vertices = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            scales["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] == "verts":
            in_vertices = True
        elif in_vertices and words[0].lstrip("-").isdigit():
            if len(words) == 1:
                refs.append([int(words[0])] * 3)
                weights.append([1.0, 0.0, 0.0])
                offsets.append([0.0, 0.0, 0.0])
            else:
                refs.append([int(w) for w in words[:3]])
                weights.append([float(w) for w in words[3:6]])
                offsets.append([float(w) for w in words[6:9]])
        elif in_vertices and words[0] == "delete_verts":
            break
    return Fit(np.array(refs), np.array(weights, np.float32), np.array(offsets, np.float32), scales)


def group_indices(groups: dict[str, list[list[int]]], name: str) -> np.ndarray:
    """Vertex indices of a group of basemesh_vertex_groups.json, which lists inclusive ranges."""
    return np.concatenate([np.arange(a, b + 1) for a, b in groups[name]])
