"""Parameters and floating-point operations of every part, found on PyTorch's meta device: nothing is computed.

One multiply-add counts as two operations, as torch.utils.flop_counter has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...diffusion.conditions import Conditions
from ...edit.profiles import Profile
from ...source.arcface import CHIP as ARCFACE_CHIP
from ...source.arcface import ArcFace
from ...source.identity import CHIP as DLIB_CHIP
from ...source.identity_networks import build_identity


@dataclass(frozen=True)
class Cost:
    """Of one call for one picture. parameters: those that the call reads."""

    parameters: int
    operations: int


def operations(function: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        function()
    return counter.get_total_flops()


def costs(profile: Profile) -> dict[str, Cost]:
    """The networks' calls of one edit: slots, identity, encode, denoise (one step), decode."""
    model = profile.build("meta").eval().requires_grad_(False)
    with torch.device("meta"):
        identity = build_identity(profile.identity).eval().requires_grad_(False)
        size, latent = model.image_size, model.denoiser.config.sample_size
        channels, denoiser = model.autoencoder.config.latent_channels, model.denoiser.config
        picture, latents = torch.zeros(1, 3, size, size), torch.zeros(1, channels, latent, latent)
        chip = ARCFACE_CHIP if isinstance(identity, ArcFace) else DLIB_CHIP
        chips = torch.zeros(1, 3, chip, chip)
        tokens = torch.zeros(1, model.slots.config.slot_count, denoiser.token_size)
        carried = (latents, torch.zeros(1, 1, latent, latent)) if denoiser.carry else ()
        conditions = Conditions(tokens, torch.zeros(1, denoiser.identity_size), latents, *carried)
        steps = torch.zeros(1, dtype=torch.long)
    calls: dict[str, tuple[list[nn.Module], Callable[[], object]]] = {
        "slots": ([model.slots], lambda: model.slots(picture)),
        "identity": ([identity], lambda: identity(chips)),
        "encode": (_half(model.autoencoder, "encoder", "quant_conv"), lambda: model.autoencoder.encode(picture)),
        "denoise": ([model.denoiser], lambda: model.denoiser(latents, steps, conditions)),
        "decode": (_half(model.autoencoder, "decoder", "post_quant_conv", "quantize"), lambda: model.autoencoder.decode(latents)),
    }
    sizes = {name: sum(p.numel() for module in modules for p in module.parameters()) for name, (modules, _) in calls.items()}
    return {name: Cost(sizes[name], operations(call)) for name, (_, call) in calls.items()}


def _half(stage: nn.Module, *names: str) -> list[nn.Module]:
    """The named parts of a first stage, ours or diffusers'."""
    holder = getattr(stage, "network", stage)
    return [part for name in names if isinstance(part := getattr(holder, name, None), nn.Module)]
