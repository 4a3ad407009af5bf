"""What the training stages share: pictures in memory, crops, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.errors import ConfigError
from ...common.files import atomic_write
from ...diffusion.denoiser import DenoiserConfig
from ..prepare.networks import Networks, agreed
from ..prepare.shards import Shards
from .parts import read_training


def autocast(device: str = "cpu", enabled: bool | None = None) -> torch.autocast:
    """bfloat16, or not; None takes it where it is faster: on CUDA, and on CPUs with AMX tiles.

    Without AMX, convolutions in bfloat16 ran at 0.55 times the speed of float32 (Xeon with AVX512-BF16, oneDNN, one thread).
    """
    kind = torch.device(device).type
    if enabled is None:
        enabled = kind != "cpu" or (hasattr(torch.cpu, "_is_amx_tile_supported") and torch.cpu._is_amx_tile_supported())
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)


def made_with(options: Any, state: Mapping[str, Any] | None) -> dict[str, str]:
    """The fingerprints of what a denoiser's shards were made with.

    Args:
        options: Its DenoiserTraining, which names the shards, those of the dev loss, and the network of the identity loss.
        state: The checkpoint to go on from.

    Raises:
        ConfigError: If one of these was made with other files.
    """
    found = Shards(options.shards, ("target",)).fingerprints
    if options.dev_shards:
        found = agreed(options.dev_shards, Shards(options.dev_shards, ("target",)).fingerprints, found)
    if options.identity_weight:
        agreed(options.shards, found, Networks(identity=options.identity_network or None).fingerprints("identity"))
    return agreed(options.checkpoint, state["config"].get("fingerprints", {}) if state else {}, found, "trained")


def random_crops(
    pictures: Sequence[Tensor],
    batch: int,
    size: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.8, 1.3),
    rows: slice | None = None,
) -> Tensor:
    """Random squares of pictures, flipped half of the time.

    Args:
        pictures: Each (3,H,W) uint8, all on one device.
        batch: How many squares are drawn.
        size: Their side, pixels.
        generator: Of the random numbers.
        scale: Range of the factor by which pictures are scaled before cropping.
        rows: Return only these of the batch, the same as they are in the whole one.

    Returns:
        (B,3,size,size) in 0..1, on that device.
    """
    draws = [(int(torch.randint(len(pictures), (1,), generator=generator)), torch.rand(4, generator=generator)) for _ in range(batch)]
    draws = draws[rows] if rows else draws
    out = torch.empty(len(draws), 3, size, size, device=pictures[0].device)
    for index, (number, r) in enumerate(draws):
        picture = pictures[number]
        height, width = picture.shape[-2:]
        side = min(height, width, int(size / (scale[0] + (scale[1] - scale[0]) * r[0].item())))
        top = int(r[1].item() * (height - side + 1))
        left = int(r[2].item() * (width - side + 1))
        crop = picture[None, :, top : top + side, left : left + side].float() / 255
        if side != size:
            crop = F.interpolate(crop, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        out[index] = crop[0].flip(-1) if r[3] < 0.5 else crop[0]
    return out


def save_state(path: Path, state: dict) -> None:
    """Write a training checkpoint, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, holds: str = "") -> dict | None:
    """The checkpoint that a training goes on from, or None if there is none.

    Args:
        path: Its file.
        holds: What the configurations of this stage have, and those of others do not.

    Raises:
        CheckpointError: For a damaged file.
        ConfigError: For one of another stage.
    """
    if not path.exists():
        return None
    state = read_training(path, mapped=False)
    if holds and holds not in state["config"]:
        raise ConfigError(f"{path}: is the checkpoint of another stage; give each stage a folder= of its own")
    return state


def check_pictures(shards: Shards, names: Sequence[str], side: int) -> None:
    """Raise ConfigError unless the pictures (N,3,S,S) of these names have the side that the slots were, or are to be, made for."""
    first = shards.sample(0)
    for name in names:
        height, width = first[name].shape[-2:]
        if (height, width) != (side, side):
            raise ConfigError(
                f"{shards.folder}: its pictures '{name}' are {width}x{height} pixels, but these slots are for {side}x{side}; prepare them "
                f"in that size (--size {side}), or take slots and configuration of the pictures' size"
            )


def check_latents(shards: Shards, config: DenoiserConfig) -> dict[str, Tensor]:
    """The first sample of shards. Raises ConfigError if its latents have not the size of a denoiser's configuration."""
    first = shards.sample(0)
    found, wanted = tuple(first["target"].shape), (config.latent_channels, config.sample_size, config.sample_size)
    if found != wanted:
        raise ConfigError(
            f"{shards.folder}: its latents are {'x'.join(map(str, found))} (channels, height, width), but this denoiser is for "
            f"{'x'.join(map(str, wanted))}; prepare pictures of its size with the first stage of its kind, or choose the configuration of "
            "theirs"
        )
    return first
