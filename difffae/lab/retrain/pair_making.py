"""Round-trip pairs as latents, made in batches where the networks are, without their pictures on the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch

from ...diffusion.autoencoder import FirstStage
from ...source.slots import SlotEncoder
from ..prepare.networks import Networks, agreed
from ..prepare.pairs import FITTED, Rows, encode_pairs, layer_finder, round_trips
from ..prepare.shards import read_shard, stated_fingerprints, write_rows

log = logging.getLogger(__name__)
Item = TypeVar("Item")


def until(over: Callable[[], bool], items: Iterator[Item]) -> Iterator[Item]:
    """At least the first item, then others while it is not over."""
    for item in items:
        yield item
        if over():
            return


class PairMaker:
    """The networks that make pairs, on one device."""

    def __init__(self, device: str, first_stage: FirstStage, slots: SlotEncoder, networks: Networks, batch: int) -> None:
        """batch: pairs at a time; halved when the device's memory is too small for it."""
        self.head, self.identity = networks.head.to(device), networks.identity.to(device)
        self.fingerprints = networks.fingerprints("head", "identity")
        self.first_stage, self.slots = first_stage.to(device), slots.to(device)
        self.find_layers, self.batch = layer_finder(self.slots), batch

    def write(self, data: Rows, path: Path, size: int, seed: int, over: Callable[[], bool]) -> int:
        """Write one shard of latents, which `over` may cut short; returns how many pairs it has. data: of `fit_portraits`."""
        rows = list(until(over, self._rows(data, size, seed)))
        write_rows(path, rows, self.fingerprints)
        return sum(len(row["target"]) for row in rows)

    def _rows(self, data: Rows, size: int, seed: int) -> Iterator[Rows]:
        made = 0
        while made < size:
            try:
                for pictures in round_trips(data, self.head, self.find_layers, size - made, seed + made, self.batch):
                    row = encode_pairs(pictures, self.first_stage, self.slots, self.identity)
                    made += len(row["target"])
                    yield {name: value.cpu() for name, value in row.items()}
            except torch.cuda.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
                torch.cuda.empty_cache()
                log.info("the device's memory is too small for so many pairs at a time; going on with %d", self.batch)


def read_fitted(path: Path, fingerprints: Mapping[str, str]) -> Rows | None:
    """The file of `fit_portraits`, or None if there is none. Raises ConfigError if it states other fingerprints."""
    if not path.is_file():
        return None
    agreed(path, stated_fingerprints(path), fingerprints)
    return read_shard(path, FITTED, "`prepare portraits`")
