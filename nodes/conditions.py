"""CONDITIONING and LATENT of an edit.

Shape letters: B frames, S slots, D token size, I identity size, Z latent channels, h and w latent sides.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..difffae.common.errors import ConfigError
from ..difffae.edit.conditioning import conditions
from ..difffae.edit.description import Faces
from ..difffae.edit.moved_photo import MovedPhoto
from .frames import to_pictures
from .native_model import CARRIED, IDENTITY, RENDER, VALIDITY, DiffFAEModel
from .native_vae import DiffFAEVAE
from .wires import check_render, tell


class FirstStage:
    """ComfyUI's VAE as the library's first stage: pictures (B,3,H,W) instead of IMAGE."""

    def __init__(self, vae: DiffFAEVAE) -> None:
        self.vae, self.factor = vae, vae.factor

    def encode(self, images: Tensor) -> Tensor:
        return self.vae.encode(images.movedim(1, -1))


def check_sampling(model: Any, vae: Any, positive: list) -> None:
    """Whether a sampler's inputs are this pack's. Raises ConfigError."""
    if not isinstance(getattr(model, "model", None), DiffFAEModel):
        raise ConfigError("model: is another model's; wire the MODEL of Load DiffFAE")
    if not isinstance(vae, DiffFAEVAE):
        raise ConfigError("vae: is another model's; wire the VAE of Load DiffFAE")
    tokens, extra = positive[0]
    if IDENTITY in extra and not bool(tokens.any()) and not bool(extra[IDENTITY].any()):
        raise ConfigError("positive: is the negative output of DiffFAE Conditioning; wire its positive output, and this one into negative")


def make_conditions(vae: Any, slots: Faces, identity: Tensor, render: Tensor, carry: MovedPhoto | None) -> tuple[list, list, dict]:
    """Positive and negative CONDITIONING, and the LATENT to start from. The noise of all frames is the first one's (`batch_index`), so
    that they differ by their conditions only.

    Args:
        vae: the first stage.
        slots: the source with slots and swaps.
        identity: (B or 1,I).
        render: IMAGE of the target, resized to the square's side if need be.
        carry: the moved photographs, or None.

    Raises:
        ConfigError: another model's VAE, or pictures of another model's size. ImageError: unequal batches.
    """
    if not isinstance(vae, DiffFAEVAE):
        raise ConfigError("vae: is another model's; wire the VAE of Load DiffFAE")
    assert slots.slots is not None
    assert slots.slots.masks is not None
    size = (slots.slots.masks.shape[-2] * vae.factor, slots.slots.masks.shape[-1] * vae.factor)
    if carry is not None and (carry.size, carry.size) != size:
        raise ConfigError(f"carry: is {(carry.size, carry.size)} pixels, but the slots are for {size}; use one Crop Face for both")
    shown = to_pictures(render, "render")
    tell(check_render(shown))
    if tuple(shown.shape[-2:]) != size:
        shown = F.interpolate(shown, size, mode="bilinear", antialias=True, align_corners=False)
    told, start = conditions(FirstStage(vae), slots, identity, shown, carry)
    extra: dict[str, Any] = {IDENTITY: told.identity, RENDER: told.render}
    if told.carried is not None:
        extra |= {CARRIED: told.carried, VALIDITY: told.validity}
    positive = [[told.tokens, extra]]
    negative = [[torch.zeros_like(told.tokens), extra | {IDENTITY: torch.zeros_like(told.identity)}]]
    latent = {"samples": torch.zeros_like(told.render) if start is None else start}
    return positive, negative, latent if len(told) == 1 else latent | {"batch_index": [0] * len(told)}
