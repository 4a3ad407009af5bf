"""Other encoders of the source in the slots' place, for comparison (paper 5.3, Fig. 5): the first stage's, MAE's and CLIP's.

Their weights come from a folder or file on this machine; nothing is downloaded. The encoder is frozen; a linear layer to the tokens' size
and a position per token are trained with the denoiser. They have no masks, so there is no attention consistency (Eq. 7) with them.

Shape letters: B batch, H and W image sides, N tokens, F features per token of the encoder, D token size of the denoiser.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ..common.errors import CheckpointError, ConfigError
from ..common.needs import missing
from ..diffusion.autoencoder import FirstStage
from ..diffusion.first_stages import build_first_stage, describe, load_first_stage

if TYPE_CHECKING:
    from typing_extensions import Self

KINDS = ("vae", "mae", "clip")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation that MAE was trained with
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # and CLIP
PATCH = 2  # cells of the first stage's latents that make one token, along one side


class Backbone(nn.Module):
    """A frozen encoder: images (B,3,H,W) in 0..1 -> features (B,N,F). It stays in evaluation mode."""

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.width = width

    def train(self, mode: bool = True) -> Self:
        super().train(False)
        return self


class LatentBackbone(Backbone):
    """Patches of latents: a converted first stage, or a diffusers AutoencoderKL, whose scaled means are taken."""

    def __init__(self, network: nn.Module) -> None:
        config: Any = network.config
        channels = config.latent_channels
        assert isinstance(channels, int)
        super().__init__(network, channels * PATCH**2)

    def forward(self, images: Tensor) -> Tensor:
        network: Any = self.network
        if isinstance(network, FirstStage):
            latents = network.encode(images)
        else:
            latents = network.encode(images * 2 - 1).latent_dist.mean * network.config.scaling_factor
        if latents.shape[2] % PATCH or latents.shape[3] % PATCH:
            raise ConfigError(f"source encoder: latents of {tuple(latents.shape[2:])}; sides divisible by {PATCH} are needed")
        return F.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


class TransformerBackbone(Backbone):
    """A vision transformer of the transformers library; all its output tokens, the class token first."""

    def __init__(self, network: nn.Module, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        config: Any = network.config
        super().__init__(network, config.hidden_size)
        self.side = config.image_size
        mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.deviation, Tensor)
        return self.features((images - self.mean) / self.deviation)

    def features(self, values: Tensor) -> Tensor:
        """Normalised pictures (B,3,H,W) -> all output tokens (B,N,F)."""
        return self.network(pixel_values=values).last_hidden_state


class MaskedBackbone(TransformerBackbone):
    """MAE sees every patch here, in their own order: without given noise it would shuffle them even with nothing masked."""

    def features(self, values: Tensor) -> Tensor:
        network: Any = self.network
        patches = network.embeddings.patch_embeddings.num_patches
        order = torch.linspace(0, 1, patches, device=values.device).expand(values.shape[0], -1)
        return network(pixel_values=values, noise=order).last_hidden_state


class SourceEncoder(nn.Module):
    """Images -> tokens, called as `SlotEncoder` is; there are no masks."""

    def __init__(self, kind: str, backbone: Backbone, tokens: int, token_size: int) -> None:
        super().__init__()
        self.kind = kind
        self.backbone = backbone
        self.norm = nn.LayerNorm(backbone.width, elementwise_affine=False)  # the encoders' features differ in size by far
        self.project = nn.Linear(backbone.width, token_size)
        self.position = nn.Parameter(torch.randn(1, tokens, token_size) * 0.02)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """images (B,3,H,W) RGB in 0..1 -> tokens (B,N,D) float32, and None. Raises ConfigError for pictures of another number of tokens."""
        with torch.no_grad():
            features = self.backbone(images).float()
        if features.shape[1] != self.position.shape[1]:
            raise ConfigError(
                f"source encoder: pictures of {tuple(images.shape[2:])} make {features.shape[1]} tokens, but it was built for "
                f"{self.position.shape[1]}; give pictures of its size"
            )
        return self.project(self.norm(features)) + self.position, None

    @property
    def token_size(self) -> int:
        """Size of a token (D)."""
        return self.position.shape[2]

    def to_dict(self) -> dict[str, Any]:
        """What `build_source_encoder` needs."""
        sizes = {"tokens": self.position.shape[1], "token_size": self.token_size}
        return {"kind": self.kind, **sizes, "network": _describe(self.backbone.network)}


def build_source_encoder(config: dict[str, Any], path: str | Path) -> SourceEncoder:
    """An encoder with fresh weights.

    Args:
        config: what `SourceEncoder.to_dict` described.
        path: its file, for errors.

    Raises:
        CheckpointError: a description of another version.
        ConfigError: transformers is not installed.
    """
    try:
        kind, tokens, size, network = config["kind"], config["tokens"], config["token_size"], config["network"]
        if "kind" in network:
            backbone: Backbone = LatentBackbone(build_first_stage(network, path))
        elif kind == "vae":
            network_class, _, wrap = _library(kind)
            backbone = wrap(network_class.from_config(network))
        else:
            network_class, _, wrap = _library(kind)
            backbone = wrap(network_class(network_class.config_class(**network)))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: its source encoder does not fit this version ({error!r}); train it again") from error
    return SourceEncoder(kind, backbone, tokens, size)


def _describe(network: nn.Module) -> dict[str, Any]:
    """A backbone's network as JSON values: of a first stage as `first_stages.describe`, else the library's own configuration."""
    if isinstance(network, FirstStage):
        return describe(network)
    config: Any = network if hasattr(network, "to_json_string") else network.config  # diffusers' networks describe themselves
    values = json.loads(config.to_json_string())
    # neither versions nor the folder that it was read from
    return {name: value for name, value in values.items() if not name.startswith("_") and name not in ("transformers_version", "path")}


def load_source_encoder(kind: str, path: str | Path, token_size: int, image_size: int = 256) -> SourceEncoder:
    """An encoder with its pretrained weights, and a fresh linear layer to the tokens' size.

    Args:
        kind: "vae", "mae" or "clip".
        path: for "vae" a folder of a diffusers AutoencoderKL or a file of `convert kl-f8` / `vq-f8`; for
            "mae" a folder of a transformers ViTMAE; for "clip" one of a CLIP vision model or a whole CLIP.
        token_size: D.
        image_size: side of the pictures, which the number of tokens of a VAE goes with.

    Raises:
        ConfigError: an unknown kind, or transformers is not installed.
        CheckpointError: a path that does not hold such a model.
    """
    if kind not in KINDS:
        raise ConfigError(f"source encoder '{kind}': no such kind; choose from {', '.join(KINDS)}")
    if kind == "vae" and Path(path).is_file():
        backbone: Backbone = LatentBackbone(load_first_stage(path))
    else:
        backbone = _from_folder(kind, path)
    with torch.no_grad():
        tokens = backbone(torch.zeros(1, 3, image_size, image_size)).shape[1]
    return SourceEncoder(kind, backbone, tokens, token_size)


def _from_folder(kind: str, path: str | Path) -> Backbone:
    if not Path(path).is_dir():
        raise CheckpointError(f"source encoder {kind}: '{path}' is no folder; give the folder that holds config.json and the weights")
    network_class, options, wrap = _library(kind)
    try:  # safetensors only: .bin files are pickles
        network, report = network_class.from_pretrained(
            str(path), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"source encoder {kind}: {path}: cannot be read ({reason}); it needs config.json and safetensors weights"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"source encoder {kind}: {path}: '{missing[0]}' is missing ({len(missing)} such); give the folder of a {kind} model"
        )
    return wrap(network)


def _library(kind: str) -> tuple[Any, dict[str, Any], Callable[[nn.Module], Backbone]]:
    """Class of the network, options for reading it, and how it is called."""
    if kind == "vae":
        from diffusers import AutoencoderKL  # takes seconds

        return AutoencoderKL, {}, LatentBackbone
    try:
        from transformers import CLIPVisionModel, ViTMAEModel
    except ImportError as error:
        raise missing(f"source encoder {kind}", error) from error
    if kind == "clip":
        return CLIPVisionModel, {}, lambda network: TransformerBackbone(network, OPENAI)
    return ViTMAEModel, {"mask_ratio": 0.0}, lambda network: MaskedBackbone(network, IMAGENET)
