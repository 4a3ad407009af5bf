"""ComfyUI's pictures and masks to the library's and back.

Shape letters: B frames, H and W picture height and width.
"""

from __future__ import annotations

import comfy.model_management as mm
import torch
from torch import Tensor

from ..difffae.carry.transparency import Transparency
from ..difffae.common.errors import ImageError
from ..difffae.head.attributes import FaceAttributes


def to_pictures(image: Tensor, name: str = "image") -> Tensor:
    """IMAGE (B,H,W,C) with 1, 3 or 4 channels -> (B,3,H,W) float32 in 0..1 on the compute device; transparency is left out, grey becomes
    RGB, what is no number black. Raises ImageError."""
    if image.dim() != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ImageError(f"{name}: has shape {tuple(image.shape)}; an IMAGE of shape (frames, height, width, 1, 3 or 4) is needed")
    pictures = image[..., :3].movedim(-1, 1).to(mm.get_torch_device(), torch.float32)
    return pictures.expand(-1, 3, -1, -1).nan_to_num().clamp(0, 1).contiguous()


def to_image(pictures: Tensor) -> Tensor:
    """(B,3,H,W) -> IMAGE (B,H,W,3) where ComfyUI keeps intermediate results."""
    return pictures.movedim(1, -1).to(mm.intermediate_device(), mm.intermediate_dtype()).contiguous()


def to_mask(values: Tensor) -> Tensor:
    """(B,1,H,W) -> MASK (B,H,W)."""
    return values[:, 0].to(mm.intermediate_device(), mm.intermediate_dtype()).contiguous()


def as_original(image: Tensor) -> Tensor:
    """IMAGE (B,H,W,C) as pictures (B,3,H,W), where it lies and without a copy."""
    return image[..., :3].movedim(-1, 1).expand(-1, 3, -1, -1)


def from_mask(mask: Tensor, name: str = "mask") -> Tensor:
    """MASK (B,H,W) or (H,W) -> (B,1,H,W) in 0..1 on the compute device. Raises ImageError."""
    mask = mask[None] if mask.dim() == 2 else mask
    if mask.dim() != 3:
        raise ImageError(f"{name}: has shape {tuple(mask.shape)}; a MASK of shape (frames, height, width) is needed")
    return mask[:, None].to(mm.get_torch_device(), torch.float32).clamp(0, 1)


def transparency_of(image: Tensor, mask: Tensor | None, name: str = "mask") -> Transparency | None:
    """The transparency of an IMAGE's fourth channel and of Load Image's MASK, 1 where it is transparent; None for opaque pictures.

    Raises:
        ImageError: a mask of another size than the picture; Load Image's small one for opaque pictures is empty and counts as none.
    """
    alpha = image[..., 3:].movedim(-1, 1).float() if image.shape[-1] == 4 else None
    if mask is not None and bool((mask > 0).any()):
        left = 1 - from_mask(mask, name).to(image.device)
        if left.shape[-2:] != image.shape[1:3]:
            got, wanted = (f"{size[1]}x{size[0]}" for size in (left.shape[-2:], image.shape[1:3]))
            raise ImageError(f"{name}: is {got}, but image is {wanted}; wire the mask of the same Load Image")
        alpha = left if alpha is None else alpha * left
    if alpha is None or bool((alpha == 1).all()):
        return None
    return Transparency(alpha.clamp(0, 1), as_original(image).float().clamp(0, 1))


def on_device(attributes: FaceAttributes) -> FaceAttributes:
    return attributes.to(mm.get_torch_device())
