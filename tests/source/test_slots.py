"""Slot attention, encoder, mixture decoder and swap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from places import SHARED
from safetensors.torch import load_file

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import ConfigError
from difffae.lab.losses.mixture_decoder import MixtureDecoder, MixtureDecoderConfig
from difffae.source.slot_attention import SlotAttention
from difffae.source.slots import KIND, SlotEncoder, SlotsConfig, find_order, region_overlap, swap
from difffae.vocabulary import REGIONS

GOLDEN = SHARED / "golden"
TINY = SlotsConfig(
    image_size=64, stem_channels=16, block_channels=(16, 32), layers_per_block=1, feature_channels=32, slot_size=24, slot_hidden=32
)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_encoder_has_the_papers_size() -> None:
    with torch.device("meta"):
        model = SlotEncoder(SlotsConfig())
    assert count(model.encoder) == 15_225_472
    assert model.initial.shape == (1, 4, 192)


def test_open_encoder_is_small() -> None:
    with torch.device("meta"):
        assert 1.5e6 < count(SlotEncoder(SlotsConfig.open_256())) < 3e6


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="golden numbers are not here")
def test_slot_attention_matches_slotdiffusion() -> None:
    weights = load_file(str(GOLDEN / "slot_attention_A.safetensors"))
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN / "slot_attention_A.npz").items()}
    model = SlotAttention(192, 192, 384)
    model.load_state_dict(weights, strict=True)
    slots, masks = model(golden["inputs"], golden["init_slots"].expand(2, -1, -1))
    torch.testing.assert_close(slots, golden["slots"], atol=1e-5, rtol=0)
    torch.testing.assert_close(masks, golden["mask"], atol=1e-5, rtol=0)


def test_encoder_shapes_and_masks_sum_to_one() -> None:
    torch.manual_seed(0)
    model = SlotEncoder(TINY)
    tokens, masks = model(torch.rand(2, 3, 64, 48))
    assert tokens.shape == (2, 4, 24)
    assert masks.shape == (2, 4, 8, 6)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, 8, 6))


def test_masks_depend_on_the_image() -> None:
    torch.manual_seed(0)
    model = SlotEncoder(TINY)
    image = torch.rand(1, 3, 64, 64)
    a, b = model(image)[1], model(image.flip(-1))[1]
    assert (a - b).abs().max() > 1e-3


def test_encoder_refuses_odd_sizes() -> None:
    with pytest.raises(ConfigError, match="divisible by 16"):
        SlotEncoder(TINY)(torch.rand(1, 3, 60, 64))


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SlotEncoder(TINY).eval()
    config = {**TINY.to_dict(), "order": ["hair", "face", "background", "clothes"]}
    save_checkpoint(tmp_path / "s.safetensors", model.state_dict(), kind=KIND, config=config, license="test", source="test")
    loaded = SlotEncoder.load(tmp_path / "s.safetensors")
    assert loaded.config.order == ("hair", "face", "background", "clothes")
    assert loaded.config.block_channels == (16, 32)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(image)[0], model(image)[0])


def test_mixture_decoder_merges() -> None:
    torch.manual_seed(0)
    model = MixtureDecoder(MixtureDecoderConfig(token_size=24, channels=16, size=32))
    image, masks = model(torch.randn(2, 4, 24))
    assert image.shape == (2, 3, 32, 32)
    assert masks.shape == (2, 4, 32, 32)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(2, 32, 32))


def test_mixture_decoder_refuses_bad_sizes() -> None:
    with pytest.raises(ConfigError, match="power of two"):
        MixtureDecoderConfig(size=24)


def test_swap_takes_only_the_named_regions() -> None:
    torch.manual_seed(0)
    tokens, reference = torch.randn(2, 4, 5), torch.randn(1, 4, 5)
    order = ("background", "face", "hair", "clothes")
    out = swap(tokens, reference, ["hair"], order=order)
    assert torch.equal(out[:, 2], reference[:, 2].expand(2, -1))
    assert torch.equal(out[:, [0, 1, 3]], tokens[:, [0, 1, 3]])
    half = swap(tokens, reference, ["hair"], strength=0.5, order=order)
    torch.testing.assert_close(half[:, 2], (tokens[:, 2] + reference[:, 2]) / 2)
    assert torch.equal(swap(tokens, reference, REGIONS, strength=0.0), tokens)
    assert torch.equal(swap(tokens, reference, []), tokens)


def test_swap_errors() -> None:
    tokens = torch.zeros(1, 4, 5)
    with pytest.raises(ConfigError, match="no token holds 'hat'"):
        swap(tokens, tokens, ["hat"])
    with pytest.raises(ConfigError, match="strength"):
        swap(tokens, tokens, ["hair"], strength=1.5)
    with pytest.raises(ConfigError, match="which of this model's slots is which region was never measured"):
        swap(tokens, tokens, ["hair"], order=())


def test_order_from_overlap() -> None:
    labels = torch.zeros(1, 4, 2, 2)
    for region in range(4):
        labels[0, region, region // 2, region % 2] = 1
    masks = labels[:, [2, 0, 3, 1]] * 0.7 + 0.075
    assert find_order(region_overlap(masks, labels)) == ("clothes", "face", "background", "hair")
    assert find_order(torch.tensor([[0.9, 0.1, 0, 0], [0.1, 0.2, 0.3, 0.9]])) == ("face", "background")
