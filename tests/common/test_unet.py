"""Our U-Net against diffusers' two classes: weights, pictures and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from difffae.common.errors import ConfigError
from difffae.common.unet import Attention, UNet
from difffae.diffusion.denoiser import Denoiser, DenoiserConfig
from difffae.source.slots import RegionEncoder, SlotsConfig

PAPER = replace(DenoiserConfig.paper(), adain="none")
DENOISERS = {
    "open-256": replace(DenoiserConfig.open_256(), adain="none"),
    "paper-256": replace(PAPER, block_channels=(32, 64, 128, 128), norm_groups=16, heads=8),
}
SLOTS = {
    "open-256": SlotsConfig.open_256(),
    "paper-256": SlotsConfig(stem_channels=16, block_channels=(16, 16, 32, 64), head_width=8, feature_channels=48),
    "no attention": replace(SlotsConfig.open_256(), middle_attention=False),
}


def their_denoiser(c: DenoiserConfig) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=c.sample_size,
        in_channels=c.in_channels,
        out_channels=c.latent_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in c.attention_levels),
        up_block_types=tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(c.attention_levels)),
        block_out_channels=c.block_channels,
        layers_per_block=c.layers_per_block,
        cross_attention_dim=c.token_size,
        attention_head_dim=c.heads,  # diffusers' name for the number of heads of this class
        norm_num_groups=c.norm_groups,
    )


def their_encoder(c: SlotsConfig) -> UNet2DModel:
    levels = len(c.block_channels)
    return UNet2DModel(
        sample_size=c.image_size // c.patch,
        in_channels=c.stem_channels,
        out_channels=c.feature_channels,
        block_out_channels=c.block_channels,
        layers_per_block=c.layers_per_block,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=c.norm_groups,
        attention_head_dim=c.head_width,
        add_attention=c.middle_attention,
    )


def same_weights(ours: UNet, theirs: nn.Module) -> None:
    """Names and order are equal, and random values go from them to us. Normalisations too get values that differ from 1 and 0."""
    assert list(ours.state_dict()) == list(theirs.state_dict())
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            spread = parameter.shape[1:].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=g) * spread + (parameter.dim() == 1))
    ours.load_state_dict(theirs.state_dict())


def assert_same(ours: UNet, theirs: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], x: Tensor) -> None:
    """Outputs and gradients, of the input and of every weight."""
    results, given = [], []
    for network in (ours, theirs):
        x = x.detach().clone().requires_grad_(True)
        results.append(run(network, x))
        results[-1].square().mean().backward()
        given.append(x.grad)
    assert results[1].std() > 0.1
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(given[0], given[1], atol=1e-5, rtol=1e-4)
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        scale = float(wanted[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad / scale, wanted[name].grad / scale, atol=1e-4, rtol=0, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("size", [(32, 32), (20, 12)])  # the second does not halve evenly
def test_denoiser(name: str, size: tuple[int, int]) -> None:
    config = DENOISERS[name]
    ours, theirs = Denoiser(config).unet.eval(), their_denoiser(config).eval()
    same_weights(ours, theirs)
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, config.in_channels, *size, generator=g)
    tokens, steps = torch.randn(2, 4, config.token_size, generator=g), torch.tensor([3, 999])

    def run(network: nn.Module, x: Tensor) -> Tensor:
        return network(x, steps, tokens) if network is ours else network(x, steps, encoder_hidden_states=tokens).sample

    assert_same(ours, theirs, run, x)


@pytest.mark.parametrize("name", SLOTS)
def test_slot_encoder(name: str) -> None:
    config = SLOTS[name]
    ours, theirs = RegionEncoder(config).unet.eval(), their_encoder(config).eval()
    same_weights(ours, theirs)
    x = torch.randn(2, config.stem_channels, 32, 32, generator=torch.Generator().manual_seed(2))
    assert_same(ours, theirs, lambda network, x: network(x, 0) if network is ours else network(x, 0).sample, x)


def test_a_seed_starts_training_where_it_did() -> None:
    """Fresh weights are drawn in diffusers' order, so a training by its seed is repeatable across both."""
    for config, build, theirs in (
        (DENOISERS["paper-256"], lambda c: Denoiser(c).unet, their_denoiser),
        (SLOTS["paper-256"], lambda c: RegionEncoder(c).unet, their_encoder),
    ):
        torch.manual_seed(5)
        if isinstance(config, SlotsConfig):
            nn.Conv2d(3, config.stem_channels, config.patch)  # the stem, which is drawn first
        wanted = theirs(config).state_dict()
        torch.manual_seed(5)
        own = build(config).state_dict()
        for name, values in wanted.items():
            if not (isinstance(config, DenoiserConfig) and name.startswith("conv_out")):  # the denoiser sets it to zero
                assert torch.equal(own[name], values), name


def test_half_precision_and_checkpointing_change_little() -> None:
    config = DENOISERS["open-256"]
    torch.manual_seed(0)
    unet = Denoiser(config).unet
    same_weights(unet, their_denoiser(config))
    x, tokens, steps = torch.randn(1, config.in_channels, 16, 16), torch.randn(1, 4, config.token_size), torch.tensor([500])
    plain = unet(x, steps, tokens)
    plain.sum().backward()
    wanted = unet.conv_in.weight.grad.clone()
    unet.zero_grad()
    unet.enable_gradient_checkpointing()
    again = unet(x, steps, tokens)
    again.sum().backward()
    assert torch.equal(plain, again)
    torch.testing.assert_close(unet.conv_in.weight.grad, wanted)
    half = unet.to(torch.bfloat16)(x.bfloat16(), steps, tokens.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - plain).abs().mean() / plain.abs().mean() < 0.05


def test_heads_divide_channels() -> None:
    with pytest.raises(ConfigError, match="10 channels cannot be divided among 4 heads"):
        Attention(10, 4)
