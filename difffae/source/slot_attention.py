"""Slot attention (Locatello et al. 2020) from learned slot vectors, and its position embedding.

Shape letters: B batch, N input vectors (pixels), C their channels, S slots, D slot size, h and w grid height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SoftPosition(nn.Module):
    """Adds a learned linear map of the position (y, x, 1-y, 1-x), each in 0..1, to a feature map (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(4, channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        y = torch.linspace(0, 1, height, device=x.device)
        z = torch.linspace(0, 1, width, device=x.device)
        grid = torch.stack(torch.meshgrid(y, z, indexing="ij"), dim=-1)
        embedding = self.project(torch.cat([grid, 1 - grid], dim=-1).to(self.project.weight.dtype))
        return x + embedding.permute(2, 0, 1)[None]


class SlotAttention(nn.Module):
    """Slots compete for input vectors by a softmax over slots; a GRU and an MLP update them (paper section 4.2).

    Names of the parameters are those of SlotDiffusion's SlotAttentionWMask, so that its weights load as they are.
    """

    def __init__(self, input_size: int, slot_size: int, hidden_size: int, iterations: int = 3, eps: float = 1e-6) -> None:
        super().__init__()
        self.iterations = iterations
        self.eps = eps
        self.norm_inputs = nn.LayerNorm(input_size)
        self.project_q = nn.Sequential(nn.LayerNorm(slot_size), nn.Linear(slot_size, slot_size, bias=False))
        self.project_k = nn.Linear(input_size, slot_size, bias=False)
        self.project_v = nn.Linear(input_size, slot_size, bias=False)
        self.gru = nn.GRUCell(slot_size, slot_size)
        self.mlp = nn.Sequential(nn.LayerNorm(slot_size), nn.Linear(slot_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, slot_size))

    def forward(self, inputs: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Let slots compete for input vectors.

        Args:
            inputs: (B,N,C).
            slots: (B,S,D) to start from.

        Returns:
            slots (B,S,D) and masks (B,S,N), which sum to 1 over the slots: the softmax of the last iteration,
            before the epsilon.
        """
        batch, count, size = slots.shape
        inputs = self.norm_inputs(inputs)
        keys, values = self.project_k(inputs), self.project_v(inputs)
        masks = inputs.new_zeros(batch, count, inputs.shape[1])
        for _ in range(self.iterations):
            previous = slots
            queries = self.project_q(slots)
            # paper 4.2: each token attends to the features; the softmax is over the slots, so that they compete
            masks = F.softmax(torch.einsum("bsd,bnd->bsn", queries, keys).float() * size**-0.5, dim=1)
            weights = masks + self.eps
            weights = weights / weights.sum(dim=-1, keepdim=True)
            updates = torch.einsum("bsn,bnd->bsd", weights.to(values.dtype), values)
            slots = self.gru(updates.reshape(-1, size), previous.reshape(-1, size).to(updates.dtype)).reshape(batch, count, size)
            slots = slots + self.mlp(slots)
        return slots, masks
