"""Identity token: alignment, gradients, and persons told apart on the London set."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from places import SHARED
from torch import Tensor

from difffae.common.checkpoint import asset_path, save_checkpoint
from difffae.common.errors import CheckpointError
from difffae.source.identity import CHIP, FIVE, IdentityNetwork, sample_chips, similarity

PORTRAITS = SHARED / "portraits"
needs_portraits = pytest.mark.skipif(not PORTRAITS.is_dir(), reason="portraits are not here")


@pytest.fixture(scope="module")
def network() -> IdentityNetwork:
    return IdentityNetwork.load()


def london(step: int) -> tuple[list[str], list[Tensor], list[Tensor]]:
    """Persons, pictures (3,H,W) and landmarks (478,2) of every step-th person of the London set, two pictures each."""
    with open(PORTRAITS / "manifest.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["source"] == "london"]
    chosen = sorted({row["person"] for row in rows})[::step]
    rows = [row for row in rows if row["person"] in chosen]
    with np.load(PORTRAITS / "landmarks.npz") as data:
        index = {str(name): i for i, name in enumerate(data["files"])}
        points = data["landmarks"].astype(np.float32)
    pictures = []
    for row in rows:
        with Image.open(PORTRAITS / row["file"]) as picture:
            pictures.append(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255)
    return [row["person"] for row in rows], pictures, [torch.from_numpy(points[index[row["file"]], :, :2]) for row in rows]


def genuine_and_impostor(network: IdentityNetwork, step: int) -> tuple[Tensor, Tensor]:
    """Distances within and between persons."""
    persons, pictures, landmarks = london(step)
    with torch.no_grad():
        tokens = torch.cat([network.embed(i[None], p[None]) for i, p in zip(pictures, landmarks, strict=True)])
    distances = network.distance(tokens[:, None], tokens[None])
    same = torch.tensor([[a == b for b in persons] for a in persons])
    upper = torch.ones_like(same).triu(1)
    return distances[same & upper], distances[~same & upper]


def test_asset_is_small() -> None:
    assert asset_path("identity.safetensors").stat().st_size < 6.6e6


def test_similarity_recovers_a_known_transform() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3, 5, 2, generator=generator)
    angle, scale = torch.tensor([0.3, -2.0, 1.1]), torch.tensor([0.5, 2.0, 7.0])
    turn = (
        torch.stack([torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], -2) * scale[:, None, None]
    )
    shift = torch.rand(3, 2, generator=generator) * 100
    matrix, offset = similarity(points, points @ turn.transpose(1, 2) + shift[:, None])
    torch.testing.assert_close(matrix, turn, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(offset, shift, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_chips_sample_where_the_matrix_says(scale: float) -> None:
    y, x = torch.meshgrid(torch.arange(120) + 0.5, torch.arange(160) + 0.5, indexing="ij")
    matrix = torch.tensor([[[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]]]) * scale
    offset = torch.tensor([[70.0, 40.0]])
    chips = sample_chips(torch.stack([x, y])[None], matrix, offset, 16)
    v, u = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    points = torch.stack([u, v], dim=-1).reshape(-1, 2) @ matrix[0].T + offset
    torch.testing.assert_close(chips[0].flatten(1).T, points, atol=1e-2, rtol=0)


def test_embedding_is_batched_and_differentiable(network: IdentityNetwork) -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 90, 80, generator=generator)
    landmarks = torch.rand(2, 478, 2, generator=generator) * 60 + 10
    image.requires_grad_(True)
    tokens = network.embed(image, landmarks)
    assert tokens.shape == (2, IdentityNetwork.dimensions)
    alone = network.embed(image[1:].detach(), landmarks[1:])
    torch.testing.assert_close(tokens[1:].detach(), alone, atol=2e-3, rtol=0)
    # the gradient against a central difference, in double precision, along its own direction
    double = IdentityNetwork.load().double()
    x = image.detach().double().requires_grad_(True)
    other = double.embed(x.detach().flip(0), landmarks.double())
    (gradient,) = torch.autograd.grad(double.distance(double.embed(x, landmarks.double()), other).sum(), x)
    assert float(gradient[0].norm()) > 0
    step = 1e-5 * gradient / gradient.norm()
    ends = [double.distance(double.embed(x.detach() + sign * step, landmarks.double()), other).sum() for sign in (1, -1)]
    assert float(ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient.norm()), rel=1e-3)


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, {"x": torch.zeros(1)}, kind="identity", config={"network": "unheard-of"}, license="CC0-1.0", source="test")
    with pytest.raises(CheckpointError, match="unheard-of"):
        IdentityNetwork.load(path)


@needs_portraits
def test_alignment_puts_five_points_on_dlibs_mean_face(network: IdentityNetwork) -> None:
    _, _, landmarks = london(20)
    for points in landmarks:
        five = points[list(FIVE)][None]
        matrix, offset = similarity(network.template[None], five)
        back = torch.linalg.solve(matrix[0], (five[0] - offset[0]).T).T
        assert float((back - network.template).norm(dim=-1).max()) < 0.06 * CHIP
        assert float(matrix[0, 0, 0]) > 0  # upright stays upright


@needs_portraits
def test_turning_and_scaling_the_picture_change_little(network: IdentityNetwork) -> None:
    _, pictures, landmarks = london(40)
    image, points = pictures[0][None], landmarks[0][None]
    token = network.embed(image, points)
    quarter = torch.stack([points[..., 1], image.shape[3] - points[..., 0]], dim=-1)
    assert float(network.distance(token, network.embed(image.rot90(1, (2, 3)), quarter))) < 0.02
    larger = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    assert float(network.distance(token, network.embed(larger, points * 2))) < 0.12


@needs_portraits
def test_london_sample(network: IdentityNetwork) -> None:
    genuine, impostor = genuine_and_impostor(network, 8)
    assert len(genuine) == 10
    assert 0.15 < float(genuine.median()) < 0.3
    assert float(genuine.max()) < 0.44
    assert float(impostor.min()) > 0.45


@pytest.mark.slow
@needs_portraits
def test_london_set(network: IdentityNetwork) -> None:
    """77 persons, neutral and smiling: 77 genuine and 11,704 impostor pairs, none on the wrong side."""
    genuine, impostor = genuine_and_impostor(network, 1)
    assert (len(genuine), len(impostor)) == (77, 11704)
    assert float(genuine.max()) < 0.44
    assert float(impostor.min()) > 0.455
    assert 0.2 < float(genuine.median()) < 0.3
    assert 0.75 < float(impostor.median()) < 0.9
