"""Tiny models and shards for the tests of training."""

from __future__ import annotations

from pathlib import Path

import torch

from difffae.diffusion.autoencoder import AutoencoderConfig
from difffae.diffusion.denoiser import DenoiserConfig
from difffae.diffusion.schedule import ScheduleConfig
from difffae.lab.losses.mixture_decoder import MixtureDecoderConfig
from difffae.lab.prepare.shards import write_shard
from difffae.source.slots import SlotsConfig

FIRST_STAGE = AutoencoderConfig(latent_channels=2, width=8, deep_width=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1), norm_groups=4)
SLOTS = SlotsConfig(
    image_size=32, patch=4, stem_channels=16, block_channels=(16, 32), layers_per_block=1, feature_channels=16, slot_size=12, slot_hidden=16
)
DECODER = MixtureDecoderConfig(token_size=12, channels=8, start=4, size=16)
DENOISER = DenoiserConfig(
    sample_size=8,
    latent_channels=2,
    carry=True,
    block_channels=(8, 16),
    attention_levels=(False, True),
    layers_per_block=1,
    heads=2,
    token_size=12,
    norm_groups=4,
    identity_size=6,
    adain="blend",
    schedule=ScheduleConfig.open_256(),
)
COMMON = {"batch": 4, "warmup": 1, "log_every": 2, "learning_rate": 3e-3, "weight_decay": 0.0, "ema": 0.5}


def write_denoiser_shards(folder: Path) -> Path:
    """Two shards of six samples that hold all that any way of training the denoiser reads."""
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    for name in "ab":
        target = torch.randn(6, 2, 8, 8, generator=g)
        write_shard(
            folder / f"{name}.safetensors",
            {
                "target": target.half(),
                "render": (target * 0.5).half(),
                "carried": (target + 0.1 * torch.randn(target.shape, generator=g)).half(),
                "validity": torch.randint(0, 256, (6, 1, 8, 8), generator=g, dtype=torch.uint8),
                "identity": torch.randn(6, 6, generator=g).half(),
                "tokens": torch.randn(6, 4, 12, generator=g).half(),
                "masks": torch.softmax(torch.randn(6, 4, 8, 8, generator=g) * 3, dim=1).half(),
                "source": torch.randint(0, 256, (6, 3, 32, 32), generator=g, dtype=torch.uint8),
                "query": torch.randint(0, 256, (6, 3, 32, 32), generator=g, dtype=torch.uint8),
            },
        )
    return folder
