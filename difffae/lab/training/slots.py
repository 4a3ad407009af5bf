"""Stage 2: pre-train the slot encoder by reconstruction (paper 4.3), with labelled masks where there are any.

The paper's training is reconstruction alone (`mask_weight = decoder_mask_weight = 0`); which slot became what is then found with
`measure_order`. With labels the order is fixed by construction.

Shape letters: B batch, S slots, H and W image sides, h and w mask sides, G side of the decoder's output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from ...common.errors import CheckpointError, ConfigError
from ...diffusion.autoencoder import FirstStage
from ...source.slots import SlotEncoder, SlotsConfig, find_order, region_overlap
from ..losses.losses import UNLABELLED, mask_loss, slot_reconstruction, soft_labels
from ..losses.mixture_decoder import MixtureDecoder, MixtureDecoderConfig
from ..prepare.shards import Shards
from .common import check_pictures, load_state
from .journal import grid
from .loop import LoopOptions, Stage, run_loop
from .parts import read_first_stage, read_slots

SHOWN = 4  # samples in a grid of pictures


@dataclass(frozen=True)
class SlotsTraining(LoopOptions):
    """Options of `train slots`."""

    shards: str = "shards/slots"
    folder: str = "runs/slots"
    start: str = ""  # whose encoder a new run starts from: a training checkpoint, a file of slots, or a whole model
    keep_weight: float = 0.0  # mean square distance of the tokens from the start's, in units of their variance: a denoiser that was
    # trained on those tokens then still knows the new ones
    mask_weight: float = 0.3  # cross-entropy of the encoder's masks
    decoder_mask_weight: float = 0.1  # and of the decoder's, so that every token draws its own region
    augment: bool = True  # mirrored, shifted, scaled, other colours: masks then cannot follow position alone
    first_stage: str = ""  # file of a first stage: the slots then reconstruct its latents instead of pixels (paper 5.4)
    decoder_channels: int = 32
    decoder_size: int = 64  # side of what the decoder draws; with a first stage that of the latents
    decoder_shuffle: int = 2

    @classmethod
    def paper(cls) -> SlotsTraining:
        """Section 4.3 follows slot attention: batch 64, rate 4e-4, reconstruction alone. The number of steps is ours."""
        return cls(
            batch=64,
            steps=100_000,
            warmup=2_500,
            mask_weight=0.0,
            decoder_mask_weight=0.0,
            augment=False,
            weight_decay=0.0,
            beta2=0.999,
            ema=0.9999,
            decoder_channels=128,
            decoder_size=256,
            decoder_shuffle=1,
        )


def collate(samples: list[dict[str, Tensor]], device: str) -> tuple[Tensor, Tensor]:
    """Samples -> images (B,3,H,W) in 0..1 and labels (B,H,W) uint8 at the images' size; a sample without labels is unlabelled."""
    images = torch.stack([sample["images"] for sample in samples])
    side = images.shape[2:]
    labels = []
    for sample in samples:
        label = sample.get("labels")
        if label is None:
            label = torch.full(side, UNLABELLED, dtype=torch.uint8, device=images.device)
        elif label.shape != side:
            label = F.interpolate(label[None, None], side, mode="nearest")[0, 0]
        labels.append(label)
    return images.to(device).float() / 255, torch.stack(labels).to(device)


def augment(images: Tensor, labels: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror, scale (0.8 to 1.25), shift (up to 12 % of the side) and other colours; what comes from outside is mirrored and unlabelled.

    images (B,3,H,W) in 0..1, labels (B,H,W) uint8; the results have the same shapes. r: (B,7) random numbers in 0..1.
    """
    batch = images.shape[0]
    r = r.to(images.device)
    scale = torch.exp2((r[:, 0] * 2 - 1) * 0.32)
    theta = torch.zeros(batch, 2, 3, device=images.device)
    theta[:, 0, 0] = scale * (r[:, 1] < 0.5).float().mul(2).sub(1)
    theta[:, 1, 1] = scale
    theta[:, :, 2] = (r[:, 2:4] * 2 - 1) * 0.24
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # Labels move as label - 255, so that the zeros from outside the picture come back as 255: unlabelled
    moved = F.grid_sample(labels[:, None].float() - UNLABELLED, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    gain = torch.exp2((r[:, 4:7] - 0.5) * 0.4) * torch.exp2((r[:, 0:1] - 0.5) * 0.6)
    return (images * gain[:, :, None, None]).clamp(0, 1), (moved[:, 0] + UNLABELLED).round().to(torch.uint8)


def slots_loss(
    encoder: SlotEncoder,
    decoder: nn.Module,
    images: Tensor,
    labels: Tensor,
    options: SlotsTraining,
    target: Tensor | None = None,
    former: Tensor | None = None,
    noise: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction (section 4.3) plus the weighted mask losses.

    Args:
        encoder: The slots.
        decoder: Draws their tokens.
        images: (B,3,H,W) in 0..1.
        labels: (B,H,W) uint8.
        options: The weights.
        target: What is reconstructed instead of the images, latents (B,Z,h,w).
        former: The tokens that `keep_weight` holds on to, (B,S,D).
        noise: Of random starts, (B,S,D).

    Returns:
        The loss, a scalar, and its detached parts before weighting.
    """
    tokens, masks = encoder(images, noise)
    output, decoder_masks = recomputed(decoder, tokens, use_reentrant=False) if options.gradient_checkpointing else decoder(tokens)
    reconstruction = slot_reconstruction(output, images if target is None else target)
    loss, parts = reconstruction, {"reconstruction": reconstruction.detach()}
    for name, weight, predicted in (
        ("masks", options.mask_weight, masks),
        ("decoder_masks", options.decoder_mask_weight, decoder_masks),
    ):
        if weight and encoder.config.order:  # without labels no slot has a region yet
            entropy = mask_loss(predicted, labels, encoder.config.order)
            loss = loss + weight * entropy
            parts[name] = entropy.detach()
    if former is not None:
        parts["moved"] = (tokens - former).square().mean() / former.var(dim=(0, 2)).mean().clamp_min(1e-6)
        loss = loss + options.keep_weight * parts["moved"]
        parts["moved"] = parts["moved"].detach()
    return loss, parts


def build(config: SlotsConfig, decoder: MixtureDecoderConfig) -> nn.ModuleDict:
    return nn.ModuleDict({"slots": SlotEncoder(config), "decoder": MixtureDecoder(decoder)})


class SlotsStage(Stage):
    """Data, loss and pictures of the slots' pre-training."""

    def __init__(
        self, options: SlotsTraining, encoder: SlotEncoder, first_stage: FirstStage | None, former: SlotEncoder | None = None
    ) -> None:
        self.options = options
        self.draw = encoder.draw
        self.shards: Shards = Shards(options.shards, ("images",), options.data_device)
        check_pictures(self.shards, ("images",), encoder.config.image_size)
        self.first_stage = first_stage.to(options.device) if first_stage else None
        self.former = former.to(options.device) if former else None

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Any]:
        size = self.options.batch
        chosen = self.shards.draw(size, generator)
        r = torch.rand(size, 7, generator=generator) if self.options.augment else None
        starts = self.draw(size, generator)
        return [
            ([self.shards.sample(index) for index in chosen[part]], *(None if drawn is None else drawn[part] for drawn in (r, starts)))
            for part in rows
        ]

    def loss(self, model: nn.Module, item: Any) -> tuple[Tensor, dict[str, Tensor]]:
        samples, r, starts = item
        images, labels = collate(samples, self.options.device)
        if r is not None:
            images, labels = augment(images, labels, r)
        encoder, decoder = _parts(model)
        with torch.no_grad():
            former = None if self.former is None else self.former(images)[0]
        noise = None if starts is None else starts.to(self.options.device)
        return slots_loss(encoder, decoder, images, labels, self.options, self.target(images), former, noise)

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor | None:
        return None if self.first_stage is None else self.first_stage.encode(images)

    @torch.no_grad()
    def pictures(self, average: nn.Module) -> dict[str, Tensor]:
        """Per row: picture, what the tokens reconstruct, and the masks of the encoder and of the decoder, one column for each slot."""
        samples = [self.shards.sample(index) for index in range(min(SHOWN, len(self.shards)))]
        images, _ = collate(samples, self.options.device)
        encoder, decoder = _parts(average)
        tokens, masks = encoder(images)
        output, decoder_masks = decoder(tokens)
        drawn = output * 0.5 + 0.5 if self.first_stage is None else self.first_stage.decode(output)
        return {
            "reconstructions": grid([images, drawn]),
            "masks": grid([images, *masks.split(1, dim=1)]),
            "decoder_masks": grid([images, *decoder_masks.split(1, dim=1)]),
        }


def _parts(model: nn.Module) -> tuple[SlotEncoder, MixtureDecoder]:
    assert isinstance(model, nn.ModuleDict)
    encoder, decoder = model["slots"], model["decoder"]
    assert isinstance(encoder, SlotEncoder)
    assert isinstance(decoder, MixtureDecoder)
    return encoder, decoder


def decoder_config(options: SlotsTraining, config: SlotsConfig, first_stage: FirstStage | None) -> MixtureDecoderConfig:
    """Sizes of the decoder that draws pictures, or latents of the first stage."""
    decoder = MixtureDecoderConfig(
        token_size=config.slot_size, channels=options.decoder_channels, size=options.decoder_size, shuffle=options.decoder_shuffle
    )
    if first_stage is None:
        return decoder
    side = config.image_size // first_stage.factor
    return replace(decoder, size=side, start=min(8, side), shuffle=1, out_channels=first_stage.config.latent_channels)


def train_slots(
    options: SlotsTraining,
    config: SlotsConfig | None = None,
    decoder: MixtureDecoderConfig | None = None,
    stop_step: int | None = None,
) -> nn.ModuleDict:
    """Train, resuming from `folder/last.pt` with its configuration; returns the averaged {"slots", "decoder"}."""
    torch.manual_seed(options.seed)
    state = load_state(options.checkpoint, "decoder")
    if state:
        config, decoder = SlotsConfig(**state["config"]["slots"]), MixtureDecoderConfig(**state["config"]["decoder"])
    first_stage = read_first_stage(options.first_stage) if options.first_stage else None
    start = read_slots(options.start) if options.start else None
    if options.keep_weight and start is None:
        raise ConfigError("keep_weight: holds on to the tokens of a start, and start= names none; give one, or leave keep_weight out")
    if start is not None and config is not None and replace(config, order=start.config.order) != start.config:
        raise ConfigError(f"{options.start}: its sizes are not those of the options; leave the sizes out, they are the start's")
    if not state:
        config = start.config if start else config or SlotsConfig.open_256()
        if start is None and not labelled(options):
            config = replace(config, order=())  # without labels any slot can become any region
    assert config is not None
    decoder = decoder or decoder_config(options, config, first_stage)
    model = build(config, decoder)
    if options.gradient_checkpointing:
        _parts(model)[0].encoder.save_memory()
    if start is not None and not state:
        _parts(model)[0].load_state_dict(start.state_dict())
    settings = {"slots": config.to_dict(), "decoder": decoder.to_dict()}
    stage = SlotsStage(options, _parts(model)[0], first_stage, start if options.keep_weight else None)
    return run_loop(options, model, settings, stage, stop_step)


def labelled(options: SlotsTraining) -> bool:
    """Whether labels teach the slots their regions."""
    return bool(options.mask_weight) and Shards(options.shards, ("images",)).holds("labels")


@torch.no_grad()
def measure_order(encoder: SlotEncoder, shards: Shards, samples: int = 200) -> tuple[tuple[str, ...], Tensor]:
    """Which slot is which region, by overlap with labels: (order, overlap (S,4)) over the first labelled samples."""
    overlap = torch.zeros(encoder.config.slot_count, 4)
    seen = 0
    for index in range(len(shards)):
        sample = shards.sample(index)
        if "labels" not in sample:
            continue
        images, labels = collate([sample], "cpu")
        masks = encoder(images)[1]
        overlap += region_overlap(masks, soft_labels(labels, (masks.shape[2], masks.shape[3]))[0])
        seen += 1
        if seen == samples:
            break
    if seen == 0:
        raise CheckpointError(f"{shards.folder}: no labelled samples here; the order of the slots needs some")
    overlap /= seen
    return find_order(overlap), overlap
