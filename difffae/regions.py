"""What the slots' regions mean for an edit: where light may change the picture, and what a swap must redraw.

Shape letters: B batch, S slots, h and w mask sides, H and W picture sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .person_layer import Layers

# share of a change of light that each region takes
LIT = {"face": 1.0, "hair": 1.0, "clothes": 0.2, "background": 0.0}
# of the guided filter: its window as a share of the side, and the variance of colours that is no edge
GUIDE_WINDOW, GUIDE_EPS = 0.05, 1e-3


def light_matte(masks: Tensor, order: Sequence[str], size: tuple[int, int]) -> Tensor:
    """How far light may change each pixel: skin and hair fully, clothes a little, the background not at all.

    masks (B,S,h,w) of the slots, order the region of each slot, size (H,W) -> (B,1,H,W) in 0..1.
    """
    share = masks.new_tensor([LIT[name] for name in order])[None, :, None, None]
    sharp = torch.softmax(8 * F.interpolate(masks, size, mode="bicubic", align_corners=False), dim=1)
    return (sharp * share).sum(1, keepdim=True)


def layers(masks: Tensor, order: Sequence[str], image: Tensor) -> Layers:
    """What a picture shows where, for `carry`: masks (B,S,h,w) of the slots, order the region of each slot, image (B,3,H,W).

    The masks are coarse, so a guided filter (He et al. 2013) fits them to the colours of the picture.
    """
    from kornia.filters import guided_blur

    size = (image.shape[-2], image.shape[-1])
    sharp = torch.softmax(8 * F.interpolate(masks, size, mode="bicubic", align_corners=False), dim=1)

    def share(region: str) -> Tensor:
        return sharp[:, [name == region for name in order]].sum(1, keepdim=True)

    window = max(3, round(GUIDE_WINDOW * max(size)) | 1)
    rough = torch.cat([1 - share("background"), share("hair") + share("clothes"), share("hair")], dim=1)
    fine = guided_blur(image, rough, window, GUIDE_EPS, border_type="replicate")
    person, loose, hair = ((fine - 0.15) / 0.7).clamp(0, 1).split(1, dim=1)
    return Layers(light_matte(masks, order, size), person, loose, hair)


def swapped_region(masks: Tensor, other_masks: Tensor, regions: Sequence[str], order: Sequence[str]) -> Tensor:
    """Where a swap changes the picture: the source's own region, and what the reference's region would newly cover.

    masks, other_masks (B,S,h,w) of source and reference -> (B,1,h,w) in 0..1.
    """
    chosen = masks.new_tensor([float(name in regions) for name in order])[None, :, None, None]
    return ((masks * chosen).sum(1, keepdim=True) + 0.5 * (other_masks * chosen).sum(1, keepdim=True)).clamp(0, 1)


def kept_pixels(region: Tensor, face: Tensor, size: tuple[int, int]) -> Tensor:
    """The validity of a photograph of which `region` (B,1,h,w) will be redrawn: (B,1,H,W), 0 where it will.

    face (B,1,H,W) bool, where the head model covers the picture with skin: what is in front of hair is never redrawn with it.
    """
    redraw = F.interpolate(region, size, mode="bilinear", align_corners=False)
    keep = 1 - ((redraw - 0.2) / 0.4).clamp(0, 1)
    return torch.where(face, torch.ones_like(keep), keep)
