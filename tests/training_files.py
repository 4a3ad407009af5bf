"""Tiny models and shards for the tests of training."""

from __future__ import annotations

from pathlib import Path

import torch

from difffae.diffusion.autoencoder import AutoencoderConfig
from difffae.diffusion.denoiser import DenoiserConfig
from difffae.diffusion.schedule import ScheduleConfig
from difffae.lab.losses.mixture_decoder import MixtureDecoderConfig
from difffae.lab.prepare.shards import write_shard
from difffae.lab.training.denoiser import DenoiserStage, DenoiserTraining, build
from difffae.lab.training.denoiser_batch import Item
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


def write_denoiser_shards(folder: Path, channels: int = 2, side: int = 8) -> Path:
    """Two shards of six samples that hold all that any way of training the denoiser reads, with latents of this size."""
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    for name in "ab":
        target = torch.randn(6, channels, side, side, generator=g)
        write_shard(
            folder / f"{name}.safetensors",
            {
                "target": target.half(),
                "render": (target * 0.5).half(),
                "carried": (target + 0.1 * torch.randn(target.shape, generator=g)).half(),
                "validity": torch.randint(0, 256, (6, 1, side, side), generator=g, dtype=torch.uint8),
                "identity": torch.randn(6, 6, generator=g).half(),
                "tokens": torch.randn(6, 4, 12, generator=g).half(),
                "masks": torch.softmax(torch.randn(6, 4, side, side, generator=g) * 3, dim=1).half(),
                "source": torch.randint(0, 256, (6, 3, 32, 32), generator=g, dtype=torch.uint8),
                "query": torch.randint(0, 256, (6, 3, 32, 32), generator=g, dtype=torch.uint8),
            },
        )
    return folder


def denoiser_stage(options: DenoiserTraining, config: DenoiserConfig = DENOISER) -> tuple[DenoiserStage, torch.nn.ModuleDict]:
    """The stage of a new run, and its model."""
    torch.manual_seed(3)
    model, _, needed = build(options, config, None)
    return DenoiserStage(options, model, needed), model


def first_items(stage: DenoiserStage, parts: int = 1) -> list[Item]:
    """The first batch of a stage, in parts."""
    size = stage.options.batch // parts
    return stage.read(torch.Generator().manual_seed(0), [slice(i * size, (i + 1) * size) for i in range(parts)])


def first_losses(stage: DenoiserStage, model: torch.nn.ModuleDict, parts: int = 1) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Loss and its parts of the first batch, in parts."""
    with stage.around(model):
        return [stage.loss(model, item) for item in first_items(stage, parts)]
