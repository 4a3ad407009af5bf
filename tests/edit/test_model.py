"""The three trained parts in one file, and what the denoiser is told of pictures."""

from __future__ import annotations

import pytest
import torch
from small_models import FIRST, small

from difffae.common.errors import CheckpointError
from difffae.diffusion.autoencoder import AutoencoderConfig
from difffae.diffusion.conditions import carry_latents
from difffae.edit.analysing import layers_of, region_masks
from difffae.edit.description import SlotTokens
from difffae.edit.model import EditModel


@pytest.fixture(scope="module")
def model() -> EditModel:
    return small().eval()


def test_sizes_come_from_the_parts(model):
    assert model.image_size == 64
    assert model.schedule == model.denoiser.config.schedule
    with pytest.raises(CheckpointError, match="4 latent channels, the denoiser 8"):
        small(channels=8)


def test_what_is_not_valid_never_reaches_the_denoiser(model):
    carried = torch.rand(1, 3, 64, 64)
    validity = torch.ones(1, 1, 64, 64)
    validity[..., :32, :] = 0
    spoilt = torch.where(validity > 0, carried, torch.rand(1, 3, 64, 64))
    first, second = (carry_latents(model.autoencoder, picture, validity) for picture in (carried, spoilt))
    assert torch.equal(first[0], second[0])
    assert first[0].shape == (1, 4, 8, 8)
    assert torch.equal(first[1][0, 0], torch.cat([torch.zeros(4, 8), torch.ones(4, 8)]))
    whole = carry_latents(model.autoencoder, carried, torch.ones_like(validity))
    assert torch.equal(whole[0], model.autoencoder.encode(carried))


def test_conditions_hold_what_the_profile_uses(model):
    tokens, identity = torch.rand(1, 4, model.slots.config.slot_size), torch.rand(1, 128)
    picture, validity = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    conditions = model.conditions(tokens, identity, picture * 1.2, picture, validity)
    assert torch.equal(conditions.render, model.autoencoder.encode((picture * 1.2).clamp(0, 1)))
    assert torch.equal(conditions.carried, model.autoencoder.encode(picture))
    noisy = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert model.denoiser(noisy, torch.tensor([3]), conditions).shape == noisy.shape
    paper = small(carry=False)
    assert paper.conditions(tokens, identity, picture, picture, validity).carried is None


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    path = tmp_path / "small.safetensors"
    model.save(path, license="test", source="test", eight_bit=False)
    again = EditModel.load(path)
    assert again.name == "small"
    assert again.autoencoder.config == FIRST  # tuples too
    assert again.slots.config == model.slots.config
    assert again.denoiser.config == model.denoiser.config
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(again.autoencoder(picture), model.autoencoder(picture), atol=2e-3)  # half precision
        assert torch.allclose(again.slots(picture)[1], model.slots(picture)[1], atol=2e-2)


def test_eight_bits_are_close_and_half_the_size(model, tmp_path):
    for name, eight_bit in (("large", False), ("small", True)):
        model.save(tmp_path / name, license="test", source="test", eight_bit=eight_bit)
    assert (tmp_path / "small").stat().st_size < 0.75 * (tmp_path / "large").stat().st_size
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        own, loaded = (m.autoencoder(picture) for m in (model, EditModel.load(tmp_path / "small")))
    assert (own - loaded).abs().mean() < 0.01


def test_files_of_another_version_are_named(model, tmp_path, monkeypatch):
    path = tmp_path / "odd.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderConfig, "to_dict", lambda self: {"from_the_future": 1})
        model.save(path, license="test", source="test")
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: its configuration"):
        EditModel.load(path)


def test_regions_of_unknown_slots_are_empty_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Edits need no regions, so a model whose slots nobody measured still works in every graph."""
    slots = SlotTokens(torch.zeros(2, 4, 96), torch.full((2, 4, 8, 8), 0.25), ())
    masks = region_masks(slots, torch.rand(2, 3, 40, 30))
    assert [tuple(mask.shape) for mask in masks] == [(2, 1, 40, 30)] * 4
    assert not any(mask.any() for mask in masks)
    assert "which of this model's slots is which region was never measured" in caplog.text
    assert layers_of(slots, torch.rand(2, 3, 40, 30), 2) is None
