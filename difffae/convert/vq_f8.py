"""CompVis latent diffusion's VQ-f8 -> our first stage."""

from __future__ import annotations

from pathlib import Path

from .first_stage import convert_vq

LICENSE = "MIT, if these are the weights of CompVis/latent-diffusion"


def convert(inputs: list[Path], output: Path, *, license: str = LICENSE, latent_scale: float = 1.0) -> None:
    """One input: CompVis' model.ckpt of vq-f8 or vq-f8-n256, a latent diffusion model that holds one, or a diffusers folder.

    latent_scale: what latents are multiplied by; latent diffusion leaves them as they are. Raises CheckpointError.
    """
    convert_vq(inputs, output, license, latent_scale)
