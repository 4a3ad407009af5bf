"""A U-Net of residual blocks with attention, for the denoiser and for the slot encoder.

Numbers, names and order of the weights are those of diffusers' UNet2DModel and UNet2DConditionModel, so that checkpoints go both ways
(tests/common/test_unet.py holds them to each other). It is written anew because importing those two classes takes longer than an edit.

Shape letters: B batch, C feature channels, h and w the sides of a level's grid, N = h * w, S tokens, D token size, T time size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .errors import ConfigError

LARGEST = 2**31  # elements that PyTorch's channels-last upsampling can address


class Observer(Protocol):
    """Sees the weights of one attention layer."""

    @property
    def looking(self) -> bool:
        """Whether the next call's weights are wanted. They cost time: the fused kernel does not give them."""

    def see(self, weights: Tensor) -> None:
        """weights (B,heads,N,S), which sum to 1 over the last dimension."""


class ResidualBlock(nn.Module):
    """GroupNorm-SiLU-conv twice, with the time embedding added between; a 1x1 conv on the shortcut where the channels change."""

    def __init__(self, inputs: int, outputs: int, time_size: int, groups: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.time_size, self.groups = inputs, outputs, time_size, groups
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_size, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B,inputs,h,w), time (B,T) -> (B,outputs,h,w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h + self.time_emb_proj(F.silu(time))[:, :, None, None])
        h = self.conv2(F.silu(h))
        if self.conv_shortcut is not None:
            # gradients of a 1x1 conv on a strided view have strides of their own, of which distributed training complains
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        return x + h


class Attention(nn.Module):
    """Multi-head attention softmax(QK^T/sqrt(d))V of x to a context, or to itself. Raises ConfigError for channels that do not divide."""

    def __init__(self, channels: int, heads: int, context_size: int | None = None, groups: int | None = None) -> None:
        """groups: of a normalisation before the projections, which then have biases."""
        super().__init__()
        if channels % heads:
            raise ConfigError(f"attention: {channels} channels cannot be divided among {heads} heads; choose a divisor")
        self.heads = heads
        self.observer: Observer | None = None
        self.group_norm = nn.GroupNorm(groups, channels) if groups else None
        self.to_q = nn.Linear(channels, channels, bias=groups is not None)
        self.to_k = nn.Linear(context_size or channels, channels, bias=groups is not None)
        self.to_v = nn.Linear(context_size or channels, channels, bias=groups is not None)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B,N,C), context (B,S,D) or None for x itself -> (B,N,C)."""
        if self.group_norm is not None:
            x = self.group_norm(x.transpose(1, 2)).transpose(1, 2)
        context = x if context is None else context
        query, key, value = (
            states.reshape(states.shape[0], states.shape[1], self.heads, -1).transpose(1, 2)
            for states in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        if self.observer is None or not self.observer.looking:
            output = F.scaled_dot_product_attention(query, key, value)
        else:
            weights = (torch.matmul(query, key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5).softmax(dim=-1)
            output = torch.matmul(weights.to(value.dtype), value)
            self.observer.see(weights)
        return self.to_out(output.transpose(1, 2).reshape(x.shape))


class MapAttention(Attention):
    """Attention among the points of a feature map (B,C,h,w), added to it."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__(channels, heads, groups=groups)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x.flatten(2).transpose(1, 2), context).transpose(1, 2).reshape(x.shape) + x


class GatedGELU(nn.Module):
    """GEGLU (Shazeer 2020, arXiv:2002.05202): half of the projection gates the other."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """A gated hidden layer four times as wide, per point: (B,N,C) -> (B,N,C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # the middle one holds the place of diffusers' dropout, so that the last one's name is the same
        self.net = nn.Sequential(GatedGELU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Attention among the points, attention to the tokens, and a feed-forward layer, each added to what came in."""

    def __init__(self, channels: int, heads: int, token_size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads, token_size)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, tokens: Tensor | None) -> Tensor:
        """x (B,N,C), tokens (B,S,D) -> (B,N,C)."""
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), tokens) + x  # Eq. 6 of the paper, where the tokens are the source's
        return self.ff(self.norm3(x)) + x


class TokenAttention(nn.Module):
    """A transformer block on a feature map, between 1x1 convolutions, added to the map (B,C,h,w)."""

    def __init__(self, channels: int, heads: int, token_size: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, token_size)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        batch, channels, height, width = x.shape
        points = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        points = self.transformer_blocks[0](points, tokens)
        return self.proj_out(points.reshape(batch, height, width, channels).permute(0, 3, 1, 2).contiguous()) + x


class Downsample(nn.Module):
    """Halves both sides, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Enlarges to the sides of the level above, which are twice as long or one less."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        if x.shape[0] >= 64 or 4 * x.numel() > LARGEST:  # PyTorch's channels-last kernel fails on these
            x = x.contiguous()
        return self.conv(F.interpolate(x, size=tuple(size), mode="nearest"))


class Level(nn.Module):
    """Residual blocks, an attention layer after each or after none of them, and the way to the next level."""

    def __init__(self, resnets: list[nn.Module], attentions: list[nn.Module], down: nn.Module | None = None, up: nn.Module | None = None):
        super().__init__()
        self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)
        self.downsamplers = nn.ModuleList([] if down is None else [down])
        self.upsamplers = nn.ModuleList([] if up is None else [up])

    def layers(self) -> Iterable[tuple[nn.Module, nn.Module | None]]:
        """The residual blocks, each with the attention layer that follows it."""
        return zip(self.resnets, self.attentions or [None] * len(self.resnets), strict=True)


class Middle(nn.Module):
    """A residual block, attention, a residual block."""

    def __init__(self, first: nn.Module, attention: nn.Module | None, last: nn.Module) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([attention])  # type: ignore[list-item]  # None is a place without a module
        self.resnets = nn.ModuleList([first, last])


class TimeEmbedding(nn.Module):
    """Two linear layers on the sines and cosines of a step."""

    def __init__(self, frequencies: int, size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(frequencies, size)
        self.linear_2 = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


def sinusoidal(steps: Tensor, size: int) -> Tensor:
    """Cosines, then sines, of steps (B,) at size / 2 frequencies from 1 down to 1/10000 (Vaswani et al. 2017): (B,size) float32."""
    half = size // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=steps.device) / half
    angles = steps[:, None].float() * torch.exp(exponent)[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


@dataclass(frozen=True)
class UNetSizes:
    """Sizes of a U-Net.

    in_channels     of the maps that come in
    out_channels    of those that go out
    block_channels  per level, finest first
    layers          residual blocks per level on the way down; one more on the way up
    groups          of the normalisations
    """

    in_channels: int
    out_channels: int
    block_channels: tuple[int, ...]
    layers: int
    groups: int


class UNet(nn.Module):
    """Maps (B,in,h,w), a step per map and tokens -> maps (B,out,h,w)."""

    def __init__(self, sizes: UNetSizes, attention: Callable[[int | None, int], nn.Module | None]) -> None:
        """Build it with fresh weights.

        Args:
            sizes: channels and depths.
            attention: called with a level (0 the finest, None the middle) and its channels; makes one
                attention layer, or says by None that there is none.
        """
        super().__init__()
        channels = sizes.block_channels
        self.time_size = 4 * channels[0]
        self.frequencies = channels[0]
        self.checkpointing = False
        self.conv_in = nn.Conv2d(sizes.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(self.frequencies, self.time_size)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, self.time_size, sizes.groups)

        def level(index: int, inputs: list[int], down: bool = False, up: bool = False) -> Level:
            width = channels[index]
            resnets: list[nn.Module] = []
            attentions: list[nn.Module] = []
            for count in inputs:
                resnets.append(block(count, width))
                if (layer := attention(index, width)) is not None:
                    attentions.append(layer)
            return Level(resnets, attentions, Downsample(width) if down else None, Upsample(width) if up else None)

        last = len(channels) - 1
        for index, width in enumerate(channels):
            inputs = [channels[max(index - 1, 0)]] + [width] * (sizes.layers - 1)
            self.down_blocks.append(level(index, inputs, down=index < last))
        self.mid_block = Middle(block(channels[-1], channels[-1]), attention(None, channels[-1]), block(channels[-1], channels[-1]))
        for index in range(last, -1, -1):
            width, below, above = channels[index], channels[min(index + 1, last)], channels[max(index - 1, 0)]
            # what comes from below or from the block before, and what was kept on the way down
            arriving, kept = [below] + [width] * sizes.layers, [width] * sizes.layers + [above]
            self.up_blocks.append(level(index, [a + b for a, b in zip(arriving, kept, strict=True)], up=index > 0))
        self.conv_norm_out = nn.GroupNorm(sizes.groups, channels[0])
        self.conv_out = nn.Conv2d(channels[0], sizes.out_channels, 3, padding=1)

    def enable_gradient_checkpointing(self) -> None:
        """From now on keep only what goes into the blocks, and compute the rest again in backward."""
        self.checkpointing = True

    def forward(self, x: Tensor, steps: Tensor | int, tokens: Tensor | None = None, beside: Tensor | None = None) -> Tensor:
        """One pass.

        Args:
            x: (B,in,h,w).
            steps: (B,), or one integer for all.
            tokens: (B,S,D), what the attention layers read.
            beside: (B,E), set beside the time embedding, for residual blocks that read more than it.

        Returns:
            (B,out,h,w).
        """
        steps = torch.as_tensor(steps, device=x.device).expand(x.shape[0])
        time = self.time_embedding(sinusoidal(steps, self.frequencies).to(x.dtype))
        time = time if beside is None else torch.cat([time, beside], dim=-1)
        x = self.conv_in(x)
        kept = [x]
        for level in cast(Iterable[Level], self.down_blocks):
            for resnet, attention in level.layers():
                x = self._layer(resnet, attention, x, time, tokens)
                kept.append(x)
            for downsample in level.downsamplers:
                x = downsample(x)
                kept.append(x)
        first, last = self.mid_block.resnets
        x = self._layer(first, self.mid_block.attentions[0], x, time, tokens)
        x = self._layer(last, None, x, time, tokens)
        for level in cast(Iterable[Level], self.up_blocks):
            for resnet, attention in level.layers():
                x = self._layer(resnet, attention, torch.cat([x, kept.pop()], dim=1), time, tokens)
            for upsample in level.upsamplers:
                x = upsample(x, kept[-1].shape[-2:])
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def _layer(self, resnet: nn.Module, attention: nn.Module | None, x: Tensor, time: Tensor, tokens: Tensor | None) -> Tensor:
        again = self.checkpointing and torch.is_grad_enabled()
        x = checkpoint(resnet, x, time, use_reentrant=False) if again else resnet(x, time)
        if attention is None:
            return x
        return checkpoint(attention, x, tokens, use_reentrant=False) if again else attention(x, tokens)
