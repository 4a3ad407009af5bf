"""The configurations by name: what ships, the paper's two (Tables 4 and 5), and the paper's at a size that two CPU cores can train."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..common.errors import ConfigError
from ..diffusion.denoiser import Denoiser, DenoiserConfig
from ..diffusion.first_stages import build_first_stage
from ..diffusion.schedule import ScheduleConfig
from ..source.arcface import DIMENSIONS
from ..source.identity import IdentityNetwork
from ..source.identity_networks import build_identity
from ..source.slots import SlotEncoder, SlotsConfig
from .model import DEFAULT_IDENTITY, EditModel

NAMES = ("open-256", "paper-256", "paper-512", "paper-mini")
FIRST_STAGES = {"vq-f8": "latent-diffusion", "kl-f8": "stable-diffusion"}  # and whose noise schedule goes with it


@dataclass(frozen=True)
class Profile:
    """Sizes of all trained parts. first_stage is what `first_stages.build_first_stage` takes; identity a name of identity_networks."""

    name: str
    first_stage: dict[str, Any]
    slots: SlotsConfig
    denoiser: DenoiserConfig
    identity: str

    def build(self, device: str | torch.device = "cpu", seed: int | None = None) -> EditModel:
        """The model with fresh weights; on "meta" it has only shapes. Deterministic with a seed."""
        with torch.random.fork_rng(devices=[]), torch.device(device):
            if seed is not None:
                torch.manual_seed(seed)
            first = build_first_stage(self.first_stage, self.name)
            return EditModel(first, SlotEncoder(self.slots), Denoiser(self.denoiser), self.name, self.identity)

    def counts(self) -> dict[str, int]:
        """Parameters of every part; slots_encoder is the convolutional part of slots (Table 4), denoiser_unet the one without AdaIN."""
        model = self.build("meta")
        with torch.device("meta"):
            identity = build_identity(self.identity)
        parts = {"denoiser": model.denoiser, "slots": model.slots, "first_stage": model.autoencoder, "identity": identity}
        counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.items()}
        adain = sum(p.numel() for name, p in model.denoiser.named_parameters() if ".adain." in name)
        encoder = sum(p.numel() for p in model.slots.encoder.parameters())
        return counts | {"total": sum(counts.values()), "denoiser_unet": counts["denoiser"] - adain, "slots_encoder": encoder}


def profile(name: str, first_stage: str = "vq-f8") -> Profile:
    """A profile by name. For the paper's, first_stage "vq-f8" is its text, "kl-f8" goes with a start from Stable Diffusion's U-Net;
    "paper-mini" has a small first stage of its own.

    Raises ConfigError for an unknown name.
    """
    if name == "open-256":
        return Profile(name, {"kind": "open"}, SlotsConfig.open_256(), DenoiserConfig.open_256(), DEFAULT_IDENTITY)
    if name not in NAMES:
        raise ConfigError(f"'{name}': no such profile; choose from {', '.join(NAMES)}")
    if name == "paper-mini":
        return _mini()
    if first_stage not in FIRST_STAGES:
        raise ConfigError(f"{name}: its first stage cannot be '{first_stage}'; choose from {', '.join(FIRST_STAGES)}")
    size = int(name.removeprefix("paper-"))
    denoiser = replace(
        DenoiserConfig.paper(size // 8),
        schedule=ScheduleConfig.latent_diffusion(FIRST_STAGES[first_stage]),
        identity_size=DIMENSIONS,
        identity_scale=math.sqrt(DIMENSIONS),  # ArcFace tokens have length one
    )
    slots = SlotsConfig() if size == 256 else SlotsConfig(image_size=size, input_size=256)  # Table 4's encoder at both sizes
    return Profile(name, {"kind": first_stage}, slots, denoiser, "arcface-r50")


def _mini() -> Profile:
    """The paper's structure for 128x128 pictures: as many levels, blocks, heads and tokens, and attention at the same three levels, but
    narrow, so that all trained parts in 8 bits fit 12 MB; the open head and identity network, whose tokens have 128 numbers."""
    side = 128
    first = {"kind": "open", "latent_channels": 4, "width": 48, "deep_width": 96, "encoder_blocks": (1, 2), "decoder_blocks": (2, 3)}
    slots = SlotsConfig(image_size=side, stem_channels=24, block_channels=(24, 24, 48, 96), head_width=12, norm_groups=8, starts="random")
    denoiser = DenoiserConfig(
        sample_size=side // 8,
        block_channels=(32, 64, 112, 112),
        norm_groups=8,
        identity_size=IdentityNetwork.dimensions,
        identity_scale=8.0,  # its tokens are about 1.5 long
        schedule=replace(ScheduleConfig.latent_diffusion(), clip_sample_range=2.2),  # 97 % of its latents are smaller
    )
    return Profile("paper-mini", first, slots, denoiser, IdentityNetwork.name)
