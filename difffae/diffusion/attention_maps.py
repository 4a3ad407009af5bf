"""Cross-attention that can show its maps (paper 4.3 and Fig. 11).

Shape letters: B batch, N pixels of a layer, S tokens, h and w height and width of the layer's grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor


@dataclass
class AttentionTap:
    """Where the processors of one model leave their maps; `maps` None means that nobody is looking. size: sides of the latents."""

    maps: dict[str, Tensor] | None = None
    size: tuple[int, int] = (1, 1)


def grid_of(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a layer with this many pixels, for latents of this size: halved (rounded up) until it fits."""
    height, width = size
    while height * width > pixels and height * width > 1:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    return height, width


class TokenAttentionProcessor:
    """Attention over the few tokens, softmax(QK^T/sqrt(d))V. Same numbers as diffusers' processors, but the maps can be kept."""

    def __init__(self, name: str, tap: AttentionTap) -> None:
        self.name = name
        self.tap = tap

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states (B,N,C), encoder_hidden_states (B,S,D) -> (B,N,C)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        batch, pixels, _ = hidden_states.shape
        query = attn.to_q(hidden_states).reshape(batch, pixels, attn.heads, -1).transpose(1, 2)
        key = attn.to_k(context).reshape(batch, context.shape[1], attn.heads, -1).transpose(1, 2)
        value = attn.to_v(context).reshape(batch, context.shape[1], attn.heads, -1).transpose(1, 2)
        if self.tap.maps is None:
            output = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=attn.scale)
        else:
            scores = torch.matmul(query, key.transpose(-1, -2)).float() * attn.scale
            if attention_mask is not None:
                scores = scores + attention_mask
            weights = scores.softmax(dim=-1)
            output = torch.matmul(weights.to(value.dtype), value)
            height, width = grid_of(pixels, self.tap.size)
            self.tap.maps[self.name] = weights.mean(dim=1).transpose(1, 2).reshape(batch, -1, height, width)
        output = output.transpose(1, 2).reshape(batch, pixels, -1)
        output = attn.to_out[1](attn.to_out[0](output))
        return output / attn.rescale_output_factor
