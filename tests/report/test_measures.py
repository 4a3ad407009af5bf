"""The measures on inputs whose numbers are known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from people import person, true_landmarks
from scipy.ndimage import gaussian_filter

from difffae.faces.blendshapes import BLENDSHAPE_NAMES
from difffae.head.morphable import HeadModel
from difffae.lab.card.rows import DEV_TABLE, Record
from difffae.report.measures import (
    EXPRESSION_SCORES,
    away_from_head,
    expression_distance,
    laplacian_variance,
    light_direction,
    luminance,
    psnr,
    ssim,
)
from difffae.report.results import _quotient, head_angles, quotient_note
from difffae.source.identity import distance_note

SIZE = 128
SCALE = "the same person up to 0.43, others from 0.45"


@pytest.fixture(scope="module")
def landmarks() -> torch.Tensor:
    head = HeadModel.load()
    return true_landmarks(head, person(head, 0, expression=0.0), SIZE)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error():
    a = noise(2, 3, 16, 16) * 0.5
    assert torch.allclose(psnr(a, a + torch.tensor([0.1, 0.01])[:, None, None, None]), torch.tensor([20.0, 40.0]), atol=1e-3)
    assert psnr(a, a).tolist() == [100.0, 100.0]
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., :8] = 1
    b = a.clone()
    b[..., 8:] += 0.4
    b[..., :8] += 0.1
    assert torch.allclose(psnr(a, b, mask), torch.full((2,), 20.0), atol=1e-3)  # what the mask hides does not count


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, with a Gaussian window of 11x11, sigma 1.5, mirrored at the picture's edges."""

    def mean(value: np.ndarray) -> np.ndarray:
        return gaussian_filter(value, 1.5, truncate=3.5, mode="mirror")

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return (((2 * mx * my + 1e-4) * (2 * cov + 9e-4)) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean()


def test_ssim_against_its_definition():
    a = noise(1, 1, 64, 64).repeat(1, 3, 1, 1)
    b = (a + 0.3 * (noise(1, 1, 64, 64, seed=1) - 0.5)).clamp(0, 1)
    assert ssim(a, a) == pytest.approx(1, abs=1e-5)
    x, y = (t[0, 0].double().numpy() for t in (a, b[:, :1]))
    assert ssim(a, b).item() == pytest.approx(reference_ssim(x, y), abs=1e-5)
    assert 0.5 < ssim(a, b) < 0.98
    assert ssim(a, noise(1, 3, 64, 64, seed=2)) < 0.3


def test_laplacian_variance_of_known_pictures():
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    assert laplacian_variance(ramp).item() == pytest.approx(0, abs=1e-9)
    checker = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(1, 3, 32, 32)
    # 4 * 1 - 0 at the ones, 0 - 4 at the zeros: variance 16
    assert laplacian_variance(checker).item() == pytest.approx(16, rel=0.01)
    half = torch.where(torch.arange(32) < 16, checker, torch.full_like(checker, 0.5))
    mask = (torch.arange(32) < 15).float().expand(1, 1, 32, 32)
    assert laplacian_variance(half, mask).item() == pytest.approx(16, rel=0.02)
    assert laplacian_variance(half).item() == pytest.approx(8, rel=0.1)
    both = laplacian_variance(torch.cat([checker, ramp]), torch.ones(2, 1, 32, 32))
    assert both[0] > 15
    assert both[1] < 1e-9


def test_luminance_is_linear_light():
    grey = torch.tensor([0.0, 0.02, 0.5, 1.0])[:, None, None, None].expand(4, 3, 2, 2)
    expected = torch.tensor([0.0, 0.02 / 12.92, ((0.5 + 0.055) / 1.055) ** 2.4, 1.0])
    assert torch.allclose(luminance(grey)[:, 0, 0, 0], expected, atol=1e-6)
    green = torch.tensor([0.0, 1.0, 0.0])[None, :, None, None]
    assert luminance(green).item() == pytest.approx(0.7152)


def test_light_direction_of_gradients(landmarks):
    """Linear luminance of exp(slope * position): the log-ratio is the slope times the distance of the sampled halves."""
    x = (torch.arange(SIZE) + 0.5) / SIZE

    def direction(field: torch.Tensor) -> torch.Tensor:
        linear = 0.3 * field.exp().expand(1, 3, SIZE, SIZE)
        srgb = 1.055 * linear ** (1 / 2.4) - 0.055
        return light_direction(srgb, landmarks)[0]

    assert torch.allclose(direction(0 * x), torch.zeros(2), atol=0.02)
    left = direction(-2 * (x - 0.5))  # brighter at image left
    right = direction(2 * (x - 0.5))
    assert left[0] > 0.2
    assert right[0] == pytest.approx(-left[0].item(), rel=0.1)
    assert abs(left[1]) < 0.1 * left[0]
    above = direction(-2 * (x - 0.5)[:, None])
    assert above[1] > 0.2
    assert abs(above[0]) < 0.1 * above[1]
    assert torch.allclose(direction(-4 * (x - 0.5)) / left[0], torch.tensor([2.0, 0.0]), atol=0.15)


def test_light_direction_ignores_brightness_and_flips_with_the_picture(landmarks):
    picture = 0.3 + 0.4 * noise(1, 3, 4, 4)
    picture = torch.nn.functional.interpolate(picture, (SIZE, SIZE), mode="bilinear")
    linear = luminance(picture).expand(-1, 3, -1, -1)
    encode = lambda value: 1.055 * value ** (1 / 2.4) - 0.055  # noqa: E731
    bright, dim = light_direction(encode(linear), landmarks), light_direction(encode(linear * 0.5), landmarks)
    assert torch.allclose(bright, dim, atol=1e-3)
    head = HeadModel.load()
    flipped = landmarks[:, head.landmark_mirror] * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([float(SIZE), 0.0, 0.0])
    mirrored = light_direction(encode(linear).flip(-1), flipped)
    assert torch.allclose(mirrored, bright * torch.tensor([-1.0, 1.0]), atol=0.05)


def test_expression_distance_counts_only_its_scores():
    a, b = torch.zeros(1, 52), torch.zeros(1, 52)
    b[0, BLENDSHAPE_NAMES.index("jawOpen")] = 0.54
    assert expression_distance(a, b).item() == pytest.approx(0.54 / len(EXPRESSION_SCORES))
    b[0, BLENDSHAPE_NAMES.index("browInnerUp")] = 1.0
    b[0, BLENDSHAPE_NAMES.index("_neutral")] = 1.0
    assert expression_distance(a, b).item() == pytest.approx(0.54 / len(EXPRESSION_SCORES))
    assert not any("brow" in name or "Shrug" in name for name in EXPRESSION_SCORES)


def test_away_from_head_leaves_the_head_out(landmarks):
    mask = away_from_head(landmarks, SIZE, SIZE)[0, 0]
    pixels = landmarks[0, :, :2].long().clamp(0, SIZE - 1)
    assert mask[pixels[:, 1], pixels[:, 0]].max() == 0
    assert mask[0, 0] == mask[0, -1] == mask[-1, 0] == 1
    assert 0.2 < mask.mean() < 0.8
    assert away_from_head(landmarks, SIZE, SIZE, 0.9).mean() > mask.mean()


def test_quotients():
    assert _quotient(0.1, 0.4, 0.05) == pytest.approx(0.25)
    assert math.isnan(_quotient(0.01, 0.02, 0.05))


@pytest.mark.parametrize(
    ("quotient", "words"),
    [
        *((0.0, "most of it arrived; 0 full transfer, 1 none"), (0.5, "part of it arrived; 0 full transfer, 1 none")),
        *((0.9, "little of it arrived; 0 full transfer, 1 none"), (1.2, "farther away than before; 0 full transfer, 1 none")),
        (math.nan, "the two hardly differed"),
    ],
)
def test_words_of_quotients(quotient: float, words: str):
    assert quotient_note(quotient) == words


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        *((0.0, "the same person, up to 0.43"), (0.4304, "the same person, up to 0.43"), (0.4306, f"in doubt; {SCALE}")),
        *((0.449, f"in doubt; {SCALE}"), (0.4496, f"as of another person; {SCALE}"), (0.8, f"as of another person; {SCALE}")),
        (math.nan, f"not measured; {SCALE}"),
    ],
)
def test_words_of_distances_fit_what_is_printed(distance: float, words: str):
    assert distance_note("dlib-resnet-v1", distance) == words


def test_head_angles_join_global_and_neck():
    head = HeadModel.load()
    face = person(head, 0, yaw=20, pitch=5)
    assert torch.allclose(head_angles(SimpleNamespace(attributes=face)), torch.tensor([20.0, 5.0, 0.0]), atol=0.01)
    face.pose[0, 0] = torch.tensor([0.0, math.radians(10), 0.0])
    assert head_angles(SimpleNamespace(attributes=face))[0] == pytest.approx(30, abs=0.01)


def test_table_divides_sums_and_takes_medians():
    records: list[Record] = [
        {"yaw": 2.0, "pitch": 1.0, "identity": 0.2, "still": 30.0, "sharpness": 0.5, "to_query": {"expression": 0.1, "light": 0.3},
         "before": {"expression": 0.2, "light": 0.6}},
        {"yaw": 4.0, "pitch": 3.0, "identity": 0.3, "still": 40.0, "sharpness": 1.0, "to_query": {"expression": 0.2, "light": 0.4},
         "before": {"expression": 0.8, "light": 0.5}},
        {"yaw": 3.0, "pitch": 2.0, "identity": 0.9, "still": 50.0, "sharpness": 1.5, "to_query": {"expression": 0.0, "light": 0.1},
         "before": {"expression": 0.0, "light": 0.1}},
        {"lost": True},
    ]  # fmt: skip
    numbers = {
        "pairs": 4, "no face in the result": 1, "yaw error, mean (degrees)": 3.0, "expression error quotient": 0.3,
        "light error quotient": 0.5, "light pairs": 1, "identity distance, median": 0.3, "background and clothes, PSNR (dB)": 40.0,
    }  # fmt: skip
    for name, value in numbers.items():
        assert np.isclose(DEV_TABLE[name](records), value), name
