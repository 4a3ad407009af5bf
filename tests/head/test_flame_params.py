"""FLAME_PARAMS of comfyui-face3d: round trips, and the same pixels through KaoLRM's camera as through ours."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import small_flame
from torch import Tensor

from difffae.common.errors import AttributeShapeError, ConfigError, HeadModelMismatchError
from difffae.common.rotations import axis_angle_to_matrix
from difffae.convert.flame import convert
from difffae.head.attributes import FaceAttributes
from difffae.head.flame_params import from_flame_params, to_flame_params
from difffae.head.morphable import HeadModel
from difffae.head.shading import project, sh_shading


def flame_head(folder: Path, shape_count: int = 100, **changes) -> HeadModel:
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(small_flame() | changes, protocol=2))
    convert([folder / "generic_model.pkl"], folder / "flame.safetensors", shape_count=shape_count)
    return HeadModel.load(folder / "flame.safetensors")


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> HeadModel:
    return flame_head(tmp_path_factory.mktemp("flame"))


@pytest.fixture(scope="module")
def stiff(tmp_path_factory) -> HeadModel:
    """A head of which every vertex follows the neck and what hangs on it, and the neck's turn bends nothing."""
    raw = small_flame()
    weights = raw["weights"] * [0, 1, 1, 1, 1]
    raw["posedirs"][..., :9] = 0
    weights /= weights.sum(1, keepdims=True)
    return flame_head(tmp_path_factory.mktemp("stiff"), weights=weights, posedirs=raw["posedirs"])


def faces(head: HeadModel, neck: float = 0.0, count: int = 3) -> FaceAttributes:
    random = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=random)

    pose = 0.3 * normal(5, 3)
    pose[:, 1] *= neck
    camera = torch.tensor([8.0, 0.01, -0.02]) + normal(3) * torch.tensor([0.5, 0.01, 0.01])
    return FaceAttributes(head.name, normal(100), normal(head.albedo_count), pose, camera, normal(50), normal(9, 3), detail=normal(128))


def kaolrm(head: HeadModel, params: dict) -> tuple[Tensor, Tensor]:
    """Places (B,V,2) of the vertices, -1..1 over the picture, x right and y down, and their depth's share of the camera's distance."""
    pose = torch.zeros(len(params["pose"]), 5, 3)
    pose[:, 0], pose[:, 2] = params["pose"][:, :3], params["pose"][:, 3:]
    shift = params["translation"].clone()
    shift[:, 2] *= not params["fix_z_trans"]
    points = head(params["shape"], params["expression"], pose) * params["scale"][:, None] + shift[:, None]
    # by homogeneous coordinates: a camera at z = 2 whose own axes are x right, y down, z ahead; pixels of a picture of side 1
    world = torch.cat([points, torch.ones_like(points[..., :1])], -1)
    looks = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2]])
    focal = 20.0 if params["fix_z_trans"] else 0.75
    inner = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    seen = world @ (inner @ looks).T
    return 2 * seen[..., :2] / seen[..., 2:] - 1, (points[..., 2] - shift[:, None, 2]) / seen[..., 2]


def without_eyes(face: FaceAttributes) -> FaceAttributes:
    return replace(face, pose=face.pose * torch.tensor([1.0, 1, 1, 0, 0])[:, None])


def test_round_trip(head: HeadModel) -> None:
    face = faces(head)
    params = to_flame_params(head, face)
    shapes = {name: tuple(value.shape) for name, value in params.items() if name != "fix_z_trans"}
    assert shapes == {"shape": (3, 100), "expression": (3, 50), "pose": (3, 6), "scale": (3, 1), "translation": (3, 3)}
    assert params["fix_z_trans"] is True
    back = from_flame_params(head, params, face)
    for name, value in face.tensors().items():
        if name != "camera":
            assert torch.equal(getattr(back, name), value), name
    torch.testing.assert_close(back.camera, face.camera, rtol=5e-7, atol=1e-8)  # divided and multiplied again in float32
    again = to_flame_params(head, back)
    assert all(torch.equal(again[name], params[name]) for name in ("shape", "expression", "pose"))


def test_params_come_back(head: HeadModel) -> None:
    """From the other side: what KaoLRM's monocular model gives is what it gets back."""
    params = to_flame_params(head, faces(head)) | {"scale": torch.tensor([[0.4], [0.35], [0.5]])}
    back = to_flame_params(head, from_flame_params(head, params))
    for name in ("shape", "expression", "pose"):
        assert torch.equal(back[name], params[name]), name
    for name in ("scale", "translation"):
        torch.testing.assert_close(back[name], params[name], rtol=5e-7, atol=1e-8)


def test_the_same_pixels_by_both_cameras(head: HeadModel) -> None:
    face = without_eyes(faces(head))
    ours = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    theirs, nearer = kaolrm(head, to_flame_params(head, face))
    # perspective enlarges what is nearer than the origin by just that share: 3 % at most, as KaoLRM's focal length wants it
    torch.testing.assert_close(theirs / (1 + nearer[..., None]), ours, rtol=0, atol=2e-6)
    assert 0.005 < nearer.abs().max() < 0.05
    assert ours.std() > 0.3


@pytest.mark.parametrize("fixed", [True, False])
def test_their_pixels_by_our_camera(head: HeadModel, fixed: bool) -> None:
    params = to_flame_params(head, faces(head)) | {"fix_z_trans": fixed, "translation": torch.tensor([[0.02, -0.01, 0.3]] * 3)}
    if not fixed:
        params["scale"] = torch.full((3, 1), 2.0)
    face = from_flame_params(head, params)
    ours = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    theirs, nearer = kaolrm(head, params)
    torch.testing.assert_close(theirs / (1 + nearer[..., None]), ours, rtol=0, atol=2e-6)


def test_the_necks_turn_stays_in_place(stiff: HeadModel) -> None:
    """Adjust turns the head by its neck, which FLAME_PARAMS lack."""
    face = without_eyes(faces(stiff, neck=1.0))
    params = to_flame_params(stiff, face)
    ours = project(stiff(face.shape, face.expression, face.pose), face.camera)[..., :2]
    theirs, nearer = kaolrm(stiff, params)
    back = from_flame_params(stiff, params, face)
    again = project(stiff(back.shape, back.expression, back.pose), back.camera)[..., :2]
    torch.testing.assert_close(again, ours, rtol=0, atol=5e-6)
    torch.testing.assert_close(theirs / (1 + nearer[..., None]), again, rtol=0, atol=5e-6)
    assert not back.pose[:, 1].any()
    whole = axis_angle_to_matrix(face.pose[:, 0]) @ axis_angle_to_matrix(face.pose[:, 1])
    torch.testing.assert_close(axis_angle_to_matrix(back.pose[:, 0]), whole, rtol=0, atol=1e-6)
    assert (back.camera - face.camera)[:, 1:].abs().max() > 1e-3  # the pivot's share


def test_what_they_lack_comes_from_the_rest(head: HeadModel) -> None:
    params, other = to_flame_params(head, faces(head)), faces(head)[1]
    face = from_flame_params(head, params, other)
    for name in ("albedo", "light", "detail"):
        assert torch.equal(getattr(face, name), getattr(other, name).expand_as(getattr(face, name))), name
    assert torch.equal(face.pose[:, 3:], other.pose[:, 3:].expand(3, -1, -1))
    plain = from_flame_params(head, params)
    assert not plain.albedo.any()
    assert not plain.pose[:, 3:].any()
    normals = torch.nn.functional.normalize(torch.randn(3, 7, 3), dim=-1)
    torch.testing.assert_close(sh_shading(normals, plain.light), torch.ones(3, 7, 3))


def test_heads_with_more_numbers(tmp_path: Path, head: HeadModel) -> None:
    large = flame_head(tmp_path, shape_count=120)
    face = faces(head)
    longer = replace(face, shape=torch.nn.functional.pad(face.shape, (0, 20)))
    assert torch.equal(to_flame_params(large, longer)["shape"], face.shape)
    longer.shape[1, 110] = 0.5
    with pytest.raises(AttributeShapeError, match=r"attributes.shape: 120 numbers, of which FLAME_PARAMS hold 100"):
        to_flame_params(large, longer)


def test_other_heads_and_other_dicts_are_refused(head: HeadModel) -> None:
    params = to_flame_params(head, faces(head))
    openhead = HeadModel.load()
    with pytest.raises(HeadModelMismatchError, match=r"'open.*is not FLAME.*load a checkpoint with a FLAME head"):
        from_flame_params(openhead, params)
    with pytest.raises(HeadModelMismatchError, match="is not FLAME"):
        to_flame_params(openhead, replace(faces(head), head=openhead.name))
    with pytest.raises(HeadModelMismatchError, match="made for head model 'other'"):
        from_flame_params(head, params, replace(faces(head), head="other"))
    with pytest.raises(ConfigError, match="lacks scale, fix_z_trans"):
        from_flame_params(head, {name: value for name, value in params.items() if name not in ("scale", "fix_z_trans")})
    with pytest.raises(ConfigError, match="lacks its fields"):
        from_flame_params(head, [1])  # type: ignore[arg-type]
    wrong = {
        r"pose is \(6,\), expected Bx6": {"pose": params["pose"][0]},
        r"shape is ndarray, expected Bx100": {"shape": np.zeros((3, 100))},
        r"different numbers of faces \(shape 3, expression 2": {"expression": params["expression"][:2]},
        "translation has values that are not finite": {"translation": params["translation"] * torch.nan},
        "scale must be above 0": {"scale": params["scale"] * 0},
        "below 2, where the camera is": {"translation": torch.tensor([[0, 0, 2.5]] * 3), "fix_z_trans": False},
    }
    for match, change in wrong.items():
        with pytest.raises(ConfigError, match=match):
            from_flame_params(head, params | change)
    with pytest.raises(AttributeShapeError, match="2 faces cannot serve 3"):
        from_flame_params(head, params, faces(head, count=2))
