"""First stage: shapes, its three methods, its loss, and a short training that resumes."""

from __future__ import annotations

import copy
import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from difffae.cli.train import first_stage_class
from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.named_values import build
from difffae.common.pixels import gaussian_blur
from difffae.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from difffae.diffusion.first_stages import KLConfig, VQConfig, VQFirstStage, build_first_stage, describe
from difffae.lab.losses.adversarial import Adversary, adaptive_weight, hinge_loss
from difffae.lab.losses.bottleneck import quantised_latents
from difffae.lab.losses.perceptual import PerceptualDistance
from difffae.lab.prepare.portraits import dev_files, read_pictures
from difffae.lab.prepare.shards import write_shard
from difffae.lab.training import loop
from difffae.lab.training.assemble import save_first_stage
from difffae.lab.training.autoencoder import AutoencoderTraining, autoencoder_loss, laplacian, repeated, structure, train_autoencoder
from difffae.lab.training.common import load_state, random_crops
from difffae.lab.training.parts import read_first_stage
from difffae.lab.training.presets import read_configs

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


def test_sharpening_adds_the_finest_detail():
    """An unsharp mask of known size: what a blur of 0.6 pixels takes away is added; latents and flat pictures stay."""
    torch.manual_seed(0)
    plain = Autoencoder(SMALL)
    sharp = Autoencoder(replace(SMALL, sharpen=0.4))
    sharp.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    latents = plain.encode(images)
    assert torch.equal(sharp.encode(images), latents)
    decoded = plain.decode(latents)
    torch.testing.assert_close(sharp.decode(latents), 1.4 * decoded - 0.4 * gaussian_blur(decoded, 0.6))
    flat = [model.decode(torch.ones(1, 4, 8, 8)).mean() for model in (plain, sharp)]
    torch.testing.assert_close(*flat, atol=1e-3, rtol=0)


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


class Perfect(Autoencoder):
    """Latents are the pixels, so the reconstruction is exact (noise aside)."""

    def __init__(self, blur: float = 0.0, logvar: float = -40.0) -> None:
        super().__init__(SMALL)
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


@pytest.mark.slow
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
    assert steps == [50, 100, 150, 160]  # every fifty, and the end


def toy_adversary(**changes) -> Adversary:
    return Adversary(**{"width": 4, "layers": 2, "detail": 0.0, "learning_rate": 1e-2, "device": "cpu", "seed": 0} | changes)


def test_structure_is_best_at_the_photographs_energy() -> None:
    g = torch.Generator().manual_seed(0)
    truth, other = torch.randn(1, 3, 128, 128, generator=g), torch.randn(1, 3, 128, 128, generator=g)
    assert structure(truth, truth).item() == pytest.approx(0.0, abs=1e-6)
    assert structure(other, truth).item() == pytest.approx(1.0, abs=0.02)
    partly = 0.6 * truth + 0.8 * other  # correlation 0.6, the truth's energy
    values = [structure(partly * size, truth).item() for size in (0.3, 0.6, 1.0, 1.6)]
    assert min(values) == values[2] == pytest.approx(0.4, abs=0.02)  # an L1 or L2 loss is lowest at 0.6 times the energy
    faint = torch.full_like(truth, 1e-3)
    assert structure(faint, -faint).item() < 0.01  # noise does not count


def test_a_grid_is_what_repeats_from_cell_to_cell() -> None:
    cell = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    cell = cell - cell.mean(dim=(2, 3), keepdim=True)
    tiled = cell.repeat(1, 1, 8, 8)
    assert torch.allclose(repeated(tiled + 0.5, 8)[0, :, 0, 0], cell.flatten(), atol=1e-5)  # a change of colour is no grid
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * cell.std()
    assert repeated(noise, 8).abs().mean() < 0.3 * repeated(tiled, 8).abs().mean()


def test_perceptual_distance_reaches_the_output_alone() -> None:
    distance = PerceptualDistance()
    target = smooth_pictures(2, 64)
    assert distance(target, target).item() == 0
    blurred = gaussian_blur(target, 1.0).requires_grad_()
    more = gaussian_blur(target, 3.0)
    value = distance(blurred, target)
    assert 0 < value.item() < distance(more, target).item()
    value.backward()
    assert blurred.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("detail", [0.0, 1.0])
def test_an_adversary_learns_to_tell_and_its_judgement_trains_the_decoder_alone(detail: float) -> None:
    photographs = smooth_pictures(8, 48) * 2 - 1
    photographs = photographs + 0.1 * torch.randn(photographs.shape, generator=torch.Generator().manual_seed(0))
    smooth = gaussian_blur(photographs, 1.0)
    adversary = toy_adversary(detail=detail)
    losses = []
    for _ in range(60):
        adversary.generator_loss(photographs, smooth)
        losses.append(adversary.learn(lambda tensors: None)["discriminator"].item())
    assert losses[-1] < 0.7 * losses[0]
    before = copy.deepcopy(adversary.network.state_dict())
    fake = smooth.clone().requires_grad_()
    loss = adversary.generator_loss(photographs, fake)
    assert loss > adversary.generator_loss(photographs, photographs)
    loss.backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None or not p.requires_grad for p in adversary.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in adversary.network.state_dict().items())
    if detail:  # colour and shading are none of its business
        assert torch.allclose(adversary.network(fake), adversary.network(fake + 0.3), atol=1e-4)


def test_hinge_loss_of_known_verdicts() -> None:
    verdicts = torch.tensor([2.0, 0.5, -1.0])
    assert hinge_loss(verdicts, torch.tensor([-3.0, 0.0])).item() == pytest.approx(0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1) / 2))


def test_adaptive_weight_is_the_ratio_of_gradients() -> None:
    output = torch.randn(1, 3, 4, 4, requires_grad=True)
    assert adaptive_weight((3 * output).sum(), (-0.5 * output).sum(), output).item() == pytest.approx(6.0, rel=1e-5)


FULL = {"structure_weight": 0.1, "grid_weight": 1.0, "perceptual_weight": 0.05, "latent_noise": 0.1}
RIVAL = {
    "adversarial_weight": 0.5,
    "adversarial_adaptive": True,
    "adversarial_start": 1,
    "adversarial_warmup": 2,
    "discriminator_width": 4,
    "discriminator_layers": 2,
    "discriminator_rate": 1e-3,
}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_all_losses_in_parts_and_interrupted(folder, tmp_path):
    """The discriminator, its optimizer and its place in the warm-up are part of an exact resume."""
    start = tmp_path / "start.safetensors"
    torch.manual_seed(3)
    given = Autoencoder(replace(SMALL, latent_scale=0.7))
    save_checkpoint(start, given.state_dict(), kind="first-stage", config=describe(given), license="test", source="test")
    common = {"portraits": str(folder / "portraits"), "crop": 64, "batch": 4, "warmup": 1, "steps": 4, "autocast": False, "log_every": 1}
    options = AutoencoderTraining(**common, **FULL, **RIVAL, folder=str(folder / "whole"), start=str(start), freeze_encoder=True)
    train_autoencoder(options)
    broken = replace(options, folder=str(folder / "broken"))
    train_autoencoder(broken, stop_step=2)
    train_autoencoder(broken)
    train_autoencoder(replace(options, folder=str(folder / "parts"), accumulation=2, gradient_checkpointing=True))
    whole, resumed, parts = (load_state(folder / name / "last.pt") for name in ("whole", "broken", "parts"))
    assert whole["config"] == describe(given)
    for name, value in given.state_dict().items():
        same = torch.equal(whole["model"][name], value)
        assert same == name.startswith("encoder."), name  # the decoder learns, the encoder does not
    assert all(torch.equal(resumed["model"][name], value) for name, value in whole["model"].items())
    for name, value in whole["stage"]["discriminator"].items():
        assert torch.equal(resumed["stage"]["discriminator"][name], value), name
        if name.endswith("original"):
            # in parts the power iteration runs twice as often, and Adam's first steps are as long whatever the gradient
            assert (parts["stage"]["discriminator"][name] - value).abs().max() < 5 * options.discriminator_rate, name
    lines = [json.loads(line) for line in (folder / "whole" / "log.jsonl").read_text().splitlines()]
    assert ["discriminator" in line for line in lines] == [False, True, True, True]
    assert ["adaptive" in line for line in lines] == [False, False, True, True]  # at its start the weight is 0


def test_a_first_stage_holds_on_to_the_latents_of_its_start(folder, tmp_path):
    """The latents stay nearer to the start's with keep_weight than without, and the loss counts them."""
    start = tmp_path / "start.safetensors"
    torch.manual_seed(3)
    given = Autoencoder(replace(SMALL, latent_scale=0.7))
    save_checkpoint(start, given.state_dict(), kind="first-stage", config=describe(given), license="test", source="test")
    common = {"portraits": str(folder / "portraits"), "crop": 64, "batch": 4, "warmup": 1, "steps": 12, "autocast": False, "log_every": 1}
    pictures, far = smooth_pictures(2, 64), {}
    before = given.moments(pictures)[0]
    for keep in (0.0, 30.0):
        options = AutoencoderTraining(
            **common, folder=str(folder / f"keep{keep}"), start=str(start), keep_weight=keep, learning_rate=2e-3, ema=0.5
        )
        model = train_autoencoder(options)
        assert isinstance(model, Autoencoder)
        far[keep] = (model.moments(pictures)[0] - before).square().mean().item()
        lines = [json.loads(line) for line in (folder / f"keep{keep}" / "log.jsonl").read_text().splitlines()]
        assert ["moved" in line for line in lines] == [keep > 0] * 12
    assert lines[0]["moved"] < 1e-9
    assert lines[-1]["moved"] > 0
    assert 0 < far[30.0] < 0.5 * far[0.0]
    with pytest.raises(ConfigError, match="keep_weight"):
        train_autoencoder(AutoencoderTraining(**common, folder=str(folder / "none"), keep_weight=1.0))
    quantised = tmp_path / "quantised.safetensors"
    codes = VQFirstStage(VQConfig(codes=16, **DIFFUSERS))
    save_checkpoint(quantised, codes.state_dict(), kind="first-stage", config=describe(codes), license="test", source="test")
    with pytest.raises(ConfigError, match="whose latents are codes"):
        train_autoencoder(AutoencoderTraining(**common, folder=str(folder / "vq"), start=str(quantised), keep_weight=1.0))


def test_a_start_must_agree_with_what_the_options_say(folder, tmp_path):
    options = AutoencoderTraining(portraits=str(folder / "portraits"), folder=str(folder / "run"), crop=32, batch=2, steps=1)
    with pytest.raises(CheckpointError, match=r"none\.pt: no such file"):
        train_autoencoder(replace(options, start="none.pt"))
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, Autoencoder(SMALL).state_dict(), kind="first-stage", config=SMALL.to_dict(), license="test", source="test")
    with pytest.raises(ConfigError, match="kind open"):
        train_autoencoder(replace(options, start=str(start)), KLConfig())
    with pytest.raises(ConfigError, match="its width is 16, not 24"):
        train_autoencoder(replace(options, start=str(start)), AutoencoderConfig(width=24))
    with pytest.raises(ConfigError, match="crop=36: must be a multiple of 8"):
        train_autoencoder(replace(options, crop=36), SMALL)
    (folder / "run" / "last.pt").unlink(missing_ok=True)
    train_autoencoder(options, SMALL)
    again = train_autoencoder(replace(options, folder=str(folder / "again"), start=str(folder / "run" / "last.pt"), learning_rate=0.0))
    assert torch.equal(again.state_dict()["decoder.0.weight"], load_state(folder / "run" / "last.pt")["model"]["decoder.0.weight"])


def test_shards_are_trained_on_as_portraits_are(folder):
    options = AutoencoderTraining(portraits=str(folder / "portraits"), folder=str(folder / "a"), crop=32, batch=2, steps=2, autocast=False)
    of_portraits = train_autoencoder(options, SMALL).state_dict()
    (folder / "shards").mkdir()
    images = torch.stack(read_pictures(folder / "portraits", "train"))
    write_shard(folder / "shards" / "0.safetensors", {"images": images[:3]})
    write_shard(folder / "shards" / "1.safetensors", {"images": images[3:]})
    of_shards = train_autoencoder(
        replace(options, folder=str(folder / "b"), shards=str(folder / "shards"), portraits=""), SMALL
    ).state_dict()
    for name, value in of_portraits.items():
        torch.testing.assert_close(of_shards[name], value, msg=name)
    with pytest.raises(ConfigError, match=r"none: no \.webp pictures"):
        train_autoencoder(replace(options, folder=str(folder / "c"), portraits=str(folder / "none")), SMALL)


DIFFUSERS = {"block_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_groups": 4}


@pytest.mark.slow
@pytest.mark.parametrize("config", [KLConfig(**DIFFUSERS), VQConfig(codes=16, latent_scale=0.5, **DIFFUSERS)], ids=["kl-f8", "vq-f8"])
def test_the_papers_first_stages_are_retrained_from_a_file_to_a_file(config, folder, tmp_path):
    torch.manual_seed(0)
    given = build_first_stage({"kind": "kl-f8" if isinstance(config, KLConfig) else "vq-f8", **config.to_dict()}, "test")
    pictures = smooth_pictures(2, 64)
    if isinstance(given, VQFirstStage):
        with torch.no_grad():
            points = given.unscaled(pictures).movedim(1, -1).flatten(0, 2)
            given.network.quantize.embedding.weight.copy_(points[:: len(points) // 16][:16])
    start = tmp_path / "converted.safetensors"
    save_checkpoint(start, given.state_dict(), kind="first-stage", config=describe(given), license="test", source="test")
    options = AutoencoderTraining(
        portraits=str(folder / "portraits"),
        folder=str(folder / "run"),
        start=str(start),
        crop=64,
        batch=4,
        warmup=1,
        steps=25,
        learning_rate=3e-3,
        ema=0.5,
        log_every=5,
        edge_weight=0.0,
        perceptual_weight=0.05,
        gradient_checkpointing=True,
        **(RIVAL | {"adversarial_weight": 0.1, "adversarial_adaptive": False}),
    )
    trained = train_autoencoder(options)
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["pixel"] < 0.92 * lines[0]["pixel"]  # so few steps bring little
    unmoved = [name for name, value in given.state_dict().items() if torch.equal(trained.state_dict()[name], value)]
    assert not unmoved  # encoder, decoder and codebook have all learnt
    output = tmp_path / "retrained.safetensors"
    save_first_stage(read_first_stage(folder / "run" / "last.pt"), output, license="test", source="test")  # as `assemble` does
    again = read_first_stage(output)
    assert again.config == config
    with torch.no_grad():
        torch.testing.assert_close(again.encode(pictures), trained.encode(pictures), atol=2e-2, rtol=1e-2)  # stored in half precision
        assert (again(pictures) - pictures).abs().mean() < (given.eval()(pictures) - pictures).abs().mean()
    frozen = train_autoencoder(replace(options, folder=str(folder / "frozen"), start=str(output), freeze_encoder=True, steps=2))
    moved = [name for name, value in again.state_dict().items() if not torch.equal(frozen.state_dict()[name], value)]
    assert moved
    assert all(name.startswith(("network.decoder.", "network.post_quant_conv.")) for name in moved)
    if isinstance(again, VQFirstStage):
        assert torch.equal(again.quantize(again.encode(pictures))[1], frozen.quantize(frozen.encode(pictures))[1])
        assert lines[-1]["codes"] > 2  # perplexity: the codebook has not collapsed


def test_codes_pass_gradients_straight_through() -> None:
    torch.manual_seed(0)
    model = VQFirstStage(VQConfig(codes=16, **DIFFUSERS))
    torch.nn.init.normal_(model.network.quantize.embedding.weight)
    pictures = smooth_pictures(1, 32)
    codes, loss, parts = quantised_latents(model, pictures, None, frozen=False)
    nearest, index = model.quantize(model.unscaled(pictures))
    assert torch.allclose(codes, nearest, atol=1e-6)
    shares = torch.bincount(index.flatten(), minlength=16) / index.numel()
    assert parts["codes"].item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares.tolist() if p)), rel=1e-4)
    points = model.unscaled(pictures)
    assert loss.item() == pytest.approx(1.25 * (nearest - points).square().mean().item(), rel=1e-4)
    codes.sum().backward()  # as the decoder would
    assert model.network.quantize.embedding.weight.grad is None  # that part is the codebook's own loss
    assert model.network.encoder.conv_in.weight.grad.abs().sum() > 0
    model.zero_grad()
    quantised_latents(model, pictures, None, frozen=False)[1].backward()
    assert set(model.network.quantize.embedding.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()) == set(index.unique().tolist())


@pytest.mark.usefixtures("one_thread")
def test_training_in_parts_and_interrupted(folder):
    options = AutoencoderTraining(
        portraits=str(folder / "portraits"), folder=str(folder / "whole"), crop=32, batch=4, warmup=1, steps=4, autocast=False
    )
    whole = train_autoencoder(options, SMALL).state_dict()
    broken = replace(options, folder=str(folder / "broken"))
    train_autoencoder(broken, SMALL, stop_step=2)
    resumed = train_autoencoder(broken).state_dict()
    saving = replace(options, folder=str(folder / "saving"), accumulation=2, gradient_checkpointing=True)
    parts = train_autoencoder(saving, SMALL).state_dict()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
        # Adam's step magnifies rounding where gradients are close to zero
        torch.testing.assert_close(parts[name], value, atol=5e-4, rtol=0, msg=name)


def test_presets_of_the_first_stage() -> None:
    for name, kind, discriminator in (("kl-f8", KLConfig, 3), ("vq-f8", VQConfig, 2), ("paper-256", VQConfig, 2)):
        training, model = read_configs([name], "autoencoder", ["portraits=faces"], [])
        options = build(AutoencoderTraining, training, "test")
        assert (options.crop, options.discriminator_layers, options.portraits) == (256, discriminator, "faces")
        assert options.perceptual_weight > 0 < options.adversarial_weight
        assert first_stage_class(model["kind"]) is kind
    assert read_configs(["kl-f8"], "denoiser", [], [])[1]["schedule"]["beta_end"] == 0.012
    with pytest.raises(ConfigError, match="kind=vq-f4: no such first stage; choose from open, kl-f8, vq-f8"):
        first_stage_class("vq-f4")
