"""Slot tokens of pictures, their swaps, and what both mean for the carried photograph.

Shape letters: B frames, S slots, D token size, h and w mask sides, H and W picture sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..difffae.regions import swapped_region
from ..difffae.slots import swap
from .bundle import Bundle, each_chunk
from .frames import common_batch, frames
from .sockets import Tokens

CHUNK = 16


def encode(bundle: Bundle, pictures: Tensor) -> Tokens:
    """pictures (B,3,H,W) -> Tokens; other sizes than the model's are resized."""
    side = bundle.image_size
    if tuple(pictures.shape[-2:]) != (side, side):
        pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    slots = bundle.slots
    parts = [slots(pictures[part]) for part in each_chunk(len(pictures), CHUNK)]
    return Tokens(torch.cat([tokens for tokens, _ in parts]), torch.cat([masks for _, masks in parts]), slots.config.order)


def region_masks(slots: Tokens, regions: Sequence[str], size: tuple[int, int]) -> list[Tensor]:
    """(B,1,H,W) for every region; slots of one region are added."""
    masks = F.interpolate(slots.masks, size, mode="bilinear", align_corners=False)
    return [masks[:, [name == region for name in slots.order]].sum(1, keepdim=True) for region in regions]


def swap_regions(slots: Tokens, reference: Tokens, regions: Sequence[str], strength: float) -> Tokens:
    """Tokens with those of some regions taken from the reference, and where that changes the picture. Nothing taken: `slots` itself.

    Raises ImageError for unequal batches, ConfigError for tokens of different models.
    """
    if not regions or strength == 0:
        return slots
    batch = common_batch({"slots": len(slots.tokens), "reference": len(reference.tokens)})
    tokens, masks = frames(slots.tokens, batch), frames(slots.masks, batch)
    mixed = swap(tokens, reference.tokens.to(tokens), regions, strength, slots.order)
    redraw = swapped_region(masks, frames(reference.masks, batch).to(masks), regions, slots.order)
    if slots.redraw is not None:
        redraw = redraw.maximum(frames(slots.redraw, batch))
    return replace(slots, tokens=mixed, masks=masks, redraw=redraw)
