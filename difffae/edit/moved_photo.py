"""Photographs as an edit moved them.

Shape letters: B faces, S side of the maps, N side of the squares in the photographs' own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..common.batches import expanded
from ..common.pixels import dilate, odd, opened
from ..faces.crop import FaceCrop
from ..person.prepared import share_seen
from .description import MARGIN, Faces

if TYPE_CHECKING:
    from .staging import Stage

SPECK = 0.012  # of a square's side: what is narrower is noise of the validity, and is no hole to paint


@dataclass(frozen=True, eq=False)
class ReferenceDetail:
    """Where a carried photograph shows a reference, for detail that is finer than the squares' pixels.

    faces             the reference, with squares and original
    offset_to_source  (B,2,S,S) position in the reference's square minus position here, in pixels (x right, y down)
    light_ratio       (B,3,S,S) light here / light in the reference
    person_alpha      (B,1,S,S) share of the moved person
    owner_share       (B,1,S,S) share of the reference in the picture
    """

    faces: Faces
    offset_to_source: Tensor
    light_ratio: Tensor
    person_alpha: Tensor
    owner_share: Tensor

    def detail(self, row: int, weight: Tensor, square: FaceCrop) -> tuple[Tensor, FaceCrop, Tensor, Tensor, Tensor, Tensor]:
        """The arguments of `compositing.native_detail` for one row, where the carried photograph counts by weight (B,1,S,S).

        square: of this row in the reference, of the size of the moved photographs, which hold the rest.
        """
        rows = slice(row, row + 1)
        maps, share = (
            [expanded(values.to(weight), len(weight))[rows] for values in group]
            for group in ((self.offset_to_source, self.light_ratio, self.person_alpha), (self.owner_share,))
        )
        original = self.faces.picture_around(row).to(weight)
        return original, square, *maps, share[0] * weight[rows]  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class MovedPhoto:
    """The photographs of B faces, moved and relit to their target attributes, in their own pixels.

    Where hair or a hat goes on beyond the squares, all tensors are of a wider canvas around them: then N and S below are the sides of
    that canvas, N + 2 margin and S times as much as it is wider.

    image             (B,3,N,N) RGB 0..1
    validity          (B,1,N,N) 1 where the pixels can be trusted, 0 where nothing is known
    offset_to_source  (B,2,S,S) position in the source minus position here, in pixels of these maps (x right, y down)
    light_ratio       (B,3,S,S) light here / light in the source
    person_alpha      (B,1,S,S) share of the moved person, the rest being background that stayed
    owner_share       (B,1,S,S) share of the pixels that are the source's own rather than a reference's or a guess
    unchanged         (B,) bool: nothing was asked of this face, so its pixels stay as they are
    references        those of the swaps whose photographs are larger than their squares
    stage             other clothes and another background in the whole photographs, which were moved so; None without any
    person_before     (B or 1,1,N,N) share of the person before it was moved, of a cut-out; None for opaque pictures
    person_after      (B,1,N,N) the same afterwards, with hair of somebody else
    margin            pixels of `image` around the square on every side, 0 without a wider canvas
    kept              (B,1,N,N) share of what keeps its pixels whatever the person does: other people, and things in front of the face;
                      None where there is nothing of the kind
    """

    image: Tensor
    validity: Tensor
    offset_to_source: Tensor
    light_ratio: Tensor
    person_alpha: Tensor
    owner_share: Tensor
    unchanged: Tensor
    references: tuple[ReferenceDetail, ...] = ()
    stage: Stage | None = None
    person_before: Tensor | None = None
    person_after: Tensor | None = None
    margin: int = 0
    kept: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def side(self) -> int:
        """Side of the squares in pixels of `image`."""
        return self.image.shape[-1] - 2 * self.margin

    @property
    def size(self) -> int:
        """Side of the squares in pixels of the maps."""
        wide = self.offset_to_source.shape[-1]
        return round(wide / (1 + 2 * MARGIN)) if self.margin else wide

    def square(self, values: Tensor) -> Tensor:
        """The squares alone (B,C,N,N) of `image`, `validity` or another picture of their size."""
        inner = slice(self.margin, self.margin + self.side)
        return values[..., inner, inner]

    @property
    def unseen(self) -> Tensor:
        """(B,1,N,N) 1 where no photograph showed what is there now: what was uncovered, what turned to the camera, the inside of a
        mouth that opened. Without specks, and wider than that by as much as edges are soft: a model for inpainting shall find no rest."""
        size = odd(SPECK * self.side)
        return dilate(opened(1 - share_seen(self.validity), size), size)
