"""Stable Diffusion's KL-f8 autoencoder -> our first stage."""

from __future__ import annotations

from pathlib import Path

from .first_stage import convert_kl

LICENSE = "CreativeML OpenRAIL-M, if these are the weights of Stable Diffusion v1"


def convert(inputs: list[Path], output: Path, *, license: str = LICENSE, latent_scale: float = 0.18215) -> None:
    """One input: a Stable Diffusion v1 file, a VAE alone (.safetensors, .ckpt, .pt) or a diffusers folder (its `vae`, or that itself).

    latent_scale: what latents are multiplied by, so that their standard deviation is about one. Raises CheckpointError.
    """
    convert_kl(inputs, output, license, latent_scale)
