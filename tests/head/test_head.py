"""The morphable head: FLAME's arithmetic on golden numbers, and the bundled open head's own promises."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from places import SHARED
from safetensors import safe_open

from difffae.common.checkpoint import asset_path
from difffae.common.errors import AttributeShapeError, CheckpointError
from difffae.head.morphable import HeadModel, label_index, labelled
from difffae.head.shading import face_normals

GOLDEN = SHARED / "golden"
ALLOWED = {
    ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"), ("_codecs", "encode"),
    ("scipy.sparse.csc", "csc_matrix"), ("scipy.sparse._csc", "csc_matrix"),
    ("scipy.sparse._csr", "csr_matrix"), ("scipy.sparse._coo", "coo_matrix"),
}  # fmt: skip


class Unpickler(pickle.Unpickler):
    """Only arrays and sparse matrices."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="module")
def flame() -> tuple[HeadModel, dict]:
    if not (GOLDEN / "flame.npz").is_file():
        pytest.skip("golden numbers are not here")
    with open(GOLDEN / "flame_like.pkl", "rb") as handle:
        raw = Unpickler(handle, encoding="latin1").load()

    def dense(value) -> torch.Tensor:
        return torch.tensor(np.asarray(value.todense() if hasattr(value, "todense") else value, dtype=np.float64))

    directions = dense(raw["shapedirs"])
    v = directions.shape[0]
    tensors = {
        "template": dense(raw["v_template"]),
        "shape_basis": directions[..., :100].permute(2, 0, 1),
        "expression_basis": directions[..., 300:350].permute(2, 0, 1),
        "pose_basis": dense(raw["posedirs"]).permute(2, 0, 1),
        "joint_regressor": dense(raw["J_regressor"]),
        "skin_weights": dense(raw["weights"]),
        "faces": torch.tensor(np.asarray(raw["f"], dtype=np.int64)),
    }
    assert tensors["pose_basis"].shape == (36, v, 3)
    model = HeadModel({"name": "flame-like", "expression_names": [f"psi{i}" for i in range(50)]}, tensors)
    return model, dict(np.load(GOLDEN / "flame.npz"))


def zeros(head: HeadModel, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, head.shape_count), torch.zeros(batch, head.expression_count), torch.zeros(batch, 5, 3)


def expressed(head: HeadModel, **weights: float) -> torch.Tensor:
    shape, expression, pose = zeros(head)
    for name, value in weights.items():
        expression[0, head.expression_names.index(name)] = value
    return head(shape, expression, pose)[0]


def vertices_of(head: HeadModel, *names: str) -> torch.Tensor:
    return head.vertex_mask(*names)


def test_flame_arithmetic_matches_the_reference(flame):
    model, golden = flame
    shape, expression = (torch.tensor(golden[k]).double() for k in ("shape", "exp"))
    pose = torch.zeros(len(shape), 5, 3, dtype=torch.float64)
    pose[:, 0] = torch.tensor(golden["pose"][:, :3])
    pose[:, 2] = torch.tensor(golden["pose"][:, 3:])
    got = model(shape, expression, pose)
    assert torch.allclose(got, torch.tensor(golden["vertices"]).double(), atol=1e-6)
    pose[:, 3:] = torch.tensor(golden["eye_pose"]).view(-1, 2, 3)
    got = model(shape, expression, pose)
    assert torch.allclose(got, torch.tensor(golden["vertices_with_eye_pose"]).double(), atol=1e-6)
    assert (got - model.template).abs().max() > 1e-3


def test_neutral_is_the_template_exactly(head):
    assert torch.equal(head(*zeros(head))[0], head.template)


def test_the_file_is_small_and_states_its_licence():
    path = asset_path("open_head.safetensors")
    assert path.stat().st_size <= 3_000_000
    with safe_open(str(path), framework="pt") as handle:
        assert handle.metadata()["license"] == "CC0-1.0"


def test_expressions_are_the_52_units(head):
    assert len(set(head.expression_names)) == 52
    assert {"jawOpen", "eyeBlinkLeft", "mouthSmileRight", "tongueOut", "browInnerUp", "cheekPuff"} <= set(head.expression_names)
    assert (head.expression_basis.flatten(1).abs().amax(1) > 1e-3).all()  # each moves something by more than a millimetre


def test_mean_head_and_bases_are_left_right_symmetric(head):
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(head.mirror[head.mirror], torch.arange(head.vertex_count))
    assert torch.allclose(head.template[head.mirror] * flip, head.template, atol=1e-7)
    torch.manual_seed(0)
    shape, expression, pose = zeros(head)
    shape.normal_()
    expression.uniform_()
    pose[0, :2].normal_(0, 0.2)
    other = pose * torch.tensor([1.0, -1.0, -1.0])
    a = head(shape, expression, pose)[0]
    b = head(shape * head.shape_parity, expression[:, head.expression_mirror], other)[0]
    assert torch.allclose(b[head.mirror] * flip, a, atol=1e-5)
    assert (a - head.template).abs().max() > 1e-2


def test_triangles_mirror_too(head):
    own = {frozenset(f) for f in head.faces.tolist()}
    mirrored = {frozenset(f) for f in head.mirror[head.faces].tolist()}
    assert own == mirrored


def test_eyes_and_most_of_the_face_point_to_the_viewer(head):
    normals = face_normals(head.template[None], head.faces)[0]
    centre = head.template[head.faces].mean(1)
    eyes = labelled(head.face_labels, "eyes")
    assert (normals[eyes, 2] > -1e-9).float().mean() > 0.95
    outside = labelled(head.face_labels, "scalp", "shoulders")
    middle = head.template[vertices_of(head, "scalp", "face")].mean(0)
    scalp = labelled(head.face_labels, "scalp")
    assert ((normals[scalp] * (centre[scalp] - middle)).sum(-1) > 0).float().mean() > 0.97
    assert outside.any()


def test_shape_coefficients_have_unit_scale(head):
    torch.manual_seed(1)
    shape = torch.randn(200, head.shape_count)
    moved = head.unposed(shape, torch.zeros(200, 0)) - head.template
    face = vertices_of(head, "face", "lips")
    spread = moved[:, face].norm(dim=-1).square().mean().sqrt()
    assert 0.002 < spread < 0.02  # metres: people differ by millimetres


def test_jaw_opens_with_teeth_and_tongue(head):
    opened = expressed(head, jawOpen=1.0) - head.template
    teeth = vertices_of(head, "teeth")
    lower = teeth & (opened[:, 1] < -0.005)
    upper = teeth & ~lower
    assert lower.sum() == upper.sum() == 68
    assert head.template[lower][:, 1].mean() < head.template[upper][:, 1].mean()
    chin = head.faces[head.landmark_faces[152]]
    assert opened[lower][:, 1].mean() < -0.012
    assert opened[vertices_of(head, "tongue")][:, 1].mean() < -0.010
    assert opened[chin][:, 1].mean() < -0.012
    assert opened[upper].abs().max() < 1e-4
    left = expressed(head, jawLeft=1.0) - head.template
    assert left[lower][:, 0].mean() > 0.003  # subject's left is image right


def test_lower_teeth_stay_between_the_lips(head):
    for weights in ({}, {"jawOpen": 1.0}, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}):
        v = expressed(head, **weights)
        front = v[vertices_of(head, "lips")][:, 2].max()
        assert v[vertices_of(head, "teeth")][:, 2].max() < front - 0.004


def test_blink_covers_the_eye(head):
    blink = expressed(head, eyeBlinkLeft=1.0) - head.template
    left = head.template[:, 0] > 0.005
    assert blink[left][:, 1].min() < -0.008
    assert blink[~left].abs().max() < 0.002


def test_look_units_turn_the_eyeball(head):
    eyes = vertices_of(head, "eyes") & (head.template[:, 0] > 0)
    pole = head.template[:, 2].masked_fill(~eyes, -9).argmax()
    assert (expressed(head, eyeLookOutLeft=1.0) - head.template)[pole, 0] > 0.004
    assert (expressed(head, eyeLookInLeft=1.0) - head.template)[pole, 0] < -0.004
    assert (expressed(head, eyeLookUpLeft=1.0) - head.template)[pole, 1] > 0.004
    assert (expressed(head, eyeLookDownLeft=1.0) - head.template)[pole, 1] < -0.004


def test_eye_joint_turns_the_eyeball_about_its_centre(head):
    shape, expression, pose = zeros(head)
    pose[0, 3, 1] = 0.4
    moved = head(shape, expression, pose)[0]
    eyes = vertices_of(head, "eyes") & (head.template[:, 0] > 0)
    assert (moved - head.template)[~eyes].abs().max() == 0
    centre = head.joints(shape)[0, 3]
    assert torch.allclose((moved - centre)[eyes].norm(dim=-1), (head.template - centre)[eyes].norm(dim=-1), atol=1e-6)
    assert (moved - head.template)[eyes][:, 0].max() > 0.004


def test_neck_turn_leaves_the_shoulders_and_keeps_the_face_rigid(head):
    shape, expression, pose = zeros(head)
    pose[0, 1, 1] = 0.7
    moved = head(shape, expression, pose)[0]
    shoulders = vertices_of(head, "shoulders")
    assert (moved - head.template)[shoulders].norm(dim=-1).max() < 0.002
    face = vertices_of(head, "face", "lips", "scalp")
    assert head.skin_weights[face, 1].min() > 0.9
    nose = head.template[:, 2].argmax()
    assert moved[nose, 0] > head.template[nose, 0] + 0.04  # positive turn about y: the face goes to image right
    assert (head.skin_weights.sum(1) - 1).abs().max() < 2e-3


def test_joints_follow_the_shape(head):
    torch.manual_seed(2)
    shape = torch.randn(8, head.shape_count)
    joints = head.joints(shape)
    eyes = head.vertex_mask("eyes")
    v = head.unposed(shape, torch.zeros(8, 0))
    left = eyes & (head.template[:, 0] > 0)
    assert ((joints[:, 3] - v[:, left].mean(1)).norm(dim=-1) < 0.02).all()
    assert (joints[:, 1, 1] < v[:, vertices_of(head, "lips")][..., 1].mean(1)).all()
    assert joints[:, 1].std(0).max() > 5e-4


def test_landmarks_lie_where_their_names_say(head):
    points = head.landmarks(head.template[None])[0]
    assert points.shape == (478, 3)
    labels = head.face_labels[head.landmark_faces]
    assert (labels[468:] == label_index("eyes")).all()
    assert points[263, 0] > points[362, 0] > 0 > points[133, 0] > points[33, 0]  # eye corners, subject's left = image right
    assert points[10, 1] > points[1, 1] > points[13, 1] > points[152, 1]  # forehead, nose tip, upper lip, chin
    assert points[1, 2] > points[[33, 263, 152, 10], 2].max()
    assert 0.05 < (points[[33, 133]].mean(0) - points[[263, 362]].mean(0)).norm() < 0.075  # eye centres, metres
    assert (head.landmark_bary >= 0).all()
    assert torch.allclose(head.landmark_bary.sum(1), torch.ones(478), atol=1e-5)
    pairs = head.landmark_mirror
    assert torch.allclose(points[pairs] * torch.tensor([-1.0, 1, 1]), points, atol=5e-4)


def test_albedo_spans_skin_tones_and_leaves_eyes_alone(head):
    code = torch.zeros(3, head.albedo_count)
    code[:, 0] = torch.tensor([-1.6, 0.0, 1.0])
    maps = head.albedo(code)
    assert maps.shape == (3, 3, 256, 256)
    assert maps.min() >= 0
    assert maps.max() <= 1

    def mean_colour(*names: str) -> torch.Tensor:
        faces = labelled(head.face_labels, *names)
        uv = head.uvs[head.uv_faces[faces]].mean(1)
        grid = torch.stack([uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2], -1)[None, None].expand(3, -1, -1, -1)
        return torch.nn.functional.grid_sample(maps, grid, align_corners=False).mean((2, 3))

    skin, teeth = mean_colour("face").mean(1), mean_colour("teeth", "eyes", "tongue")
    assert skin[0] < 0.25 < 0.45 < skin[1] < 0.65 < 0.7 < skin[2]
    assert torch.allclose(teeth[0], teeth[2], atol=0.03)


def test_gradients_reach_every_input(head):
    shape, expression, pose = (t.requires_grad_() for t in zeros(head))
    head(shape, expression, pose).square().sum().backward()
    for t in (shape, expression, pose[:, :2]):
        assert t is not None
    assert shape.grad.isfinite().all()
    assert (expression.grad.abs() > 0).any()
    assert (pose.grad[:, :2].abs() > 0).any()


def test_wrong_sizes_and_files_are_named(head, tmp_path):
    with pytest.raises(AttributeShapeError, match="shape"):
        head(torch.zeros(1, 999), torch.zeros(1, 52), torch.zeros(1, 5, 3))
    with pytest.raises(CheckpointError, match="lacks"):
        HeadModel({"name": "x", "expression_names": []}, {"template": torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match="no such"):
        HeadModel.load(tmp_path / "none.safetensors")


def test_inner_lips_part_when_the_jaw_opens(head):
    """Landmarks of touching lips once all lay on the upper lip, and every fitted mouth stayed shut."""
    jaw = torch.zeros(1, head.expression_count)
    jaw[:, head.expression_names.index("jawOpen")] = 1
    still = torch.zeros(1, 5, 3)
    closed, opened = (head.landmarks(head(torch.zeros(1, head.shape_count), e, still))[0] for e in (0 * jaw, jaw))
    for upper, lower in ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402)):
        assert abs(closed[upper, 1] - closed[lower, 1]) < 2e-3
        assert opened[upper, 1] - opened[lower, 1] > 0.02
    partner = head.landmark_mirror
    assert [int(partner[i]) for i in (80, 88, 78, 13, 14)] == [310, 318, 308, 13, 14]
