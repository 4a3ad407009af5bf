"""ComfyUI's pictures and masks to the library's and back, and batches that serve one another.

Shape letters: B frames, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Mapping

import comfy.model_management as mm
import torch
import torch.nn.functional as F
from torch import Tensor

from ..difffae.common.errors import ImageError
from ..difffae.head.attributes import FaceAttributes


def to_pictures(image: Tensor, name: str = "image") -> Tensor:
    """IMAGE (B,H,W,C) with 1, 3 or 4 channels -> (B,3,H,W) float32 in 0..1 on the compute device; transparency is left out, grey becomes
    RGB. Raises ImageError."""
    if image.dim() != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ImageError(f"{name}: has shape {tuple(image.shape)}; an IMAGE of shape (frames, height, width, 1, 3 or 4) is needed")
    pictures = image[..., :3].movedim(-1, 1).to(mm.get_torch_device(), torch.float32)
    return pictures.expand(-1, 3, -1, -1).clamp(0, 1).contiguous()


def to_image(pictures: Tensor) -> Tensor:
    """(B,3,H,W) -> IMAGE (B,H,W,3) where ComfyUI keeps intermediate results."""
    return pictures.movedim(1, -1).to(mm.intermediate_device(), mm.intermediate_dtype()).contiguous()


def to_mask(values: Tensor) -> Tensor:
    """(B,1,H,W) -> MASK (B,H,W)."""
    return values[:, 0].to(mm.intermediate_device(), mm.intermediate_dtype()).contiguous()


def from_mask(mask: Tensor, size: tuple[int, int], name: str = "mask") -> Tensor:
    """MASK (B,H,W) or (H,W) -> (B,1,*size) in 0..1 on the compute device. Raises ImageError."""
    mask = mask[None] if mask.dim() == 2 else mask
    if mask.dim() != 3:
        raise ImageError(f"{name}: has shape {tuple(mask.shape)}; a MASK of shape (frames, height, width) is needed")
    mask = mask[:, None].to(mm.get_torch_device(), torch.float32)
    return mask.clamp(0, 1) if tuple(mask.shape[-2:]) == size else F.interpolate(mask, size, mode="bilinear", antialias=True).clamp(0, 1)


def common_batch(sizes: Mapping[str, int]) -> int:
    """The number of frames of inputs that must go together. Raises ImageError that names the two that do not."""
    longest = max(sizes, key=lambda name: sizes[name])
    for name, size in sizes.items():
        if size not in (1, sizes[longest]):
            raise ImageError(f"{name}: has {size} frames, but {longest} has {sizes[longest]}; give 1, or as many")
    return sizes[longest]


def frames(values: Tensor, batch: int) -> Tensor:
    """(B or 1,...) -> (batch,...)."""
    return values if len(values) == batch else values.expand(batch, *values.shape[1:])


def on_device(attributes: FaceAttributes) -> FaceAttributes:
    return attributes.to(mm.get_torch_device())
