"""Stage 2: pre-train the slot encoder by reconstruction (paper 4.3), with labelled masks where there are any.

The paper's training is reconstruction alone (`mask_weight = decoder_mask_weight = 0`); which slot became what is then found with
`measure_order`. With labels the order is fixed by construction.

Shape letters: B batch, S slots, H and W image sides, h and w mask sides, G side of the decoder's output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import save_checkpoint
from ..errors import CheckpointError
from ..losses import UNLABELLED, mask_loss, slot_reconstruction, soft_labels
from ..mixture_decoder import MixtureDecoder, MixtureDecoderConfig
from ..slots import KIND, SlotEncoder, SlotsConfig, find_order, region_overlap
from .common import load_state
from .loop import LoopOptions, run_loop
from .shards import Shards


@dataclass(frozen=True)
class SlotsTraining(LoopOptions):
    shards: str = "shards/slots"
    folder: str = "runs/slots"
    mask_weight: float = 0.3  # cross-entropy of the encoder's masks
    decoder_mask_weight: float = 0.1  # and of the decoder's, so that every token draws its own region
    augment: bool = True  # mirrored, shifted, scaled, other colours: masks then cannot follow position alone

    @classmethod
    def paper(cls) -> SlotsTraining:
        return cls(batch=64, mask_weight=0.0, decoder_mask_weight=0.0, augment=False, weight_decay=0.0)


def collate(samples: list[dict[str, Tensor]], device: str) -> tuple[Tensor, Tensor]:
    """Samples -> images (B,3,H,W) in 0..1 and labels (B,H,W) uint8 at the images' size; a sample without labels is unlabelled."""
    images = torch.stack([sample["images"] for sample in samples])
    side = images.shape[2:]
    labels = []
    for sample in samples:
        label = sample.get("labels")
        if label is None:
            label = torch.full(side, UNLABELLED, dtype=torch.uint8)
        elif label.shape != side:
            label = F.interpolate(label[None, None], side, mode="nearest")[0, 0]
        labels.append(label)
    return images.to(device).float() / 255, torch.stack(labels).to(device)


def augment(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror, scale (0.8 to 1.25), shift (up to 12 % of the side) and other colours; what comes from outside is mirrored and unlabelled.

    images (B,3,H,W) in 0..1, labels (B,H,W) uint8; the results have the same shapes.
    """
    batch = images.shape[0]
    r = torch.rand(batch, 7, generator=generator).to(images.device)
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


def slots_loss(encoder: SlotEncoder, decoder: nn.Module, images: Tensor, labels: Tensor, options: SlotsTraining) -> tuple[Tensor, dict]:
    """Reconstruction plus the weighted mask losses -> loss and its detached parts. images (B,3,H,W) in 0..1, labels (B,H,W) uint8."""
    tokens, masks = encoder(images)
    output, decoder_masks = decoder(tokens)
    reconstruction = slot_reconstruction(output, images)
    loss, parts = reconstruction, {"reconstruction": reconstruction.detach()}
    for name, weight, predicted in (
        ("masks", options.mask_weight, masks),
        ("decoder_masks", options.decoder_mask_weight, decoder_masks),
    ):
        if weight:
            entropy = mask_loss(predicted, labels, encoder.config.order)
            loss = loss + weight * entropy
            parts[name] = entropy.detach()
    return loss, parts


def build(config: SlotsConfig, decoder: MixtureDecoderConfig) -> nn.ModuleDict:
    return nn.ModuleDict({"slots": SlotEncoder(config), "decoder": MixtureDecoder(decoder)})


def train_slots(
    options: SlotsTraining,
    config: SlotsConfig | None = None,
    decoder: MixtureDecoderConfig | None = None,
    stop_step: int | None = None,
) -> nn.ModuleDict:
    """Train, resuming from `folder/last.pt` with its configuration; returns the averaged {"slots", "decoder"}."""
    torch.manual_seed(options.seed)
    state = load_state(Path(options.folder) / "last.pt")
    if state:
        config, decoder = SlotsConfig(**state["config"]["slots"]), MixtureDecoderConfig(**state["config"]["decoder"])
    config = config or SlotsConfig.open_256()
    decoder = decoder or replace(MixtureDecoderConfig.open_256(), token_size=config.slot_size)
    shards = Shards(options.shards, ("images",))

    def loss(model: nn.Module, generator: torch.Generator) -> tuple[Tensor, dict]:
        assert isinstance(model, nn.ModuleDict)
        images, labels = collate(shards.batch(options.batch, generator), options.device)
        if options.augment:
            images, labels = augment(images, labels, generator)
        encoder, mixture = model["slots"], model["decoder"]
        assert isinstance(encoder, SlotEncoder)
        assert isinstance(mixture, MixtureDecoder)
        return slots_loss(encoder, mixture, images, labels, options)

    settings = {"slots": config.to_dict(), "decoder": decoder.to_dict()}
    average = run_loop(options, build(config, decoder), settings, loss, refresh=shards.refresh, stop_step=stop_step)
    assert isinstance(average, nn.ModuleDict)
    return average


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


def export_slots(
    state_path: str | Path, path: str | Path, *, license: str, source: str, order: tuple[str, ...] | None = None, eight_bit: bool = False
) -> None:
    """Averaged encoder of a training checkpoint -> a `slots` checkpoint (float16, or 8-bit). Raises CheckpointError."""
    state = load_state(Path(state_path))
    if state is None:
        raise CheckpointError(f"{state_path}: no such training checkpoint; train the slots first")
    config = SlotsConfig(**state["config"]["slots"])
    if order is not None:
        config = replace(config, order=order)
    tensors = {name.removeprefix("slots."): tensor for name, tensor in state["ema"].items() if name.startswith("slots.")}
    save_checkpoint(path, tensors, kind=KIND, config=config.to_dict(), license=license, source=source, eight_bit=eight_bit, half=True)
