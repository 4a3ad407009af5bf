"""Stage 1: train the first stage on portraits (paper 5.4: a first stage trained on faces beats a generic one).

Loss on images x in -1..1, with x' the reconstruction and L a Laplacian:
    |x - x'|_1 + w_edge * |L x - L x'|_1 + w_sharp * | rms(Lx) - rms(Lx') | per patch of 7x7 + w_kl * KL
The third term asks for as much high-frequency energy as the photograph has, wherever it is: an L1 loss alone settles
for blur where texture cannot be predicted.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoder import Autoencoder, AutoencoderConfig
from ..checkpoint import channels_last
from ..errors import CheckpointError
from .common import autocast, load_state, random_crops, read_pictures, save_state
from .loop import update_average

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AutoencoderTraining:
    portraits: str = "portraits"
    folder: str = "runs/autoencoder"
    start: str = ""  # a training checkpoint whose weights a new run starts from
    freeze_encoder: bool = False  # train the decoder alone: cached latents stay valid, and the posterior's mean is decoded
    crop: int = 128
    smallest_scale: float = 0.8  # of the pictures before cropping: below 1 they are shrunk, which makes them sharper
    largest_scale: float = 1.3
    batch: int = 16
    learning_rate: float = 8e-4
    warmup: int = 200
    minutes: float = 60.0  # the learning rate falls to zero at this point of the schedule, cosine
    edge_weight: float = 1.0
    sharp_weight: float = 0.0
    kl_weight: float = 1e-6
    ema: float = 0.999
    checkpoint_minutes: float = 3.0
    seed: int = 0


def laplacian(x: Tensor) -> Tensor:
    """(B,C,H,W) -> (B,C,H-2,W-2), the 4-neighbour Laplacian."""
    return 4 * x[..., 1:-1, 1:-1] - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:]


def autoencoder_loss(model: Autoencoder, images: Tensor, options: AutoencoderTraining) -> tuple[Tensor, dict]:
    """images (B,3,H,W) in 0..1 -> scalar loss and its parts."""
    mean, logvar = model.moments(images)
    latent = mean if options.freeze_encoder else mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
    target = images * 2 - 1
    output = model.decoder(latent).float()
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
    return loss, {
        "loss": loss.item(),
        "pixel": pixel.item(),
        "edge": edge.item(),
        "sharp": sharp.item(),
        "kl": kl.item(),
        "psnr": psnr.item(),
    }


def train_autoencoder(options: AutoencoderTraining, config: AutoencoderConfig | None = None) -> None:
    """Train, resuming from `folder/last.pt` if it is there; writes `last.pt` and `log.jsonl`."""
    torch.manual_seed(options.seed)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = load_state(folder / "last.pt")
    first = load_state(Path(options.start)) if options.start and not state else None
    if options.start and not state and first is None:
        raise CheckpointError(f"{options.start}: no such training checkpoint to start from; correct the path")
    if first:
        config = AutoencoderConfig(**first["config"])
    config = AutoencoderConfig(**state["config"]) if state else (config or AutoencoderConfig())
    model = Autoencoder(replace(config, latent_scale=1.0))
    channels_last(model)
    if first:
        model.load_state_dict(first["model"])
    model.encoder.requires_grad_(not options.freeze_encoder)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3
    )
    step, spent = 0, 0.0
    if state:
        model.load_state_dict(state["model"])
        # checkpoints of the first version kept the average as torch's AveragedModel names it
        average.load_state_dict({key.removeprefix("module."): value for key, value in state["ema"].items() if key != "n_averaged"})
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        log.info("resumed at step %d, %.1f minutes", step, spent)
    pictures = read_pictures(Path(options.portraits), split="train")
    generator = torch.Generator().manual_seed(options.seed + step)
    saved = last = time.monotonic()
    logs = open(folder / "log.jsonl", "a", buffering=1)  # noqa: SIM115
    scale = (options.smallest_scale, options.largest_scale)
    while spent < options.minutes:
        fraction = spent / options.minutes
        rate = (
            options.learning_rate * min(1.0, (step + 1) / options.warmup) * 0.5 * (1 + torch.cos(torch.tensor(fraction * torch.pi)).item())
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = random_crops(pictures, options.batch, options.crop, generator, scale).to(memory_format=torch.channels_last)
        with autocast():
            loss, parts = autoencoder_loss(model, images, options)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, step, options.ema)
        step += 1
        now = time.monotonic()
        spent += (now - last) / 60
        last = now
        if step % 50 == 0:
            logs.write(json.dumps({"step": step, "minutes": round(spent, 2), "lr": rate, **parts}) + "\n")
        if now - saved > options.checkpoint_minutes * 60 or spent >= options.minutes:
            saved = now
            save_state(
                folder / "last.pt",
                {
                    "config": config.to_dict(),
                    "model": model.state_dict(),
                    "ema": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "spent": spent,
                },
            )
