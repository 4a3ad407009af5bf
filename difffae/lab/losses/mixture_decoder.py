"""The decoder of slot pre-training: one image and one mask per token, merged by the masks (paper 4.3, decoder zeta).

Shape letters: B batch, S slots, D token size, O output channels (3 for RGB, Z for latents), G side of the output, M channels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ...common.errors import ConfigError
from ...source.slot_attention import SoftPosition


@dataclass(frozen=True)
class MixtureDecoderConfig:
    """Sizes; the defaults reproduce 256x256 RGB with 128 channels."""

    token_size: int = 192
    channels: int = 128
    start: int = 8  # every token is spread over a grid of this side
    size: int = 256  # side of the output: start times shuffle times a power of two
    shuffle: int = 1  # pixels of the output that one cell of the last layer holds, along one side
    out_channels: int = 3

    def __post_init__(self) -> None:
        ratio, rest = divmod(self.size, self.start * self.shuffle)
        if rest or ratio < 1 or ratio & (ratio - 1):
            raise ConfigError(f"mixture decoder: size {self.size} must be {self.start * self.shuffle} times a power of two")

    def to_dict(self) -> dict:
        return asdict(self)


class MixtureDecoder(nn.Module):
    """Spatial broadcast decoder. Training only: no inference code needs it."""

    def __init__(self, config: MixtureDecoderConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or MixtureDecoderConfig()
        self.enter = nn.Linear(c.token_size, c.channels) if c.token_size != c.channels else nn.Identity()
        self.position = SoftPosition(c.channels)
        layers: list[nn.Module] = []
        for _ in range((c.size // c.start // c.shuffle).bit_length() - 1):
            layers += [nn.ConvTranspose2d(c.channels, c.channels, 5, stride=2, padding=2, output_padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Sequential(nn.Conv2d(c.channels, (c.out_channels + 1) * c.shuffle**2, 1), nn.PixelShuffle(c.shuffle))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B,S,D) -> merged image (B,O,G,G) and masks (B,S,G,G), which sum to 1 over the slots; both float32."""
        c = self.config
        batch, slots, _ = tokens.shape
        x = self.enter(tokens).reshape(batch * slots, -1, 1, 1).expand(-1, -1, c.start, c.start)
        x = self.out(self.layers(self.position(x))).float().reshape(batch, slots, c.out_channels + 1, c.size, c.size)
        masks = F.softmax(x[:, :, -1], dim=1)
        return (x[:, :, :-1] * masks[:, :, None]).sum(dim=1), masks
