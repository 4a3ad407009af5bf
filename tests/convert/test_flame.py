"""A converted FLAME file in the head class: the reference's vertices, joints and landmarks, in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flame_files import GOLDEN, embedding, save_object, small_flame

from difffae.common.errors import CheckpointError
from difffae.convert.flame import convert
from difffae.head.morphable import HeadModel


def yaw_of(r: np.ndarray) -> float:
    """Degrees of turn about y of one axis-angle vector, by Rodrigues' formula written out."""
    angle = np.linalg.norm(r) + 1e-12
    x, y, z = r / angle
    c, s = np.cos(angle), np.sin(angle)
    third_row_x = z * x * (1 - c) - y * s
    return float(np.degrees(np.arcsin(-third_row_x)))


@pytest.fixture(scope="module")
def flame(tmp_path_factory) -> tuple[HeadModel, dict]:
    if not (GOLDEN / "flame.npz").is_file():
        pytest.skip("golden numbers are not here")
    golden = dict(np.load(GOLDEN / "flame.npz"))
    folder = tmp_path_factory.mktemp("flame")
    table = embedding(9976)
    # the contour rows that the reference chose for its three codes; all other rows are random
    for code, pose in enumerate(golden["pose"]):
        row = round(yaw_of(pose[:3]))
        table["dynamic_lmk_faces_idx"][row] = torch.from_numpy(golden["dyn_faces"][code])
        table["dynamic_lmk_bary_coords"][row] = torch.from_numpy(golden["dyn_bary"][code])
    save_object(folder / "landmark_embedding.npy", table)
    convert([GOLDEN / "flame_like.pkl", folder / "landmark_embedding.npy"], folder / "flame.safetensors")
    return HeadModel.load(folder / "flame.safetensors"), golden


def codes(golden: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pose = torch.zeros(len(golden["pose"]), 5, 3)
    pose[:, 0], pose[:, 2] = torch.tensor(golden["pose"][:, :3]), torch.tensor(golden["pose"][:, 3:])
    return torch.tensor(golden["shape"]), torch.tensor(golden["exp"]), pose


def test_vertices_equal_the_reference(flame):
    head, golden = flame
    shape, expression, pose = codes(golden)
    assert head.template.dtype == torch.float32
    assert np.array_equal(head.faces.numpy(), golden["faces"])
    assert np.abs(head(shape, expression, pose).numpy() - golden["vertices"]).max() < 1e-6
    pose[:, 3:] = torch.tensor(golden["eye_pose"]).view(-1, 2, 3)
    assert np.abs(head(shape, expression, pose).numpy() - golden["vertices_with_eye_pose"]).max() < 1e-6


def test_posed_joints_equal_the_reference(flame):
    head, golden = flame
    shape, expression, pose = codes(golden)
    assert np.abs(head.posed_joints(shape, expression, pose).numpy() - golden["joints_posed"]).max() < 1e-6


def test_contour_follows_the_yaw_as_in_the_reference(flame):
    head, golden = flame
    shape, expression, pose = codes(golden)
    seen = head.contour_landmarks(head(shape, expression, pose), pose)
    assert seen.shape == (3, 68, 3)
    assert np.abs(seen[:, :17].numpy() - golden["landmarks2d"][:, :17]).max() < 1e-6


@pytest.mark.parametrize(("degrees", "row"), [(0, 0), (20, 20), (39.4, 39), (80, 39), (-1, 40), (-20, 59), (-39, 78), (-80, 78)])
def test_contour_rows_by_yaw(flame, degrees, row):
    head, _ = flame
    pose = torch.zeros(1, 5, 3)
    pose[0, 1, 1] = np.radians(degrees / 2)  # half by the neck, half by the whole head
    pose[0, 0, 1] = np.radians(degrees / 2)
    points = head.template[None]
    got = head.contour_landmarks(points, pose)[0, :17]
    corners = head.template[head.faces[head.contour_faces[row]]]
    assert torch.allclose(got, (corners * head.contour_bary[row][..., None]).sum(1), atol=1e-7)


def test_head_without_a_contour_says_what_to_do(tmp_path):
    import pickle

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(small_flame(), protocol=2))
    convert([tmp_path / "model.pkl"], tmp_path / "flame.safetensors")
    head = HeadModel.load(tmp_path / "flame.safetensors")
    with pytest.raises(CheckpointError, match=r"landmark_embedding\.npy"):
        head.contour_landmarks(head.template[None], torch.zeros(1, 5, 3))
