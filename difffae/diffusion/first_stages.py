"""The first stages of latent diffusion, f = 8, behind the interface of `autoencoder` (paper sections 3 and 5.4).

`vq-f8` is latent diffusion's VQ-VAE: its latents are what lies before quantisation, and decoding quantises. `kl-f8` is Stable
Diffusion's autoencoder. Their weights come from `python -m difffae convert`. Shape letters: B batch, H and W image height and width,
h = H/8, w = W/8, Z = 4 latent channels, K codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..common.checkpoint import filled, load_checkpoint
from ..common.errors import CheckpointError
from .autoencoder import Autoencoder, AutoencoderConfig, FirstStage, FirstStageConfig

CHECKPOINT_KIND = "first-stage"
POINTS_AT_ONCE = 4096  # whose distances to all codes are in memory together: 256 MiB with 16,384 codes


@dataclass(frozen=True)
class KLConfig(FirstStageConfig):
    """Sizes of KL-f8: 83,653,863 parameters. latent_scale multiplies latents, so that their standard deviation is about one."""

    latent_channels: int = 4
    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    latent_scale: float = 0.18215


@dataclass(frozen=True)
class VQConfig(FirstStageConfig):
    """Sizes of VQ-f8: 67,717,295 parameters. Attention on the coarsest level; latent diffusion does not scale these latents."""

    latent_channels: int = 4
    codes: int = 16384
    block_channels: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    latent_scale: float = 1.0


class KLFirstStage(FirstStage):
    """Stable Diffusion's variational autoencoder. Runs in the type of its weights; takes and gives float32."""

    kind = "kl-f8"
    config: KLConfig

    def __init__(self, config: KLConfig | None = None) -> None:
        from diffusers import AutoencoderKL  # takes seconds, and the open first stage needs none of it

        super().__init__()
        c = self.config = config or KLConfig()
        self.network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(c.block_channels),
            up_block_types=("UpDecoderBlock2D",) * len(c.block_channels),
            block_out_channels=c.block_channels,
            layers_per_block=c.layers_per_block,
            latent_channels=c.latent_channels,
            norm_num_groups=c.norm_groups,
        )

    @property
    def factor(self) -> int:
        return 2 ** (len(self.config.block_channels) - 1)

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, unscaled. images (B,3,H,W) in 0..1 -> two (B,Z,h,w)."""
        posterior = self.network.encode(_cast(images * 2 - 1, self)).latent_dist
        return posterior.mean.float(), posterior.logvar.float()

    def encode(self, images: Tensor) -> Tensor:
        """As FirstStage: the posterior's mean, scaled."""
        return self.moments(images)[0] * self.config.latent_scale

    def decoder(self, latents: Tensor) -> Tensor:
        """Unscaled latents (B,Z,h,w) -> images (B,3,H,W) in -1..1."""
        return self.network.decode(_cast(latents, self)).sample.float()

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents / self.config.latent_scale) * 0.5 + 0.5

    def encoding_parts(self) -> tuple[nn.Module, ...]:
        return self.network.encoder, self.network.quant_conv


class VQFirstStage(FirstStage):
    """Latent diffusion's VQ-VAE. Runs in the type of its weights; takes and gives float32."""

    kind = "vq-f8"
    config: VQConfig

    def __init__(self, config: VQConfig | None = None) -> None:
        from diffusers import VQModel

        super().__init__()
        c = self.config = config or VQConfig()
        plain = len(c.block_channels) - 1
        self.network = VQModel(
            down_block_types=("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",),
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain,
            block_out_channels=c.block_channels,
            layers_per_block=c.layers_per_block,
            latent_channels=c.latent_channels,
            norm_num_groups=c.norm_groups,
            num_vq_embeddings=c.codes,
            vq_embed_dim=c.latent_channels,
            scaling_factor=c.latent_scale,
        )

    @property
    def factor(self) -> int:
        return 2 ** (len(self.config.block_channels) - 1)

    def encode(self, images: Tensor) -> Tensor:
        """As FirstStage: what the encoder says before quantisation, scaled."""
        return self.unscaled(images) * self.config.latent_scale

    def unscaled(self, images: Tensor) -> Tensor:
        """images (B,3,H,W) in 0..1 -> the encoder's points (B,Z,h,w), in the codebook's units."""
        return self.network.encode(_cast(images * 2 - 1, self)).latents.float()

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest codes, by |e|^2 - 2 z.e in float32.

        In half precision the distances of neighbouring codes would round to the same number.

        Args:
            latents: (B,Z,h,w).

        Returns:
            the codes (B,Z,h,w) and their numbers (B,h,w), 0..K-1. Ties go to the first.
        """
        codes = self.network.quantize.embedding.weight.float()
        norms = codes.square().sum(dim=1)
        points = (latents / self.config.latent_scale).float().movedim(1, -1)
        parts = points.reshape(-1, points.shape[-1]).split(POINTS_AT_ONCE)
        index = torch.cat([(norms - 2 * part @ codes.T).argmin(dim=1) for part in parts]).reshape(points.shape[:-1])
        return codes[index].movedim(-1, 1) * self.config.latent_scale, index

    def decode(self, latents: Tensor) -> Tensor:
        """As FirstStage: quantises first."""
        return self.decoder(self.quantize(latents)[0] / self.config.latent_scale) * 0.5 + 0.5

    def decoder(self, codes: Tensor) -> Tensor:
        """Codes (B,Z,h,w), unscaled, taken as they are -> images (B,3,H,W) in -1..1."""
        return self.network.decode(_cast(codes, self), force_not_quantize=True).sample.float()

    def encoding_parts(self) -> tuple[nn.Module, ...]:
        return self.network.encoder, self.network.quant_conv, self.network.quantize


KINDS: dict[str, tuple[type[FirstStageConfig], Callable[[Any], FirstStage]]] = {
    "open": (AutoencoderConfig, Autoencoder),
    "kl-f8": (KLConfig, KLFirstStage),
    "vq-f8": (VQConfig, VQFirstStage),
}


def describe(stage: FirstStage) -> dict[str, Any]:
    """What `build_first_stage` needs, for a checkpoint's configuration."""
    return {"kind": stage.kind, **stage.config.to_dict()}


def build_first_stage(config: dict[str, Any], path: str | Path) -> FirstStage:
    """A first stage with fresh weights.

    Args:
        config: what `describe` gave; one without a `kind` is "open".
        path: its file, for errors.

    Raises:
        CheckpointError: an unknown kind.
        TypeError: unknown sizes.
    """
    sizes = dict(config)
    kind = sizes.pop("kind", "open")
    if kind not in KINDS:
        raise CheckpointError(f"{path}: its first stage is '{kind}', but only {', '.join(KINDS)} are known; use a newer version")
    config_class, stage_class = KINDS[kind]
    return stage_class(config_class.from_dict(sizes))


def load_first_stage(path: str | Path) -> FirstStage:
    """Read what `python -m difffae convert kl-f8` or `vq-f8` wrote; frozen, in evaluation mode. Raises CheckpointError."""
    checkpoint = load_checkpoint(path, CHECKPOINT_KIND)
    try:
        return filled(lambda: build_first_stage(checkpoint.config, path), checkpoint.tensors, path)
    except TypeError as error:
        raise CheckpointError(f"{path}: its configuration does not fit this version ({error}); convert it again") from error


def _cast(values: Tensor, stage: FirstStage) -> Tensor:
    parameter: nn.Parameter = next(stage.parameters())
    return values.to(parameter.dtype)
