"""Carrying photographs of many frames.

Shape letters: B frames, C crop side in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..difffae.carry.prepared import prepare
from ..difffae.common.errors import ImageError
from ..difffae.head.attributes import FaceAttributes
from ..difffae.head.render import render
from ..difffae.source.regions import kept_pixels
from .borrowing import borrowed, references, with_references
from .bundle import Bundle, each_chunk
from .frames import common_batch, frames, on_device
from .sockets import Carry, Crop, Tokens
from .tokens import layers_of

CHUNK = 4


def carry_frames(
    bundle: Bundle, pictures: Tensor, source: FaceAttributes, target: FaceAttributes, crop: Crop | None = None, slots: Tokens | None = None
) -> Carry:
    """pictures (B,3,C,C) crops with attributes `source` -> those pictures with attributes `target`.

    A frame is unchanged where target equals source and nothing was swapped. Raises ImageError for unequal batches or another size.
    """
    side = bundle.image_size
    if tuple(pictures.shape[-2:]) != (side, side):
        got = f"{pictures.shape[-1]}x{pictures.shape[-2]}"
        raise ImageError(f"image: is {got}; crops of {side}x{side} are needed, from DiffFAE Crop Face")
    sizes = {"image": len(pictures), "source": len(source), "target": len(target)}
    sizes |= {} if crop is None else {"crop": len(crop.picture)}
    sizes |= {} if slots is None else {"slots": len(slots.tokens)}
    batch = common_batch(sizes)
    pictures, source, target = frames(pictures, batch), on_device(source).expand(batch), on_device(target).expand(batch)
    known = torch.ones_like(pictures[:, :1]) if crop is None else frames(crop.known.to(pictures), batch)
    shows = None
    head = bundle.head
    taken = references(bundle, slots, pictures)
    parts, shares, givers = [], [], []
    for part in each_chunk(batch, CHUNK):
        valid = known[part]
        if slots is not None:
            shows = layers_of(slots, pictures, part)
            if slots.redraw is not None:
                face = head.skin_mask(render(head, source[part], side).raster)[:, None]
                keep = kept_pixels(frames(slots.redraw, batch)[part].to(pictures), face, (side, side))
                valid = valid * keep
        prepared = prepare(pictures[part], source[part], head, valid, shows)
        carried, whose = prepared.move(target[part]), torch.ones_like(valid)
        if taken:
            mixed, lent = with_references(bundle, carried, prepared, target[part], taken, batch, part)
            carried, whose = mixed.carried, mixed.owner_share
            givers.append(lent)
        parts.append(carried)
        shares.append(whose)
    names = ("image", "validity", "offset_to_source", "light_ratio", "person_alpha")
    image, validity, flow, ratio, front = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    whose = torch.cat(shares)
    same = unchanged_frames(source, target, slots, batch)
    return Carry(image, validity, pictures, flow, ratio, front, same, whose[:, :1], borrowed(taken, givers, whose))


def unchanged_frames(source: FaceAttributes, target: FaceAttributes, slots: Tokens | None, batch: int) -> Tensor:
    """(B,) bool: all numbers equal, and no region swapped."""
    same = torch.ones(batch, dtype=torch.bool, device=source.shape.device)
    others = target.tensors()
    for name, values in source.tensors().items():
        same &= (values == others[name]).flatten(1).all(1) if name in others else False
    if slots is not None and (slots.redraw is not None or slots.taken):
        same &= False
    return same
