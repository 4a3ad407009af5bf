"""Region-responsive semantic composition: four tokens for face, hair, clothes and background (paper 4.2, Table 4).

Table 4 has one column: pictures of 256x256 and features of 32x32, while Table 5 has 256 and 512. So at 512 the encoder sees the picture at
half its size: it keeps Table 4's layers, and its masks the 32x32 cells that Eq. 7 holds the attention to.

Shape letters: B batch, S slots, D token size, C feature channels, h and w feature grid (side of what the encoder sees / 8), H and W image
sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import Checkpoint, filled, load_checkpoint
from ..common.errors import CheckpointError, ConfigError
from ..common.unet import MapAttention, UNet, UNetSizes
from ..vocabulary import REGIONS
from .slot_attention import SlotAttention, SoftPosition
from .slot_resnet import ResNetEncoder

ENCODERS = ("unet", "resnet")
STARTS = ("learned", "random")
UNKNOWN_ORDER = (
    "which of this model's slots is which region was never measured, since they were trained without labels; measure it on labelled "
    "pictures (python -m difffae assemble --labels), or state it (--order)"
)
KIND = "slots"


@dataclass(frozen=True)
class SlotsConfig:
    """Sizes of the slot encoder. The defaults are the paper's (Table 4); `open_256` is the small one that ships.

    Raises:
        ConfigError: an unknown encoder, start or region.
    """

    image_size: int = 256  # side of the pictures
    input_size: int = 0  # side that they are reduced to before the encoder, so that larger ones get the same masks; 0: as they are
    encoder: str = "unet"  # the paper's; "resnet": SlotDiffusion's, with stages of block_channels, without patches
    patch: int = 8  # kernel and stride of the first convolution
    stem_channels: int = 64
    block_channels: tuple[int, ...] = (64, 64, 128, 256)
    layers_per_block: int = 2
    middle_attention: bool = True
    head_width: int = 32  # channels per head of the middle attention: 8 heads of 32 (Table 4)
    norm_groups: int = 16
    feature_channels: int = 192
    slot_count: int = 4
    slot_size: int = 192
    slot_hidden: int = 384
    iterations: int = 3
    order: tuple[str, ...] = REGIONS  # region of every slot; several slots may share one. (): not known, as after training without labels
    starts: str = "learned"  # one vector per slot; "random": drawn from one learned normal distribution, as in the paper

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_channels", tuple(self.block_channels))
        object.__setattr__(self, "order", tuple(self.order))
        if self.starts not in STARTS:
            raise ConfigError(f"slots: unknown starts '{self.starts}'; choose from {', '.join(STARTS)}")
        if self.encoder not in ENCODERS:
            raise ConfigError(f"slots: unknown encoder '{self.encoder}'; choose from {', '.join(ENCODERS)}")
        unknown = set(self.order) - set(REGIONS)
        if unknown:
            raise ConfigError(f"slots: unknown region '{sorted(unknown)[0]}' in the order; choose from {', '.join(REGIONS)}")

    @classmethod
    def open_256(cls) -> SlotsConfig:
        return cls(
            stem_channels=48, block_channels=(32, 48, 96, 96), layers_per_block=1, head_width=16, feature_channels=96, slot_hidden=256
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What every slot is called: its region, or its number where that is not known."""
        return self.order or tuple(f"slot {index}" for index in range(self.slot_count))

    def to_dict(self) -> dict:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class RegionEncoder(nn.Module):
    """Patch convolution and a U-Net on the patches: (B,3,H,W) in 0..1 -> (B,C,H/8,W/8). 15,225,472 parameters in the paper's sizes."""

    def __init__(self, config: SlotsConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, config.stem_channels, config.patch, stride=config.patch)

        def attention(level: int | None, channels: int) -> MapAttention | None:
            if level is None and config.middle_attention:
                return MapAttention(channels, channels // config.head_width, config.norm_groups)
            return None

        sizes = UNetSizes(config.stem_channels, config.feature_channels, config.block_channels, config.layers_per_block, config.norm_groups)
        self.unet = UNet(sizes, attention)
        self.step = config.patch * 2 ** (len(config.block_channels) - 1)  # sides of pictures are divisible by it
        self.channels = config.feature_channels

    def save_memory(self) -> None:
        """From now on keep only what goes into the blocks, and compute the rest again in backward."""
        self.unet.enable_gradient_checkpointing()

    def forward(self, images: Tensor) -> Tensor:
        return self.unet(self.stem(images * 2 - 1), 0)


def _resnet(config: SlotsConfig) -> ResNetEncoder:
    return ResNetEncoder(config.stem_channels, config.block_channels, config.layers_per_block, config.norm_groups)


class SlotEncoder(nn.Module):
    """Images -> semantic tokens and the masks of their regions."""

    drawn: Tensor

    def __init__(self, config: SlotsConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or SlotsConfig()
        self.encoder: RegionEncoder | ResNetEncoder = RegionEncoder(c) if c.encoder == "unet" else _resnet(c)
        self.position = SoftPosition(self.encoder.channels)
        self.head = nn.Sequential(
            nn.LayerNorm(self.encoder.channels),
            nn.Linear(self.encoder.channels, c.feature_channels),
            nn.ReLU(),
            nn.Linear(c.feature_channels, c.feature_channels),
        )
        # Learned starts, one per slot: the consistency loss and the swaps need slot i to mean the same in every picture
        if c.starts == "learned":
            self.initial = nn.Parameter(torch.randn(1, c.slot_count, c.slot_size))
        else:
            self.mean = nn.Parameter(torch.randn(1, 1, c.slot_size))
            self.log_spread = nn.Parameter(torch.zeros(1, 1, c.slot_size))
            # Outside of training every picture starts from the same draw, for the same reason; it follows from a seed, so no file holds it
            drawn = torch.randn(1, c.slot_count, c.slot_size, generator=torch.Generator().manual_seed(0), device="cpu")
            self.register_buffer("drawn", drawn, persistent=False)
        self.attention = SlotAttention(c.feature_channels, c.slot_size, c.slot_hidden, c.iterations)

    @property
    def token_size(self) -> int:
        """Size of a token (D)."""
        return self.config.slot_size

    def starts(self, noise: Tensor | None = None) -> Tensor:
        """The slots that attention starts from.

        Args:
            noise: (B,S,D), standard normal, of random starts; None: the same draw every time.

        Returns:
            (1 or B,S,D).
        """
        if self.config.starts == "learned":
            return self.initial
        return self.mean + self.log_spread.exp() * (self.drawn if noise is None else noise)

    def draw(self, count: int, generator: torch.Generator) -> Tensor | None:
        """The noise of random starts.

        Args:
            count: For how many pictures (B).
            generator: On the CPU; learned starts draw nothing from it.

        Returns:
            (B,S,D) on the CPU, None for learned starts.
        """
        c = self.config
        return torch.randn(count, c.slot_count, c.slot_size, generator=generator) if c.starts == "random" else None

    def forward(self, images: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens and masks of pictures.

        Args:
            images: (B,3,H,W) RGB in 0..1, sides (after the reduction to input_size) divisible by the encoder's step.
            noise: As in `starts`.

        Returns:
            tokens (B,S,D) and masks (B,S,h,w), float32, which sum to 1 over the slots.

        Raises:
            ConfigError: images of another shape.
        """
        c = self.config
        if c.input_size and images.dim() == 4:
            size = [side * c.input_size // c.image_size for side in images.shape[2:]]
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        step = self.encoder.step
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] % step or images.shape[3] % step:
            raise ConfigError(f"slots: images of shape {tuple(images.shape)}; (B,3,H,W) with sides divisible by {step} is needed")
        features = self.position(self.encoder(images))
        batch, _, height, width = features.shape
        inputs = self.head(features.flatten(2).transpose(1, 2))
        tokens, masks = self.attention(inputs, self.starts(noise).expand(batch, -1, -1))
        return tokens, masks.reshape(batch, -1, height, width)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, path: str | Path, prefix: str | None = None) -> SlotEncoder:
        """Build from a checkpoint's config and tensors.

        Args:
            checkpoint: of kind `slots`, or a file that holds several models.
            path: its file, for errors.
            prefix: the part of such a file that is meant.

        Raises:
            CheckpointError: a configuration of another version, or weights that do not fit it.
        """
        try:
            config = SlotsConfig(**(checkpoint.config[prefix] if prefix else checkpoint.config))
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: its slot configuration does not fit this version ({error}); convert it again") from error
        return filled(lambda: cls(config), checkpoint.part(prefix) if prefix else checkpoint.tensors, path)

    @classmethod
    def load(cls, path: str | Path) -> SlotEncoder:
        """Read a `slots` checkpoint; frozen, in evaluation mode. Raises CheckpointError."""
        return cls.from_checkpoint(load_checkpoint(path, KIND), path)


def swap(tokens: Tensor, reference: Tensor, regions: Iterable[str], strength: float = 1.0, order: tuple[str, ...] = REGIONS) -> Tensor:
    """Tokens with the slots of some regions taken from a reference (paper appendix G).

    Args:
        tokens: (B,S,D).
        reference: (B or 1,S,D).
        regions: some of vocabulary.REGIONS.
        strength: 0..1 blends linearly; 1 takes the reference's tokens bit for bit.
        order: the region of every slot, from the encoder's config.

    Returns:
        (B,S,D).

    Raises:
        ConfigError: a region that no slot holds, an order that is not known, a strength outside 0..1, or tokens that do not match.

    >>> import torch
    >>> from difffae.source.slots import swap
    >>> swap(torch.zeros(1, 4, 2), torch.ones(1, 4, 2), ["hair"], strength=0.5)[0]
    tensor([[0.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 0.0000],
            [0.0000, 0.0000]])
    """
    chosen = set(regions)
    if not order:
        raise ConfigError(f"swap: {UNKNOWN_ORDER}")
    missing = chosen - set(order)
    if missing:
        raise ConfigError(f"swap: no token holds '{sorted(missing)[0]}'; choose from {', '.join(dict.fromkeys(order))}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"swap: strength {strength} is outside 0..1")
    if tokens.shape[1:] != reference.shape[1:] or tokens.shape[1] != len(order):
        raise ConfigError(
            f"swap: tokens {tuple(tokens.shape)} and reference {tuple(reference.shape)} must both hold {len(order)} tokens of one size"
        )
    mask = torch.tensor([name in chosen for name in order], device=tokens.device)[None, :, None]
    mixed = reference if strength == 1 else torch.lerp(tokens, reference.expand_as(tokens), strength)
    return torch.where(mask, mixed, tokens)


def region_overlap(masks: Tensor, labels: Tensor) -> Tensor:
    """How much of every region lies in every slot.

    Args:
        masks: (B,S,h,w).
        labels: (B,R,h,w), soft or one-hot.

    Returns:
        (S,R), the sums of the products divided by each region's size.
    """
    overlap = torch.einsum("bshw,brhw->sr", masks.float(), labels.float())
    return overlap / labels.float().sum(dim=(0, 2, 3)).clamp_min(1e-6)


def find_order(overlap: Tensor) -> tuple[str, ...]:
    """The region of every slot: the best one-to-one assignment for four slots, else every slot's largest region.

    Args:
        overlap: (S,4) of `region_overlap`.

    Raises:
        ConfigError: another number of regions.

    >>> import torch
    >>> from difffae.source.slots import find_order
    >>> find_order(torch.eye(4).flip(0))
    ('background', 'clothes', 'hair', 'face')
    """
    slots, count = overlap.shape
    if count != len(REGIONS):
        raise ConfigError(f"slots: overlap with {count} regions; {len(REGIONS)} are needed")
    if slots == count:
        best = max(itertools.permutations(range(count)), key=lambda p: sum(overlap[i, r].item() for i, r in enumerate(p)))
        return tuple(REGIONS[region] for region in best)
    return tuple(REGIONS[int(region)] for region in overlap.argmax(dim=1))
