"""First stages of latent diffusion in CompVis' or diffusers' layout -> our first stages kl-f8 and vq-f8."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError
from ..diffusion.first_stages import CHECKPOINT_KIND, KLConfig, KLFirstStage, VQConfig, VQFirstStage, describe
from .state_dicts import check_fit, only_input, read_state, strip

log = logging.getLogger(__name__)

LICENSE_KL = "CreativeML OpenRAIL-M, if these are the weights of Stable Diffusion v1"
LICENSE_VQ = "MIT, if these are the weights of CompVis/latent-diffusion"
LEVELS = 4
CODEBOOK = "quantize.embedding.weight"
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.embedding.")
# CompVis' names -> diffusers'; the decoder's levels are counted from the other end
RENAMES = (
    (r"\.down\.(\d)\.", r".down_blocks.\1."),
    (r"\.up\.(\d)\.", lambda match: f".up_blocks.{LEVELS - 1 - int(match[1])}."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.block\.(\d)\.", r".resnets.\1."),
    (r"\.attn\.(\d)\.", r".attentions.\1."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"coder\.norm_out\.", "coder.conv_norm_out."),
    (r"(\.attentions\.\d)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d)\.(?:q|query)\.", r"\1.to_q."),
    (r"(\.attentions\.\d)\.(?:k|key)\.", r"\1.to_k."),
    (r"(\.attentions\.\d)\.(?:v|value)\.", r"\1.to_v."),
    (r"(\.attentions\.\d)\.(?:proj_out|proj_attn)\.", r"\1.to_out.0."),
)


def rename(name: str) -> str:
    """A tensor's name in CompVis' layout, or in that of any version of diffusers, -> its name in today's diffusers."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def read_first_stage(path: Path) -> dict[str, Tensor]:
    """Tensors in diffusers' layout from a whole Stable Diffusion file, a first stage alone, or a diffusers folder."""
    tensors = read_state(path, part="vae")
    tensors = strip(tensors, "first_stage_model.") or tensors
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(PARTS):
            name = rename(name)
            # 1x1 convolutions in CompVis' attention, linear layers in diffusers'
            found[name] = tensor[..., 0, 0] if ".attentions." in name and tensor.dim() == 4 else tensor
    if not found:
        raise CheckpointError(f"{path}: holds no first stage (encoder, decoder, quant_conv); give a VAE or VQ-VAE of latent diffusion")
    return found


def block_channels(tensors: Mapping[str, Tensor], path: Path) -> tuple[int, ...]:
    """Channels of every level, from the weights. Raises CheckpointError unless there are four: f = 8."""
    pattern = re.compile(r"encoder\.down_blocks\.(\d)\.resnets\.0\.conv1\.weight")
    levels = {int(match[1]): tensor.shape[0] for name, tensor in tensors.items() if (match := pattern.fullmatch(name))}
    if sorted(levels) != list(range(LEVELS)):
        factor = f"f = {2 ** (len(levels) - 1)}" if levels else "no levels"
        raise CheckpointError(f"{path}: a first stage with {factor}; one with f = 8 is needed, such as KL-f8 or VQ-f8")
    return tuple(levels[index] for index in range(LEVELS))


def convert_kl(inputs: list[Path], output: Path, *, license: str = LICENSE_KL, latent_scale: float = 0.18215) -> None:
    """Stable Diffusion's KL-f8 autoencoder.

    Args:
        inputs: One: a Stable Diffusion v1 file, a VAE alone (.safetensors, .ckpt, .pt) or a diffusers folder (its `vae`, or that itself).
        output: The file to write.
        license: What the file says of its licence.
        latent_scale: What latents are multiplied by, so that their standard deviation is about one.

    Raises:
        CheckpointError: For another network.
    """
    path = only_input(inputs, "a KL-f8")
    tensors = read_first_stage(path)
    if CODEBOOK in tensors:
        raise CheckpointError(f"{path}: a VQ-VAE (it has a codebook); convert it as vq-f8")
    with torch.device("meta"):
        stage = KLFirstStage(KLConfig(block_channels=block_channels(tensors, path), latent_scale=latent_scale))
    _save(stage, tensors, path, output, license, "a KL-f8")


def convert_vq(inputs: list[Path], output: Path, *, license: str = LICENSE_VQ, latent_scale: float = 1.0) -> None:
    """CompVis latent diffusion's VQ-f8.

    Args:
        inputs: One: CompVis' model.ckpt of vq-f8 or vq-f8-n256, a latent diffusion model that holds one, or a diffusers folder.
        output: The file to write.
        license: What the file says of its licence.
        latent_scale: What latents are multiplied by; latent diffusion leaves them as they are.

    Raises:
        CheckpointError: For another network.
    """
    path = only_input(inputs, "a VQ-f8")
    tensors = read_first_stage(path)
    if CODEBOOK not in tensors:
        raise CheckpointError(f"{path}: has no codebook ({CODEBOOK}); if it is a KL autoencoder, convert it as kl-f8")
    codes, width = tensors[CODEBOOK].shape
    with torch.device("meta"):
        config = VQConfig(latent_channels=width, codes=codes, block_channels=block_channels(tensors, path), latent_scale=latent_scale)
        stage = VQFirstStage(config)
    _save(stage, tensors, path, output, license, "a VQ-f8")


def _save(stage: KLFirstStage | VQFirstStage, tensors: dict[str, Tensor], path: Path, output: Path, license: str, what: str) -> None:
    check_fit(tensors, stage.network.state_dict(), path, what)
    named = {f"network.{name}": tensor for name, tensor in tensors.items()}
    save_checkpoint(output, named, kind=CHECKPOINT_KIND, config=describe(stage), license=license, source=f"converted from {path.name}")
    log.info("%s: %d tensors, %d numbers", output, len(named), sum(tensor.numel() for tensor in named.values()))
