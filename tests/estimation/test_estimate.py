"""The estimator: known faces are found again, light is told from skin, and flipping a picture flips its code."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from people import directional, person, true_landmarks, true_scores
from places import SHARED

from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError, HeadModelMismatchError
from difffae.common.images import read_image
from difffae.common.rotations import axis_angle_to_matrix, to_yaw_pitch_roll
from difffae.estimation.fit import FitOptions, LandmarkFit, inter_ocular
from difffae.estimation.offsets import LandmarkOffsets
from difffae.faces.blendshapes import BLENDSHAPE_NAMES
from difffae.faces.crop import crop_square, extract
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.mirror import mirror, mirror_rotation
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import sh_shading
from difffae.lab.prepare.pairs import landmark_error
from difffae.report.measures import psnr

PORTRAITS = SHARED / "portraits"
SIZE = 256
TURNS = (  # seed, yaw, pitch, roll
    (0, 0.0, 0.0, 0.0),
    (1, 20.0, 8.0, -6.0),
    (2, -30.0, -10.0, 10.0),
    (3, 10.0, -5.0, -15.0),
    (4, -15.0, 4.0, 5.0),
    (5, 35.0, 0.0, 0.0),
)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="module")
def fit(head) -> LandmarkFit:
    return LandmarkFit(head)


def refit(fit: LandmarkFit, face):
    return fit.fit_geometry(true_landmarks(fit.head, face, SIZE), true_scores(fit.head, face), SIZE, SIZE)


def test_inter_ocular_is_the_distance_of_the_eye_centres():
    points = torch.zeros(2, 478, 3)
    points[:, [33, 133], 0] = torch.tensor([10.0, 20.0])
    points[:, [263, 362], 0] = torch.tensor([50.0, 40.0])
    points[1, [263, 362], 1] = 40.0
    assert torch.allclose(inter_ocular(points), torch.tensor([30.0, 50.0]))


def test_a_mean_face_is_found_exactly(head, fit):
    """No prior pulls here: the true shape is the prior's mean, the true expression is the scores."""
    for _, yaw, pitch, roll in TURNS:
        face = person(head, 0, yaw=yaw, pitch=pitch, roll=roll, expression=0.3)
        face = replace(face, shape=torch.zeros_like(face.shape))
        found = refit(fit, face)
        assert torch.allclose(to_yaw_pitch_roll(found.pose[0, 1]), torch.tensor([yaw, pitch, roll]), atol=0.1)
        assert torch.allclose(found.expression, face.expression, atol=0.02)
        assert torch.allclose(found.camera, face.camera, rtol=2e-3, atol=2e-3)
        assert landmark_error(fit, found, true_landmarks(head, face, SIZE), SIZE).item() < 0.002


def test_random_people_are_found(head, fit):
    """The priors pull towards the mean, and only that keeps these errors from zero."""
    angles, errors, expressions = [], [], []
    for seed, yaw, pitch, roll in TURNS:
        face = person(head, seed, yaw=yaw, pitch=pitch, roll=roll)
        found = refit(fit, face)
        angles.append((to_yaw_pitch_roll(found.pose[0, 1]) - torch.tensor([yaw, pitch, roll])).abs())
        errors.append(landmark_error(fit, found, true_landmarks(head, face, SIZE), SIZE).item())
        expressions.append((found.expression - face.expression).abs().mean().item())
        assert (found.expression >= 0).all()
        assert (found.expression <= 1).all()
        assert found.pose[0, [0, 2, 3, 4]].abs().max() == 0  # the head's turn is in the neck, so that the shoulders stay
    mean = torch.stack(angles).mean(0)
    assert (mean < torch.tensor([1.0, 1.6, 0.3])).all(), mean  # a parallel camera hardly tells a lifted chin from a longer face
    assert torch.stack(angles).max() < 3.0
    assert max(errors) < 0.015
    assert max(expressions) < 0.03


def test_expression_comes_from_the_landmarks_too(head, fit):
    face = person(head, 3, expression=0.0)
    expression = face.expression.clone()
    expression[:, head.expression_names.index("jawOpen")] = 0.8
    face = replace(face, expression=expression)
    found = fit.fit_geometry(true_landmarks(head, face, SIZE), torch.zeros(1, 52), SIZE, SIZE)
    assert found.expression[0, head.expression_names.index("jawOpen")] > 0.3  # although the scores deny it
    assert landmark_error(fit, found, true_landmarks(head, face, SIZE), SIZE).item() < 0.02


def test_a_batch_is_its_rows(head, fit):
    faces = type(person(head)).cat([person(head, seed, yaw=yaw) for seed, yaw, _, _ in TURNS[:3]])
    together = refit(fit, faces)
    for row in range(3):
        alone = refit(fit, faces[row])
        assert torch.allclose(together[row].pose, alone.pose, atol=1e-3)
        assert torch.allclose(together[row].shape, alone.shape, atol=2e-2)


def test_picture_size_does_not_matter(head, fit):
    face = person(head, 1, yaw=20)
    small = fit.fit_geometry(true_landmarks(head, face, 64), true_scores(head, face), 64, 64)
    large = fit.fit_geometry(true_landmarks(head, face, 1024), true_scores(head, face), 1024, 1024)
    assert torch.allclose(small.camera, large.camera, atol=1e-3)
    assert torch.allclose(small.pose, large.pose, atol=1e-3)


LIGHTS = (directional(0.15, 0.1, 0.25), directional(-0.25, 0.0, 0.2), directional(0.0, 0.3, 0.1, 0.9))


def test_a_known_light_is_found(head, fit):
    """Up to one factor: a darker lamp on lighter skin looks the same, and the prior says how bright lamps are."""
    for seed, yaw in ((0, 0.0), (1, 20.0), (2, -20.0)):
        face = person(head, seed, yaw=yaw, light=LIGHTS[seed])
        drawn = render(head, face, SIZE)
        found = fit.fit_light(drawn.image.clamp(0, 1), face)
        skin = head.skin_mask(drawn.raster) & (drawn.normals[:, 2] > 0.3)
        normals = drawn.normals.permute(0, 2, 3, 1)
        true, ours = (sh_shading(normals, light)[skin] for light in (face.light, found.light))
        relative = ours / ours.mean(0) * true.mean(0)
        assert ((relative - true).abs().mean() / true.mean()) < 0.03
        assert 0.85 < ours.mean() / true.mean() < 1.15
        again = render(head, found, SIZE)
        assert psnr(again.image, drawn.image, skin[:, None].float()) > 32


def test_dark_skin_is_not_dim_light(head, fit):
    """Two people who differ only in skin tone, in one light: the tone goes into the albedo, not into the light."""
    light = directional(-0.2, 0.1, 0.2)
    found, brightness = [], []
    for tone in (-1.4, 0.8):
        face = person(head, 6, light=light, expression=0.0)
        albedo = torch.zeros_like(face.albedo)
        albedo[:, 0] = tone
        face = replace(face, albedo=albedo)
        drawn = render(head, face, SIZE)
        skin = head.skin_mask(drawn.raster) & (drawn.normals[:, 2] > 0.3)
        brightness.append(drawn.image.mean(1)[skin].mean())
        normals = drawn.normals.permute(0, 2, 3, 1)
        found.append((fit.fit_light(drawn.image.clamp(0, 1), face), sh_shading(normals, light)[skin], skin, normals))
    assert brightness[1] / brightness[0] > 2.5
    (dark, _, skin, normals), (fair, _, _, _) = found
    shading = [sh_shading(normals, code.light)[skin] for code in (dark, fair)]
    assert 0.9 < shading[0].mean() / shading[1].mean() < 1.1
    slopes = [code.light[0, 1:4].mean(-1) / code.light[0, 0].mean() for code in (dark, fair)]
    assert torch.allclose(slopes[0], slopes[1], atol=0.08)
    assert fair.albedo[0, 0] - dark.albedo[0, 0] > 1.2


def test_bright_hair_beside_dark_skin_fools_the_wary_options_less(head, fit):
    face = person(head, 6, light=directional(0.0, 0.1, 0.2), expression=0.0)
    albedo = torch.zeros_like(face.albedo)
    albedo[:, 0] = -1.2
    face = replace(face, albedo=albedo)
    drawn = render(head, face, SIZE)
    clean = drawn.image.clamp(0, 1)
    hairy = torch.where(drawn.normals[:, :1] < -0.8, torch.full_like(clean, 0.8), clean)
    wary = LandmarkFit(head, FitOptions.wary_of_hair())
    skin = head.skin_mask(drawn.raster) & (drawn.normals[:, 2] > 0.3)
    normals = drawn.normals.permute(0, 2, 3, 1)
    fooled = []
    for estimator in (fit, wary):
        ours, other = (sh_shading(normals, estimator.fit_light(image, face).light)[skin] for image in (clean, hairy))
        fooled.append((other - ours).abs().mean())
    assert fooled[0] > 0.1
    assert fooled[1] < 0.6 * fooled[0], fooled


def test_hair_that_is_known_does_not_fool_the_fit(head, fit):
    """Bright strands over the temples of a dark face: left out, they change the shading of the visible skin by less than a fifth of what
    they did. (Not the coefficients: those of directions that no skin faces may be anything.)"""
    face = person(head, 6, light=directional(0.0, 0.1, 0.2), expression=0.0)
    albedo = torch.zeros_like(face.albedo)
    albedo[:, 0] = -1.2
    face = replace(face, albedo=albedo)
    drawn = render(head, face, SIZE)
    clean = drawn.image.clamp(0, 1)
    hair = (drawn.normals[:, :1] < -0.8).float()
    hairy = torch.where(hair > 0, torch.full_like(clean, 0.8), clean)
    points, scores = true_landmarks(head, face, SIZE), true_scores(head, face)

    class Told(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return hair

    knowing = LandmarkFit(head, hair=Told())
    skin, normals = head.skin_mask(drawn.raster) & (drawn.normals[:, 2] > 0.3), drawn.normals.permute(0, 2, 3, 1)
    plain, fooled, told = (
        sh_shading(normals, one(picture, points, scores).light)[skin] for one, picture in ((fit, clean), (fit, hairy), (knowing, hairy))
    )
    assert (fooled - plain).abs().mean() > 0.05
    assert (told - plain).abs().mean() < 0.2 * (fooled - plain).abs().mean()


def test_light_on_dark_skin_is_read_as_strong_as_on_light_skin(head):
    """One head under one side light with light and with dark skin: the share of the light that comes from the side differs by less
    than half of what it does with one sigma for all skins."""
    light = directional(0.35, 0.1, 0.3)
    kept = {}
    for typical in (0.35, None):
        one, strength = LandmarkFit(head, FitOptions(typical_albedo=typical)), []
        for level in (0.5, -1.4):
            face = person(head, 2, light=light, expression=0.0)
            albedo = torch.zeros_like(face.albedo)
            albedo[:, 0] = level
            face = replace(face, albedo=albedo)
            found = one.fit_light(render(head, face, SIZE).image.clamp(0, 1), face).light.mean(-1)[0]
            strength.append((found[1] / found[0]).item())
        kept[typical] = strength[1] / strength[0]
    assert abs(kept[0.35] - 1) < 0.5 * abs(kept[None] - 1), kept


def test_clipped_skin_agrees_with_any_brighter_light(head, fit):
    """Skin that is clipped to white says that the light is at least so strong: the estimate is nearer to the truth than with white taken
    for a colour."""
    face = person(head, 4, light=directional(0.5, 0.0, 0.4, ambient=0.75), expression=0.0)
    drawn = render(head, face, SIZE)
    picture = drawn.image.clamp(0, 1)
    skin = head.skin_mask(drawn.raster) & (drawn.normals[:, 2] > 0.3)
    assert 0.1 < (picture.amax(1)[skin] > 0.99).float().mean() < 0.7
    truth = sh_shading(drawn.normals.permute(0, 2, 3, 1), face.light)[skin]
    errors = []
    for white in (fit.options.white, 2.0):
        light = LandmarkFit(head, replace(FitOptions(), white=white)).fit_light(picture, face).light
        errors.append((sh_shading(drawn.normals.permute(0, 2, 3, 1), light)[skin] - truth).abs().mean().item())
    assert errors[0] < 0.95 * errors[1], errors  # priors hold the most of both


def test_unknown_pixels_do_not_count(head, fit):
    face = person(head, 1)
    picture = render(head, face, SIZE).image.clamp(0, 1)
    spoilt, known = picture.clone(), torch.ones(1, 1, SIZE, SIZE)
    spoilt[..., :110, :], known[..., :110, :] = 1.0, 0.0
    clean, masked, fooled = fit.fit_light(picture, face, known), fit.fit_light(spoilt, face, known), fit.fit_light(spoilt, face)
    assert (clean.light - masked.light).abs().max() < 0.05
    assert (clean.light - fooled.light).abs().max() > 0.2


def test_mirrored_rotation_is_the_reflected_matrix():
    r = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.allclose(axis_angle_to_matrix(mirror_rotation(r)), flip @ axis_angle_to_matrix(r) @ flip, atol=1e-5)
    turned = to_yaw_pitch_roll(mirror_rotation(r * 0.3)) - to_yaw_pitch_roll(r * 0.3) * torch.tensor([-1.0, 1.0, -1.0])
    assert turned.abs().max() < 1e-3


def test_mirror_is_what_the_renderer_shows(head):
    for seed, yaw, pitch, roll in TURNS[1:4]:
        face = person(head, seed, yaw=yaw, pitch=pitch, roll=roll, light=directional(0.3, 0.1, 0.2))
        face.pose[0, 3] = torch.tensor([0.1, 0.3, 0.0])
        flipped = render(head, face, SIZE).image.flip(-1)
        assert (render(head, mirror(face, head), SIZE).image - flipped).abs().mean() < 1e-3
        assert (render(head, face, SIZE).image - flipped).abs().mean() > 0.02


def test_mirror_twice_is_the_face_itself(head):
    face = person(head, 3, yaw=12)
    twice = mirror(mirror(face, head), head)
    assert all(torch.equal(value, face.tensors()[name]) for name, value in twice.tensors().items())


def test_mirror_refuses_what_it_cannot_know(head):
    face = person(head)
    with pytest.raises(HeadModelMismatchError, match="flame"):
        mirror(replace(face, head="flame"), head)
    with pytest.raises(ConfigError, match="detail"):
        mirror(replace(face, detail=torch.zeros(1, 128)), head)


def test_flipped_landmarks_give_the_mirrored_code(head, fit):
    """With MediaPipe's left-right numbering undone, the fit has no side."""
    face = person(head, 2, yaw=-25, roll=8)
    points = true_landmarks(head, face, SIZE)
    flipped = points[:, head.landmark_mirror] * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([float(SIZE), 0.0, 0.0])
    own = refit(fit, face)
    other = fit.fit_geometry(flipped, true_scores(head, mirror(face, head)), SIZE, SIZE)
    expected = mirror(own, head)
    assert torch.allclose(other.pose, expected.pose, atol=0.01)
    assert torch.allclose(other.camera, expected.camera, rtol=0.01, atol=2e-3)
    assert torch.allclose(other.expression, expected.expression, atol=0.03)
    assert torch.allclose(other.shape, expected.shape, atol=0.15)


def test_a_flipped_photograph_gives_the_mirrored_code(head):
    fit = LandmarkFit(head, offsets=LandmarkOffsets.load())
    landmarker = FaceLandmarker.load()
    image, _ = read_image(asset_path("source.png"))
    codes, crops = [], []
    for picture in (image, image.flip(-1)):
        face = landmarker.detect(picture)[0][0]
        crop = crop_square(face.landmarks, picture.shape[-2:])
        square, known = extract(picture[None], crop)
        inside = crop.to_crop(face.landmarks)[None]
        code = fit(square, inside, face.blendshapes[None], known)
        assert landmark_error(fit, code, inside, SIZE).item() < 0.02
        codes.append(code)
        crops.append(crop)
    own, other = codes
    expected = mirror(own, head)
    assert (to_yaw_pitch_roll(other.pose[0, 1]) - to_yaw_pitch_roll(expected.pose[0, 1])).abs().max() < 2.0
    assert (other.expression - expected.expression).abs().mean() < 0.04
    # landmarks of both codes in the pictures' pixels, one flipped back
    width = image.shape[-1]
    here = crops[0].to_picture(true_landmarks(head, own, SIZE)[0, :, :2])[head.landmark_mirror]
    here = torch.stack([width - here[:, 0], here[:, 1]], -1)
    there = crops[1].to_picture(true_landmarks(head, other, SIZE)[0, :, :2])
    eyes = inter_ocular(there[None])[0]
    assert (here - there).norm(dim=-1).mean() / eyes < 0.01
    # light: shading of the same skin, as the flipped code and the flipped picture's code see it
    normals = torch.nn.functional.normalize(torch.tensor([[[-0.6, 0.0, 0.8], [0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [0.0, 0.5, 0.8]]]), dim=-1)
    shading = [sh_shading(normals, code.light) for code in (expected, other)]
    assert (shading[0] - shading[1]).abs().max() < 0.1


def portrait_errors(head: HeadModel, fit: LandmarkFit, chosen: Callable[[int, float], bool]) -> np.ndarray:
    """Landmark error in inter-ocular distances of the portraits for which chosen(index, yaw in degrees by the manifest) holds."""
    table = np.load(PORTRAITS / "landmarks.npz")
    order = [list(table["blendshape_names"]).index(name) for name in BLENDSHAPE_NAMES]
    with open(PORTRAITS / "manifest.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file"] for row in rows] == list(table["files"])
    indices = [index for index, row in enumerate(rows) if chosen(index, float(row["yaw_deg"]))]
    errors = []
    for start in range(0, len(indices), 16):
        part = indices[start : start + 16]
        points = []
        for index in part:
            landmarks = torch.from_numpy(table["landmarks"][index].astype(np.float32))
            points.append(crop_square(landmarks, (int(rows[index]["height"]), int(rows[index]["width"]))).to_crop(landmarks))
        inside = torch.stack(points)
        scores = torch.from_numpy(table["blendshapes"][part].astype(np.float32))[:, order]
        errors.append(landmark_error(fit, fit.fit_geometry(inside, scores, SIZE, SIZE), inside, SIZE))
    return torch.cat(errors).numpy()


@pytest.mark.slow
@pytest.mark.skipif(not PORTRAITS.is_dir(), reason="portraits are not here")
def test_some_real_portraits(head):
    fit = LandmarkFit(head, offsets=LandmarkOffsets.load())
    errors = portrait_errors(head, fit, lambda index, yaw: index % 63 == 0)
    assert len(errors) == 33
    assert errors.mean() < 0.02


@pytest.mark.slow
@pytest.mark.skipif(not PORTRAITS.is_dir(), reason="portraits are not here")
def test_all_real_portraits(head):
    fit = LandmarkFit(head, offsets=LandmarkOffsets.load())
    errors = portrait_errors(head, fit, lambda index, yaw: True)
    assert len(errors) == 2031
    assert errors.mean() < 0.025, errors.mean()


@pytest.mark.slow
@pytest.mark.skipif(not PORTRAITS.is_dir(), reason="portraits are not here")
def test_turned_real_portraits(head):
    fit = LandmarkFit(head, offsets=LandmarkOffsets.load())
    errors = portrait_errors(head, fit, lambda index, yaw: abs(yaw) > 30)
    assert len(errors) == 90
    assert errors.mean() < 0.045, errors.mean()


def test_landmark_offsets(head, fit):
    """Landmarks moved by the offsets of their yaw are fitted as if they had not been; a flip mirrors the offsets."""
    offsets = LandmarkOffsets.load()
    aware = LandmarkFit(head, offsets=offsets)
    face = person(head, 1, yaw=28, roll=-6)
    points = true_landmarks(head, face, SIZE)
    moved = torch.cat([aware.landmarks(face, SIZE), points[..., 2:]], -1)
    assert (moved - points).norm(dim=-1).mean() > 0.5  # pixels: the offsets do something
    scores = true_scores(head, face)
    own, other = fit.fit_geometry(points, scores, SIZE, SIZE), aware.fit_geometry(moved, scores, SIZE, SIZE)
    difference = to_yaw_pitch_roll(own.pose[0, 1]) - to_yaw_pitch_roll(other.pose[0, 1])
    assert difference.abs().max() < 0.5
    assert (own.expression - other.expression).abs().mean() < 0.01
    right, left = offsets(torch.tensor([30.0]), torch.tensor([0.0])), offsets(torch.tensor([-30.0]), torch.tensor([0.0]))
    assert torch.allclose(right[:, head.landmark_mirror] * torch.tensor([-1.0, 1.0]), left, atol=2e-3)
    with pytest.raises(HeadModelMismatchError, match="other"):
        LandmarkFit(head, offsets=LandmarkOffsets("other", offsets.coefficients))
