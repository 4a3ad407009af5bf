"""The denoising U-Net: render and carried latents by concatenation, tokens by cross-attention, identity by AdaIN (Eq. 4-6, Table 5).

Shape letters: B batch, Z latent channels, S slots (tokens), D token size, I identity size, C feature channels, h and w latent sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import Checkpoint, filled, load_checkpoint
from ..common.errors import CheckpointError, ConfigError
from ..common.unet import Attention, ResidualBlock, TokenAttention, UNet, UNetSizes
from .attention_maps import AttentionTap, LayerObserver
from .conditions import Conditions
from .schedule import ScheduleConfig

KIND = "denoiser"
ADAIN = ("none", "replace", "blend")


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the U-Net. The defaults are the paper's 256x256 model (Table 5); `open_256` is the small one that ships.

    adain: "none"; "replace" is Eq. 4, the block's output h becomes scale * IN(h) + shift; "blend" is h + gate * (that - h) with a
    learned gate per channel that starts at 0, so that a new model and one without AdaIN agree.

    Raises:
        ConfigError: an unknown adain, or lists of different lengths.
    """

    sample_size: int = 32
    latent_channels: int = 4
    carry: bool = False
    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)  # finest first; the middle block always attends
    layers_per_block: int = 2
    heads: int = 8
    token_size: int = 192
    norm_groups: int = 32
    identity_size: int = 512
    identity_scale: float = 1.0  # multiplies the embedding, so that its numbers are about one in size
    adain: str = "replace"
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_channels", tuple(self.block_channels))
        object.__setattr__(self, "attention_levels", tuple(bool(level) for level in self.attention_levels))
        if isinstance(self.schedule, dict):
            # files of version 0.1 name a start as well, which was a second scale of how much an edit paints anew
            known = {name: value for name, value in self.schedule.items() if name != "start"}
            object.__setattr__(self, "schedule", ScheduleConfig(**known))
        if self.adain not in ADAIN:
            raise ConfigError(f"denoiser: unknown adain '{self.adain}'; choose from {', '.join(ADAIN)}")
        if len(self.block_channels) != len(self.attention_levels):
            raise ConfigError(f"denoiser: {len(self.block_channels)} levels of channels but {len(self.attention_levels)} attention flags")

    @property
    def in_channels(self) -> int:
        """Noise and render, and with carry the carried latents and their validity: 2Z or 3Z + 1."""
        return 3 * self.latent_channels + 1 if self.carry else 2 * self.latent_channels

    @classmethod
    def paper(cls, sample_size: int = 32) -> DenoiserConfig:
        """Table 5: sample_size 32 for 256x256 pictures, 64 for 512x512."""
        return cls(sample_size=sample_size)

    @classmethod
    def open_256(cls) -> DenoiserConfig:
        return cls(
            latent_channels=8,
            carry=True,
            block_channels=(64, 96, 160, 192),
            attention_levels=(False, True, True, True),
            layers_per_block=1,
            heads=4,
            norm_groups=16,
            identity_size=128,
            identity_scale=8.0,
            adain="blend",
            schedule=ScheduleConfig.open_256(),
        )

    def to_dict(self) -> dict:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class AdaIN(nn.Module):
    """Adaptive instance normalisation by the identity token (Eq. 4-5): one SiLU and one linear layer to scale and shift."""

    def __init__(self, identity_size: int, channels: int, blend: bool) -> None:
        super().__init__()
        self.project = nn.Linear(identity_size, 2 * channels)
        # A new layer ignores the identity (scale 1, shift 0) or, in a blend, is shut by its gate; small weights behind a shut gate let the
        # identity through as soon as it opens
        nn.init.normal_(self.project.weight, std=0.02 if blend else 0.0)
        with torch.no_grad():
            self.project.bias.copy_(torch.cat([torch.ones(channels), torch.zeros(channels)]))
        self.gate = nn.Parameter(torch.zeros(channels)) if blend else None

    def forward(self, h: Tensor, identity: Tensor) -> Tensor:
        """h (B,C,h,w), identity (B,I) -> (B,C,h,w)."""
        # Eq. 5: h_s, h_b = MLP(f_id)
        scale, shift = self.project(F.silu(identity)).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
        out = F.instance_norm(h) * scale + shift  # Eq. 4: h_s IN(f_l) + h_b
        return out if self.gate is None else torch.lerp(h, out, self.gate.to(h.dtype)[None, :, None, None])


class AdaINResidualBlock(ResidualBlock):
    """A residual block with AdaIN on its output. Its `time` is [time | identity], which the U-Net hands to every block."""

    def __init__(self, block: ResidualBlock, identity_size: int, blend: bool) -> None:
        super().__init__(block.inputs, block.outputs, block.time_size, block.groups)
        self.adain = AdaIN(identity_size, block.outputs, blend)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B,inputs,h,w), time (B,T+I) -> (B,outputs,h,w)."""
        h = super().forward(x, time[:, : self.time_size])
        return self.adain(h, time[:, self.time_size :])


def add_adain(unet: UNet, identity_size: int, blend: bool) -> None:
    """Give every residual block of a plain U-Net its AdaIN, in place."""
    for module in list(unet.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ResidualBlock):
                setattr(module, name, AdaINResidualBlock(child, identity_size, blend))


class Denoiser(nn.Module):
    """Predicts noise (or v) from noisy latents and Conditions."""

    def __init__(self, config: DenoiserConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or DenoiserConfig()
        sizes = UNetSizes(c.in_channels, c.latent_channels, c.block_channels, c.layers_per_block, c.norm_groups)
        self.unet = UNet(sizes, self._attention)
        if c.adain != "none":
            add_adain(self.unet, c.identity_size, c.adain == "blend")
        for parameter in self.unet.conv_out.parameters():
            nn.init.zeros_(parameter)  # a new model answers zero: the mean of every target
        self.tap = AttentionTap()
        for name, module in self.unet.named_modules():
            if isinstance(module, Attention) and name.endswith("attn2"):
                module.observer = LayerObserver(name, self.tap)

    def _attention(self, level: int | None, channels: int) -> TokenAttention | None:
        """The attention layers of a level, or of the middle, which always attends."""
        c = self.config
        if level is None or c.attention_levels[level]:
            return TokenAttention(channels, c.heads, c.token_size, c.norm_groups)
        return None

    @contextmanager
    def record_attention(self) -> Iterator[dict[str, Tensor]]:
        """Within this context every forward leaves its cross-attention (A_cross of Eq. 7).

        With gradient checkpointing call backward within it too, or the recomputed layers would leave out
        their maps and PyTorch would complain.

        Yields:
            a dictionary that each forward fills, in order of execution: layer name -> map (B,S,h',w') at
            the layer's own resolution, averaged over the heads, summing to 1 over the tokens. The maps
            carry gradients.
        """
        maps: dict[str, Tensor] = {}
        self.tap.maps = maps
        try:
            yield maps
        finally:
            self.tap.maps = None

    def forward(self, noisy: Tensor, steps: Tensor | int, conditions: Conditions) -> Tensor:
        """Predict the noise (or v) in latents.

        Args:
            noisy: (B,Z,h,w).
            steps: (B,), or one integer for all.
            conditions: of B rows. With carry, conditions without a carried picture count as carried nothing.

        Returns:
            (B,Z,h,w) float32.

        Raises:
            ConfigError: conditions that do not fit the config.
        """
        c = self.config
        if conditions.render.shape != noisy.shape or noisy.shape[1] != c.latent_channels:
            raise ConfigError(
                f"denoiser: latents {tuple(noisy.shape)} and render {tuple(conditions.render.shape)} must be (B,{c.latent_channels},h,w)"
            )
        if c.adain != "none" and conditions.identity.shape[1] != c.identity_size:
            raise ConfigError(f"denoiser: identity of {conditions.identity.shape[1]} numbers; this model takes {c.identity_size}")
        parts = [noisy, conditions.render]
        if c.carry:
            if conditions.carried is None or conditions.validity is None:
                parts.append(noisy.new_zeros(noisy.shape[0], c.latent_channels + 1, *noisy.shape[2:]))
            else:
                parts += [conditions.carried, conditions.validity]
        dtype = self.unet.conv_in.weight.dtype
        self.tap.size = (noisy.shape[2], noisy.shape[3])
        output = self.unet(
            torch.cat([part.to(dtype) for part in parts], dim=1),
            steps,
            conditions.tokens.to(dtype),
            None if c.adain == "none" else conditions.identity.to(dtype) * c.identity_scale,
        )
        return output.float()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, path: str | Path, prefix: str | None = None) -> Denoiser:
        """Build from a checkpoint's config and tensors.

        Args:
            checkpoint: of kind `denoiser`, or a file that holds several models.
            path: its file, for errors.
            prefix: the part of such a file that is meant.

        Raises:
            CheckpointError: a configuration of another version, or weights that do not fit it.
        """
        try:
            config = DenoiserConfig(**(checkpoint.config[prefix] if prefix else checkpoint.config))
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: its denoiser configuration does not fit this version ({error}); convert it again") from error
        return filled(lambda: cls(config), checkpoint.part(prefix) if prefix else checkpoint.tensors, path)

    @classmethod
    def load(cls, path: str | Path) -> Denoiser:
        """Read a `denoiser` checkpoint; frozen, in evaluation mode. Raises CheckpointError."""
        return cls.from_checkpoint(load_checkpoint(path, KIND), path)
