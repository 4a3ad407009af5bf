"""KL-f8 and VQ-f8 behind the interface of the first stage: sizes, numbers, files, a model that names one."""

from __future__ import annotations

import pytest
import torch

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import CheckpointError
from difffae.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from difffae.diffusion.denoiser import Denoiser, DenoiserConfig
from difffae.diffusion.first_stages import KLConfig, KLFirstStage, VQConfig, VQFirstStage, build_first_stage, describe, load_first_stage
from difffae.edit.model import EditModel
from difffae.source.identity_networks import load_identity
from difffae.source.slots import SlotEncoder, SlotsConfig

SMALL = {"block_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_groups": 4}


@pytest.fixture(scope="module")
def vq() -> VQFirstStage:
    torch.manual_seed(0)
    stage = VQFirstStage(VQConfig(codes=32, **SMALL)).eval().requires_grad_(False)
    torch.nn.init.normal_(stage.network.quantize.embedding.weight)
    return stage


@pytest.fixture(scope="module")
def kl() -> KLFirstStage:
    torch.manual_seed(0)
    return KLFirstStage(KLConfig(**SMALL)).eval().requires_grad_(False)


@pytest.mark.parametrize(("stage_class", "expected"), [(KLFirstStage, 83_653_863), (VQFirstStage, 67_717_295)])
def test_sizes_of_the_paper(stage_class: type, expected: int) -> None:
    with torch.device("meta"):
        stage = stage_class()
    assert sum(p.numel() for p in stage.parameters()) == expected
    assert stage.factor == 8
    assert stage.encode(torch.rand(2, 3, 256, 256, device="meta")).shape == (2, 4, 32, 32)
    assert stage.decode(torch.rand(2, 4, 64, 64, device="meta")).shape == (2, 3, 512, 512)


def test_kl_latents_are_the_scaled_mean(kl: KLFirstStage) -> None:
    picture = torch.rand(2, 3, 32, 32)
    posterior = kl.network.encode(picture * 2 - 1).latent_dist
    assert torch.allclose(kl.encode(picture), posterior.mean * 0.18215, atol=1e-6)
    latents = torch.randn(2, 4, 4, 4)
    assert torch.allclose(kl.decode(latents) * 2 - 1, kl.network.decode(latents / 0.18215).sample, atol=1e-5)


def test_vq_latents_lie_before_quantisation_and_decoding_quantises(vq: VQFirstStage) -> None:
    picture = torch.rand(1, 3, 32, 32)
    latents = vq.encode(picture)
    assert torch.equal(latents, vq.network.encode(picture * 2 - 1).latents)
    codes = vq.network.quantize.embedding.weight
    assert not any(torch.allclose(codes[i], latents[0, :, 0, 0], atol=1e-4) for i in range(len(codes)))

    nearest, index = vq.quantize(torch.randn(2, 4, 6, 5))
    assert nearest.shape == (2, 4, 6, 5)
    assert torch.equal(nearest[1, :, 2, 3], codes[index[1, 2, 3]])
    assert torch.allclose(vq.decode(latents) * 2 - 1, vq.network.decode(latents).sample, atol=1e-5)  # diffusers' own quantiser
    assert torch.equal(vq.decode(latents), vq.decode(vq.quantize(latents)[0]))


def test_quantisation_finds_the_nearest_code_in_parts_too(vq: VQFirstStage, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(1, 4, 5, 7)
    points, codes = latents[0].flatten(1).T.double(), vq.network.quantize.embedding.weight.double()
    expected = torch.cdist(points, codes).argmin(dim=1).reshape(5, 7)
    assert torch.equal(vq.quantize(latents)[1][0], expected)
    monkeypatch.setattr("difffae.diffusion.first_stages.POINTS_AT_ONCE", 4)
    assert torch.equal(vq.quantize(latents)[1][0], expected)


def test_scaled_vq_latents_find_the_same_codes(vq: VQFirstStage) -> None:
    scaled = build_first_stage(describe(vq) | {"latent_scale": 0.5}, "test")
    scaled.load_state_dict(vq.state_dict())
    latents = torch.randn(1, 4, 4, 4)
    assert torch.allclose(scaled.decode(latents / 2), vq.decode(latents), atol=1e-6)
    assert torch.allclose(scaled.encode(torch.ones(1, 3, 32, 32)), vq.encode(torch.ones(1, 3, 32, 32)) / 2)


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_half_precision_weights_take_and_give_float32(name: str, request: pytest.FixtureRequest) -> None:
    stage = request.getfixturevalue(name)
    half = build_first_stage(describe(stage), "test")
    half.load_state_dict(stage.state_dict())
    half.to(torch.bfloat16)
    picture = torch.rand(1, 3, 32, 32)
    latents = stage.encode(picture)
    assert half.encode(picture).dtype == half.decode(latents).dtype == torch.float32
    assert (half.encode(picture) - latents).abs().max() < 0.1 * latents.abs().max()


def test_preview_factors_follow_the_decoder(kl: KLFirstStage) -> None:
    matrix, offset = kl.rgb_factors()
    assert matrix.shape == (4, 3)
    raised = kl.decode(torch.eye(4)[0][None, :, None, None].expand(1, 4, 8, 8)).mean(dim=(2, 3))[0]
    lowered = kl.decode(-torch.eye(4)[0][None, :, None, None].expand(1, 4, 8, 8)).mean(dim=(2, 3))[0]
    assert torch.allclose(matrix[0] * 2, raised - lowered, atol=1e-5)
    assert torch.allclose(offset, kl.decode(torch.zeros(1, 4, 8, 8)).mean(dim=(2, 3))[0], atol=1e-5)


def edit_model(first, identity: str = "arcface-r18") -> EditModel:
    denoiser = DenoiserConfig(
        sample_size=4, block_channels=(32, 32), attention_levels=(False, True), layers_per_block=1, norm_groups=8, identity_size=512
    )
    return EditModel(first, SlotEncoder(SlotsConfig.open_256()), Denoiser(denoiser), "small", identity)


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_a_model_names_its_first_stage_and_identity(name: str, request: pytest.FixtureRequest, tmp_path) -> None:
    stage = request.getfixturevalue(name)
    edit_model(stage).save(tmp_path / "model.safetensors", license="test", source="test", eight_bit=False)
    again = EditModel.load(tmp_path / "model.safetensors")
    assert type(again.autoencoder) is type(stage)
    assert again.autoencoder.config == stage.config
    assert again.identity == "arcface-r18"
    assert again.image_size == 32
    picture = torch.rand(1, 3, 32, 32)
    assert torch.allclose(again.autoencoder.encode(picture), stage.encode(picture), atol=5e-3)  # stored in half precision
    with pytest.raises(CheckpointError, match=r"bundled network: is 'dlib-resnet-v1', but this model was trained with 'arcface-r18'"):
        load_identity(None, again.identity)


def test_files_that_name_neither_are_open_with_dlib(tmp_path) -> None:
    first = Autoencoder(AutoencoderConfig(latent_channels=4, width=16, deep_width=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    model = edit_model(first)
    config = {"name": "old", "autoencoder": first.config.to_dict(), "slots": model.slots.config.to_dict()}
    config["denoiser"] = model.denoiser.config.to_dict()
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, model.tensors(), kind="edit", config=config, license="test", source="test")
    again = EditModel.load(path)
    assert again.autoencoder.config == first.config
    assert again.identity == "dlib-resnet-v1"
    config["autoencoder"]["kind"] = "vq-f4"
    save_checkpoint(path, model.tensors(), kind="edit", config=config, license="test", source="test")
    with pytest.raises(CheckpointError, match=r"old\.safetensors: its first stage is 'vq-f4', but only open, kl-f8, vq-f8"):
        EditModel.load(path)


def test_a_converted_file_loads_frozen_and_another_size_is_refused(vq: VQFirstStage, tmp_path) -> None:
    path = tmp_path / "vq.safetensors"
    save_checkpoint(path, vq.state_dict(), kind="first-stage", config=describe(vq), license="test", source="test")
    again = load_first_stage(path)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert torch.equal(again.encode(torch.ones(1, 3, 32, 32)), vq.encode(torch.ones(1, 3, 32, 32)))
    save_checkpoint(path, vq.state_dict(), kind="first-stage", config=describe(vq) | {"codes": 5}, license="test", source="test")
    with pytest.raises(CheckpointError, match=r"vq\.safetensors: the weights do not fit"):
        load_first_stage(path)
