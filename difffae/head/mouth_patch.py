"""What a photograph shows inside its mouth, which no number describes.

Shape letters: B batch, h and w sides of the patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PATCH = (56, 72)  # h and w


@dataclass(frozen=True, eq=False)
class MouthPatch:
    """The inside of mouths in a frame of its own, so that it fits other lips.

    Attributes:
        picture: (B,3,h,w) RGB 0..1, from the corner at the subject's right to that at the left, and from the edge of the upper lip to
            that of the lower.
        opening: (B,) how far the lips are apart, in widths of the mouth.
        skin: (B,3) colour of the skin around, RGB 0..1.
    """

    picture: Tensor
    opening: Tensor
    skin: Tensor

    def __len__(self) -> int:
        return len(self.opening)

    def map(self, function: Callable[[Tensor], Tensor]) -> MouthPatch:
        """Apply a function to every tensor."""
        return MouthPatch(function(self.picture), function(self.opening), function(self.skin))

    @staticmethod
    def closed(batch: int, like: Tensor) -> MouthPatch:
        """Mouths that show nothing."""
        return MouthPatch(like.new_zeros(batch, 3, *PATCH), like.new_zeros(batch), like.new_ones(batch, 3))

    @staticmethod
    def cat(items: Sequence[MouthPatch]) -> MouthPatch:
        """Join along the batch."""
        return MouthPatch(*(torch.cat([getattr(item, name) for item in items]) for name in ("picture", "opening", "skin")))

    def same(self, other: MouthPatch) -> Tensor:
        """(B,) bool: which are those of another batch of as many."""
        return (self.opening == other.opening) & (self.skin == other.skin).all(1)
