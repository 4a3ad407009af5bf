"""A whole model of the smallest sizes, with random weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from difffae.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from difffae.diffusion.denoiser import Denoiser, DenoiserConfig
from difffae.edit.model import EditModel
from difffae.source.slots import SlotEncoder, SlotsConfig

FIRST = AutoencoderConfig(
    latent_channels=4, width=16, deep_width=16, encoder_blocks=(1, 2), decoder_blocks=(1, 1), norm_groups=4, latent_scale=0.5
)
SLOTS = replace(SlotsConfig.open_256(), image_size=64)


def small(carry: bool = True, channels: int = 4, sample_size: int = 8, identity_size: int = 128, slots: SlotsConfig = SLOTS) -> EditModel:
    torch.manual_seed(0)
    denoiser = DenoiserConfig(
        sample_size=sample_size,
        latent_channels=channels,
        carry=carry,
        block_channels=(32, 32),
        attention_levels=(False, True),
        norm_groups=8,
        token_size=slots.slot_size,
        identity_size=identity_size,
    )
    return EditModel(Autoencoder(FIRST), SlotEncoder(slots), Denoiser(denoiser), "small")
