"""The U-Net: sizes of the paper, AdaIN, carry, attention maps, checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import ConfigError
from difffae.common.unet import Attention
from difffae.diffusion.conditions import Conditions
from difffae.diffusion.denoiser import KIND, AdaIN, AdaINResidualBlock, Denoiser, DenoiserConfig
from difffae.diffusion.schedule import ScheduleConfig

TINY = DenoiserConfig(
    sample_size=16,
    latent_channels=2,
    carry=True,
    block_channels=(8, 16),
    attention_levels=(False, True),
    layers_per_block=1,
    heads=2,
    token_size=12,
    norm_groups=4,
    identity_size=6,
    adain="blend",
    schedule=ScheduleConfig.open_256(),
)


def conditions(batch: int = 2, size: tuple[int, int] = (16, 16), seed: int = 0) -> Conditions:
    g = torch.Generator().manual_seed(seed)
    return Conditions(
        torch.randn(batch, 4, 12, generator=g),
        torch.randn(batch, 6, generator=g),
        torch.randn(batch, 2, *size, generator=g),
        torch.randn(batch, 2, *size, generator=g),
        torch.rand(batch, 1, *size, generator=g),
    )


def woken(config: DenoiserConfig = TINY) -> Denoiser:
    """A model whose zero-started layers are no longer zero."""
    torch.manual_seed(0)
    model = Denoiser(config).eval()
    for parameter in model.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def count(config: DenoiserConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Denoiser(config).parameters())


@pytest.mark.parametrize(("adain", "expected"), [("none", 845_155_524), ("replace", 865_839_684)])
def test_paper_sizes(adain: str, expected: int) -> None:
    assert count(dataclasses.replace(DenoiserConfig.paper(), adain=adain)) == expected


def test_open_size_and_channels() -> None:
    config = DenoiserConfig.open_256()
    assert config.in_channels == 25
    assert 13e6 < count(config) < 16e6


def test_every_block_has_adain_and_gets_gradients() -> None:
    model = woken()
    blocks = [module for module in model.modules() if isinstance(module, AdaINResidualBlock)]
    assert len(blocks) == 8  # 2 down, 2 middle, 4 up
    model(torch.randn(2, 2, 16, 16), torch.tensor([3, 700]), conditions()).square().mean().backward()
    for block in blocks:
        assert block.adain.project.weight.grad.abs().sum() > 0


def test_paper_unet_has_22_blocks() -> None:
    with torch.device("meta"):
        model = Denoiser(DenoiserConfig.paper())
    assert sum(isinstance(module, AdaINResidualBlock) for module in model.modules()) == 22
    watched = [module for module in model.modules() if isinstance(module, Attention) and module.observer is not None]
    assert len(watched) == 16


def test_adain_formula() -> None:
    torch.manual_seed(0)
    layer = AdaIN(6, 8, blend=False)
    torch.nn.init.normal_(layer.project.weight)
    h, identity = torch.randn(2, 8, 4, 5), torch.randn(2, 6)
    out = layer(h, identity)
    scale, shift = layer.project(torch.nn.functional.silu(identity)).chunk(2, dim=1)
    torch.testing.assert_close(out.mean(dim=(2, 3)), shift, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(dim=(2, 3), correction=0), scale.abs(), atol=1e-3, rtol=0)


def test_new_blend_equals_plain_unet() -> None:
    torch.manual_seed(0)
    model = Denoiser(TINY).eval()
    torch.nn.init.normal_(model.unet.conv_out.weight)
    plain = Denoiser(dataclasses.replace(TINY, adain="none")).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "adain" not in name})
    noisy, c = torch.randn(2, 2, 16, 16), conditions()
    torch.testing.assert_close(model(noisy, 5, c), plain(noisy, 5, c))


def test_every_condition_matters() -> None:
    model, noisy, c = woken(), torch.randn(2, 2, 16, 16), conditions()
    base, other = model(noisy, 5, c), conditions(seed=1)
    for name in ("tokens", "identity", "render", "carried", "validity"):
        changed = dataclasses.replace(c, **{name: getattr(other, name)})
        assert (model(noisy, 5, changed) - base).abs().max() > 1e-4, name
    assert (model(noisy, 900, c) - base).abs().max() > 1e-4


def test_nothing_carried_equals_zeros() -> None:
    model, noisy, c = woken(), torch.randn(2, 2, 16, 16), conditions()
    bare = Conditions(c.tokens, c.identity, c.render)
    torch.testing.assert_close(model(noisy, 5, bare), model(noisy, 5, c.without_carry()))


def test_attention_maps() -> None:
    model, c = woken(), conditions(size=(16, 24))
    noisy = torch.randn(2, 2, 16, 24)
    plain = model(noisy, 5, c)
    with model.record_attention() as maps:
        recorded = model(noisy, 5, c)
    torch.testing.assert_close(recorded, plain, atol=1e-5, rtol=1e-5)
    shapes = [tuple(value.shape) for value in maps.values()]
    assert shapes == [(2, 4, 8, 12)] * 4  # one down, the middle, two up
    for value in maps.values():
        torch.testing.assert_close(value.sum(dim=1), torch.ones(2, *value.shape[2:]))
    model(noisy, 5, c)
    assert len(maps) == 4  # nothing is recorded outside the context


def test_equal_scores_share_the_map() -> None:
    model, c = woken(), conditions()
    attention = model.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    with torch.no_grad():
        attention.to_q.weight.zero_()
    with model.record_attention() as maps:
        model(torch.randn(2, 2, 16, 16), 5, c)
    middle = next(value for name, value in maps.items() if name.startswith("mid_block"))
    torch.testing.assert_close(middle, torch.full_like(middle, 0.25))


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    model = woken()
    save_checkpoint(tmp_path / "d.safetensors", model.state_dict(), kind=KIND, config=TINY.to_dict(), license="test", source="test")
    loaded = Denoiser.load(tmp_path / "d.safetensors")
    assert loaded.config == TINY
    noisy, c = torch.randn(2, 2, 16, 16), conditions()
    torch.testing.assert_close(loaded(noisy, 5, c), model(noisy, 5, c))


def test_errors() -> None:
    model, c = Denoiser(TINY), conditions()
    with pytest.raises(ConfigError, match="identity of 5"):
        model(torch.randn(2, 2, 16, 16), 5, dataclasses.replace(c, identity=torch.zeros(2, 5)))
    with pytest.raises(ConfigError, match="must be \\(B"):
        model(torch.randn(2, 3, 16, 16), 5, c)
    with pytest.raises(ConfigError, match="come together"):
        dataclasses.replace(c, validity=None)
    with pytest.raises(ConfigError, match="unknown adain"):
        DenoiserConfig(adain="x")
    with pytest.raises(ConfigError, match="zero_terminal_snr"):
        ScheduleConfig(zero_terminal_snr=True)
