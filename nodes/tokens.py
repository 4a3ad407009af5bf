"""Slot tokens of pictures, their swaps, and what both mean for the carried photograph.

Shape letters: B frames, S slots, D token size, h and w mask sides, H and W picture sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..difffae.source.regions import Layers, fitted_regions, layers, swapped_region
from ..difffae.source.slots import swap
from .analysis import as_crop
from .bundle import Bundle, each_chunk
from .frames import common_batch, frames
from .sockets import Crop, Taken, Tokens

CHUNK = 16


def encode(bundle: Bundle, pictures: Tensor, crop: Crop | None = None) -> Tokens:
    """pictures (B,3,H,W) -> Tokens; other sizes than the model's are resized. crop: where their faces are, if they are its squares.

    Raises ImageError for a crop of other pictures.
    """
    side = bundle.image_size
    if tuple(pictures.shape[-2:]) != (side, side):
        pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    slots = bundle.slots
    parts = [slots(pictures[part]) for part in each_chunk(len(pictures), CHUNK)]
    tokens, masks = (torch.cat(values) for values in zip(*parts, strict=True))
    where = None if crop is None else as_crop(bundle, pictures, crop)
    return Tokens(tokens, masks, slots.config.order, matte=bundle.matte(pictures), photo=pictures, crop=where)


def layers_of(slots: Tokens, pictures: Tensor, rows: slice = slice(None)) -> Layers:
    """What some rows of pictures (B,3,H,W) show where, for `carry`; slots of B frames or of one."""
    masks = frames(slots.masks, len(pictures))[rows].to(pictures)
    return layers(masks, slots.order, pictures[rows], _matte_of(slots, pictures, rows))


def region_masks(slots: Tokens, pictures: Tensor) -> list[Tensor]:
    """(B,1,H,W) for every region of regions.REGIONS, fitted to the edges of the pictures (B,3,H,W) and to their matte; they sum to 1."""
    masks, matte, size = slots.masks, slots.matte, tuple(pictures.shape[-2:])
    side = tuple(masks.shape[-2:] if matte is None else matte.shape[-2:])
    if size != side:  # fitted at the model's size: large pictures would take minutes
        pictures = F.interpolate(pictures, side, mode="bilinear", antialias=True, align_corners=False)
    parts = [fitted_regions(masks[p], slots.order, pictures[p], None if matte is None else matte[p]) for p in _chunks(len(pictures))]
    shares = torch.cat(parts).clamp(0, 1)
    if size != side:
        shares = F.interpolate(shares, size, mode="bilinear", align_corners=False)
    return list(shares.split(1, dim=1))


def _chunks(count: int) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]


def _matte_of(slots: Tokens, pictures: Tensor, rows: slice) -> Tensor | None:
    """Some rows of the matte, at the size of pictures (B,3,H,W)."""
    if slots.matte is None:
        return None
    matte = frames(slots.matte, len(pictures))[rows].to(pictures)
    size = tuple(pictures.shape[-2:])
    return matte if matte.shape[-2:] == size else F.interpolate(matte, size, mode="bilinear", align_corners=False)


def _taken(reference: Tokens, regions: tuple[str, ...], strength: float) -> tuple[Taken, ...]:
    """Regions of a reference; those that it had taken itself are its giver's."""
    found = []
    for region in regions:
        giver = next((taken for taken in reversed(reference.taken) if region in taken.regions), Taken(reference, (), 1.0))
        found.append(Taken(giver.reference, (region,), giver.strength * strength))
    whole = Taken(reference, regions, strength)
    return (whole,) if all(one.reference is reference for one in found) else tuple(found)


def swap_regions(slots: Tokens, reference: Tokens, regions: Sequence[str], strength: float, photo: bool = True) -> Tokens:
    """Tokens with those of some regions taken from the reference, and what that means for the carried photograph: with photo, which
    pixels of the reference come along; without, where it is repainted. Nothing taken: `slots` itself.

    Raises ImageError for unequal batches, ConfigError for tokens of different models.
    """
    if not regions or strength == 0:
        return slots
    batch = common_batch({"slots": len(slots.tokens), "reference": len(reference.tokens)})
    tokens, masks = frames(slots.tokens, batch), frames(slots.masks, batch)
    mixed = swap(tokens, reference.tokens.to(tokens), regions, strength, slots.order)
    if photo and reference.photo is not None:
        return replace(slots, tokens=mixed, masks=masks, taken=slots.taken + _taken(reference, tuple(regions), strength))
    # what is repainted shows no photograph any more
    left = ((one, tuple(name for name in one.regions if name not in regions)) for one in slots.taken)
    slots = replace(slots, taken=tuple(replace(one, regions=names) for one, names in left if names))
    redraw = swapped_region(masks, frames(reference.masks, batch).to(masks), regions, slots.order)
    if slots.redraw is not None:
        redraw = redraw.maximum(frames(slots.redraw, batch))
    return replace(slots, tokens=mixed, masks=masks, redraw=redraw)
