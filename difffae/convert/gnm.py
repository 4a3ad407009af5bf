"""GNM Head (google/GNM, Apache-2.0) -> a head model file (difffae.head.morphable).

Letters: V vertices, T triangles, I identity (253), E expression (383), J GNM's joints (4).

The layout is that of GNM's public source (gnm/shape/gnm_xnp.py, gnm_common.py, gnm_data_loader_test.py, version 3): an npz without objects,
axes x right, y up, z to the viewer, metres. Its file was not at hand, so this was checked against a file made by that layout.

What maps: template, identity and expression bases, skinning, triangles and their UVs. GNM's joints neck, head and eyes become this
head's global, neck and eyes; there is no jaw joint, the mouth opens by expression. What does not:
  joints    GNM adds a basis to a template of joints, this head regresses joints from vertices. The regressor written here is the
            smallest that gives GNM's joints for every identity and lets no expression move them.
  pose correctives of the root   this head has none for its first joint; they are left out, and the log says so if they are not zero.
  landmarks, albedo              are not in the npz: no estimator for this head, and its albedo is grey.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError
from ..head.morphable import HeadModel, label_index
from .state_dicts import only_input
from .unpickle import read_npz

log = logging.getLogger(__name__)

JOINTS = ("neck", "head", "left_eye", "right_eye")
PLACES = (0, 1, 3, 4)  # of these joints in this head's order global, neck, jaw, left eye, right eye
PARENTS = (None, "neck", "head", "head")
NEEDED = (
    "template_vertex_positions", "template_joint_positions", "vertex_identity_basis", "joint_identity_basis", "expression_basis",
    "expression_names", "joint_names", "joint_parent_indices", "skinning_weights", "triangles", "triangle_uvs",
)  # fmt: skip
GROUPS = {"ears": "ears", "eyes": "eyes", "upper_teeth_and_gums": "teeth", "lower_teeth_and_gums": "teeth", "tongue": "tongue"}


def convert(inputs: list[Path], output: Path, *, license: str = "Apache-2.0", name: str = "gnm") -> None:
    """One input: gnm_head.npz. Raises CheckpointError for a file with another layout."""
    path = only_input(inputs, "a GNM model")
    raw = read_npz(path)
    if missing := [key for key in NEEDED if key not in raw]:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}, so it is not a GNM head; choose gnm_head.npz of version 3")
    tensors = read_model(raw, path)
    config = {"name": name, "expression_names": [str(n) for n in raw["expression_names"]], "albedo_space": "srgb", "landmarks": "none"}
    HeadModel(config, tensors)  # its checks, before anything is written
    save_checkpoint(output, tensors, kind="head", config=config, license=license, source=f"converted from {path.name}")


def read_model(raw: dict[str, np.ndarray], path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a head model, float32. Raises CheckpointError."""
    template = raw["template_vertex_positions"]
    v, i, e = len(template), len(raw["vertex_identity_basis"]), len(raw["expression_basis"])
    shapes = {
        "template_vertex_positions": (v, 3),
        "template_joint_positions": (4, 3),
        "vertex_identity_basis": (i, v, 3),
        "joint_identity_basis": (i, 4, 3),
        "expression_basis": (e, v, 3),
        "expression_names": (e,),
        "joint_names": (4,),
        "joint_parent_indices": (4,),
        "skinning_weights": (4, v),
        "triangles": (len(raw["triangles"]), 3),
        "triangle_uvs": (len(raw["triangles"]), 3, 2),
    }
    for key, want in shapes.items():
        array = raw[key]
        if array.shape != want or (array.dtype.kind == "f" and not np.isfinite(array).all()):
            raise CheckpointError(f"{path}: {key} has shape {array.shape}, expected {want} of finite numbers; choose gnm_head.npz")
    triangles = raw["triangles"].astype(np.int64)
    if triangles.size == 0 or triangles.min() < 0 or triangles.max() >= v:
        raise CheckpointError(f"{path}: its triangles name vertices beyond the {v} it has; it is damaged")
    order = _joint_order(raw, path)
    weights = np.zeros((v, 5))
    weights[:, PLACES] = raw["skinning_weights"][order].T
    if np.abs(weights.sum(1) - 1).max() > 1e-3:
        raise CheckpointError(f"{path}: its skinning weights do not sum to one; it is damaged")
    regressor = np.zeros((5, v))
    regressor[PLACES, :] = _regressor(raw, order)
    tensors = {
        "template": template,
        "shape_basis": raw["vertex_identity_basis"],
        "expression_basis": raw["expression_basis"],
        "joint_regressor": regressor,
        "skin_weights": weights,
        "uvs": raw["triangle_uvs"].reshape(-1, 2),
        **_correctives(raw, order, v, path),
    }
    whole = {"faces": triangles, "uv_faces": np.arange(triangles.size).reshape(-1, 3), "labels": _labels(raw, v)}
    made = {key: torch.from_numpy(np.array(array, dtype=np.float32)) for key, array in tensors.items()}
    return made | {key: torch.from_numpy(array.astype(np.int64)) for key, array in whole.items()}


def _joint_order(raw: dict[str, np.ndarray], path: Path) -> list[int]:
    """Rows of neck, head, left eye and right eye among GNM's joints."""
    names = [str(n) for n in raw["joint_names"]]
    parents = [int(p) for p in raw["joint_parent_indices"]]
    if sorted(names) != sorted(JOINTS):
        raise CheckpointError(f"{path}: its joints are {', '.join(names)}, expected {', '.join(JOINTS)}; only GNM's head can be converted")
    for joint, parent in zip(JOINTS, PARENTS, strict=True):
        got = parents[names.index(joint)]
        if parent is not None and (not 0 <= got < len(names) or names[got] != parent):
            raise CheckpointError(f"{path}: its joint {joint} does not hang on {parent}; only GNM's head can be converted")
    return [names.index(joint) for joint in JOINTS]


def _regressor(raw: dict[str, np.ndarray], order: list[int]) -> np.ndarray:
    """(4,V): least norm, with R template = joints, R identity = joint identity, R expression = 0, rows that sum to one."""
    bases = [raw["template_vertex_positions"][None], raw["vertex_identity_basis"], raw["expression_basis"]]
    known = np.concatenate([b.transpose(0, 2, 1).reshape(-1, b.shape[1]) for b in bases] + [np.ones((1, bases[0].shape[1]))])
    joints = np.concatenate([raw["template_joint_positions"][None], raw["joint_identity_basis"]])[:, order]
    wanted = joints.transpose(0, 2, 1).reshape(-1, 4)
    still = np.zeros((3 * len(raw["expression_basis"]), 4))
    wanted = np.concatenate([wanted, still, np.ones((1, 4))]).astype(np.float64)
    # rows of one size each: a basis in millimetres must count as much as the template
    size = np.linalg.norm(known, axis=1, keepdims=True).clip(1e-12)
    known, wanted = known.astype(np.float64) / size, wanted / size
    return (known.T @ (np.linalg.pinv(known @ known.T, rcond=1e-12, hermitian=True) @ wanted)).T


def _correctives(raw: dict[str, np.ndarray], order: list[int], v: int, path: Path) -> dict[str, np.ndarray]:
    """(36,V,3) for neck, jaw and eyes from GNM's (9 J, 3 V); nothing where it has none."""
    table = raw.get("pose_correctives_regressor")
    if table is None or not table.size or not np.any(table):
        return {}
    if table.shape != (36, 3 * v):
        raise CheckpointError(f"{path}: pose_correctives_regressor has shape {table.shape}, expected {(36, 3 * v)}; choose gnm_head.npz")
    per_joint = table.reshape(4, 9, v, 3)[order]
    if np.any(per_joint[0]):
        log.warning("%s: pose correctives of the neck's root joint are left out, up to %.2g m per radian", path, np.abs(per_joint[0]).max())
    out = np.zeros((4, 9, v, 3))
    out[[place - 1 for place in PLACES[1:]]] = per_joint[1:]
    return {"pose_basis": out.reshape(36, v, 3)}


def _labels(raw: dict[str, np.ndarray], v: int) -> np.ndarray:
    """Ears, eyes, teeth and tongue by GNM's vertex groups; everything else counts as face."""
    labels = np.zeros(v, dtype=np.int64)
    groups, names = raw.get("vertex_groups"), raw.get("vertex_group_names")
    if groups is None or names is None or groups.shape != (len(names), v):
        return labels
    for name, weight in zip(names, groups, strict=True):
        if str(name) in GROUPS:
            labels[weight > 0.5] = label_index(GROUPS[str(name)])
    return labels
