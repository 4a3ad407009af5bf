from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from difffae.common.errors import AttributeShapeError, ConfigError, HeadModelMismatchError
from difffae.common.rotations import axis_angle_to_matrix, from_yaw_pitch_roll, matrix_to_axis_angle, slerp, to_yaw_pitch_roll
from difffae.head.attributes import FaceAttributes, compose


def random_face(seed: int, batch: int = 1, head: str = "test-head") -> FaceAttributes:
    g = torch.Generator().manual_seed(seed)

    def r(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=g) * 0.3

    return FaceAttributes(head, r(7), r(4), r(5, 3), r(3), r(6), r(9, 3))


def test_nothing_taken_returns_the_source_itself():
    source = random_face(0)
    assert compose(source) is source
    assert compose(source, pose=random_face(1), strength=0.0) is source


def test_full_strength_swaps_whole_groups_exactly():
    source, other = random_face(0), random_face(1)
    result = compose(source, pose=other, light=other)
    assert torch.equal(result.pose[:, :2], other.pose[:, :2])
    assert torch.equal(result.pose[:, 2:], source.pose[:, 2:])
    assert torch.equal(result.camera, other.camera)
    assert torch.equal(result.light, other.light)
    assert torch.equal(result.expression, source.expression)
    assert torch.equal(result.shape, source.shape)
    result = compose(source, expression=other)
    assert torch.equal(result.pose[:, 2:], other.pose[:, 2:])
    assert torch.equal(result.pose[:, :2], source.pose[:, :2])
    assert torch.equal(result.expression, other.expression)


def test_half_strength_halves_the_angle():
    source = random_face(0)
    source = replace(source, pose=torch.zeros(1, 5, 3))
    other = replace(source, pose=torch.zeros(1, 5, 3).index_put((torch.tensor(0), torch.tensor(1)), torch.tensor([0.0, 0.8, 0.0])))
    assert torch.allclose(compose(source, pose=other, strength=0.5).pose[0, 1], torch.tensor([0.0, 0.4, 0.0]), atol=1e-6)


def test_light_by_numbers_goes_where_its_light_goes():
    source = random_face(0)
    lit = replace(random_face(1), lamp=torch.ones(1, 1))
    assert torch.equal(compose(source, light=lit).lamp, lit.lamp)
    assert torch.equal(compose(source, light=lit, strength=0.3).lamp, torch.full((1, 1), 0.3))
    assert compose(source, pose=lit).lamp is None
    assert torch.equal(compose(lit, light=source).lamp, torch.zeros(1, 1))
    assert torch.equal(FaceAttributes.cat([source, lit]).lamp, torch.tensor([[0.0], [1.0]]))
    assert torch.equal(FaceAttributes.from_json(lit.to_json()).lamp, lit.lamp)
    assert FaceAttributes.from_json(source.to_json()).lamp is None
    with pytest.raises(AttributeShapeError, match="lamp"):
        replace(source, lamp=torch.ones(1))


def test_json_round_trip_is_bit_exact():
    face = random_face(3, batch=2)
    back = FaceAttributes.from_json(face.to_json())
    assert back.head == face.head
    for name, tensor in face.tensors().items():
        assert torch.equal(getattr(back, name), tensor)


def test_errors_name_the_field():
    face = random_face(0)
    with pytest.raises(AttributeShapeError, match=r"attributes\.light"):
        replace(face, light=torch.zeros(1, 27))
    with pytest.raises(HeadModelMismatchError, match="other-head"):
        compose(face, pose=random_face(1, head="other-head"))
    with pytest.raises(ConfigError, match=r"1\.5"):
        compose(face, pose=face, strength=1.5)
    with pytest.raises(ConfigError, match="JSON"):
        FaceAttributes.from_json("{}")
    with pytest.raises(AttributeShapeError, match="3 faces"):
        random_face(0, batch=3).expand(2)


def test_batch_of_one_serves_many_frames():
    result = compose(random_face(0), pose=random_face(1, batch=3))
    assert len(result) == 3
    assert torch.equal(result.shape[0], result.shape[2])
    assert len(result[1]) == 1
    assert len(FaceAttributes.cat([result, random_face(2)])) == 4


def test_rotation_round_trips_and_gradients():
    r = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = r / r.norm(dim=-1, keepdim=True) * torch.linspace(0.01, 3.1, 50, dtype=torch.float64)[:, None]  # angles below pi
    assert torch.allclose(matrix_to_axis_angle(axis_angle_to_matrix(r)), r, atol=1e-9)
    near_pi = torch.tensor([[0.0, math.pi - 1e-6, 0.0], [1e-9, 0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(matrix_to_axis_angle(axis_angle_to_matrix(near_pi)), near_pi, atol=1e-8)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (zero,))
    assert torch.equal(axis_angle_to_matrix(torch.zeros(3)), torch.eye(3))
    assert torch.allclose(slerp(r, r.roll(1, 0), 1.0), r.roll(1, 0), atol=1e-8)


def test_signs_of_yaw_pitch_roll():
    nose = torch.tensor([0.0, 0.0, 1.0])  # towards the viewer
    assert (axis_angle_to_matrix(from_yaw_pitch_roll(20, 0, 0)) @ nose)[0] > 0.3  # image right
    assert (axis_angle_to_matrix(from_yaw_pitch_roll(0, 20, 0)) @ nose)[1] > 0.3  # chin up
    top = torch.tensor([0.0, 1.0, 0.0])
    assert (axis_angle_to_matrix(from_yaw_pitch_roll(0, 0, 20)) @ top)[0] > 0.3  # clockwise: the crown goes right
    angles = torch.tensor([25.0, -12.0, 7.0])
    assert torch.allclose(to_yaw_pitch_roll(from_yaw_pitch_roll(*angles.tolist())), angles, atol=1e-4)
