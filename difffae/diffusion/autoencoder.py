"""First stage: image <-> latent, f = 8 (paper sections 3 and 5.4).

Shape letters: B batch, H and W image height and width, h = H/8, w = W/8, Z latent channels.

The `open` first stage is a small convolutional autoencoder on 4x pixel-unshuffled images. Unshuffling first puts all
arithmetic at H/4 and below, so that two CPU cores can train it. The paper's VQ-f8 and KL-f8 are in `first_stages`, behind the
same interface, `FirstStage`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.pixels import gaussian_blur

if TYPE_CHECKING:
    from typing_extensions import Self


SHARPEN_BLUR = 0.6  # standard deviation in pixels


@dataclass(frozen=True)
class FirstStageConfig:
    """What every first stage's configuration holds."""

    latent_channels: int = 8

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` gave, also after JSON made lists of its tuples. Raises TypeError for unknown names."""
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**plain)


@dataclass(frozen=True)
class AutoencoderConfig(FirstStageConfig):
    """Sizes of the open first stage."""

    unshuffle: int = 4  # pixels folded into channels before the first convolution
    width: int = 96  # channels at H/4
    deep_width: int = 192  # channels at H/8
    encoder_blocks: tuple[int, int] = (2, 3)  # residual blocks at H/4 and H/8
    decoder_blocks: tuple[int, int] = (3, 4)
    norm_groups: int = 16
    latent_scale: float = 1.0  # multiplies latents, so that their standard deviation is about one
    sharpen: float = 0.0  # how much of the decoded pictures' finest detail (what a blur of SHARPEN_BLUR takes away) is added to them


class FirstStage(nn.Module):
    """What the rest of the package knows of a first stage. `kind` names the class in a checkpoint's configuration."""

    kind: ClassVar[str]
    config: FirstStageConfig

    @property
    def factor(self) -> int:
        """Pixels per latent cell along one side."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """images (B,3,H,W) RGB in 0..1, sides divisible by the factor -> latents (B,Z,h,w), scaled as the denoiser sees them."""
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B,Z,h,w) -> images (B,3,H,W), nominally in 0..1, not clamped."""
        raise NotImplementedError

    def encoding_parts(self) -> tuple[nn.Module, ...]:
        """The modules that latents, and the codes of quantised ones, depend on: frozen, they keep cached latents valid."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    @torch.no_grad()
    def rgb_factors(self) -> tuple[Tensor, Tensor]:
        """The linear map from latents to colours that comes closest: matrix (Z,3) and offset (3,), RGB 0..1, for previews of latents.

        Found by decoding latents around zero, one channel raised and lowered at a time, so it needs no pictures.
        """
        count = self.config.latent_channels
        like = next(self.parameters())
        raised = torch.eye(count, device=like.device, dtype=like.dtype)
        latents = torch.cat([raised, -raised, torch.zeros_like(raised[:1])])
        colours = self.decode(latents[:, :, None, None].expand(-1, -1, 8, 8)).mean(dim=(2, 3))
        return (colours[:count] - colours[count:-1]) / 2, colours[-1]


class ResidualBlock(nn.Module):
    """GroupNorm-SiLU-conv twice, added to the input. (B,C,h,w) -> (B,C,h,w)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)  # a new block is the identity

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(FirstStage):
    """Convolutional variational autoencoder, f = 8."""

    kind = "open"
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or AutoencoderConfig()
        pixels = 3 * c.unshuffle**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(c.unshuffle),
            nn.Conv2d(pixels, c.width, 3, padding=1),
            *(ResidualBlock(c.width, c.norm_groups) for _ in range(c.encoder_blocks[0])),
            nn.Conv2d(c.width, c.deep_width, 2, stride=2),
            *(ResidualBlock(c.deep_width, c.norm_groups) for _ in range(c.encoder_blocks[1])),
            moments := nn.Conv2d(c.deep_width, 2 * c.latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(c.latent_channels, c.deep_width, 3, padding=1),
            *(ResidualBlock(c.deep_width, c.norm_groups) for _ in range(c.decoder_blocks[1])),
            nn.Conv2d(c.deep_width, 4 * c.width, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(c.width, c.norm_groups) for _ in range(c.decoder_blocks[0])),
            nn.Conv2d(c.width, pixels, 3, padding=1),
            nn.PixelShuffle(c.unshuffle),
        )
        # No normalisation before the two output convolutions: a linear way from pixels to latents and back exists from the
        # start, and the residual blocks learn what it misses. With one, 24 dB took more than
        # twice as many pictures.
        with torch.no_grad():
            moments.weight[c.latent_channels :] = 0
            assert moments.bias is not None
            moments.bias[c.latent_channels :] = -6.0  # start almost without noise

    @property
    def factor(self) -> int:
        return 2 * self.config.unshuffle

    def encoding_parts(self) -> tuple[nn.Module, ...]:
        return (self.encoder,)

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, unscaled. images (B,3,H,W) in 0..1 -> two (B,Z,h,w)."""
        mean, logvar = self.encoder(images * 2 - 1).chunk(2, dim=1)
        return mean, logvar.clamp(-20, 10)

    def encode(self, images: Tensor) -> Tensor:
        """As FirstStage: the posterior's mean, scaled."""
        return self.moments(images)[0] * self.config.latent_scale

    def decode(self, latents: Tensor) -> Tensor:
        """As FirstStage. A decoder trained to be right on the mean is too soft; `sharpen` makes up for it, at some cost of PSNR."""
        images = self.decoder(latents / self.config.latent_scale) * 0.5 + 0.5
        if self.config.sharpen:
            images = images + self.config.sharpen * (images - gaussian_blur(images, SHARPEN_BLUR))
        return images
