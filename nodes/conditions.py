"""CONDITIONING and LATENT of an edit.

Shape letters: B frames, S slots, D token size, I identity size, Z latent channels, h and w latent sides.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..difffae.common.errors import ConfigError
from ..difffae.edit.model import known_pixels
from .frames import common_batch, frames, to_pictures
from .native_model import CARRIED, IDENTITY, RENDER, VALIDITY
from .native_vae import DiffFAEVAE
from .sockets import Carry, Tokens


def make_conditions(vae: Any, slots: Tokens, identity: Tensor, render: Tensor, carry: Carry | None) -> tuple[list, list, dict]:
    """Positive and negative CONDITIONING, and the LATENT to start from.

    vae: the first stage; render: IMAGE of the target, resized to the crop's side if need be. The noise of all frames is the first one's
    (`batch_index`), so that they differ by their conditions only. Raises ImageError for unequal batches, ConfigError for another model's VAE.
    """
    if not isinstance(vae, DiffFAEVAE):
        raise ConfigError("vae: is another model's; wire the VAE of Load DiffFAE")
    factor = vae.spacial_compression_encode()
    size = (slots.masks.shape[-2] * factor, slots.masks.shape[-1] * factor)
    if carry is not None and tuple(carry.image.shape[-2:]) != size:
        raise ConfigError(f"carry: is {tuple(carry.image.shape[-2:])} pixels, but the slots are for {size}; use one Crop Face for both")
    sizes = {"slots": len(slots.tokens), "identity": len(identity), "render": len(render)}
    batch = common_batch(sizes if carry is None else sizes | {"carry": len(carry.image)})
    shown = to_pictures(render, "render")
    if tuple(shown.shape[-2:]) != size:
        shown = F.interpolate(shown, size, mode="bilinear", antialias=True, align_corners=False)
    tokens = frames(slots.tokens, batch)
    extra: dict[str, Any] = {IDENTITY: frames(identity.to(tokens), batch), RENDER: frames(vae.encode(shown.movedim(1, -1)), batch)}
    start = torch.zeros_like(extra[RENDER])
    if carry is not None:
        visible = known_pixels(carry.image, carry.validity)  # as model.carry_latents does
        extra[CARRIED] = frames(vae.encode(visible.movedim(1, -1)), batch)
        extra[VALIDITY] = frames(F.avg_pool2d(carry.validity, factor), batch)
        start = frames(vae.encode(carry.image.movedim(1, -1)), batch)
    positive = [[tokens, extra]]
    negative = [[torch.zeros_like(tokens), extra | {IDENTITY: torch.zeros_like(extra[IDENTITY])}]]
    latent = {"samples": start} if batch == 1 else {"samples": start, "batch_index": [0] * batch}
    return positive, negative, latent
