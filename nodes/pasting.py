"""Pasting edited squares of many frames.

Shape letters: B frames, H and W picture height and width, C crop side in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..difffae.carry.compositing import composite_weight, keep_grey, native_detail, with_reference_detail
from ..difffae.faces.crop import extract, paste
from .borrowing import weighted
from .bundle import each_chunk
from .frames import common_batch, frames, from_mask, to_image, to_pictures
from .sockets import Borrowed, Carry, Crop

CHUNK = 4


def paste_frames(
    original: Tensor, edited: Tensor, crop: Crop, carry: Carry | None, mask: Tensor | None, feather: float
) -> tuple[Tensor, Tensor]:
    """IMAGEs (B,H,W,3 or 4) and (B,C,C,3) of the result and of what was pasted; a fourth channel of `original` is kept.

    edited of another side than the crop is resized. Raises ImageError for unequal batches, ConfigError for a picture of another size
    than the one that was cropped.
    """
    sizes = {"original": len(original), "edited": len(edited), "crop": len(crop.picture)}
    sizes |= {} if carry is None else {"carry": len(carry.image)}
    batch = common_batch(sizes if mask is None else sizes | {"mask": len(mask) if mask.dim() == 3 else 1})
    pictures = to_pictures(original, "original")
    side = crop.picture.shape[-1]
    drawn = to_pictures(edited, "edited")
    if drawn.shape[-2:] != crop.picture.shape[-2:]:
        drawn = F.interpolate(drawn, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    drawn, before = frames(drawn, batch), frames(crop.picture.to(drawn), batch)
    squares = crop.squares * (batch if len(crop.squares) == 1 else 1)
    if carry is not None:
        names = ("image", "validity", "flow", "ratio", "front")
        image, validity, flow, ratio, front = (frames(getattr(carry, name).to(drawn), batch) for name in names)
        weight = composite_weight(drawn, image, validity)
        drawn = torch.lerp(drawn, image, weight)
        own, lent = weight * frames(carry.whose.to(drawn), batch), [weighted(one, weight) for one in carry.borrowed]
        drawn = torch.where(frames(carry.unchanged.to(drawn.device), batch)[:, None, None, None], before, drawn)
    limit = None if mask is None else _in_crop(mask, original, crop, side)
    results = []
    for part in each_chunk(batch, CHUNK):
        whole = pictures if len(pictures) == 1 else pictures[part]
        cut = None if limit is None else frames(limit, batch)[part]
        detail = None
        if carry is not None:
            shown = zip(squares[part], *(values[part].split(1) for values in (flow, ratio, front, own)), strict=True)
            detail = [native_detail(whole if len(whole) == 1 else whole[i : i + 1], *one) for i, one in enumerate(shown)]
            for i, number in enumerate(range(batch)[part]):
                detail[i] = with_detail_of(detail[i], lent, number)
        results.append(keep_grey(paste(whole, drawn[part], before[part], squares[part], cut, feather, detail), whole))
    result = to_image(torch.cat(results))
    if original.shape[-1] == 4:
        result = torch.cat([result, frames(original[..., 3:], batch).to(result)], dim=-1)
    return result, to_image(drawn if limit is None else torch.lerp(before, drawn, frames(limit, batch)))


def with_detail_of(detail: Tensor | None, lent: list[Borrowed], number: int) -> Tensor | None:
    """Detail (3,N,N) of a frame's own photograph, and that of the references in it; None where its square has none to show."""
    if detail is None:
        return None
    for one in lent:
        rows = [number if len(values) > 1 else 0 for values in (one.original, one.squares, one.flow)]
        picture = to_pictures(one.original[rows[0] : rows[0] + 1], "reference").to(one.flow)
        maps = (values[rows[2]][None] for values in (one.flow, one.ratio, one.front))
        more = native_detail(picture, one.squares[rows[1]], *maps, one.whose[number][None])
        detail = with_reference_detail(detail, more)
    return detail


def _in_crop(mask: Tensor, original: Tensor, crop: Crop, side: int) -> Tensor:
    """A mask of the picture or of the crop -> (B,1,C,C)."""
    size = (original.shape[1], original.shape[2])
    if tuple(mask.shape[-2:]) != size or size == (side, side):
        return from_mask(mask, (side, side))
    whole = from_mask(mask, size)
    squares = crop.squares if len(crop.squares) == len(whole) else crop.squares[0]
    if len(crop.squares) > 1 and len(whole) == 1:
        whole, squares = whole.expand(len(crop.squares), -1, -1, -1), crop.squares
    return extract(whole, squares)[0]
