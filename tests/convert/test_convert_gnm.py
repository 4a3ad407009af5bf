"""`convert gnm` on a small file of GNM's public layout, against GNM's definition written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difffae.common.errors import CheckpointError
from difffae.convert.gnm import convert
from difffae.head.morphable import HeadModel, label_index

NAMES = ["right_eye", "neck", "head", "left_eye"]  # in another order than this head's


def small_gnm(seed: int = 0, v: int = 120, identity: int = 5, expression: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    correctives = rng.normal(0, 1e-3, (4, 9, v * 3))
    correctives[NAMES.index("neck")] = 0
    groups = np.zeros((3, v))
    groups[0, :10], groups[1, 20:25], groups[2, :] = 1, 1, 1
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": rng.normal(0, 0.1, (v, 3)),
        "template_joint_positions": rng.normal(0, 0.05, (4, 3)),
        "vertex_identity_basis": rng.normal(0, 3e-3, (identity, v, 3)),
        "joint_identity_basis": rng.normal(0, 2e-3, (identity, 4, 3)),
        "expression_basis": rng.normal(0, 3e-3, (expression, v, 3)),
        "identity_names": np.array([f"head_{k:03}" for k in range(identity)]),
        "expression_names": np.array([f"lower_face_region_{k:03}" for k in range(expression)]),
        "joint_names": np.array(NAMES),
        "joint_parent_indices": np.array([2, 1, 1, 2]),
        "skinning_weights": rng.dirichlet(np.ones(4), v).T,
        "triangles": rng.integers(0, v, (90, 3)),
        "triangle_uvs": rng.random((90, 3, 2)),
        "pose_correctives_regressor": correctives.reshape(36, v * 3),
        "vertex_groups": groups,
        "vertex_group_names": np.array(["ears", "eyes", "skin"]),
    }


def rotation(r: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(r)
    x, y, z = r / max(angle, 1e-12)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def evaluate(raw: dict[str, np.ndarray], identity: np.ndarray, expression: np.ndarray, turns: dict[str, np.ndarray]) -> np.ndarray:
    """GNM's function: bind pose, correctives of all joints, chain, linear blend skinning."""
    rest = raw["template_vertex_positions"] + np.einsum("i,ivk->vk", identity, raw["vertex_identity_basis"])
    rest = rest + np.einsum("e,evk->vk", expression, raw["expression_basis"])
    joints = raw["template_joint_positions"] + np.einsum("i,ijk->jk", identity, raw["joint_identity_basis"])
    local = [rotation(turns[name]) for name in NAMES]
    feature = np.concatenate([(r - np.eye(3)).ravel() for r in local])
    rest = rest + (feature @ raw["pose_correctives_regressor"]).reshape(-1, 3)
    world: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for joint in (1, 2, 0, 3):  # parents first
        parent = int(raw["joint_parent_indices"][joint])
        if joint == 1:
            world[joint] = local[joint], joints[joint]
        else:
            turn, place = world[parent]
            world[joint] = turn @ local[joint], turn @ (joints[joint] - joints[parent]) + place
    out = np.zeros_like(rest)
    for joint, (turn, place) in world.items():
        out += raw["skinning_weights"][joint][:, None] * ((rest - joints[joint]) @ turn.T + place)
    return out


def test_converted_head_is_gnms_function(tmp_path):
    raw = small_gnm()
    np.savez(tmp_path / "gnm_head.npz", **raw)
    convert([tmp_path / "gnm_head.npz"], tmp_path / "gnm.safetensors")
    head = HeadModel.load(tmp_path / "gnm.safetensors")
    assert head.license == "Apache-2.0"
    assert head.expression_names[1] == "lower_face_region_001"
    rng = np.random.default_rng(1)
    turns = {name: rng.normal(0, 0.3, 3) for name in NAMES}
    identity, expression = rng.normal(0, 1, 5), rng.normal(0, 1, 4)
    pose = np.zeros((1, 5, 3))
    for row, name in ((0, "neck"), (1, "head"), (3, "left_eye"), (4, "right_eye")):
        pose[0, row] = turns[name]
    pose[0, 2] = 0.5  # a jaw turn has nothing to move
    shape, expression_t = torch.tensor(identity[None]).float(), torch.tensor(expression[None]).float()
    got = head(shape, expression_t, torch.tensor(pose).float())[0].numpy()
    assert np.abs(got - evaluate(raw, identity, expression, turns)).max() < 2e-6
    joints = head.joints(shape, expression_t)[0, [4, 0, 1, 3]].numpy()
    expected = raw["template_joint_positions"] + np.einsum("i,ijk->jk", identity, raw["joint_identity_basis"])
    assert np.abs(joints - expected).max() < 1e-6
    corners = head.uvs[head.uv_faces].numpy()
    assert np.abs(corners - raw["triangle_uvs"]).max() < 1e-6
    assert (head.labels[:10] == label_index("ears")).all()
    assert (head.labels[20:25] == label_index("eyes")).all()


def test_correctives_that_do_not_map_are_reported(tmp_path, caplog):
    raw = small_gnm()
    raw["pose_correctives_regressor"] = raw["pose_correctives_regressor"] + 0.01
    np.savez(tmp_path / "gnm_head.npz", **raw)
    with caplog.at_level("WARNING", logger="difffae"):
        convert([tmp_path / "gnm_head.npz"], tmp_path / "gnm.safetensors")
    assert "root joint are left out" in caplog.text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"expression_basis": None}, "lacks expression_basis"),
        ({"joint_names": np.array(["neck", "head", "jaw", "eyes"])}, "joints are neck, head, jaw, eyes"),
        ({"joint_parent_indices": np.array([1, 1, 1, 2])}, "right_eye does not hang on head"),
        ({"skinning_weights": np.ones((4, 120))}, "do not sum to one"),
        ({"triangles": np.full((90, 3), 120)}, "beyond the 120"),
        ({"vertex_identity_basis": np.zeros((5, 119, 3))}, r"vertex_identity_basis has shape \(5, 119, 3\)"),
        ({"template_vertex_positions": np.full((120, 3), np.inf)}, "finite"),
    ],
)
def test_other_layouts_are_named(tmp_path: Path, change, match):
    raw = {key: value for key, value in (small_gnm() | change).items() if value is not None}
    np.savez(tmp_path / "gnm_head.npz", **raw)
    with pytest.raises(CheckpointError, match=match):
        convert([tmp_path / "gnm_head.npz"], tmp_path / "gnm.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["gnm_head.npz"]
