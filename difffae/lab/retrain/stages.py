"""How each stage of the open profile is trained, on a CPU and on a GPU (docs/training.md says where the numbers come from)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..training.autoencoder import AutoencoderTraining
from ..training.denoiser import DenoiserTraining
from ..training.slots import SlotsTraining

FINISH, SHARPEN = 0.4, 0.4  # of `assemble`
KEEP_LATENTS, KEEP_TOKENS = 2.0, 0.3  # how hard a start's are held on to, so that its denoiser still knows them


@dataclass(frozen=True)
class Pace:
    """What depends on the device: how many samples a step takes, and by what the learning rates of small batches grow with it.

    Those of a GPU are chosen, not measured: as many as keep it busy, and rates that grow by less than the batch's square root.
    """

    first_stage: int = 8
    decoder: int = 6
    slots: int = 12
    denoiser: int = 8
    pairs: int = 4
    shard: int = 24  # pairs
    rate: float = 1.0


PACES = {"cpu": Pace(), "cuda": Pace(first_stage=48, decoder=32, slots=64, denoiser=64, pairs=32, shard=512, rate=1.5)}
# the decoder's finish: against a discriminator that judges detail alone, with the encoder frozen
SHARP: dict[str, Any] = {
    "smallest_scale": 0.7, "largest_scale": 1.15, "edge_weight": 0.0, "kl_weight": 0.0, "latent_noise": 0.08, "perceptual_weight": 0.05,
    "sharp_weight": 1.7, "structure_weight": 0.8, "grid_weight": 1.5, "adversarial_weight": 0.015, "discriminator_detail": 2.0,
    "discriminator_rate": 4e-4, "ema": 0.995,
}  # fmt: skip


@dataclass(frozen=True)
class Stages:
    """The options of every stage in one folder.

    portraits  folder of `prepare portraits`
    folder     of the whole run
    start      a whole model whose weights are gone on from, or ""
    """

    portraits: Path
    folder: Path
    device: str
    seed: int = 0
    start: str = ""

    @property
    def pace(self) -> Pace:
        return PACES[self.device]

    def _common(self, name: str, seconds: float) -> dict[str, Any]:
        """What all stages share: samples are kept on a GPU, and a kill costs a quarter of a short stage."""
        minutes = max(seconds, 1.0) / 60
        return {
            "folder": str(self.folder / "runs" / name), "minutes": minutes, "checkpoint_minutes": min(3.0, minutes / 4),
            "seed": self.seed, "device": self.device, "keep_data": self.device != "cpu",
        }  # fmt: skip

    def first_stage(self, seconds: float) -> AutoencoderTraining:
        common, batch, rate = self._common("first_stage", seconds), self.pace.first_stage, self.pace.rate
        if self.start:
            more: dict[str, Any] = {"start": self.start, "keep_weight": KEEP_LATENTS, "learning_rate": 3e-4 * rate, "warmup": 50}
        else:
            more = {"learning_rate": 1.2e-3 * rate, "edge_weight": 0.5}
        return AutoencoderTraining(portraits=str(self.portraits), batch=batch, **common, **more)

    def decoder(self, seconds: float, start: Path) -> AutoencoderTraining:
        rate = 3e-4 * self.pace.rate
        own: dict[str, Any] = {"start": str(start), "freeze_encoder": True, "learning_rate": rate, "warmup": 50, "batch": self.pace.decoder}
        return AutoencoderTraining(portraits=str(self.portraits), **own, **self._common("decoder", seconds), **SHARP)

    def slots(self, seconds: float) -> SlotsTraining:
        own: dict[str, Any] = {"batch": self.pace.slots, "mask_weight": 0.5, "decoder_mask_weight": 0.15, "ema": 0.998}
        own |= {"start": self.start, "keep_weight": KEEP_TOKENS, "learning_rate": 3e-4} if self.start else {"learning_rate": 6e-4}
        own["learning_rate"] *= self.pace.rate
        return SlotsTraining(shards=str(self.portraits / "labels" / "train"), **own, **self._common("slots", seconds))

    def denoiser(self, seconds: float, latents: Path, dev: Path | None) -> DenoiserTraining:
        rate = (3e-4 if self.start else 5e-4) * self.pace.rate
        own: dict[str, Any] = {"start": self.start, "learning_rate": rate, "warmup": 150, "ema": 0.998, "batch": self.pace.denoiser}
        return DenoiserTraining(shards=str(latents), dev_shards=str(dev or ""), **own, **self._common("denoiser", seconds))
