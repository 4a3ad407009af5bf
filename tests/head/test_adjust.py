from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from difffae.common.errors import ConfigError
from difffae.common.rotations import axis_angle_to_matrix, from_yaw_pitch_roll, matrix_to_axis_angle, to_yaw_pitch_roll
from difffae.head.adjust import (
    LUMINANCE,
    Adjustments,
    adjust,
    direct_light,
    lamp_light,
    light_direction,
    sphere_normals,
    visible_normals,
)
from difffae.head.attributes import FaceAttributes
from difffae.head.shading import sh_basis

NAMES = [
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "eyeLookOutLeft", "eyeLookInRight", "eyeLookInLeft",
    "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeLookDownLeft", "eyeLookDownRight", "jawOpen", "mouthSmileLeft",
    "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "tongueOut", "eyeSquintLeft", "eyeSquintRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "mouthDimpleLeft", "mouthDimpleRight",
]  # fmt: skip


def face(batch: int = 1, **expression: float) -> FaceAttributes:
    generator = torch.Generator().manual_seed(0)
    pose = torch.zeros(batch, 5, 3)
    pose[:, 0] = from_yaw_pitch_roll(8, -3, 2)
    pose[:, 1] = from_yaw_pitch_roll(-20, 10, 5)
    coefficients = torch.zeros(batch, len(NAMES))
    for name, value in expression.items():
        coefficients[:, NAMES.index(name)] = value
    light = torch.randn(batch, 9, 3, generator=generator) * 0.3
    light[:, 0] = 3
    return FaceAttributes("test", torch.zeros(batch, 4), torch.zeros(batch, 2), pose, torch.ones(batch, 3), coefficients, light)


def get(attributes: FaceAttributes, name: str) -> float:
    return attributes.expression[0, NAMES.index(name)].item()


def head_angles(attributes: FaceAttributes) -> torch.Tensor:
    whole = axis_angle_to_matrix(attributes.pose[:, 0]) @ axis_angle_to_matrix(attributes.pose[:, 1])
    return to_yaw_pitch_roll(matrix_to_axis_angle(whole))


def test_nothing_asked_for_returns_the_same_object():
    source = face()
    assert Adjustments().empty
    assert adjust(source, Adjustments(), NAMES) is source
    assert not Adjustments(yaw=0.0).empty
    zero = adjust(source, Adjustments(yaw=0.0, smile=0.0), NAMES)
    assert torch.allclose(zero.pose, source.pose, atol=1e-6)
    assert torch.equal(zero.expression, source.expression)


def test_turns_add_to_the_head_and_only_the_neck_moves():
    source = face(batch=2)
    turned = adjust(source, Adjustments(yaw=15, pitch=-5, roll=7), NAMES)
    assert torch.allclose(head_angles(turned), head_angles(source) + torch.tensor([15.0, -5.0, 7.0]), atol=1e-3)
    assert torch.equal(turned.pose[:, [0, 2, 3, 4]], source.pose[:, [0, 2, 3, 4]])
    assert torch.equal(turned.camera, source.camera)
    only = adjust(source, Adjustments(yaw=15), NAMES)
    assert torch.allclose(head_angles(only) - head_angles(source), torch.tensor([15.0, 0.0, 0.0]), atol=1e-3)


def test_signs_of_turns():
    upright = replace(face(), pose=torch.zeros(1, 5, 3))

    def matrix(**numbers: float) -> torch.Tensor:
        return axis_angle_to_matrix(adjust(upright, Adjustments(**numbers), NAMES).pose[0, 1])

    assert matrix(yaw=20)[0, 2] > 0.3  # the nose goes to image right
    assert matrix(pitch=20)[1, 2] > 0.3  # the chin goes up
    assert matrix(roll=20)[0, 1] > 0.3  # the crown goes right


def test_absolute_values_replace():
    turned = adjust(face(), Adjustments(yaw=15, roll=0.0, absolute=True), NAMES)
    yaw, pitch, roll = head_angles(turned)[0].tolist()
    assert yaw == pytest.approx(15, abs=1e-3)
    assert roll == pytest.approx(0, abs=1e-3)
    assert pitch == pytest.approx(head_angles(face())[0, 1].item(), abs=1e-3)
    smiling = adjust(face(mouthSmileLeft=0.9, mouthFrownRight=0.2), Adjustments(smile=0.5, absolute=True), NAMES)
    assert [get(smiling, f"mouth{x}") for x in ("SmileLeft", "SmileRight", "FrownLeft", "FrownRight")] == pytest.approx([0.5, 0.5, 0, 0])


def test_expression_numbers():
    smiling = adjust(face(mouthSmileLeft=0.2), Adjustments(smile=0.6), NAMES)
    assert get(smiling, "mouthSmileLeft") == pytest.approx(0.8)
    assert get(smiling, "mouthSmileRight") == pytest.approx(0.6)
    for companion in ("cheekSquintLeft", "eyeSquintRight", "mouthUpperUpLeft", "mouthDimpleRight"):
        assert 0 < get(smiling, companion) < 0.6
    assert get(smiling, "mouthFrownLeft") == 0
    sad = adjust(face(mouthSmileLeft=0.2, mouthSmileRight=0.2), Adjustments(smile=-0.6), NAMES)
    assert [get(sad, "mouthSmileLeft"), get(sad, "mouthFrownLeft")] == pytest.approx([0.0, 0.4])
    full = adjust(face(jawOpen=0.8), Adjustments(jaw_open=0.6), NAMES)
    assert get(full, "jawOpen") == 1
    assert get(adjust(face(jawOpen=0.8), Adjustments(jaw_open=-0.5), NAMES), "jawOpen") == pytest.approx(0.3)
    assert get(adjust(face(), Adjustments(blink=1), NAMES), "eyeBlinkRight") == 1
    assert get(adjust(face(), Adjustments(brow_up=0.5), NAMES), "browOuterUpLeft") == 0.5
    assert get(adjust(face(), Adjustments(brow_up=-0.5), NAMES), "browDownLeft") == 0.5
    untouched = adjust(face(tongueOut=0.4), Adjustments(smile=1, jaw_open=1, blink=1, brow_up=1, gaze_x=1, gaze_y=1), NAMES)
    assert get(untouched, "tongueOut") == pytest.approx(0.4)
    assert untouched.expression.amax() <= 1


def test_gaze_signs():
    right = adjust(face(eyeLookInLeft=0.1, eyeLookOutRight=0.1), Adjustments(gaze_x=0.5), NAMES)
    assert get(right, "eyeLookOutLeft") == pytest.approx(0.4)  # the subject's left is image right
    assert get(right, "eyeLookInRight") == pytest.approx(0.4)
    assert get(right, "eyeLookInLeft") == 0
    down = adjust(face(), Adjustments(gaze_y=-0.5), NAMES)
    assert get(down, "eyeLookDownLeft") == 0.5
    assert get(down, "eyeLookUpLeft") == 0


def unit(azimuth: float, elevation: float) -> torch.Tensor:
    a, e = math.radians(azimuth), math.radians(elevation)
    return torch.tensor([[math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)]], dtype=torch.float64)


@pytest.mark.parametrize(("azimuth", "elevation", "error"), [(0, 0, 0.035), (30, 20, 0.04), (80, 0, 0.08), (0, 60, 0.06), (-60, -30, 0.06)])
def test_a_lamp_is_mixed_in_linear_light_and_coded_like_a_picture(azimuth: float, elevation: float, error: float):
    direction, strength = unit(azimuth, elevation), 0.6
    normals = visible_normals(direction)
    cosine = (normals @ direction[0]).clamp_min(0)
    coded = (1 - strength + strength * cosine / cosine.mean()) ** (1 / 1.3)
    shading = sh_basis(normals) @ lamp_light(direction, strength)[0]
    assert (shading - coded).square().mean().sqrt() < error * coded.mean()  # second order
    assert shading.max().item() == pytest.approx(coded.max().item(), rel=0.08)


def test_a_lamp_without_strength_is_flat():
    normals = sphere_normals(torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(normals.norm(dim=-1), torch.ones(len(normals)).double())
    assert normals.mean(0).norm() < 1e-3
    assert torch.allclose(normals.T @ normals / len(normals), torch.eye(3).double() / 3, atol=1e-3)
    assert torch.allclose(sh_basis(normals) @ lamp_light(unit(50, 10), 0.0)[0], torch.ones(len(normals)).double(), atol=1e-6)


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_a_lamps_direction_is_read_back(strength: float):
    for azimuth, elevation in ((0, 0), (45, 0), (-45, 30), (60, -10), (0, 60), (-60, -30), (30, 20)):
        light = direct_light(face().light * 0 + torch.tensor([3.0] + [0.0] * 8)[:, None], azimuth, elevation, strength)
        assert light_direction(light)[0].tolist() == pytest.approx([azimuth, elevation], abs=1.0)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (45, 0), (-45, 30), (60, -10), (0, 60)])
def test_light_comes_from_there_and_keeps_colour_and_brightness(azimuth: float, elevation: float):
    source = face()
    lit = adjust(source, Adjustments(light_azimuth=azimuth, light_elevation=elevation, light_strength=0.8), NAMES)
    assert torch.allclose(light_direction(lit.light), torch.tensor([[azimuth, elevation]]).float(), atol=1.0)
    seen = sh_basis(visible_normals(torch.zeros(1))).mean(0)
    assert torch.allclose((lit.light * seen[:, None]).sum(1), (source.light * seen[:, None]).sum(1), rtol=1e-4)


def test_signs_and_strength_of_light():
    def shading(x: float, y: float, **numbers: float) -> float:
        normal = torch.tensor([x, y, math.sqrt(1 - x * x - y * y)])
        light = adjust(face(), Adjustments(**numbers), NAMES).light[0]
        value = (sh_basis(normal) @ light @ torch.tensor(LUMINANCE)).item()
        return value**2.2  # shading multiplies picture values; a lamp's contrast is one of linear light

    assert shading(0.7, 0, light_azimuth=45) > 1.5 * shading(-0.7, 0, light_azimuth=45)  # from image right
    assert shading(0, 0.7, light_azimuth=0, light_elevation=45) > 1.5 * shading(0, -0.7, light_azimuth=0, light_elevation=45)
    assert shading(0.7, 0, light_strength=0) == pytest.approx(shading(-0.7, 0.3, light_strength=0), rel=1e-5)
    strong = shading(0.7, 0, light_azimuth=45, light_strength=1) / shading(-0.7, 0, light_azimuth=45, light_strength=1)
    weak = shading(0.7, 0, light_azimuth=45, light_strength=0.3) / shading(-0.7, 0, light_azimuth=45, light_strength=0.3)
    assert strong > weak > 1


def test_what_is_not_given_stays_the_sources():
    light = torch.zeros(1, 9, 3)
    light[:, 0] = torch.tensor([3.0, 2.8, 2.5])
    light = direct_light(light, 40.0, 20.0, 0.6)
    assert light_direction(light)[0].tolist() == pytest.approx([40.0, 20.0], abs=1.0)
    assert light_direction(direct_light(light, None, None, 0.9))[0].tolist() == pytest.approx([40.0, 20.0], abs=1.5)
    assert light_direction(direct_light(light, -30.0, None, 0.5))[0].tolist() == pytest.approx([-30.0, 20.0], abs=1.5)
    assert light_direction(direct_light(light, None, -15.0, 0.5))[0].tolist() == pytest.approx([40.0, -15.0], abs=1.5)


def test_a_side_light_is_one_although_the_sources_comes_from_far_above():
    light = torch.zeros(1, 9, 3)
    light[:, 0] = 3.0
    above = direct_light(light, 0.0, 65.0, 0.8)
    azimuth, elevation = light_direction(direct_light(above, -60.0, None, 0.8))[0].tolist()
    assert azimuth == pytest.approx(-60, abs=2)
    assert elevation == pytest.approx(30, abs=2)


def test_numbers_say_that_they_set_the_light():
    assert adjust(face(), Adjustments(yaw=10, smile=0.5), NAMES).lamp is None
    for numbers in (
        Adjustments(light_azimuth=20),
        Adjustments(light_strength=0.0),
        Adjustments(light_fill=0.3),
        Adjustments(light_warmth=0.2),
    ):
        lit = adjust(face(), numbers, NAMES)
        assert torch.equal(lit.lamp, torch.ones(1, 1))
        assert torch.equal(adjust(lit, Adjustments(yaw=10), NAMES).lamp, lit.lamp)
    assert adjust(face(), Adjustments(light_warmth=0.0, light_fill=0.0), NAMES).lamp is None


def test_fill_and_warmth():
    def light(**numbers: float) -> torch.Tensor:
        return adjust(face(), Adjustments(light_azimuth=60, light_elevation=0, light_strength=0.8, **numbers), NAMES).light

    assert torch.equal(light(), light(light_fill=0, light_warmth=0))
    own, *filled = (light_direction(light(light_fill=fill))[0, 0].item() for fill in (0.0, 0.4, 1.0))
    assert own > filled[0] > filled[1] + 10
    assert filled[1] == pytest.approx(0, abs=1.5)
    ratio = light(light_warmth=1.0) / light()
    assert ratio[..., 0].min() > 1.05 * ratio[..., 1].max()
    assert ratio[..., 2].max() < 0.9 * ratio[..., 1].min()
    flat = torch.stack([light(light_warmth=warmth)[0, 0] @ torch.tensor(LUMINANCE) for warmth in (0.0, 1.0, -1.0)])
    assert torch.allclose(flat, flat[:1].expand(3), rtol=1e-4)
    with pytest.raises(ConfigError, match=r"light-fill: -0\.1 is outside"):
        Adjustments(light_fill=-0.1)


def test_direction_of_a_flat_light_is_the_viewer():
    flat = torch.zeros(2, 9, 3)
    flat[:, 0] = 3
    assert light_direction(flat).abs().max() < 1.0
    behind = flat.clone()
    behind[:, 3] = -0.4  # darkest towards the viewer
    assert light_direction(behind).norm(dim=-1).min() > 60


def test_coloured_surroundings_stay():
    source = face().light
    lit = direct_light(source, 30.0, 10.0, 0.6)
    grey = torch.tensor(LUMINANCE)

    def deviation(light: torch.Tensor) -> torch.Tensor:
        seen = sh_basis(visible_normals(light)).mean(0)
        colour = (light * seen[:, None]).sum(1)
        return light - (light @ grey)[..., None] * (colour / (colour @ grey)[:, None])[:, None]

    assert torch.allclose(deviation(lit), deviation(source), atol=1e-4)


def test_light_from_behind_stays_finite_and_not_too_bright():
    light = direct_light(face().light, 180.0, 0.0, 1.0)
    normals = visible_normals(light)
    shading = sh_basis(normals) @ light[0]
    before = sh_basis(normals) @ face().light[0]
    assert torch.isfinite(light).all()
    assert shading.max() < 2 * before.max()


def test_bad_numbers():
    with pytest.raises(ConfigError, match=r"yaw: 120"):
        Adjustments(yaw=120)
    with pytest.raises(ConfigError, match=r"light-strength: -1"):
        Adjustments(light_strength=-1)
    with pytest.raises(ConfigError, match="smile: nan"):
        Adjustments(smile=float("nan"))
    with pytest.raises(ConfigError, match=r"^wink-left: 1\.5 is outside -1\.\.1"):
        Adjustments(wink_left=1.5)
    with pytest.raises(ConfigError, match="mouthSmileLeft"):
        adjust(face(), Adjustments(smile=0.5), ["psi0"] * len(NAMES))
