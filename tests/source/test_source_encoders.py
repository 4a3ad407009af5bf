"""Other encoders of the source (paper 5.3): tiny models with random weights, saved and read from folders as the real ones are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from small_models import small
from training_files import COMMON, DENOISER, write_denoiser_shards

from difffae import DiffFAE
from difffae.common.checkpoint import asset_path, save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.images import read_image
from difffae.diffusion.first_stages import VQConfig, VQFirstStage, describe
from difffae.edit.description import Sampling
from difffae.edit.model import EditModel
from difffae.head.adjust import Adjustments
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser
from difffae.source.other_encoders import SourceEncoder, load_source_encoder

VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 8}
TOKENS = {"vae": 64, "mae": 10, "clip": 10}  # pictures of 32 pixels: 16x16 latents in patches of 2; 3x3 patches and the class token


def write_encoder(kind: str, folder: Path) -> torch.nn.Module:
    torch.manual_seed(7)
    if kind == "vae":
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        model = AutoencoderKL(**blocks, block_out_channels=(4, 8), norm_num_groups=2, scaling_factor=0.5)
    else:
        transformers = pytest.importorskip("transformers")
        if kind == "mae":
            model = transformers.ViTMAEModel(transformers.ViTMAEConfig(**VIT, mask_ratio=0.75))
        else:
            model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VIT))
    model.eval().save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["vae", "mae", "clip"])
def test_tokens_are_the_librarys(kind: str, tmp_path: Path) -> None:
    network = write_encoder(kind, tmp_path / kind)
    encoder = load_source_encoder(kind, tmp_path / kind, token_size=12, image_size=32).train()
    g = torch.Generator().manual_seed(0)
    side = 32 if kind == "vae" else 24  # no resizing, so that the library's own call is comparable
    images = torch.rand(2, 3, side, side, generator=g)
    features = encoder.backbone(images)
    if kind == "vae":
        latents = network.encode(images * 2 - 1).latent_dist.mean * 0.5
        expected = latents.reshape(2, 4, 8, 2, 8, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 64, 16)
    else:
        values = (images - encoder.backbone.mean) / encoder.backbone.deviation
        if kind == "mae":
            network.config.mask_ratio = network.embeddings.config.mask_ratio = 0.0
            output = network(pixel_values=values, noise=torch.linspace(0, 1, 9).expand(2, -1))
            assert torch.equal(output.ids_restore[0], torch.arange(9))
            expected = output.last_hidden_state
        else:
            expected = network(pixel_values=values).last_hidden_state
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
    tokens, masks = encoder(torch.rand(2, 3, 32, 32, generator=g))
    assert tokens.shape == (2, TOKENS[kind], 12)
    assert masks is None
    tokens.square().sum().backward()
    learning = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert learning == {"position", "project.weight", "project.bias"}
    again = [encoder.backbone(images) for _ in range(2)]
    assert torch.equal(again[0], again[1])  # MAE would shuffle its patches at random


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "clip"])
def test_denoiser_trains_with_one(kind: str, tmp_path: Path) -> None:
    write_encoder(kind, tmp_path / kind)
    shards = write_denoiser_shards(tmp_path / "shards")
    options = DenoiserTraining(
        shards=str(shards), steps=4, delta=0.0, source_encoder=kind, source_encoder_path=str(tmp_path / kind), **COMMON
    )
    whole = train_denoiser(dataclasses.replace(options, folder=str(tmp_path / "whole")), DENOISER)
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_denoiser(parts, DENOISER, stop_step=2)
    resumed = train_denoiser(parts).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.state_dict().items())
    fresh = load_source_encoder(kind, tmp_path / kind, 12, 32)
    learned = whole["source_encoder"]
    assert not torch.equal(learned.position, fresh.position)
    assert all(torch.equal(a, b) for a, b in zip(learned.backbone.parameters(), fresh.backbone.parameters(), strict=True))
    with pytest.raises(ConfigError, match="delta=0"):
        train_denoiser(dataclasses.replace(options, delta=0.1, folder=str(tmp_path / "x")), DENOISER)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "mae", "clip"])
def test_a_whole_model_with_one_is_saved_and_edits(kind: str, tmp_path: Path) -> None:
    write_encoder(kind, tmp_path / kind)
    parts = small(carry=False)
    encoder = load_source_encoder(kind, tmp_path / kind, parts.denoiser.config.token_size, 64)
    torch.nn.init.normal_(parts.denoiser.unet.conv_out.weight, std=0.05)  # zero at the start, whatever the tokens are
    model = EditModel(parts.autoencoder, encoder, parts.denoiser, "ablation").eval()
    path = tmp_path / "model.safetensors"
    model.save(path, license="test", source="test", eight_bit=False, half=False)
    assert str(tmp_path) not in (path.read_bytes()[:100_000]).decode("latin-1")  # it says nothing of the folder
    (tmp_path / kind).rename(tmp_path / "gone")  # everything is in the file
    pipeline = DiffFAE.from_pretrained(path)
    again = pipeline.model.encoder
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(again(images)[0], encoder(images)[0])
    source = pipeline.analyse(read_image(asset_path("source.png"))[0])
    result = pipeline.edit(source, adjust=Adjustments(yaw=10), sampling=Sampling(steps=1))
    assert result.masks is None
    with torch.no_grad():
        again.position.zero_()
    assert not torch.equal(
        pipeline.edit(source, adjust=Adjustments(yaw=10), sampling=Sampling(steps=1)).crop, result.crop
    )  # the tokens count
    with pytest.raises(ConfigError, match=f"model 'ablation': its source encoder is '{kind}', which knows no regions"):
        pipeline.swap(source, source)


def test_parts_of_other_sizes_are_refused(tmp_path: Path) -> None:
    write_encoder("vae", tmp_path / "vae")
    parts = small()
    with pytest.raises(CheckpointError, match="makes tokens of 12 numbers, the denoiser reads 192"):
        EditModel(parts.autoencoder, load_source_encoder("vae", tmp_path / "vae", 12, 64), parts.denoiser)
    model = EditModel(parts.autoencoder, load_source_encoder("vae", tmp_path / "vae", 192, 64), parts.denoiser)
    path = tmp_path / "model.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SourceEncoder, "to_dict", lambda self: {"kind": "vae", "tokens": 4})
        model.save(path, license="test", source="test")
    with pytest.raises(CheckpointError, match="its source encoder does not fit this version"):
        EditModel.load(path)


def test_a_converted_first_stage_is_a_vae(tmp_path: Path) -> None:
    path = tmp_path / "vq.safetensors"
    stage = VQFirstStage(VQConfig(codes=8, block_channels=(4, 4), layers_per_block=1, norm_groups=2))
    save_checkpoint(path, stage.state_dict(), kind="first-stage", config=describe(stage), license="test", source="test")
    encoder = load_source_encoder("vae", path, 12, 32)
    images = torch.rand(1, 3, 32, 32)
    latents = stage.eval().encode(images)
    torch.testing.assert_close(encoder.backbone(images)[0, 9], latents[0, :, 2:4, 2:4].reshape(-1), atol=1e-2, rtol=0)  # row 1, column 1
    with pytest.raises(ConfigError, match="built for 64"):
        encoder(torch.rand(1, 3, 16, 16))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vae, mae, clip"):
        load_source_encoder("dino", tmp_path, 12)
    with pytest.raises(CheckpointError, match="no folder"):
        load_source_encoder("clip", tmp_path / "none", 12)
    write_encoder("clip", tmp_path / "clip")
    with pytest.raises(CheckpointError, match="mae"):
        load_source_encoder("mae", tmp_path / "clip", 12)
    weights = tmp_path / "clip" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_source_encoder("clip", tmp_path / "clip", 12)
    weights.rename(tmp_path / "clip" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):  # pickles are not opened
        load_source_encoder("clip", tmp_path / "clip", 12)
