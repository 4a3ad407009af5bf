"""Training data in safetensors shards: a folder of files, each with N samples under the same names.

Slots stage:     images (N,3,H,W) uint8; labels (N,H,W) or (N,h,w) uint8, optional: 0 face, 1 hair, 2 clothes, 3 background, 255 unlabelled.
Denoiser stage:  target, render, carried (N,Z,h,w) float16 latents; validity (N,1,h,w) uint8 (255 = 1) or float16; identity (N,I), tokens
                 (N,S,D) float16; masks (N,S,h,w) float16, the slot masks of the target. Joint training has source and query (N,3,H,W)
                 uint8 in place of tokens and masks. For the identity loss also target_landmarks (N,478,2) in the target's pixels and
                 target_identity (N,I), float16.
Their metadata may state `fingerprints`, JSON: of the head, DECA and identity files (edit.model.FINGERPRINTED) that they were made with.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...common.errors import CheckpointError, ConfigError
from ...common.files import atomic_write
from .networks import agreed


def write_shard(path: str | Path, tensors: dict[str, Tensor], fingerprints: Mapping[str, str] | None = None) -> None:
    """Write one shard, whole or not at all: a running training looks for new ones. fingerprints: of the files that it was made with."""
    lengths = {name: tensor.shape[0] for name, tensor in tensors.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigError(f"{path}: every tensor of a shard needs the same number of samples, not {lengths}")
    with atomic_write(path) as temporary:
        metadata = {"fingerprints": json.dumps(dict(fingerprints))} if fingerprints else None
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def write_rows(path: str | Path, rows: Iterable[dict[str, Tensor]], fingerprints: Mapping[str, str] | None = None) -> None:
    """As `write_shard`, from parts of it, each (samples, ...) under the same names. Raises ConfigError if there are none."""
    parts = list(rows)
    if not parts:
        raise ConfigError(f"{path}: nothing to write, since no sample could be used; look at what the step was given")
    write_shard(path, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, fingerprints)


def open_shard(path: str | Path) -> Any:
    """A shard or a fitted file, whose tensors are read when they are asked for. Raises CheckpointError for a damaged one."""
    if Path(path).is_dir():
        raise ConfigError(f"{path}: is a folder, and here a .safetensors file is needed; name the file")
    try:
        return safe_open(str(path), framework="pt").__enter__()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a complete shard ({error}); prepare it again") from error


def read_shard(path: str | Path, needed: Iterable[str], maker: str) -> dict[str, Tensor]:
    """All tensors of a shard or a fitted file.

    Args:
        path: The file.
        needed: What it must hold.
        maker: The step that writes such files, for the error.

    Raises:
        CheckpointError: For a damaged file.
        ConfigError: For one of another step.
    """
    handle = open_shard(path)
    names = handle.keys()
    missing = [name for name in needed if name not in names]
    if missing:
        raise ConfigError(f"{path}: holds no '{missing[0]}', so it is of another step; give what {maker} wrote")
    return {name: handle.get_tensor(name) for name in names}


def stated_fingerprints(path: str | Path) -> dict[str, str]:
    """What a shard or a fitted file states of the files that it was made with. Raises CheckpointError for a damaged one."""
    return json.loads((open_shard(path).metadata() or {}).get("fingerprints", "{}"))


def is_wanted(path: Path, fingerprints: Mapping[str, str]) -> bool:
    """Whether a shard is still to be written. Raises ConfigError for one that is there and states other files than these."""
    if path.exists():
        agreed(path, stated_fingerprints(path), fingerprints)
        return False
    return True


def shards_in(folder: Path) -> list[Path]:
    """The shards of a folder, by name. Raises ConfigError if there are none."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ConfigError(f"{folder}: no .safetensors shards here; prepare the training data first")
    return paths


class Shards:
    """Random access to the samples of a folder, read from disk one by one, so that memory does not limit the data; or, with `keep`, read
    once and kept on that device, so that a fast one need not wait for the disk."""

    def __init__(self, folder: str | Path, needed: tuple[str, ...], keep: torch.device | str | None = None) -> None:
        self.folder = Path(folder)
        self.needed = needed
        self.keep = keep
        self._files: dict[Path, tuple[Any, frozenset[str], int]] = {}
        self._order: list[Path] = []
        self._ends: list[int] = []
        self.refresh()

    def __len__(self) -> int:
        return self._ends[-1]

    def describe(self) -> str:
        """How many samples, in how many shards and bytes."""
        size = sum(path.stat().st_size for path in self._order)
        return f"{self.folder}: {len(self):,} samples in {len(self._order):,} shards, {size / 1e6:,.0f} MB"

    def refresh(self) -> None:
        """Look for new shards. Raises ConfigError if there are none or one lacks a needed tensor."""
        paths = shards_in(self.folder)
        ends, total = [], 0
        for path in paths:
            if path not in self._files:
                self._files[path] = self._open(path)
            total += self._files[path][2]
            ends.append(total)
        self._order, self._ends = paths, ends

    def _open(self, path: Path) -> tuple[Any, frozenset[str], int]:
        handle = open_shard(path)
        names = frozenset(handle.keys())
        missing = set(self.needed) - names
        if missing:
            raise ConfigError(f"{path}: this shard has no '{sorted(missing)[0]}'; prepare it for this training stage")
        count = handle.get_slice(self.needed[0]).get_shape()[0]
        return handle if self.keep is None else {name: handle.get_tensor(name).to(self.keep) for name in names}, names, count

    def holds(self, name: str) -> bool:
        """Whether any shard has such a tensor."""
        return any(name in names for _, names, _ in self._files.values())

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the files that the shards were made with, as far as they say. Raises ConfigError for shards that disagree."""
        found: dict[str, str] = {}
        for path in self._files:
            for part, value in stated_fingerprints(path).items():
                if found.setdefault(part, value) != value:
                    raise ConfigError(f"{path}: was made with another {part} file than other shards in its folder; keep them apart")
        return found

    def sample(self, index: int) -> dict[str, Tensor]:
        """All tensors of one sample, without the sample axis, in their stored types."""
        place = bisect_right(self._ends, index)
        handle, names, count = self._files[self._order[place]]
        row = index - (self._ends[place] - count)
        if self.keep is not None:
            return {name: handle[name][row] for name in sorted(names)}
        return {name: handle.get_slice(name)[row : row + 1][0] for name in sorted(names)}

    def draw(self, size: int, generator: torch.Generator) -> list[int]:
        """Numbers of random samples, with replacement."""
        return torch.randint(len(self), (size,), generator=generator).tolist()


def stacked(samples: list[dict[str, Tensor]], name: str, device: torch.device | str = "cpu") -> Tensor:
    """One tensor of several samples, (B, ...) float32; bytes become 0..1."""
    values = [sample[name] for sample in samples]
    # Converted one by one: stacking float16 on the CPU is refused under autocast
    return torch.stack([value.float() / 255 if value.dtype == torch.uint8 else value.float() for value in values]).to(device)
