"""Where hair hangs over a face. The landmark fit must not read light off it: bright hair beside dark skin looks like light from the side.

Shape letters: B batch, H and W picture sides.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, load_checkpoint
from ..source.matte import PersonMatte
from ..source.regions import region_shares, with_matte
from ..source.slots import SlotEncoder
from ..vocabulary import REGIONS

BUNDLED = "open-256.safetensors"  # whose slots
SIDE = 96  # of the maps, in pixels: light is fitted at this size


class HairFinder(nn.Module):
    """Pictures (B,3,H,W) of 256x256 pixels, RGB 0..1 -> share of hair (B,1,H,W). Always by the bundled slots, so that what
    an estimator says of a picture does not depend on the model that edits it."""

    def __init__(self, slots: SlotEncoder, matte: PersonMatte) -> None:
        super().__init__()
        self.slots, self.matte = slots, matte

    @classmethod
    def load(cls, matte: PersonMatte | None = None) -> HairFinder:
        """The bundled networks, without the denoiser that lies in the same file.

        Args:
            matte: the bundled one, if it is there already.

        Raises:
            CheckpointError: a bundled file is missing or damaged.
        """
        path = asset_path(BUNDLED)
        slots = SlotEncoder.from_checkpoint(load_checkpoint(path, parts=("slots",)), path, "slots")
        return cls(slots, matte or PersonMatte.load()).eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        size = (SIDE, SIDE)
        shares = region_shares(self.slots(pictures)[1], self.slots.config.order, size)
        found = with_matte(shares, F.interpolate(self.matte(pictures), size, mode="bilinear", antialias=True, align_corners=False))
        hair = found[:, REGIONS.index("hair")][:, None]
        return F.interpolate(hair, pictures.shape[-2:], mode="bilinear", align_corners=False).clamp(0, 1)
