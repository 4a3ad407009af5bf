"""Checkpoints of other people's models in miniature: the layouts that ComfyUI knows them by, as few blocks as it takes, random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def filled(shapes: Weights, seed: int, prefix: str = "") -> Weights:
    """Small random numbers of the same shapes, in half precision."""
    generator = torch.Generator().manual_seed(seed)
    return {f"{prefix}{name}": (torch.randn(value.shape, generator=generator) * 0.02).half() for name, value in shapes.items()}


def clip_l() -> Weights:
    """CLIP's text encoder ViT-L/14: the real one, of zeros, since ComfyUI knows it in one size only."""
    layer = {"layer_norm1": (768,), "layer_norm2": (768,), "mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
    layer |= {f"self_attn.{name}_proj": (768, 768) for name in "qkv"} | {"self_attn.out_proj": (768, 768)}
    shapes = {f"encoder.layers.{index}.{name}": shape for index in range(12) for name, shape in layer.items()} | {
        "final_layer_norm": (768,)
    }
    weights = {f"{name}.weight": torch.zeros(shape, dtype=torch.half) for name, shape in shapes.items()}
    weights |= {f"{name}.bias": torch.zeros(shape[0], dtype=torch.half) for name, shape in shapes.items()}
    weights["embeddings.token_embedding.weight"] = torch.zeros(49408, 768, dtype=torch.half)
    weights["embeddings.position_embedding.weight"] = torch.zeros(77, 768, dtype=torch.half)
    return {f"text_model.{name}": value for name, value in weights.items()}


def clip_g() -> Weights:
    """The text encoder that SDXL has beside it, OpenCLIP's ViT-bigG/14 in OpenCLIP's layout: of zeros and of the real size, too."""
    layer = {"ln_1.weight": (1280,), "ln_2.weight": (1280,), "attn.in_proj_weight": (3840, 1280), "attn.out_proj.weight": (1280, 1280)}
    layer |= {"mlp.c_fc.weight": (5120, 1280), "mlp.c_proj.weight": (1280, 5120), "attn.in_proj_bias": (3840,), "mlp.c_fc.bias": (5120,)}
    layer |= {f"{name}.bias": (1280,) for name in ("ln_1", "ln_2", "attn.out_proj", "mlp.c_proj")}
    shapes = {f"transformer.resblocks.{index}.{name}": shape for index in range(32) for name, shape in layer.items()}
    shapes |= {"token_embedding.weight": (49408, 1280), "positional_embedding": (77, 1280), "text_projection": (1280, 1280)}
    shapes |= {"ln_final.weight": (1280,), "ln_final.bias": (1280,)}
    return {name: torch.zeros(shape, dtype=torch.half) for name, shape in shapes.items()}


def small_vae(channels: int) -> Weights:
    """ComfyUI's tiny autoencoder for latents of so many channels."""
    from comfy.taesd.taesd import TAESD

    state = TAESD(latent_channels=channels).state_dict()
    return filled(state, 1) | {name: value for name, value in state.items() if name in ("vae_scale", "vae_shift")}


def save(weights: Weights, path: Path) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, path)


def sd15_inpainting(path: Path) -> None:
    """Stable Diffusion 1.5 inpainting: a U-Net of one level, 9 channels in, CLIP, and a VAE."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        **{"image_size": 32, "in_channels": 9, "out_channels": 4, "model_channels": 320, "num_res_blocks": [1], "channel_mult": [1]},
        **{"num_heads": 8, "use_spatial_transformer": True, "context_dim": 768, "legacy": False},
        **{"transformer_depth": [1], "transformer_depth_middle": 1, "transformer_depth_output": [1, 1]},
    )
    weights = filled(unet.state_dict(), 0, "model.diffusion_model.")
    weights |= {f"cond_stage_model.transformer.{name}": value for name, value in clip_l().items()}
    save(weights | {f"first_stage_model.{name}": value for name, value in small_vae(4).items()}, path)


def sdxl_inpainting(path: Path) -> None:
    """SDXL inpainting: as many blocks in the U-Net as the real one, by which ComfyUI knows it, of 320 channels at each of its three sizes;
    9 channels in; both text encoders; and a VAE. 2 GB, of which three quarters are the text encoders' zeros."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        **{
            "image_size": 32,
            "in_channels": 9,
            "out_channels": 4,
            "model_channels": 320,
            "num_res_blocks": [2] * 3,
            "channel_mult": [1] * 3,
        },
        **{"num_head_channels": 64, "use_spatial_transformer": True, "use_linear_in_transformer": True, "context_dim": 2048},
        **{"num_classes": "sequential", "adm_in_channels": 2816, "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10},
        **{"transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "legacy": False},
    )
    weights = filled(unet.state_dict(), 0, "model.diffusion_model.")
    weights |= {f"conditioner.embedders.0.transformer.{name}": value for name, value in clip_l().items()}
    weights |= {f"conditioner.embedders.1.model.{name}": value for name, value in clip_g().items()}
    save(weights | {f"first_stage_model.{name}": value for name, value in small_vae(4).items()}, path)


def flux_fill(unet: Path, vae: Path, clip: Path) -> None:
    """FLUX.1 Fill: one double and one single block of width 128, 96 latent channels in; its VAE; and CLIP-L. T5-XXL, its other text
    encoder, has one size only, 9 GB."""
    from comfy import ops
    from comfy.ldm.flux.model import Flux

    model = Flux(
        **{"image_model": "flux", "in_channels": 96, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 768, "hidden_size": 128},
        **{"mlp_ratio": 4.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000},
        **{"patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [], "operations": ops.disable_weight_init},
    )
    save(filled(model.state_dict(), 0), unet)
    save(small_vae(16), vae)
    save(clip_l(), clip)
