"""DECA's networks with random weights, a head of FLAME's layout with UV maps, and faces of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import small_flame, write_layout
from PIL import Image

from difffae.convert.flame import convert as convert_flame
from difffae.estimation.deca import Deca
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights and statistics that keep values in a sensible range. One pool of numbers serves all: drawing 53 million takes long."""
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(seed))
    for count, (name, value) in enumerate(module.state_dict().items()):
        if not value.is_floating_point():
            continue
        flat = pool.roll(997 * count).repeat(value.numel() // len(pool) + 1)[: value.numel()].view(value.shape)
        if name.endswith("running_var"):
            value.copy_(1 + flat.clamp(-3, 3) / 6)
        elif value.dim() == 1:
            value.copy_(flat * 0.1 + (0.8 if name.endswith("weight") else 0))
        else:
            value.copy_(flat * value[0].numel() ** -0.5)
    return module.eval()


def unset(make) -> torch.nn.Module:
    """A module without the cost of its initialisation."""
    with torch.device("meta"):
        module = make()
    return module.to_empty(device="cpu").requires_grad_(False)


@pytest.fixture(scope="module")
def deca() -> Deca:
    network = randomize(unset(Deca))
    # moderate codes, and a camera that sees the head
    last = network.coarse.layers[2]
    with torch.no_grad():
        last.weight.mul_(0.3 / network.coarse(torch.rand(1, 3, 224, 224)).std())
    last.weight[206:209] *= 0.01
    last.bias[206:209] = torch.tensor([8.0, 0.01, -0.02])
    return network


def write_relief(folder: Path) -> list[Path]:
    """The files of `convert flame` for a relief of 26x26 vertices that covers most of the UV square without overlap: FLAME's pickle,
    template, texture space of four components, mask and fixed displacement."""
    rng = np.random.default_rng(0)
    n = 26
    u, v = (a.ravel() for a in np.meshgrid(np.linspace(0.03, 0.96, n), np.linspace(0.05, 0.97, n)))
    x, y = (u - 0.5) * 0.2, (v - 0.5) * 0.2
    raw = small_flame(vertices=n * n)
    raw["v_template"] = np.stack([x, y, 0.06 - 3 * (x**2 + y**2) + 0.01 * np.sin(40 * x) * np.cos(30 * y)], -1)
    smooth = np.stack([np.sin(9 * x + k) * np.cos(7 * y - k) for k in range(400)], -1)
    raw["shapedirs"] = smooth[:, None] * rng.normal(0, 5e-4, (1, 3, 400))
    raw["posedirs"] = smooth[:, None, :36] * rng.normal(0, 1e-3, (1, 3, 36))
    soft = np.stack([np.full(n * n, 0.5), *(1 + 0.5 * np.sin(10 * (x + 0.1 * k)) for k in range(4))], -1)
    raw["weights"] = soft / soft.sum(1, keepdims=True)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    raw["f"] = np.concatenate(
        [np.stack([corner, corner + 1, corner + n], -1), np.stack([corner + 1, corner + n + 1, corner + n], -1)]
    ).astype(np.uint32)
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(raw, protocol=2))
    write_layout(folder / "head_template.obj", np.stack([u, v], -1), raw["f"], raw["f"])
    rows, columns = np.mgrid[:512, :512] / 512
    mean = 128 + 60 * np.stack([np.sin(9 * rows), np.cos(11 * columns), np.sin(8 * (rows + columns))], -1)
    basis = 10 * np.sin(12 * rows[..., None, None] + np.arange(3)[:, None] + np.arange(4) + columns[..., None, None])
    np.savez(folder / "FLAME_texture.npz", mean=mean.astype(np.float32), tex_dir=basis.astype(np.float32))
    yy, xx = np.mgrid[:256, :256]
    mask = (255 * np.clip(1.6 - np.hypot(yy - 128, xx - 128) / 80, 0, 1)).astype(np.uint8)
    Image.fromarray(mask).convert("RGBA").save(folder / "uv_face_eye_mask.png")
    np.save(folder / "fixed_displacement_256.npy", 3e-4 * np.sin(yy / 9) * np.cos(xx / 7))
    return list(folder.iterdir())


@pytest.fixture(scope="module")
def surface_head(tmp_path_factory) -> HeadModel:
    """The head of `write_relief`."""
    folder = tmp_path_factory.mktemp("relief")
    convert_flame(write_relief(folder), folder / "flame.safetensors", albedo_count=4)
    return HeadModel.load(folder / "flame.safetensors")


def faces_of(head: HeadModel, batch: int = 1, seed: int = 0, scale: float = 8.0) -> FaceAttributes:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, sigma: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * sigma

    pose = torch.zeros(batch, 5, 3)
    pose[:, 0], pose[:, 2] = normal(batch, 3, sigma=0.15), normal(batch, 3, sigma=0.05)
    camera = torch.tensor([[scale, 0.003, -0.002]]).repeat(batch, 1)
    light = normal(batch, 9, 3, sigma=0.25)
    light[:, 0] += 3.0
    shape, albedo = normal(batch, 100, sigma=0.7), normal(batch, head.albedo_count, sigma=0.3)
    return FaceAttributes(head.name, shape, albedo, pose, camera, normal(batch, 50, sigma=0.5), light, normal(batch, 128, sigma=0.5))


# networks
