"""Shards of video frames -> shards of pairs for the denoiser (two frames of one chunk: source and query), or of pictures for the slots.

Shape letters: B pairs, N landmarks (478), S crop side, Z latent channels, h and w latent sides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ...common.errors import ConfigError
from ...diffusion.autoencoder import FirstStage
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...person.prepared import carry
from ...source.slots import SlotEncoder
from ..prepare.networks import agreed
from ..prepare.pairs import encoded, halved, layer_finder, to_bytes
from ..prepare.shards import is_wanted, write_rows, write_shard
from .prepare_video import decode_frame
from .tar_samples import Sample, read_tar


def check_networks(folder: Path, head: str, identity: str, fingerprints: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError unless the frames of `folder` (a split of `prepare videos`) were prepared with these networks: their names, and
    the fingerprints of their files where both are known."""
    path = folder.parent / "dataset.json"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the train or test folder that `prepare videos` wrote")
    known = json.loads(path.read_text(encoding="utf-8"))
    for name, wanted in (("head", head), ("identity", identity)):
        if known[name] != wanted:
            raise ConfigError(f"{folder}: was prepared with {name} '{known[name]}', but the model needs '{wanted}'; prepare it with that")
    agreed(path, known.get("fingerprints", {}), fingerprints or {})


def fingerprints_of(folder: Path) -> dict[str, str]:
    """Of the files that the frames of `folder` (a split of `prepare videos`) were prepared with, as far as its data set says."""
    path = folder.parent / "dataset.json"
    return json.loads(path.read_text(encoding="utf-8")).get("fingerprints", {}) if path.is_file() else {}


@torch.no_grad()
def write_pairs(
    folder: Path,
    output: Path,
    autoencoder: FirstStage,
    slots: SlotEncoder | None = None,
    head: HeadModel | None = None,
    *,
    per_chunk: int = 8,
    seed: int = 0,
    batch: int = 4,
) -> None:
    """Encode random ordered pairs of different frames of every chunk; one shard per tar, existing ones are kept.

    target and render are latents of the query and its render, identity is the source's.

    Args:
        folder: A split of `prepare videos`.
        output: Folder of the shards.
        autoencoder: Makes the latents.
        slots: Frozen slots, for tokens of the source and masks of the query; None, for joint training, keeps both pictures.
        head: To carry the source to the query's attributes too, for denoisers that see the carried photograph.
        per_chunk: Pairs of every chunk.
        seed: Which pairs; those of a chunk depend on it and the chunk's name alone.
        batch: Pairs that are worked on together.

    Raises:
        ConfigError: If there is no shard, or shards of pairs are there that were made with other files.
        CheckpointError: For a damaged one.
    """
    find_layers = layer_finder(slots if head is not None else None)
    known = fingerprints_of(folder)
    for path, goal in _unfinished(folder, output, known):
        rows = []
        for source, query in tqdm(_pairs(path, per_chunk, seed, batch), desc=path.name, leave=False):
            pictures = {"target": query["picture"], "render": query["render"], "source": source["picture"]}
            if head is not None:
                before = source["picture"].float() / 255
                moved = carry(before, _attributes(source, head.name), _attributes(query, head.name), head, None, find_layers(before))
                pictures |= {"carried": to_bytes(moved.image), "validity": to_bytes(moved.validity)}
            row = encoded(pictures, autoencoder, slots)
            row |= {"identity": source["identity"], "target_landmarks": query["landmarks"][..., :2], "target_identity": query["identity"]}
            rows.append(halved(row))
        if rows:
            write_rows(goal, rows, known)


def write_frames(folder: Path, output: Path, *, per_chunk: int = 8) -> None:
    """Shards of `images` (N,3,S,S) uint8 for the slots' pre-training: `per_chunk` frames of every chunk, evenly spaced; of rendered people
    `labels` (N,S,S) uint8 too. Existing shards are kept. Raises as `write_pairs`."""
    for path, goal in _unfinished(folder, output, {}):  # pictures, which no network made
        frames = []
        for chunk in tqdm(_chunks(path), desc=path.name, leave=False):
            count = min(per_chunk, len(chunk))
            frames += [decode_frame(chunk[index * len(chunk) // count][1]) for index in range(count)]
        names = {"images": "picture"} | ({"labels": "labels"} if all("labels" in frame for frame in frames) else {})
        write_shard(goal, {name: torch.stack([frame[held] for frame in frames]) for name, held in names.items()})


def _unfinished(folder: Path, output: Path, fingerprints: Mapping[str, str]) -> Iterator[tuple[Path, Path]]:
    """The tars of a folder and the shards to write for them, those left out that exist. Raises ConfigError for one that states other
    fingerprints."""
    tars = sorted(folder.glob("*.tar"))
    if not tars:
        raise ConfigError(f"{folder}: no .tar shards here; give the train or test folder that `prepare videos` wrote")
    output.mkdir(parents=True, exist_ok=True)
    goals = ((path, output / f"{path.stem}.safetensors") for path in tars)
    return ((path, goal) for path, goal in goals if is_wanted(goal, fingerprints))


def _chunks(path: Path) -> Iterator[list[Sample]]:
    """The frames of every chunk of a shard."""
    for _, samples in groupby(read_tar(path), key=_chunk_name):
        yield list(samples)


def first_pairs(samples: Iterable[Sample]) -> Iterator[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
    """The first chunk of every clip -> its name and its first and last frame; chunks of one frame are passed over."""
    done = set()
    for chunk, group in groupby(samples, key=_chunk_name):
        frames = list(group)
        clip = chunk.rpartition("/")[0]
        if clip not in done and len(frames) > 1:
            done.add(clip)
            yield clip, decode_frame(frames[0][1]), decode_frame(frames[-1][1])


def _chunk_name(sample: Sample) -> str:
    return sample[0].rpartition("/")[0]


def _pairs(path: Path, per_chunk: int, seed: int, batch: int) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Batches of (source frames, query frames). The pairs of a chunk depend on its name and the seed alone."""
    for samples in _chunks(path):
        frames, chunk = [files for _, files in samples], _chunk_name(samples[0])
        if len(frames) < 2:
            continue
        digest = hashlib.sha256(f"{seed}/{chunk}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        first = torch.randint(len(frames), (per_chunk,), generator=generator)
        # never the same frame: a step of 1 to all but one
        second = (first + torch.randint(1, len(frames), (per_chunk,), generator=generator)) % len(frames)
        for part in torch.stack([first, second], 1).split(batch):
            source, query = ([decode_frame(frames[int(index)]) for index in side] for side in part.T)
            yield _stacked(source), _stacked(query)


def _stacked(frames: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([frame[name] for frame in frames]) for name in frames[0]}


def _attributes(frames: dict[str, Tensor], head: str) -> FaceAttributes:
    fields = ("shape", "albedo", "pose", "camera", "expression", "light", "detail")
    numbers: dict[str, Any] = {name: frames[name] for name in fields if name in frames}
    return FaceAttributes(head, **numbers)
