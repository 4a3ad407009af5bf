"""Cross-attention that can show its maps (paper 4.3 and Fig. 11).

Shape letters: B batch, N pixels of a layer, S tokens, h and w height and width of the layer's grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass
class AttentionTap:
    """Where the layers of one model leave their maps; `maps` None means that nobody is looking. size: sides of the latents."""

    maps: dict[str, Tensor] | None = None
    size: tuple[int, int] = (1, 1)


def grid_of(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a layer with this many pixels, for latents of this size: halved (rounded up) until it fits."""
    height, width = size
    while height * width > pixels and height * width > 1:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    return height, width


@dataclass(frozen=True)
class LayerObserver:
    """What one cross-attention layer of a U-Net shows its weights to (common.unet.Observer)."""

    name: str
    tap: AttentionTap

    @property
    def looking(self) -> bool:
        return self.tap.maps is not None

    def see(self, weights: Tensor) -> None:
        """weights (B,heads,N,S): their mean over the heads is kept, as a map per token."""
        batch, _, pixels, tokens = weights.shape
        if self.tap.maps is not None:
            height, width = grid_of(pixels, self.tap.size)
            self.tap.maps[self.name] = weights.mean(dim=1).transpose(1, 2).reshape(batch, tokens, height, width)
