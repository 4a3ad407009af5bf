"""Fitted portraits -> shards of pictures for the first stage and the slots: stills beside the frames of clips."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from ...common.errors import ConfigError
from .pairs import to_bytes
from .shards import read_shard, write_shard

PER_SHARD = 1000


def write_stills(fitted: Path, output: Path, size: int = 256) -> None:
    """Shards `still_NNNN` of `images` (N,3,size,size) uint8, averaged down and never enlarged; existing ones are kept.

    Args:
        fitted: File of `prepare fit`, all of whose crops are taken.
        output: Folder of the shards.
        size: Side of the pictures.

    Raises:
        ConfigError: For a file without crops, or crops smaller than `size`.
    """
    pictures = read_shard(fitted, ("pictures",), "`prepare fit`, or a folder of `prepare videos`,")["pictures"]
    if pictures.shape[-1] < size:
        raise ConfigError(f"{fitted}: its crops have {pictures.shape[-1]} pixels, fewer than --size {size}; give a smaller size")
    output.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(pictures.split(PER_SHARD)):
        path = output / f"still_{number:04d}.safetensors"
        if path.exists():
            continue
        rows = [to_bytes(F.interpolate(crop.float() / 255, (size, size), mode="area")) for crop in part.split(50)]
        write_shard(path, {"images": torch.cat(rows)})
