"""Cut-outs: pictures with an alpha channel, which moves with the person.

The edit works on an opaque picture, so a cut-out is laid over a plate of one colour, which nothing of the hidden colours reaches; the
plate is taken away again from the result.

Shape letters: B faces, H and W picture height and width, S side of the square crops, C side of the canvas that was moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ..carry.cutout import unmixed
from ..common.pixels import dilate, erode, gaussian_blur, odd
from ..faces.crop import FaceCrop, extract, paste
from ..faces.quarter_turns import turned
from ..vocabulary import FEATHER
from .native import widened

if TYPE_CHECKING:
    from .description import Faces
    from .moved_photo import MovedPhoto

AnyFaces = TypeVar("AnyFaces", bound="Faces")

PLATE = 0.5  # grey
CLOSED = 0.012  # of the canvas: lines in a moved person narrower than this are tears
CHANGED = 0.02  # of the canvas: around what changed, alpha is the moved person's
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
    def on_plate(self) -> Tensor:
        """(B or 1,3,H,W), opaque; pixels of alpha 1 as they were, bit for bit."""
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


def with_transparency(faces: AnyFaces, transparency: Transparency | None) -> AnyFaces:
    """Faces with the transparency of their pictures as these were given."""
    return faces if transparency is None else replace(faces, transparency=transparency.turned(faces.turns))


def with_own_matte(faces: Faces) -> Faces:
    """Faces whose alpha says where the person is; those without one, or without slots, are returned as they are."""
    if faces.transparency is None or faces.slots is None or not faces.squares:
        return faces
    rows = max(len(faces.squares), len(faces.transparency.alpha))
    found = [extract(faces.transparency.row(row).alpha.to(faces.picture), faces.square(row))[0] for row in range(rows)]
    matte = torch.cat(found)
    return replace(faces, slots=replace(faces.slots, matte=matte))


def _moved_alpha(alpha: Tensor, after: Tensor, before: Tensor, square: FaceCrop, feather: float) -> Tensor:
    """A whole alpha (1,1,H,W) with the person's share of a square (1,1,C,C) where that changed, closed where it tore."""
    size = after.shape[-1]
    after, before = (erode(dilate(share, odd(CLOSED * size)), odd(CLOSED * size)) for share in (after, before))
    changed = dilate((after - before).abs(), odd(CHANGED * size))
    changed = gaussian_blur(((changed - 0.02) / 0.08).clamp(0, 1), max(0.5, CHANGED / 4 * size))
    own = extract(alpha, replace(square, size=size))[0]
    return paste(alpha, torch.lerp(own, after, changed), own, square, None, feather)


def cut_again(faces: Faces, pictures: Tensor, moved: MovedPhoto | None, feather: float = FEATHER) -> tuple[Tensor, Tensor | None]:
    """Take the plate away from edited pictures.

    Args:
        faces: as they were before the edit.
        pictures: (B,3,H,W) of `pasting.paste`, not turned upright.
        moved: the photographs that were pasted, or None: alpha stays as it is.
        feather: as there.

    Returns:
        Pictures (B,3,H,W) and alpha (B,1,H,W); the pictures themselves and None for faces without transparency, and where another
        background made them opaque.
    """
    if faces.transparency is None or (moved is not None and moved.stage is not None and moved.stage.opaque):
        return pictures, None
    results = []
    pictures = turned(pictures, faces.turns)
    for row in range(len(pictures)):
        before = faces.transparency.row(row)
        alpha, colours = before.alpha.to(pictures), before.colours.to(pictures)
        now = alpha
        if moved is not None and moved.person_before is not None and moved.person_after is not None and not bool(moved.unchanged[row]):
            square = widened(faces.square(row), moved.side, moved.margin)
            after, first = (v[row if len(v) > 1 else 0][None].to(alpha) for v in (moved.person_after, moved.person_before))
            now = _moved_alpha(alpha, after, first, square, feather * moved.side / moved.image.shape[-1])
        picture = pictures[row : row + 1]
        own = torch.where(now > SOLID, picture, unmixed(picture, now)[0])
        same = (now == alpha) & (picture == before.on_plate.to(pictures)).all(1, keepdim=True)
        results.append((torch.where(same, colours, own), now))
    colours, alpha = (turned(torch.cat(values), -faces.turns) for values in zip(*results, strict=True))
    return colours, alpha
