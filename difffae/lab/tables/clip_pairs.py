"""How near a model comes to a frame of a clip from another frame of it, from noise alone: PSNR, beside what needs no model.

Reads the test shards of `prepare videos` and `prepare clips`; the render and the source's identity token are those that lie in them.

Shape letters: B pairs, S picture side.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ...common.errors import ConfigError
from ...common.files import atomic_write
from ...common.images import write_image
from ...diffusion.sampling import sample, starting_noise
from ...edit.model import EditModel
from ...report.measures import psnr
from ..videos.tar_samples import read_tar
from ..videos.video_pairs import first_pairs

MADE, COPIED, DRAWN, PASTED, CODED = "result", "source copied", "render alone", "render over the source", "truth through the first stage"


@dataclass(frozen=True)
class ClipPairs:
    """source, render, truth (B,3,S,S) RGB 0..1: a frame, the render of another frame of the clip, and that frame; identity (B,I) of the
    source; names of the clips."""

    names: tuple[str, ...]
    source: Tensor
    render: Tensor
    truth: Tensor
    identity: Tensor

    def __len__(self) -> int:
        return len(self.names)


def read_pairs(folder: Path, count: int) -> ClipPairs:
    """The first and the last frame of the first chunk of some clips.

    Args:
        folder: Shards of a split, such as `test`.
        count: How many clips at most, from the first on.

    Raises:
        ConfigError: If there is none.
    """
    tars = sorted(folder.glob("*.tar"))
    rows = list(islice((pair for path in tars for pair in first_pairs(read_tar(path))), count))
    if not rows:
        raise ConfigError(f"{folder}: no clips with two frames here; give the test folder that `prepare videos` or `prepare clips` wrote")
    sides = [(source, query) for _, source, query in rows]
    return ClipPairs(
        tuple(name for name, _, _ in rows),
        torch.stack([source["picture"] for source, _ in sides]).float() / 255,
        torch.stack([query["render"] for _, query in sides]).float() / 255,
        torch.stack([query["picture"] for _, query in sides]).float() / 255,
        torch.stack([source["identity"] for source, _ in sides]),
    )


@torch.no_grad()
def reconstruct(model: EditModel, pairs: ClipPairs, steps: int = 50, sampler: str = "ddim", seed: int = 0, batch: int = 8) -> Tensor:
    """The pictures that a model makes from pure noise.

    Args:
        model: One that carries no photograph.
        pairs: What to make; B is their number.
        steps: Evaluations of the denoiser.
        sampler: As for `sample`.
        seed: Of the noise.
        batch: How many are made at once.

    Returns:
        (B,3,S,S) RGB 0..1.

    Raises:
        ConfigError: For a model that carries a photograph, or makes pictures of another size.
    """
    if model.denoiser.config.carry:
        raise ConfigError(f"model '{model.name}': carries the photograph, and here nothing is carried; use `evaluate`")
    if pairs.source.shape[-1] != model.image_size:
        raise ConfigError(f"model '{model.name}': makes pictures of {model.image_size} pixels, but the clips have {pairs.source.shape[-1]}")
    made = []
    side = model.denoiser.config.sample_size
    noise = starting_noise((len(pairs), model.denoiser.config.latent_channels, side, side), seed)
    for rows in torch.arange(len(pairs)).split(batch):
        tokens = model.encoder(pairs.source[rows])[0]
        nothing = torch.zeros_like(pairs.render[rows])
        conditions = model.conditions(tokens, pairs.identity[rows], pairs.render[rows], nothing, nothing[:, :1])
        made.append(model.autoencoder.decode(sample(model.denoiser, conditions, steps, sampler, noise=noise[rows])).clamp(0, 1))
    return torch.cat(made)


@torch.no_grad()
def baselines(model: EditModel, pairs: ClipPairs) -> dict[str, Tensor]:
    """Pictures that need no denoiser: the source as it is; the render, black around the head; the render over the source; and what
    no denoiser can pass, the truth through the first stage."""
    head = (pairs.render.amax(dim=1, keepdim=True) > 0).float()
    coded = torch.cat([model.autoencoder(part).clamp(0, 1) for part in pairs.truth.split(8)])
    pasted = pairs.render * head + pairs.source * (1 - head)
    return {COPIED: pairs.source, DRAWN: pairs.render, PASTED: pasted, CODED: coded}


def keep(folder: Path, pairs: ClipPairs, pictures: dict[str, Tensor]) -> None:
    """Write pairs and results as `evaluate --pairs-file` reads them: `pairs.csv`, the folders `source` and `query`, and one folder for
    every method. Several models of the same clips may share a folder.

    Args:
        folder: Where to.
        pairs: The clips.
        pictures: (B,3,S,S) RGB 0..1 of every method, by its name.
    """
    names = [f"{row:04d}.png" for row in range(len(pairs))]
    for method, shown in {"source": pairs.source, "query": pairs.truth, **pictures}.items():
        place = folder / method.replace(" ", "-")
        place.mkdir(parents=True, exist_ok=True)
        for name, picture in zip(names, shown, strict=True):
            write_image(place / name, picture)
    with atomic_write(folder / "pairs.csv") as path, open(path, "w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["source", "query", "result"])
        rows.writerows([f"source/{name}", f"query/{name}", name] for name in names)


def scores(pictures: dict[str, Tensor], truth: Tensor) -> dict[str, tuple[float, float]]:
    """Mean PSNR in dB and half of its 95 % interval over the pairs, each of which is another person."""
    found = {}
    for name, made in pictures.items():
        values = psnr(made, truth)
        half = 1.96 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
        found[name] = (float(values.mean()), half)
    return found
