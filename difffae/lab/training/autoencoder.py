"""Stage 1: train a first stage on portraits (paper 5.4: a first stage trained on faces beats a generic one).

Loss on images x in -1..1, with x' the reconstruction and L a Laplacian:
    |x - x'|_1 + w_edge * |L x - L x'|_1 + w_sharp * | rms(Ly) - rms(Ly') | per patch of 7x7, y the luminance
        + w_structure * (1 - 2 <Lx, Lx'> / (|Lx|^2 + |Lx'|^2)) per patch of 7x7, at two scales
        + w_grid * |what of x - x' repeats from latent cell to latent cell|_1
        + w_perceptual * features' distance + w_adversarial * (-D(x')) + w_kl * KL, or w_codebook * the codebook's loss
The third term asks for as much high-frequency energy as the photograph has, wherever it is: an L1 loss alone settles for blur where
texture cannot be predicted. (Asked of each colour, it makes coloured specks.) The fourth, SSIM's contrast and structure of the edges, is
best at the photograph's energy however little of the detail is predicted, but pays only for detail that agrees with it: edges become
crisp, nothing is invented. The fifth is against the decoder's cheapest texture, a grid of its pixel shuffles' period, which a young
discriminator believes. The perceptual and adversarial
terms are latent diffusion's (Rombach et al. 2022, appendix G); a weight of 0 leaves a term out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

from ...common.errors import ConfigError
from ...diffusion.autoencoder import Autoencoder, AutoencoderConfig, FirstStage, FirstStageConfig
from ...diffusion.first_stages import KINDS, KLFirstStage, VQFirstStage, build_first_stage, describe
from ..losses.adversarial import Adversary, adaptive_weight
from ..losses.bottleneck import decode_latents, quantised_latents, recompute_blocks, variational_latents
from ..losses.perceptual import PerceptualDistance
from ..prepare.portraits import read_pictures
from ..prepare.shards import Shards
from .adversarial_stage import AdversarialOptions, AdversarialStage
from .common import load_state, random_crops
from .journal import grid
from .loop import Parts, run_loop
from .parts import read_first_stage

SHOWN = 4  # pictures in a grid
Variational = Autoencoder | KLFirstStage


@dataclass(frozen=True)
class AutoencoderTraining(AdversarialOptions):
    """Options of `train autoencoder`; the weights are those of the sum at the top of this module."""

    portraits: str = "portraits"  # a folder of .webp pictures, held in memory
    shards: str = ""  # in their place: shards with `images`, read as they are needed, such as `prepare frames` writes
    folder: str = "runs/autoencoder"
    start: str = ""  # whose weights a new run starts from: a training checkpoint, a first stage's file, or a whole model's
    keep_weight: float = 0.0  # mean square distance of the latents from the start's, in units of their variance: a denoiser that was
    # trained on those latents then still knows the new ones
    freeze_encoder: bool = False  # train the decoder alone: cached latents stay valid, and the posterior's mean is decoded
    crop: int = 128
    smallest_scale: float = 0.8  # of the pictures before cropping: below 1 they are shrunk, which makes them sharper
    largest_scale: float = 1.3
    learning_rate: float = 8e-4
    edge_weight: float = 1.0
    sharp_weight: float = 0.0
    structure_weight: float = 0.0
    grid_weight: float = 0.0
    kl_weight: float = 1e-6
    codebook_weight: float = 1.0  # of kind vq-f8
    latent_noise: float = 0.0  # largest standard deviation of noise on the latents, each picture's drawn from 0 to it: sampled latents
    # are no encoder's, and the decoder must not take their errors for texture
    perceptual_weight: float = 0.0
    adversarial_adaptive: bool = False  # times the ratio of the other terms' gradient to the adversarial one's; that ratio grows when the
    # discriminator is fooled, and may then drive a small decoder away

    @classmethod
    def latent_diffusion(cls, kind: str) -> AutoencoderTraining:
        """How CompVis trained KL-f8 and VQ-f8, for retraining them on faces: Adam at 4.5e-6 for each of a batch's pictures, crops of 256,
        L1 and a perceptual loss of weight 1, a discriminator of width 64 that comes in late. Ours are the perceptual network, for LPIPS
        would be a download, and its weight, for its distances are larger."""
        variational = kind == KLFirstStage.kind
        return cls(
            crop=256,
            batch=12,
            learning_rate=12 * 4.5e-6,
            constant_rate=True,
            warmup=1,
            steps=100_000,
            weight_decay=0.0,
            beta2=0.9,
            ema=0.9999,
            smallest_scale=1.0,
            largest_scale=1.2,
            edge_weight=0.0,
            kl_weight=1e-6 / (3 * 256 * 256),  # theirs is against the sum over the pixels
            perceptual_weight=0.1,
            adversarial_adaptive=True,
            adversarial_weight=0.5 if variational else 0.6,
            adversarial_start=50_000 if variational else 0,
            discriminator_width=64,
            discriminator_layers=3 if variational else 2,
            discriminator_rate=12 * 4.5e-6,
        )


def laplacian(x: Tensor) -> Tensor:
    """(B,C,H,W) -> (B,C,H-2,W-2), the 4-neighbour Laplacian."""
    return 4 * x[..., 1:-1, 1:-1] - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:]


def structure(a: Tensor, b: Tensor, floor: float = 1e-3) -> Tensor:
    """1 - 2 <a, b> / (|a|^2 + |b|^2) per patch of 7x7, mean over all: edges a and b (B,C,H,W) -> 0 for equal ones, 1 for unrelated ones,
    a scalar. floor: edges of less mean square than that hardly count; those of noise in a portrait have a few 1e-4."""
    energy = F.avg_pool2d(a.square() + b.square(), 7, 2)
    return (1 - (2 * F.avg_pool2d(a * b, 7, 2) + floor) / (energy + floor)).mean()


def repeated(error: Tensor, factor: int, cells: int = 5) -> Tensor:
    """error (B,3,H,W) -> its part that repeats from cell to cell of factor x factor pixels: the mean over windows of cells x cells, without
    the mean over a cell's pixels. (B, 3 * factor * factor, h - cells + 1, w - cells + 1)."""
    phases = F.avg_pool2d(F.pixel_unshuffle(error, factor), cells, 1)
    colours = phases.unflatten(1, (3, -1))
    return (colours - colours.mean(dim=2, keepdim=True)).flatten(1, 2)


def luminance(x: Tensor) -> Tensor:
    """(B,3,H,W) RGB -> (B,1,H,W), Rec. 601."""
    return (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class Judges:
    """The networks that a reconstruction is judged by; None leaves a term out.

    perceptual          distance of features, times `perceptual_weight`
    adversary           a discriminator, times `adversarial_weight` of these judges, which a warm-up raises
    former              the first stage whose latents `keep_weight` holds on to
    """

    perceptual: PerceptualDistance | None = None
    adversary: Adversary | None = None
    adversarial_weight: float = 0.0
    former: Variational | None = None


def autoencoder_loss(
    model: FirstStage,
    images: Tensor,
    options: AutoencoderTraining,
    noise: Tensor | None = None,
    latent_noise: Tensor | None = None,
    judges: Judges | None = None,
) -> tuple[Tensor, Parts]:
    """The sum at the top of this module.

    Args:
        model: A first stage of any kind.
        images: (B,3,H,W) in 0..1, sides that are multiples of the pixels per latent cell.
        options: The weights.
        noise: (B,Z,h,w), draws from the posterior; without it its mean is decoded. Codes have none.
        latent_noise: (B,Z,h,w), added to what is decoded; codes are chosen after it.
        judges: Networks that judge the reconstruction.

    Returns:
        The loss, a scalar, and its parts before weighting, detached, with the reconstruction's "psnr" in dB.
    """
    judges = judges or Judges()
    latents, penalty, parts = _bottleneck(model, images, options, noise, latent_noise, judges.former)
    target = images * 2 - 1
    output = decode_latents(model, latents, options.gradient_checkpointing)
    edges_out, edges_in = laplacian(output), laplacian(target)
    energy_out, energy_in = (F.avg_pool2d(luminance(edges).square(), 7, 3).add(1e-4).sqrt() for edges in (edges_out, edges_in))
    parts |= {
        "pixel": (output - target).abs().mean(),
        "edge": (edges_out - edges_in).abs().mean(),
        "sharp": (energy_out - energy_in).abs().mean(),
    }
    loss = parts["pixel"] + options.edge_weight * parts["edge"] + options.sharp_weight * parts["sharp"]
    if options.structure_weight:
        coarse_out, coarse_in = (laplacian(F.avg_pool2d(picture, 2)) for picture in (output, target))
        parts["structure"] = 0.5 * (structure(edges_out, edges_in) + structure(coarse_out, coarse_in))
        loss = loss + options.structure_weight * parts["structure"]
    if options.grid_weight:
        parts["grid"] = repeated(output - target, model.factor).abs().mean()
        loss = loss + options.grid_weight * parts["grid"]
    if judges.perceptual is not None:
        parts["perceptual"] = judges.perceptual(output * 0.5 + 0.5, images)
        loss = loss + options.perceptual_weight * parts["perceptual"]
    if judges.adversary is not None:
        parts["adversarial"] = judges.adversary.generator_loss(target, output)
        weight: Tensor | float = judges.adversarial_weight
        if options.adversarial_adaptive and weight and output.requires_grad:
            parts["adaptive"] = adaptive_weight(loss, parts["adversarial"], output)
            weight = weight * parts["adaptive"]
        loss = loss + weight * parts["adversarial"]
    loss = loss + penalty
    if "moved" in parts:
        loss = loss + options.keep_weight * parts["moved"]
    parts["psnr"] = -10 * torch.log10((output * 0.5 - target * 0.5).detach().square().mean())
    return loss, {name: value.detach() for name, value in parts.items()}


def _bottleneck(
    model: FirstStage,
    images: Tensor,
    options: AutoencoderTraining,
    noise: Tensor | None,
    latent_noise: Tensor | None,
    former: Variational | None,
) -> tuple[Tensor, Tensor, Parts]:
    """What is decoded (B,Z,h,w), what the bottleneck costs, weighted, and numbers for the log."""
    if isinstance(model, VQFirstStage):
        latents, penalty, parts = quantised_latents(model, images, latent_noise, options.freeze_encoder)
        return latents, (0.0 if options.freeze_encoder else options.codebook_weight) * penalty, parts
    assert isinstance(model, Variational)
    if options.gradient_checkpointing and isinstance(model, Autoencoder):
        mean, logvar = recomputed(model.moments, images, use_reentrant=False)
    else:
        mean, logvar = model.moments(images)
    latents, penalty, parts = variational_latents(mean, logvar, noise)
    if former is not None:
        with torch.no_grad():
            before = former.moments(images)[0].float()
        parts["moved"] = (mean.float() - before).square().mean() / before.var()
    if latent_noise is not None:
        latents = latents + latent_noise.to(latents)
    return latents, options.kl_weight * penalty, parts


class ShardPictures(Sequence[Tensor]):
    """The pictures of shards, each (3,H,W) uint8, read one by one."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: Any) -> Any:
        return self.shards.sample(index)["images"]


class AutoencoderStage(AdversarialStage[FirstStage]):
    """Data, losses and pictures of the first stage's training."""

    def __init__(self, options: AutoencoderTraining, model: FirstStage, former: Variational | None = None) -> None:
        o = self.options = options
        self.former = former
        if o.crop % model.factor:
            raise ConfigError(f"crop={o.crop}: must be a multiple of {model.factor}, the pixels per latent cell; change it")
        self.shards = Shards(o.shards, ("images",), o.data_device) if o.shards else None
        self.pictures_read = ShardPictures(self.shards) if self.shards else self._portraits()
        if not self.pictures_read:
            raise ConfigError(f"portraits={o.portraits}: no .webp pictures of the train split there; correct the path, or give shards=")
        self.noise_shape = (o.batch, model.config.latent_channels, o.crop // model.factor, o.crop // model.factor)
        self.draws_posterior = not (o.freeze_encoder or isinstance(model, VQFirstStage))
        self.perceptual = PerceptualDistance().to(o.device) if o.perceptual_weight else None
        self.oppose(o, o.crop)

    def _portraits(self) -> list[Tensor]:
        """The pictures of a folder, each (3,H,W) uint8, where the samples are to be kept."""
        return [picture.to(self.options.data_device or "cpu") for picture in read_pictures(Path(self.options.portraits), split="train")]

    def data(self) -> str:
        held = sum(picture.numel() for picture in self.pictures_read) if self.shards is None else 0
        return super().data() or f"{self.options.portraits}: {len(self.pictures_read):,} pictures, {held / 1e6:,.0f} MB in memory"

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Any]:
        """Items: images (B,3,crop,crop) in 0..1, and noise of the posterior and of the latents (B,Z,h,w), or None."""
        o = self.options
        state = generator.get_state()
        items = []
        for part in rows:  # every part sees the same numbers and takes its own
            generator.set_state(state)
            items.append(random_crops(self.pictures_read, o.batch, o.crop, generator, (o.smallest_scale, o.largest_scale), part))
        noise = torch.randn(self.noise_shape, generator=generator) if self.draws_posterior else None
        latent_noise = None
        if o.latent_noise:
            size = o.latent_noise * torch.rand((o.batch, 1, 1, 1), generator=generator)
            latent_noise = size * torch.randn(self.noise_shape, generator=generator)
        return [
            (images, *(None if drawn is None else drawn[part] for drawn in (noise, latent_noise)))
            for images, part in zip(items, rows, strict=True)
        ]

    def loss(self, model: FirstStage, item: Any) -> tuple[Tensor, Parts]:
        images, *noises = item
        images = images.to(self.options.device, memory_format=torch.channels_last)
        noise, latent_noise = (None if drawn is None else drawn.to(self.options.device) for drawn in noises)
        judges = Judges(self.perceptual, *self.opponent(), self.former)
        return autoencoder_loss(model, images, self.options, noise, latent_noise, judges)

    @torch.no_grad()
    def pictures(self, average: FirstStage) -> dict[str, Tensor]:
        """Crops of the first portraits above each other, and beside them what the first stage makes of them."""
        o = self.options
        first = [self.pictures_read[index] for index in range(min(SHOWN, len(self.pictures_read)))]
        crops = random_crops(first, SHOWN, o.crop, torch.Generator().manual_seed(0), (1.0, 1.0)).to(o.device)
        return {"reconstructions": grid([crops, average(crops)])}


def train_autoencoder(options: AutoencoderTraining, config: FirstStageConfig | None = None, stop_step: int | None = None) -> FirstStage:
    """Train a first stage, resuming from `folder/last.pt` with its configuration.

    The loss works on unscaled latents, so a scale is only passed on.

    Args:
        options: How to train.
        config: Its class says which kind a new run trains: AutoencoderConfig (the default), KLConfig or VQConfig. With a start,
            sizes are the start's, and what config says besides its defaults must agree.
        stop_step: End here, although the schedule goes on.

    Returns:
        The averaged first stage.

    Raises:
        CheckpointError: For a start that cannot be read.
        ConfigError: For options that do not go together, or a folder without pictures.
    """
    torch.manual_seed(options.seed)
    if state := load_state(options.checkpoint, "latent_channels"):
        model = build_first_stage(state["config"], options.checkpoint)
    elif options.start:
        model = _read_start(options.start).train().requires_grad_(True)
        _check_start(options.start, model, config)
    else:
        config = config or AutoencoderConfig()
        model = next(build(config) for kind, build in KINDS.values() if type(config) is kind)
    for part in model.encoding_parts():
        part.requires_grad_(not options.freeze_encoder)
    former = _former(options) if options.keep_weight else None
    if options.gradient_checkpointing:
        recompute_blocks(model)
    return run_loop(options, model, describe(model), AutoencoderStage(options, model, former), stop_step)


def _read_start(path: str) -> FirstStage:
    """A first stage as it was trained, not averaged, where the file has both."""
    return read_first_stage(path, raw=not path.endswith(".safetensors"))


def _former(options: AutoencoderTraining) -> Variational:
    """The start, which `keep_weight` holds on to. Raises ConfigError."""
    if not options.start:
        raise ConfigError("keep_weight: holds on to the latents of a start, and start= names none; give one, or leave keep_weight out")
    former = _read_start(options.start).to(options.device)
    if not isinstance(former, Variational):
        raise ConfigError(f"keep_weight: {options.start} is of kind {former.kind}, whose latents are codes; leave keep_weight out")
    return former


def _check_start(path: str, model: FirstStage, config: FirstStageConfig | None) -> None:
    """What config says, its defaults aside, must be so in the start. Raises ConfigError."""
    if config is None:
        return
    if type(config) is not type(model.config):
        raise ConfigError(f"{path}: holds a first stage of kind {model.kind}, and the options name another; choose the file or the kind")
    plain, sizes = type(config)().to_dict(), model.config.to_dict()
    for name, value in config.to_dict().items():
        if value not in (plain[name], sizes[name]):
            raise ConfigError(f"{path}: its {name} is {sizes[name]}, not {value}; leave {name} out, it is the start's")
