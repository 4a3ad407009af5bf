"""The first stage behind the interface of ComfyUI's VAE.

Shape letters: B batch, H and W picture height and width, Z latent channels, h = H/8, w = W/8.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from torch import Tensor

from ..difffae.common.errors import ImageError
from ..difffae.diffusion.autoencoder import FirstStage
from .bundle import loaded, patcher

BYTES_PER_PIXEL = 1600  # of the first stage's work at full size


class DiffFAEVAE:
    """Encodes IMAGE (B,H,W,C) to latents (B,Z,h,w), scaled as the denoiser sees them, and decodes them to IMAGE."""

    def __init__(self, autoencoder: FirstStage) -> None:
        self.factor = autoencoder.factor
        self.latent_channels = autoencoder.config.latent_channels
        self.output_channels = 3
        self.patcher: Any = patcher(autoencoder)

    def _network(self, batch: int, pixels: int) -> FirstStage:
        return loaded(self.patcher, memory=batch * pixels * BYTES_PER_PIXEL)

    def encode(self, pixels: Tensor) -> Tensor:
        """Sides that are no multiple of the factor are cropped, centred, as ComfyUI's own VAEs do."""
        height, width = (side // self.factor * self.factor for side in pixels.shape[1:3])
        if not height or not width:
            raise ImageError(f"pixels: {pixels.shape[2]}x{pixels.shape[1]} is too small to encode; {self.factor} pixels a side are needed")
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        pictures = pixels[:, top : top + height, left : left + width, :3].movedim(-1, 1)
        network = self._network(1, height * width)
        device = mm.get_torch_device()
        parts = [network.encode(part.to(device, torch.float32).expand(-1, 3, -1, -1)) for part in pictures.split(8)]
        return torch.cat(parts).to(mm.intermediate_device(), mm.intermediate_dtype())

    def decode(self, samples: Tensor, **_) -> Tensor:
        if samples.dim() != 4 or samples.shape[1] != self.latent_channels:
            raise ImageError(
                f"samples: latents {tuple(samples.shape)} do not belong to this VAE; (frames, {self.latent_channels}, h, w) is needed"
            )
        network = self._network(1, samples.shape[2] * samples.shape[3] * self.factor**2)
        device = mm.get_torch_device()
        parts = [network.decode(part.to(device, torch.float32)).clamp(0, 1) for part in samples.split(8)]
        return torch.cat(parts).movedim(1, -1).to(mm.intermediate_device(), mm.intermediate_dtype()).contiguous()

    def encode_tiled(self, pixels: Tensor, tile_x: int | None = None, tile_y: int | None = None, overlap: int | None = None, **_) -> Tensor:
        return comfy.utils.tiled_scale(
            pixels.movedim(-1, 1),
            lambda part: self.encode(part.movedim(1, -1)),
            tile_x or 512,
            tile_y or 512,
            overlap or 64,
            upscale_amount=1 / self.factor,
            out_channels=self.latent_channels,
        )

    def decode_tiled(
        self, samples: Tensor, tile_x: int | None = None, tile_y: int | None = None, overlap: int | None = None, **_
    ) -> Tensor:
        decoded = comfy.utils.tiled_scale(
            samples,
            lambda part: self.decode(part).movedim(-1, 1),
            tile_x or 64,
            tile_y or 64,
            overlap or 16,
            upscale_amount=self.factor,
            out_channels=3,
        )
        return decoded.movedim(1, -1)

    def spacial_compression_decode(self) -> int:
        return self.factor

    def spacial_compression_encode(self) -> int:
        return self.factor

    def temporal_compression_decode(self) -> None:
        return None
