"""A folder of portraits: its manifest, which of them no training may see, and reading the others."""

from __future__ import annotations

import csv
import hashlib
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...common.errors import ConfigError

MANIFEST = "manifest.csv"
SPLITS = ("train", "dev")
DEV_SHARE = 0.1
PREPARE = "run `prepare portraits` on the pictures, and give the folder that it wrote"


def dev_files() -> frozenset[str]:
    """Names of the project's own portraits that no training may see."""
    return frozenset(resources.files("difffae.lab").joinpath("portraits-dev.txt").read_text().split())


def split_of(person: str, share: float = DEV_SHARE) -> str:
    """The split of a person, "train" or "dev". It depends on the name alone, and whoever is "dev" at a share is so at every larger one.

    Args:
        person: Name that all pictures of the person share.
        share: How many of all persons are to be "dev", 0..1, in steps of a thousandth.
    """
    number = int(hashlib.sha256(f"difffae-dev:{person}".encode()).hexdigest(), 16)
    place = int(f"{number % 1000:03d}"[::-1])  # the last digit first: a tenth are those whose number ends in 0
    return "dev" if place < 1000 * share else "train"


def read_manifest(folder: Path, needed: tuple[str, ...] = ("file", "person")) -> dict[str, dict[str, str]]:
    """File name -> its row of the folder's manifest.csv. Raises ConfigError if that is missing or lacks a column."""
    path = folder / MANIFEST
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns, rows = reader.fieldnames or (), list(reader)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; {PREPARE}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {PREPARE}") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ConfigError(f"{path}: has no column '{missing[0]}'; {PREPARE}")
    return {row["file"]: row for row in rows}


def files_of(folder: Path, split: str) -> list[str]:
    """Names of the pictures of a split, in order: as the manifest's column `split` says or, without one, a hash of the persons' names.
    The project's own dev portraits are "dev" wherever they lie.

    Args:
        folder: Pictures and manifest.csv. Without that, all .webp pictures are "train".
        split: "train" or "dev".

    Raises:
        ConfigError: For a manifest that cannot be read.
    """
    held_out = dev_files()
    if (folder / MANIFEST).is_file():
        rows = read_manifest(folder)
        splits = {name: row.get("split") or split_of(row["person"]) for name, row in rows.items()}
    else:
        splits = dict.fromkeys((path.name for path in folder.glob("*.webp")), "train")
    return sorted(name for name, own in splits.items() if ("dev" if name in held_out else own) == split)


def read_picture(file: str | Path | BinaryIO) -> Tensor:
    """A picture file of ours, RGB, as (3,H,W) uint8."""
    return torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).copy()).permute(2, 0, 1)


def read_pictures(folder: Path, split: str) -> list[Tensor]:
    """All pictures of a split, each (3,H,W) uint8. split: 'train' or 'dev'."""
    return [read_picture(folder / name) for name in files_of(folder, split)]


def read_landmarks(folder: Path) -> dict[str, np.ndarray]:
    """landmarks.npz of a folder: files (N), landmarks (N,478,3) in pixels, blendshapes (N,52), blendshape_names (52). Raises
    ConfigError."""
    path = folder / "landmarks.npz"
    names = ("files", "landmarks", "blendshapes", "blendshape_names")
    try:
        with np.load(path) as table:
            return {name: table[name] for name in names}
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; {PREPARE}") from error
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(f"{path}: not a table of landmarks ({error}); {PREPARE}") from error
