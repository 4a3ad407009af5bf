"""Cut-outs: pictures with an alpha channel, which moves with the person.

The edit works on an opaque picture, so a cut-out is laid over a plate of one colour, which nothing of the hidden colours reaches; the
plate is taken away again from the result.

Shape letters: B pictures, H and W picture height and width, C side of the canvas that was moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur, odd
from ..faces.crop import FaceCrop, extract, paste
from ..faces.quarter_turns import turned
from .cutout import unmixed

PLATE = 0.5  # grey
CLOSED = 0.012  # of the canvas: lines in a moved person narrower than this are tears
CHANGED = 0.02  # of the canvas: around what changed, alpha is the moved person's
MOSTLY = 0.4  # share of soft pixels from which on alpha is no outline
SOLID = 0.97  # alpha from which on a pixel shows nothing of the plate


@dataclass(frozen=True, eq=False)
class Transparency:
    """What an alpha channel says of whole pictures.

    alpha    (B or 1,1,H,W) in 0..1
    colours  (B or 1,3,H,W) RGB 0..1 as stored, under transparency too
    """

    alpha: Tensor
    colours: Tensor

    @property
    def cuts_out(self) -> bool:
        """Whether alpha is an outline. A fade over the whole picture follows no person: it stays, and colours are edited as stored."""
        return bool(((self.alpha > 0.05) & (self.alpha < 0.95)).float().mean() < MOSTLY)

    @property
    def on_plate(self) -> Tensor:
        """(B or 1,3,H,W), opaque; pixels of alpha 1 as they were, bit for bit."""
        if not self.cuts_out:
            return self.colours
        return torch.where(self.alpha == 1, self.colours, self.colours * self.alpha + PLATE * (1 - self.alpha))

    def turned(self, turns: int) -> Transparency:
        """After quarter turns (see faces.quarter_turns)."""
        return Transparency(turned(self.alpha, turns), turned(self.colours, turns))

    def row(self, index: int) -> Transparency:
        """One picture of them."""
        alpha, colours = (values[index : index + 1] if len(values) > 1 else values for values in (self.alpha, self.colours))
        return Transparency(alpha, colours)


def opaque(image: Tensor, alpha: Tensor | None) -> tuple[Tensor, Transparency | None]:
    """A picture (3,H,W) as one row without transparency (1,3,H,W), and what was taken from it. alpha: (1,H,W), None without any."""
    if alpha is None:
        return image[None], None
    transparency = Transparency(alpha.to(image)[None], image[None])
    return transparency.on_plate, transparency


def moved_alpha(alpha: Tensor, after: Tensor, before: Tensor, square: FaceCrop, feather: float) -> Tensor:
    """A whole alpha with the person's share of a square where that changed, closed where it tore.

    Args:
        alpha: (1,1,H,W) in 0..1.
        after: (1,1,C,C) share of the moved person.
        before: (1,1,C,C) the same before it was moved.
        square: where that canvas lies in the picture.
        feather: width of its soft border, as a share of C.

    Returns:
        (1,1,H,W).
    """
    size = after.shape[-1]
    after, before = (erode(dilate(share, odd(CLOSED * size)), odd(CLOSED * size)) for share in (after, before))
    changed = dilate((after - before).abs(), odd(CHANGED * size))
    changed = gaussian_blur(((changed - 0.02) / 0.08).clamp(0, 1), max(0.5, CHANGED / 4 * size))
    own = extract(alpha, replace(square, size=size))[0]
    return paste(alpha, torch.lerp(own, after, changed), own, square, None, feather)


def without_plate(picture: Tensor, alpha: Tensor, before: Transparency) -> Tensor:
    """The colours of an edited picture alone.

    Args:
        picture: (1,3,H,W) RGB 0..1, over the plate.
        alpha: (1,1,H,W) its alpha.
        before: the picture before the edit.

    Returns:
        (1,3,H,W): as stored where nothing changed; the person's colours go on where alpha is 0.
    """
    own = torch.where(alpha > SOLID, picture, unmixed(picture, alpha)[0])
    same = (alpha == before.alpha.to(alpha)) & (picture == before.on_plate.to(picture)).all(1, keepdim=True)
    return torch.where(same, before.colours.to(picture), own)
