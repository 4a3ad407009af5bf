"""One over the standard deviation of a first stage's latents, by which they are multiplied: diffusion takes data of deviation one."""

from __future__ import annotations

from pathlib import Path

import torch

from ...common.errors import ConfigError
from ...diffusion.autoencoder import FirstStage
from ..prepare.shards import Shards, stacked

SAMPLES = 256


@torch.no_grad()
def measure_latent_scale(stage: FirstStage, folder: Path, samples: int = SAMPLES, batch: int = 8) -> float:
    """One over the deviation over all channels and places together, as in latent diffusion.

    Args:
        stage: The first stage, whatever scale it has now.
        folder: Shards of pictures (`prepare frames`).
        samples: How many of them, evenly spaced.
        batch: How many are encoded at once.

    Raises:
        ConfigError: Without shards, or for latents that do not vary.
    """
    shards = Shards(folder, ("images",))
    count = min(samples, len(shards))
    chosen = [index * len(shards) // count for index in range(count)]
    parts = [chosen[first : first + batch] for first in range(0, count, batch)]
    present = getattr(stage.config, "latent_scale", 1.0)
    values = torch.cat([stage.encode(stacked([shards.sample(index) for index in part], "images")).flatten() for part in parts]) / present
    deviation = float(values.std())
    if deviation <= 0:
        raise ConfigError(f"{folder}: the latents of these pictures do not vary; train the first stage, or give other pictures")
    return 1 / deviation
