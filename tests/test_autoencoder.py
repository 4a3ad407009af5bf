"""First stage: shapes, its three methods, its loss, and a short training that resumes."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from difffae.autoencoder import Autoencoder, AutoencoderConfig
from difffae.carry import gaussian_blur
from difffae.training import loop
from difffae.training.autoencoder import AutoencoderTraining, autoencoder_loss, laplacian, train_autoencoder
from difffae.training.common import dev_files, load_state, random_crops, read_pictures, save_state

SMALL = AutoencoderConfig(latent_channels=4, width=16, deep_width=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1), norm_groups=4)


def smooth_pictures(count: int, size: int) -> torch.Tensor:
    noise = gaussian_blur(torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)), 3.0)
    return (0.5 + (noise - 0.5) * 4).clamp(0, 1)


def test_shapes_and_factor():
    model = Autoencoder(SMALL)
    assert model.factor == 8
    latents = model.encode(torch.rand(2, 3, 40, 64))
    assert latents.shape == (2, 4, 5, 8)
    assert model.decode(latents).shape == (2, 3, 40, 64)
    paper = Autoencoder(AutoencoderConfig(latent_channels=4))
    assert paper.encode(torch.rand(1, 3, 32, 32)).shape == (1, 4, 4, 4)


def test_latent_scale_is_undone_by_decoding():
    torch.manual_seed(0)
    plain = Autoencoder(SMALL)
    scaled = Autoencoder(AutoencoderConfig(**(SMALL.to_dict() | {"latent_scale": 0.25})))
    scaled.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert torch.allclose(scaled.encode(images), plain.encode(images) * 0.25, atol=1e-6)
    assert torch.allclose(scaled(images), plain(images), atol=1e-5)


def test_a_shift_by_the_factor_shifts_the_latents():
    torch.manual_seed(0)
    model = Autoencoder(SMALL).eval()
    # group norms see the whole picture, so the picture must wrap around, and cells near the border see the padding
    picture = smooth_pictures(1, 96)
    here, there = model.encode(picture), model.encode(picture.roll(8, -1))
    middle = slice(4, 8)
    same = (there.roll(-1, -1) - here)[..., middle, middle].abs().mean()
    assert same < 0.2 * here[..., middle, middle].std()


def test_new_model_hardly_adds_noise_and_everything_learns():
    torch.manual_seed(0)
    model = Autoencoder(SMALL)
    mean, logvar = model.moments(torch.rand(2, 3, 32, 32))
    assert torch.allclose(logvar, torch.full_like(logvar, -6.0))
    assert mean.std() > 0.05
    loss, parts = autoencoder_loss(model, torch.rand(2, 3, 32, 32), AutoencoderTraining(), torch.randn(2, 4, 4, 4))
    loss.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    assert model.encoder[1].weight.grad.abs().sum() > 0
    assert set(parts) == {"pixel", "edge", "sharp", "kl", "psnr"}


class Perfect(torch.nn.Module):
    """Latents are the pixels, so the reconstruction is exact (noise aside)."""

    def __init__(self, blur: float = 0.0, logvar: float = -40.0) -> None:
        super().__init__()
        self.blur, self.logvar = blur, logvar

    def moments(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images * 2 - 1, torch.full_like(images, self.logvar)

    def decoder(self, latents: torch.Tensor) -> torch.Tensor:
        return gaussian_blur(latents, self.blur) if self.blur else latents


def test_loss_of_known_reconstructions():
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    options = AutoencoderTraining(kl_weight=0.0, sharp_weight=1.0)
    loss, exact = autoencoder_loss(Perfect(), images, options)
    assert loss.item() < 1e-4
    assert exact["psnr"] > 80
    loss, blurred = autoencoder_loss(Perfect(blur=1.5), images, options)
    assert blurred["sharp"] > 0.5  # white noise lost nearly all of its edges
    assert loss.item() == pytest.approx((blurred["pixel"] + blurred["edge"] + blurred["sharp"]).item(), rel=1e-5)
    x = images * 2 - 1
    mean, variance = x.double(), math.exp(-2.0)
    expected = (0.5 * (mean**2 + variance - 1 + 2.0)).sum((1, 2, 3)).mean()
    assert autoencoder_loss(Perfect(logvar=-2.0), images, options)[1]["kl"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_laplacian_of_a_parabola_is_constant():
    x = torch.arange(8.0)
    parabola = (x[:, None] ** 2 + x**2).expand(1, 3, 8, 8)
    assert torch.equal(laplacian(parabola), torch.full((1, 3, 6, 6), -4.0))


@pytest.fixture
def folder(tmp_path):
    portraits = tmp_path / "portraits"
    portraits.mkdir()
    pixels = (smooth_pictures(4, 80) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(portraits / f"made_{index}.webp", lossless=True)
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(portraits / min(dev_files()))
    return tmp_path


def test_training_never_reads_the_dev_split(folder):
    train, dev = (read_pictures(folder / "portraits", split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == (4, 1)
    assert min(picture.float().mean().item() for picture in train) > 20
    crops = random_crops(train, 5, 32, torch.Generator().manual_seed(0))
    assert crops.shape == (5, 3, 32, 32)
    assert crops.std() > 0.05


@pytest.fixture
def clock(monkeypatch):
    """A minute passes at every look at the clock, so that a training in minutes is one in steps."""
    ticks, seconds = itertools.count(), itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 60.0 * next(ticks), perf_counter=lambda: float(next(seconds))))


def test_training_learns_averages_and_resumes(folder, clock):
    options = AutoencoderTraining(
        portraits=str(folder / "portraits"), folder=str(folder / "run"), crop=32, batch=4, learning_rate=4e-3, warmup=5, minutes=150
    )
    train_autoencoder(options, SMALL)
    first = load_state(folder / "run" / "last.pt")
    assert set(first) == {"config", "model", "ema", "optimizer", "generator", "step", "spent"}
    assert (first["step"], first["spent"]) == (150, 150.0)
    images = smooth_pictures(4, 80)

    def quality(weights: dict) -> float:
        model = Autoencoder(SMALL)
        model.load_state_dict(weights)
        with torch.no_grad():
            return -10 * math.log10((model(images) - images).square().mean().item())

    torch.manual_seed(options.seed)
    start = Autoencoder(SMALL).state_dict()
    assert quality(first["model"]) > quality(start) + 0.4  # so few steps bring little
    assert quality(first["ema"]) > quality(start) + 0.4

    def apart(a: dict, b: dict) -> float:
        return sum((a[name] - b[name]).square().sum() for name in a).sqrt().item()

    # the average follows: with a decay of 0.999 from the first step, 0.86 of it would still be the start
    assert 0 < apart(first["ema"], first["model"]) < 0.5 * apart(start, first["model"])
    train_autoencoder(replace(options, minutes=160))  # the sizes come from the checkpoint
    second = load_state(folder / "run" / "last.pt")
    assert (second["step"], second["spent"]) == (160, 160.0)
    assert second["config"] == first["config"]
    moved = (second["model"]["encoder.1.weight"] - first["model"]["encoder.1.weight"]).abs().max()
    assert 0 < moved < 0.05  # went on from there, at the low rate of the schedule's end
    steps = [json.loads(line)["step"] for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == [50, 100, 150]


def test_training_resumes_from_the_first_format(folder, clock):
    """Checkpoints once kept the average as torch.optim.swa_utils names it."""
    options = AutoencoderTraining(portraits=str(folder / "portraits"), folder=str(folder / "run"), crop=32, batch=2, minutes=2)
    train_autoencoder(options, SMALL)
    state = load_state(folder / "run" / "last.pt")
    del state["generator"]
    state["ema"] = {"module." + name: value for name, value in state["ema"].items()} | {"n_averaged": torch.tensor(2)}
    save_state(folder / "run" / "last.pt", state)
    train_autoencoder(replace(options, minutes=3))
    assert load_state(folder / "run" / "last.pt")["step"] == 3


def test_training_in_parts_and_interrupted(folder):
    options = AutoencoderTraining(
        portraits=str(folder / "portraits"), folder=str(folder / "whole"), crop=32, batch=4, warmup=1, steps=4, autocast=False
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = train_autoencoder(options, SMALL).state_dict()
        broken = replace(options, folder=str(folder / "broken"))
        train_autoencoder(broken, SMALL, stop_step=2)
        resumed = train_autoencoder(broken).state_dict()
        saving = replace(options, folder=str(folder / "saving"), accumulation=2, gradient_checkpointing=True)
        parts = train_autoencoder(saving, SMALL).state_dict()
    finally:
        torch.set_num_threads(threads)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
        # Adam's step magnifies rounding where gradients are close to zero
        torch.testing.assert_close(parts[name], value, atol=5e-4, rtol=0, msg=name)
