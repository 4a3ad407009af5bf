"""Files like FLAME's and DECA's with random numbers, for tests: the real ones are licensed."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from places import SHARED

GOLDEN = SHARED / "golden"


class ChumpyLike:
    """As chumpy.ch.Ch pickles itself: its fields without _parents and _cache."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)


def small_flame(seed: int = 0, vertices: int = 60, faces: int = 90) -> dict[str, Any]:
    """FLAME's keys and shapes on a small mesh; every vertex is in a face."""
    rng = np.random.default_rng(seed)
    template = rng.uniform(-0.1, 0.1, (vertices, 3))
    triangles = np.stack([np.arange(faces) % vertices, (np.arange(faces) + 1) % vertices, (np.arange(faces) * 7 + 3) % vertices], 1)
    weights = rng.dirichlet(np.ones(5), vertices)
    regressor = np.zeros((5, vertices))
    regressor[np.arange(5), rng.permutation(vertices)[:5]] = 1
    return {
        "v_template": template,
        "shapedirs": rng.normal(0, 1e-3, (vertices, 3, 400)),
        "posedirs": rng.normal(0, 1e-3, (vertices, 3, 36)),
        "J_regressor": regressor,
        "weights": weights,
        "f": triangles.astype(np.uint32),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], dtype=np.uint32),
        "bs_style": "lbs",
    }


def old_classes(monkeypatch) -> tuple[type, type, type]:
    """Stand-ins under the module names that real files use: chumpy.ch.Ch, chumpy.reordering.Select, scipy.sparse.csc.csc_matrix."""
    made = []
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select"), ("scipy.sparse.csc", "csc_matrix")):
        kind = type(name, (ChumpyLike,), {"__module__": module, "__qualname__": name})
        fake = types.ModuleType(module)
        setattr(fake, name, kind)
        monkeypatch.setitem(sys.modules, module, fake)
        monkeypatch.setitem(
            sys.modules, module.split(".")[0], sys.modules.get(module.split(".")[0]) or types.ModuleType(module.split(".")[0])
        )
        made.append(kind)
    return made[0], made[1], made[2]


def as_published(raw: dict[str, Any], monkeypatch) -> bytes:
    """The pickle as the official file has it: protocol 2, chumpy arrays, a sparse regressor, Python 2's names."""
    ch, select, csc = old_classes(monkeypatch)
    dense = raw["J_regressor"]
    columns, rows = np.nonzero(dense.T)
    starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=dense.shape[1]))]).astype(np.int32)
    sparse = csc(
        _shape=dense.shape, data=dense[rows, columns], indices=rows.astype(np.int32), indptr=starts, maxprint=50, _dtype=dense.dtype
    )
    pose = ch(x=raw["posedirs"].copy(), _dirty_vars={"x"}, _itr=None, _depends_on_deps={})
    order = np.arange(raw["weights"].size)
    published = {
        **raw,
        "v_template": ch(x=raw["v_template"], _dirty_vars=set(), _status="new"),
        "shapedirs": ch(x=np.asfortranarray(raw["shapedirs"])),
        "posedirs": pose,
        "weights": select(a=ch(x=raw["weights"].ravel()[::-1].copy()), idxs=order[::-1].copy(), preferred_shape=raw["weights"].shape),
        "J_regressor": sparse,
    }
    return pickle.dumps(published, protocol=2)


def embedding(face_count: int, seed: int = 0) -> dict[str, Any]:
    """DECA's landmark_embedding.npy: three arrays, and two torch tensors."""
    rng = np.random.default_rng(seed)

    def bary(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(3), shape)

    return {
        "static_lmk_faces_idx": rng.integers(0, face_count, 51),
        "static_lmk_bary_coords": bary(51),
        "dynamic_lmk_faces_idx": torch.from_numpy(rng.integers(0, face_count, (79, 17))),
        "dynamic_lmk_bary_coords": torch.from_numpy(bary(79, 17)).float(),
        "full_lmk_faces_idx": rng.integers(0, face_count, (1, 68)),
        "full_lmk_bary_coords": bary(1, 68),
    }


def save_object(path: Path, value: Any) -> None:
    np.save(path, np.array(value, dtype=object), allow_pickle=True)


def write_layout(path: Path, uvs: np.ndarray, uv_faces: np.ndarray, faces: np.ndarray, seed: int | None = None) -> None:
    """An .obj file; with a seed its triangles come in another order and start at other corners."""
    order, turn = np.arange(len(faces)), np.zeros(len(faces), dtype=int)
    if seed is not None:
        rng = np.random.default_rng(seed)
        order, turn = rng.permutation(len(faces)), rng.integers(0, 3, len(faces))
    lines = [f"vt {u:.8f} {v:.8f}" for u, v in uvs]
    for k in order:
        corners = [(int(faces[k, (c + turn[k]) % 3]) + 1, int(uv_faces[k, (c + turn[k]) % 3]) + 1) for c in range(3)]
        lines.append("f " + " ".join(f"{v}/{t}" for v, t in corners))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Calls:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call
