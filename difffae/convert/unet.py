"""Stable Diffusion v1's U-Net -> a denoiser of the paper's size to start training from.

Of its 686 tensors 33 differ: the input convolution sees the render too (zero at first), and the 32 keys and values of the cross-attention
read tokens of 192 numbers instead of a text encoder's 768 (fresh). AdaIN is new, with scale 1 and shift 0.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError
from ..diffusion.denoiser import KIND, Denoiser, DenoiserConfig
from ..diffusion.initialisation import initialise
from ..edit.profiles import profile
from .state_dicts import only_input, read_state, strip

log = logging.getLogger(__name__)

LICENSE = "CreativeML OpenRAIL-M, if these are the weights of Stable Diffusion v1"
COMPVIS = "model.diffusion_model."
EMA = "model_ema."


def convert(
    inputs: list[Path],
    output: Path,
    *,
    license: str = LICENSE,
    image_size: int = 256,
    first_stage: str = "kl-f8",
    carry: bool = False,
    ema: bool = False,
    seed: int = 0,
) -> None:
    """Stable Diffusion v1's U-Net, to start a denoiser's training from.

    Args:
        inputs: One: a Stable Diffusion v1 file (.safetensors, .ckpt), a U-Net alone, or a diffusers folder (its `unet`, or that itself).
        output: The file to write.
        license: What it says of its licence.
        image_size: 256 or 512.
        first_stage: "kl-f8" or "vq-f8", whose noise schedule is taken.
        carry: With the carried photograph as an input, which the paper lacks.
        ema: Take the averaged weights of a .ckpt that has both.
        seed: Of the fresh tensors.

    Raises:
        CheckpointError: For another network.
        ConfigError: For sizes that the paper has not.
    """
    path = only_input(inputs, "a U-Net")
    config = replace(profile(f"paper-{image_size}", first_stage).denoiser, carry=carry)
    tensors = read_unet(path, config, ema)
    half = all(tensor.dtype != torch.float32 for tensor in tensors.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = Denoiser(config)
    report = initialise(denoiser, {f"unet.{name}": tensor for name, tensor in tensors.items()}, path)
    source = f"converted from {path.name}: {report}"
    save_checkpoint(output, denoiser.state_dict(), kind=KIND, config=config.to_dict(), license=license, source=source, half=half)
    log.info("%s: %s", output, report)


def read_unet(path: Path, config: DenoiserConfig, ema: bool = False) -> dict[str, Tensor]:
    """Tensors of a Stable Diffusion U-Net in diffusers' layout, whatever layout they came in. Raises CheckpointError."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint  # its import takes seconds

    tensors = read_state(path, part="unet")
    if ema and not any(name.startswith(EMA) for name in tensors):
        raise CheckpointError(f"{path}: holds no averaged weights ({EMA}*); leave out ema=true")
    if "conv_in.weight" in tensors:
        return tensors
    if "input_blocks.0.0.weight" in tensors:
        tensors = {COMPVIS + name: tensor for name, tensor in tensors.items()}
    if not strip(tensors, COMPVIS):
        raise CheckpointError(f"{path}: holds no U-Net ({COMPVIS}* or conv_in.weight); give a Stable Diffusion v1 file or folder")
    _check_version(tensors, path)
    return convert_ldm_unet_checkpoint(dict(tensors), {"layers_per_block": config.layers_per_block}, extract_ema=ema)


def _check_version(tensors: Mapping[str, Tensor], path: Path) -> None:
    context = tensors.get(f"{COMPVIS}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight")
    projection = tensors.get(f"{COMPVIS}input_blocks.1.1.proj_in.weight")
    if context is None or projection is None or projection.dim() != 4:
        raise CheckpointError(f"{path}: a U-Net, but not of Stable Diffusion v1's layout (v2 and XL differ); give a v1 model")
