"""Other clothes and another background in the whole photographs, before these are moved.

Shape letters: B faces, H and W picture height and width, S side of the square crops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.cloth import crisp_cloth
from ..common.errors import ConfigError
from ..common.pixels import erode
from ..faces.crop import FaceCrop, extract
from ..source.whole_matte import whole_matte
from ..swap.backgrounds import fitted_background, with_background
from ..swap.body_parts import body_parts
from ..swap.clothes import with_clothes
from ..swap.dressed import Dressed
from ..swap.region_parts import FaceAreas
from .analysing import layers_of
from .description import Faces, Parts, RegionSwap
from .native import resize

STAGED = ("clothes", "background")  # regions that reach beyond the squares


@dataclass(frozen=True, eq=False)
class Stage:
    """What other clothes and another background make of whole photographs.

    image  (B,3,H,W) RGB 0..1
    share  (B,1,H,W) bool, where it replaces a photograph's own pixels
    opaque  whether a background fills what was transparent
    """

    image: Tensor
    share: Tensor
    opaque: bool = False

    def applied(self, faces: Faces) -> Faces:
        """Faces in these photographs, with the squares cut from them. Raises ConfigError for photographs of another size."""
        whole = _photographs(faces)
        if whole.shape[-2:] != self.image.shape[-2:]:
            got, made = (f"{one.shape[-1]}x{one.shape[-2]}" for one in (whole, self.image))
            raise ConfigError(f"crop: made for a {made} picture, but this one is {got}; use the picture it was made from")
        whole = whole.to(self.image)
        whole = torch.where(self.share.to(self.image.device), self.image, whole)
        if not faces.squares:
            return replace(faces, picture=whole)
        squares = faces.squares if len(faces.squares) == len(whole) else faces.squares * len(whole)
        return replace(faces, original=whole, picture=extract(whole, squares)[0], squares=squares)


def staged(parts: Parts, faces: Faces, taken: tuple[RegionSwap, ...], batch: int) -> tuple[Faces, Stage | None]:
    """Faces whose photographs show other clothes and another background already.

    Args:
        parts: the networks.
        faces: with slots and attributes.
        taken: the swaps by photograph that count.
        batch: B.

    Returns:
        Faces to which only the other swaps are still to be done, and what was done; the faces themselves and None where that is nothing.
    """
    mine = [one for one in taken if set(STAGED) & set(one.regions)]
    if not mine:
        return faces, None
    rows = range(batch if max(len(faces), *(len(one.reference) for one in mine)) > 1 else 1)
    known: dict[tuple[int, int], Dressed] = {}
    images, shares = [], []
    for row in rows:
        own = dressed(parts, faces, row, any("clothes" in one.regions for one in mine))
        now = own.picture
        for name in STAGED:
            for one in mine:
                number = id(one.reference), row if len(one.reference) > 1 else 0
                if name not in one.regions:
                    continue
                if number not in known:
                    gives = any("clothes" in other.regions for other in mine if other.reference is one.reference)
                    known[number] = dressed(parts, one.reference, number[1], gives)
                taken_over = _taken(name, replace(own, picture=now), known[number])
                now = taken_over if one.strength == 1 else torch.lerp(now, taken_over, one.strength)
        images.append(now.to(_photographs(faces).device))
        shares.append((now != own.picture).any(1, keepdim=True).to(images[-1].device))
    stage = Stage(torch.cat(images), torch.cat(shares), any("background" in one.regions for one in mine))
    rest = tuple(replace(one, regions=tuple(name for name in one.regions if name not in STAGED)) for one in taken)
    alone = tuple(one for one in faces.swaps if not one.photo)
    return replace(stage.applied(faces), swaps=(*alone, *(one for one in rest if one.regions))), stage


def _photographs(faces: Faces) -> Tensor:
    """(B or 1,3,H,W): the pictures around the squares, or the squares if nothing is known around them."""
    return faces.picture if faces.original is None or not faces.squares else faces.original


def _whole(faces: Faces, row: int) -> Tensor:
    """(1,3,H,W) of `_photographs`, on the squares' device."""
    whole = _photographs(faces)
    row = row if len(whole) > 1 else 0
    return whole[row : row + 1].to(faces.picture).contiguous()  # sums run in one order, however the pictures lie in memory


def _square(faces: Faces, row: int) -> FaceCrop:
    """The place of a square in the picture of `_whole`."""
    side = faces.picture.shape[-1]
    return faces.square(row) if faces.squares and faces.original is not None else FaceCrop(0, 0, side, side, side, side)


def _taken(name: str, own: Dressed, other: Dressed) -> Tensor:
    """A whole photograph (1,3,H,W) with one region of another."""
    if name == "clothes":
        return with_clothes(own, other)
    size = (own.picture.shape[-2], own.picture.shape[-1])
    return with_background(own.picture, own.alpha, fitted_background(other.picture, other.alpha, size)[0])


def dressed(parts: Parts, faces: Faces, row: int, whole_body: bool = True) -> Dressed:
    """One whole photograph, and what it shows where.

    Args:
        parts: the networks.
        faces: with slots and attributes.
        row: which of them.
        whole_body: whether clothes and hair are told apart beyond the square too, which takes a second; backgrounds do not need it.
    """
    whole, square = _whole(faces, row), _square(faces, row)
    one = slice(row, row + 1) if len(faces) > 1 else slice(0, 1)
    assert faces.slots is not None
    assert faces.attributes is not None
    inside = faces.picture[one]
    layers = layers_of(faces.slots, inside, len(faces), one)
    assert layers is not None
    own = faces.attributes[row if len(faces.attributes) > 1 else 0].to(inside.device)
    areas = FaceAreas.of(parts.head, own, inside)
    hair, face = (_placed(values, square) for values in (layers.hair, areas.skin))
    cloth = crisp_cloth(inside, (layers.loose - layers.hair).clamp_min(0), layers.person, layers.hair, areas.skin)
    if faces.transparency is not None and faces.transparency.cuts_out:
        alpha = faces.transparency.row(row).alpha.to(whole)
    elif parts.matte is None:
        alpha = _placed(layers.person, square)
    else:
        sure, ears = (_placed(erode(one, 9), square) for one in (areas.below_brows.maximum(areas.features), areas.skin))
        alpha = whole_matte(parts.matte, whole, square, layers.person, sure, ears, hair)
    found = Dressed(whole, alpha, hair, _placed(cloth, square), face, square, own.camera[0])
    if not whole_body:
        return found
    worn, hair = body_parts(found, _placed(torch.ones_like(cloth), square))
    return replace(found, cloth=worn, hair=hair)


def _placed(values: Tensor, square: FaceCrop) -> Tensor:
    """A map of a square (1,1,S,S) in its picture, with zeros around it: (1,1,H,W)."""
    large = resize(values, square.side, "bilinear")
    top, left = max(square.top, 0), max(square.left, 0)
    part = large[..., top - square.top :, left - square.left :][..., : square.height - top, : square.width - left]
    return F.pad(part, (left, square.width - left - part.shape[-1], top, square.height - top - part.shape[-2]))
