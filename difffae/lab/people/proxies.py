"""MakeHuman proxies (hair, clothes, brows, lashes) fitted on the base mesh and bound to the open head's vertices.

Shape letters: N hm08 vertices (19,158 with invisible helpers), V and F vertices and faces of the head, P and Q vertices and
triangles of a proxy, K head vertices that carry a proxy vertex.
MakeHuman's unit is the decimetre, ours the metre; axes: x to the subject's left (right in the image), y up, z to the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ...common.errors import ConfigError
from .makehuman import read_mhclo, read_obj

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
        offset = self.offset * torch.tensor([-1.0, 1.0, 1.0])
        faces, uv, hidden = self.faces.flip(1), self.uv.flip(1), self.hidden[mirror]
        return replace(self, index=mirror[self.index], offset=offset, faces=faces, uv=uv, hidden=hidden)


def bind(stem: Path, base: np.ndarray, source: np.ndarray, carriers: np.ndarray, *, follows: bool, spread: float) -> Proxy:
    """Attach a fitted proxy to the head: every vertex hangs on its nearest head vertices with Gaussian weights.

    Args:
        stem: Of the proxy's two files, without their endings .obj and .mhclo.
        base: (N,3) hm08 in decimetres.
        source: (V,) hm08 index of every head vertex, or -1.
        carriers: (V,) bool, head vertices that may carry it.
        follows: Whether expressions move it.
        spread: Width of the weights in decimetres, to which half the distance is added, so that far strands move smoothly.

    Raises:
        ConfigError: If the files cannot be read or do not belong together.
    """
    obj, fit = read_obj(stem.with_suffix(".obj")), read_mhclo(stem.with_suffix(".mhclo"))
    faces, corners = obj.triangles()
    uv, points = obj.uvs[corners], fit.apply(base)
    if faces.max() >= len(points):
        raise ConfigError(f"{stem}.mhclo: places {len(points)} vertices, but the .obj has more; the two files do not belong together")
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
        torch.from_numpy(np.isin(source, fit.hidden) & (source >= 0)),
        follows,
    )
