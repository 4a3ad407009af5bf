"""What the denoiser is told: slot tokens, identity, render and, where the profile has it, the carried photograph.

Shape letters: B batch, S slots, D token size, I identity size, Z latent channels, h and w latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import ConfigError

NOTHING_KNOWN = 0.05  # validity below which a carried pixel fades to grey


@dataclass(frozen=True)
class Conditions:
    """All conditions of one batch.

    tokens    (B,S,D) semantic tokens of the source (paper section 4.2, F); a row of zeros stands for a dropped token
    identity  (B,I) identity embedding of the source (f_id)
    render    (B,Z,h,w) latents of the 3DMM render (section 4.1, f_r)
    carried   (B,Z,h,w) latents of the carried photograph, or None
    validity  (B,1,h,w) in 0..1, how far the carried latents are to be trusted, or None

    Raises:
        ConfigError: shapes that do not go together.
    """

    tokens: Tensor
    identity: Tensor
    render: Tensor
    carried: Tensor | None = None
    validity: Tensor | None = None

    def __post_init__(self) -> None:
        batch = self.render.shape[0]
        if self.tokens.dim() != 3 or self.identity.dim() != 2 or self.render.dim() != 4:
            raise ConfigError(
                f"conditions: tokens {tuple(self.tokens.shape)}, identity {tuple(self.identity.shape)} and render "
                f"{tuple(self.render.shape)} must be (B,S,D), (B,I) and (B,Z,h,w)"
            )
        if (self.carried is None) != (self.validity is None):
            raise ConfigError("conditions: the carried latents and their validity come together; give both or neither")
        if self.carried is not None and self.validity is not None:
            expected = (batch, 1, *self.render.shape[2:])
            if self.carried.shape != self.render.shape or self.validity.shape != expected:
                raise ConfigError(
                    f"conditions: carried {tuple(self.carried.shape)} and validity {tuple(self.validity.shape)} must be "
                    f"{tuple(self.render.shape)} and {expected}"
                )
        if self.tokens.shape[0] != batch or self.identity.shape[0] != batch:
            raise ConfigError(
                f"conditions: batch sizes differ (tokens {self.tokens.shape[0]}, identity {self.identity.shape[0]}, render {batch})"
            )

    def __len__(self) -> int:
        return self.render.shape[0]

    def __getitem__(self, index: slice) -> Conditions:
        """Rows of the batch; index is a slice."""
        return self._map(lambda tensor: tensor[index])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        return Conditions(
            function(self.tokens),
            function(self.identity),
            function(self.render),
            None if self.carried is None else function(self.carried),
            None if self.validity is None else function(self.validity),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditions:
        """The same conditions on another device or in another floating type."""
        return self._map(lambda tensor: tensor.to(device=device, dtype=dtype))

    def without_carry(self) -> Conditions:
        """The same conditions with nothing carried: zeros with validity 0, where the profile carries at all."""
        if self.carried is None or self.validity is None:
            return self
        return replace(self, carried=torch.zeros_like(self.carried), validity=torch.zeros_like(self.validity))


class Encoder(Protocol):
    """A first stage as far as conditions need it."""

    @property
    def factor(self) -> int:
        """Pixels per latent, along a side."""

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B,3,H,W) RGB 0..1 -> latents (B,Z,h,w)."""


def known_pixels(carried: Tensor, validity: Tensor) -> Tensor:
    """The carried photograph with mid-grey where nothing is known of it. A guess, which has a low validity, stays.

    Args:
        carried: (B,3,H,W) RGB 0..1.
        validity: (B,1,H,W) in 0..1.

    Returns:
        (B,3,H,W).
    """
    return 0.5 + (carried - 0.5) * (validity / NOTHING_KNOWN).clamp(0, 1)


def carry_latents(first_stage: Encoder, carried: Tensor, validity: Tensor) -> tuple[Tensor, Tensor]:
    """The carried photograph (B,3,H,W) and its validity (B,1,H,W) as the denoiser sees them: (B,Z,h,w) and (B,1,h,w)."""
    return first_stage.encode(known_pixels(carried, validity)), F.avg_pool2d(validity, first_stage.factor)
