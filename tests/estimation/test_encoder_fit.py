"""The estimator network: where it starts, how it is trained, and that its training data changes together with its codes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from people import directional, person, true_landmarks, true_scores
from safetensors.torch import load_file
from training_files import COMMON

from difffae.common.checkpoint import asset_path, load_checkpoint
from difffae.common.errors import ConfigError, HeadModelMismatchError
from difffae.common.images import read_image
from difffae.common.named_values import build
from difffae.common.rotations import axis_angle_to_matrix, from_yaw_pitch_roll, to_yaw_pitch_roll
from difffae.edit.editor import DiffFAE
from difffae.estimation.choose import load_estimator
from difffae.estimation.fit import LandmarkFit, inter_ocular
from difffae.estimation.network import Encoder, EncoderConfig, EncoderFit
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.attributes import FaceAttributes
from difffae.head.mirror import mirror
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import sh_shading
from difffae.lab.card.estimators import exact_numbers, jitter_numbers, spread_numbers, tone_numbers
from difffae.lab.prepare.codes import write_codes
from difffae.lab.prepare.shards import write_shard
from difffae.lab.training.code_augmentation import Sample, flipped, moved, recoloured, turned_light
from difffae.lab.training.estimator import CodeLoss, EstimatorTraining, codes_of, export_estimator, train_estimator
from difffae.lab.training.presets import read_configs

SIDE = 256
SMALL = {"size": 32, "widths": (8, 16), "squeezed": 4, "hidden": 16}


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load().requires_grad_(False)


@pytest.fixture(scope="module")
def fit(head) -> LandmarkFit:
    return LandmarkFit(head)


def people(head: HeadModel) -> FaceAttributes:
    turns = ((0.0, 0.0, 0.0), (20.0, 8.0, -6.0), (-30.0, -10.0, 10.0), (10.0, -5.0, -15.0))
    return FaceAttributes.cat([person(head, k, yaw=yaw, pitch=pitch, roll=roll) for k, (yaw, pitch, roll) in enumerate(turns)])


def landmarks_of(head: HeadModel, faces: FaceAttributes) -> torch.Tensor:
    return torch.cat([true_landmarks(head, faces[k], SIDE) for k in range(len(faces))])


@pytest.fixture(scope="module")
def codes_file(head, fit, tmp_path_factory) -> Path:
    """Four rendered faces as `prepare codes` writes them."""
    folder = tmp_path_factory.mktemp("codes")
    faces = people(head)
    rows = {
        "pictures": (render(head, faces, SIDE).image.clamp(0, 1) * 255).round().to(torch.uint8),
        "known": torch.full((4, 1, SIDE, SIDE), 255, dtype=torch.uint8),
        "landmarks": landmarks_of(head, faces),
        "blendshapes": torch.cat([true_scores(head, faces[k]) for k in range(4)]),
        "error": torch.tensor([0.0, 0.01, 0.02, 0.5]),
    }
    write_shard(folder / "fitted.safetensors", rows | {k: v for k, v in faces.tensors().items() if k != "detail"})
    write_codes(folder / "fitted.safetensors", folder / "codes.safetensors", fit, FaceLandmarker())
    return folder / "codes.safetensors"


@pytest.fixture
def sample(head, codes_file) -> Sample:
    return Sample.of(load_file(str(codes_file)), head)


def test_an_untrained_network_says_the_rigid_motion_of_the_landmarks(head):
    faces = FaceAttributes.cat([person(head, 0, yaw=yaw, roll=roll) for yaw, roll in ((0.0, 0.0), (25.0, 0.0), (-20.0, 12.0))])
    faces = replace(faces, shape=torch.zeros_like(faces.shape), expression=torch.zeros_like(faces.expression))
    encoder = Encoder(EncoderConfig.of_head(head, **SMALL), head)
    estimator = EncoderFit(encoder, head)
    found = estimator(torch.rand(3, 3, SIDE, SIDE), landmarks_of(head, faces), torch.zeros(3, 52))
    assert (to_yaw_pitch_roll(found.pose[:, 1]) - to_yaw_pitch_roll(faces.pose[:, 1])).abs().max() < 2
    assert torch.allclose(found.camera, faces.camera, rtol=0.02, atol=0.005)
    seen = estimator.landmarks(found, SIDE)
    assert (seen - landmarks_of(head, faces)[..., :2]).norm(dim=-1).mean() < 1.0
    halved = estimator(torch.rand(3, 3, 128, 128), landmarks_of(head, faces) / 2, torch.zeros(3, 52))
    assert torch.allclose(halved.camera, found.camera, atol=1e-4)


def test_the_linear_landmarks_are_the_head_models_own(head):
    faces = people(head)
    encoder = Encoder(EncoderConfig.of_head(head, **SMALL), head)
    projected = encoder.projected(codes_of(faces))
    exact = landmarks_of(head, faces)
    pixels = torch.stack([(projected[..., 0] + 1) * SIDE / 2, (1 - projected[..., 1]) * SIDE / 2], -1)
    assert (pixels - exact[..., :2]).norm(dim=-1).max() < 0.5
    inside = codes_of(faces)
    shift = faces.camera[:, :1] * (encoder._arm(inside.rotation, inside.shape) + faces.camera[:, 1:])
    assert torch.allclose(encoder.middle(faces), shift)


def test_without_points_the_landmarks_do_not_matter(head):
    encoder = Encoder(EncoderConfig.of_head(head, points=False, **SMALL), head)
    torch.nn.init.normal_(encoder.network.out.weight, std=0.1)
    estimator, picture = EncoderFit(encoder, head), torch.rand(1, 3, SIDE, SIDE)
    one = estimator(picture, torch.rand(1, 478, 3) * SIDE, torch.rand(1, 52))
    other = estimator(picture, torch.rand(1, 478, 3) * SIDE, torch.rand(1, 52))
    assert torch.equal(one.pose, other.pose)
    assert torch.equal(one.expression, other.expression)
    third = estimator(1 - picture, torch.rand(1, 478, 3) * SIDE, torch.rand(1, 52))
    assert not torch.allclose(one.pose, third.pose)


def test_mirrored_samples_keep_landmarks_on_their_faces(head, sample):
    other = flipped(sample, head, torch.tensor([True, False, True, True]))
    assert torch.equal(other.pictures[1], sample.pictures[1])
    assert torch.equal(other.pictures[0], sample.pictures[0].flip(-1))
    assert (landmarks_of(head, other.face)[..., :2] - other.landmarks[..., :2]).norm(dim=-1).max() < 0.6
    expected = torch.cat([true_scores(head, mirror(sample.face, head)[k]) for k in range(4)])
    assert torch.allclose(other.scores[[0, 2, 3]], expected[[0, 2, 3]], atol=1e-6)
    again = flipped(other, head, torch.ones(4, dtype=torch.bool))
    assert torch.allclose(again.face.light[0], sample.face.light[0])


def test_moved_samples_keep_landmarks_and_light_on_their_faces(head, sample):
    turn, scale = torch.tensor([0.2, -0.15, 0.1, 0.0]), torch.tensor([1.0, 1.1, 0.9, 1.05])
    shift = torch.tensor([[0.05, -0.04], [0.0, 0.1], [-0.06, 0.02], [0.0, 0.0]])
    face = replace(sample.face, light=torch.cat([directional(0.3, 0.1, 0.2)] * 4))
    drawn = render(head, face, 144).image.clamp(0, 1)
    other = moved(replace(sample, pictures=drawn, face=face), head, turn, scale, shift, 144)
    assert (landmarks_of(head, other.face)[..., :2] - other.landmarks[..., :2]).norm(dim=-1).mean(1).max() < 0.8
    # what the new codes draw is the old picture moved, up to edges and to the shoulders, which stay with the body
    again = render(head, other.face, 144)
    skin = head.skin_mask(again.raster)[:, None]
    eroded = -torch.nn.functional.max_pool2d(-skin.float(), 7, 1, 3) > 0.5
    gap = ((again.image - other.pictures).abs() * eroded).sum() / (3 * eroded.sum())
    assert gap < 0.012


def test_turned_light_falls_on_turned_normals(head):
    light, normal = directional(0.3, 0.8, 0.5), torch.nn.functional.normalize(torch.randn(1, 40, 3), dim=-1)
    turn = torch.tensor([0.7])
    matrix = axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.7]]))
    assert torch.allclose(sh_shading(normal @ matrix.transpose(1, 2), turned_light(light, turn)), sh_shading(normal, light), atol=1e-5)


def test_recoloured_samples_are_what_the_new_codes_draw(head, sample):
    face = sample.face
    albedo, light = face.albedo.clone(), torch.cat([directional(-0.25, 0.15, 0.1)] * 4)
    albedo[:, 0] -= 0.5
    tone, lit = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    other = recoloured(sample, head, albedo, light, tone, lit)
    assert torch.equal(other.face.albedo[1], albedo[1])
    assert torch.equal(other.face.light[1], face.light[1])
    assert torch.allclose(other.pictures[3], sample.pictures[3], atol=1e-6)
    drawn = render(head, other.face, 144)
    skin = head.skin_mask(drawn.raster)[:, None]
    eroded = (-torch.nn.functional.max_pool2d(-skin.float(), 9, 1, 4) > 0.5) & (drawn.image < 0.98).all(1, keepdim=True)
    before = ((drawn.image - sample.pictures).abs() * eroded).sum((1, 2, 3))
    after = ((drawn.image - other.pictures).abs() * eroded).sum((1, 2, 3))
    assert (after[:3] < 0.25 * before[:3]).all()


def test_losses_have_the_units_they_claim(head):
    loss = CodeLoss(head)
    encoder = Encoder(EncoderConfig.of_head(head, **SMALL), head)
    faces = people(head)
    truth = codes_of(faces)
    same = loss(encoder, truth, truth)
    assert max(float(value) for value in same.values()) < 2e-4
    spun = axis_angle_to_matrix(torch.tensor([[0.0, 0.1, 0.0]])) @ truth.rotation
    assert float(loss(encoder, replace(truth, rotation=spun), truth)["turn"]) == pytest.approx(0.1, rel=0.01)
    brighter = replace(truth, light=truth.light.clone())
    brighter.light[:, 0] += 0.1 / loss.normals[0, 0]
    parts = loss(encoder, brighter, truth)
    assert float(parts["shading"]) == pytest.approx(0.1, rel=0.01)
    # a dim light on light skin makes the picture of a bright light on dark skin: only the product knows no difference
    level = 0.8
    dim = replace(truth, light=truth.light * level)
    wanted = loss.skin(truth.albedo) / level
    jacobian = loss.texels.unflatten(1, (3, -1)).mean(-1)  # (A,3)
    step = torch.linalg.lstsq(jacobian.T, (wanted - loss.skin(truth.albedo)).T).solution.T
    swapped = loss(encoder, replace(dim, albedo=truth.albedo + step), truth)
    assert float(swapped["product"]) < 0.1 * float(loss(encoder, dim, truth)["product"])
    assert float(swapped["shading"]) > 0.1


def options(codes: Path, folder: Path, **changes) -> EstimatorTraining:
    given = COMMON | {"real": str(codes), "synthetic": str(codes), "worst_synthetic": 1.0, "folder": str(folder), "autocast": False}
    return EstimatorTraining(**(given | changes))


def test_training_learns_and_resumes_exactly(head, codes_file, tmp_path):
    config = EncoderConfig.of_head(head, **SMALL)
    whole = train_estimator(options(codes_file, tmp_path / "whole", steps=6, dev_real=str(codes_file)), config)
    train_estimator(options(codes_file, tmp_path / "parts", steps=6), config, stop_step=3)
    resumed = train_estimator(options(codes_file, tmp_path / "parts", steps=6), None)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    log = (tmp_path / "whole" / "log.jsonl").read_text()
    assert "real_landmarks" in log

    path = tmp_path / "estimator.safetensors"
    export_estimator(tmp_path / "whole" / "last.pt", path, license="CC0", source="test", eight_bit=False)
    loaded = EncoderFit.load(head, path)
    picture, points, scores = torch.rand(1, 3, SIDE, SIDE), landmarks_of(head, people(head)[0]), torch.rand(1, 52)
    one, other = loaded(picture, points, scores), EncoderFit(whole, head)(picture, points, scores)
    assert torch.allclose(one.pose, other.pose, atol=2e-3)
    assert torch.allclose(one.light, other.light, atol=2e-2)
    assert load_checkpoint(path, "estimator").config["head"] == head.name
    stranger = HeadModel(head.config | {"name": "stranger"}, dict(head.named_buffers()))
    with pytest.raises(HeadModelMismatchError, match="trained for head 'open', not 'stranger'"):
        EncoderFit.load(stranger, path)


def test_samples_that_were_fitted_badly_are_left_out(codes_file, tmp_path):
    with pytest.raises(ConfigError, match="below -1"):
        train_estimator(options(codes_file, tmp_path / "none", steps=1, worst_real=-1.0))
    with pytest.raises(ConfigError, match="prepare codes"):
        train_estimator(options(tmp_path / "missing.safetensors", tmp_path / "none", steps=1))


def test_presets_name_the_form_without_landmarks():
    _, model = read_configs(["image-only"], "estimator", [], ["size=64"])
    assert not build(EncoderConfig, model, "model").points
    with pytest.raises(ConfigError, match="estimator"):
        read_configs(["paper-256"], "estimator", [], [])


def test_estimators_are_chosen_by_name(tmp_path):
    assert isinstance(load_estimator(kind="fit"), LandmarkFit)
    with pytest.raises(ConfigError, match="'deep' is none; choose fit or network"):
        load_estimator(kind="deep")


def test_numbers_of_the_comparison(head):
    faces = people(head)
    assert max(exact_numbers(head, faces, faces).values()) < 0.05
    turned = faces.pose.clone()
    turned[:, 1] = from_yaw_pitch_roll(0, 0, 0)
    straight = replace(faces, pose=turned)
    spun = turned.clone()
    spun[:, 1] = from_yaw_pitch_roll(5, 0, 0)
    assert exact_numbers(head, replace(faces, pose=spun), straight)["turn"] == pytest.approx(5, abs=0.01)
    assert exact_numbers(head, replace(faces, light=faces.light * 0.7), faces)["relative shading"] < 1e-4
    frames = FaceAttributes.cat([faces[0]] * 6)
    pose = frames.pose.clone()
    pose[:, 1, 1] = torch.arange(6) * math.radians(2)
    moving = replace(frames, pose=pose)
    assert jitter_numbers(moving, frames)["angles"] < 1e-3  # an even turn does not tremble
    shaken = pose.clone()
    shaken[::2, 1, 1] += math.radians(0.5)
    trembling = jitter_numbers(replace(frames, pose=shaken), moving)
    assert trembling["angles"] == pytest.approx(1.0 / 3**0.5, rel=0.01)  # +-1 degree in one of three angles
    assert spread_numbers(frames)["shading"] == 0
    # skin that leaks into the light by a fifth of what the light itself does
    light = torch.zeros(6, 5, 9, 3)
    light[:, :, 1] = torch.arange(5.0)[None, :, None] / torch.arange(5.0).std(unbiased=False)
    light[:, :, 1] += 0.2 * torch.arange(6.0)[:, None, None] / torch.arange(6.0).std(unbiased=False)
    assert tone_numbers(light)["ratio"] == pytest.approx(0.2, rel=1e-3)


def test_the_shipped_network_reads_the_shipped_portraits_as_the_fit_does():
    model = DiffFAE.from_pretrained(estimator="network")
    assert isinstance(model.estimator, EncoderFit)
    fit = load_estimator(kind="fit")
    for name in ("source.png", "query.png"):
        portrait = model.analyse(read_image(asset_path(name))[0])
        seen = (portrait.picture, portrait.landmarks, portrait.blendshapes, portrait.inside_picture)
        found, wanted = portrait.attributes, fit(*seen)
        error = model.estimator.landmarks(found, SIDE) - portrait.landmarks[..., :2]
        assert error.norm(dim=-1).mean() / inter_ocular(portrait.landmarks) < 0.025
        assert (to_yaw_pitch_roll(found.pose[:, 1]) - to_yaw_pitch_roll(wanted.pose[:, 1])).abs().max() < 4
        assert (found.expression - wanted.expression).abs().mean() < 0.03
