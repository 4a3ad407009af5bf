"""Stage 1: train the first stage on portraits (paper 5.4: a first stage trained on faces beats a generic one).

Loss on images x in -1..1, with x' the reconstruction and L a Laplacian:
    |x - x'|_1 + w_edge * |L x - L x'|_1 + w_sharp * | rms(Lx) - rms(Lx') | per patch of 7x7 + w_kl * KL
The third term asks for as much high-frequency energy as the photograph has, wherever it is: an L1 loss alone settles
for blur where texture cannot be predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from ..autoencoder import Autoencoder, AutoencoderConfig
from ..errors import CheckpointError
from .common import load_state, random_crops, read_pictures
from .journal import grid
from .loop import LoopOptions, Stage, run_loop

SHOWN = 4  # pictures in a grid


@dataclass(frozen=True)
class AutoencoderTraining(LoopOptions):
    portraits: str = "portraits"
    folder: str = "runs/autoencoder"
    start: str = ""  # a training checkpoint whose weights a new run starts from
    freeze_encoder: bool = False  # train the decoder alone: cached latents stay valid, and the posterior's mean is decoded
    crop: int = 128
    smallest_scale: float = 0.8  # of the pictures before cropping: below 1 they are shrunk, which makes them sharper
    largest_scale: float = 1.3
    learning_rate: float = 8e-4
    edge_weight: float = 1.0
    sharp_weight: float = 0.0
    kl_weight: float = 1e-6


def laplacian(x: Tensor) -> Tensor:
    """(B,C,H,W) -> (B,C,H-2,W-2), the 4-neighbour Laplacian."""
    return 4 * x[..., 1:-1, 1:-1] - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:]


def autoencoder_loss(
    model: Autoencoder, images: Tensor, options: AutoencoderTraining, noise: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """images (B,3,H,W) in 0..1 -> scalar loss and its detached parts. noise (B,Z,h,w) draws from the posterior; without it its mean is
    decoded."""
    if options.gradient_checkpointing:
        mean, logvar = recomputed(model.moments, images, use_reentrant=False)
    else:
        mean, logvar = model.moments(images)
    latent = mean if noise is None else mean + noise.to(mean) * torch.exp(0.5 * logvar)
    target = images * 2 - 1
    output = (recomputed(model.decoder, latent, use_reentrant=False) if options.gradient_checkpointing else model.decoder(latent)).float()
    pixel = (output - target).abs().mean()
    edges_out, edges_in = laplacian(output), laplacian(target)
    edge = (edges_out - edges_in).abs().mean()
    energy_out, energy_in = (F.avg_pool2d(edges.square(), 7, 3).add(1e-4).sqrt() for edges in (edges_out, edges_in))
    sharp = (energy_out - energy_in).abs().mean()
    mean, logvar = mean.float(), logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
    loss = pixel + options.edge_weight * edge + options.sharp_weight * sharp + options.kl_weight * kl
    with torch.no_grad():
        psnr = -10 * torch.log10((output * 0.5 - target * 0.5).square().mean())
    parts = {"pixel": pixel, "edge": edge, "sharp": sharp, "kl": kl, "psnr": psnr}
    return loss, {name: value.detach() for name, value in parts.items()}


class AutoencoderStage(Stage):
    """Data, loss and pictures of the first stage's training."""

    def __init__(self, options: AutoencoderTraining, config: AutoencoderConfig) -> None:
        self.options = options
        self.pictures_read = read_pictures(Path(options.portraits), split="train")
        side = options.crop // (2 * config.unshuffle)
        self.noise_shape = (config.latent_channels, side, side)

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Any]:
        o = self.options
        state = generator.get_state()
        items = []
        for part in rows:  # every part sees the same numbers and takes its own
            generator.set_state(state)
            items.append(random_crops(self.pictures_read, o.batch, o.crop, generator, (o.smallest_scale, o.largest_scale), part))
        noise = None if o.freeze_encoder else torch.randn((o.batch, *self.noise_shape), generator=generator)
        return [(images, None if noise is None else noise[part]) for images, part in zip(items, rows, strict=True)]

    def loss(self, model: nn.Module, item: Any) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(model, Autoencoder)
        images, noise = item
        images = images.to(self.options.device, memory_format=torch.channels_last)
        return autoencoder_loss(model, images, self.options, None if noise is None else noise.to(self.options.device))

    @torch.no_grad()
    def pictures(self, average: nn.Module) -> dict[str, Tensor]:
        """Crops of the first portraits above each other, and beside them what the first stage makes of them."""
        assert isinstance(average, Autoencoder)
        o = self.options
        crops = random_crops(self.pictures_read[:SHOWN], SHOWN, o.crop, torch.Generator().manual_seed(0), (1.0, 1.0)).to(o.device)
        return {"reconstructions": grid([crops, average(crops)])}


def train_autoencoder(options: AutoencoderTraining, config: AutoencoderConfig | None = None, stop_step: int | None = None) -> Autoencoder:
    """Train, resuming from `folder/last.pt` with its configuration; returns the averaged first stage, unscaled. Raises CheckpointError."""
    torch.manual_seed(options.seed)
    state = load_state(Path(options.folder) / "last.pt")
    first = load_state(Path(options.start)) if options.start and not state else None
    if options.start and not state and first is None:
        raise CheckpointError(f"{options.start}: no such training checkpoint to start from; correct the path")
    if first:
        config = AutoencoderConfig(**first["config"])
    config = AutoencoderConfig(**state["config"]) if state else (config or AutoencoderConfig())
    model = Autoencoder(replace(config, latent_scale=1.0))
    if first:
        model.load_state_dict(first["model"])
    model.encoder.requires_grad_(not options.freeze_encoder)
    average = run_loop(options, model, config.to_dict(), AutoencoderStage(options, config), stop_step)
    assert isinstance(average, Autoencoder)
    return average
