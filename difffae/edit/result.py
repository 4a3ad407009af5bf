"""What an edit gives.

Shape letters: H and W picture height and width, S side of the square crops, K slots.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..head.attributes import FaceAttributes
from .description import Edit


@dataclass(frozen=True, eq=False)
class EditResult:
    """What an edit gives.

    image       (3,H,W) the whole picture, in the source's framing
    alpha       (1,H,W) of a cut-out, or None for an opaque picture
    crop        (1,3,S,S) the edited square
    render      (1,3,S,S) the 3D head with the target's numbers
    masks       (1,K,S,S) the source's slot masks, or None without slots
    attributes  the target's numbers
    carried     (1,3,S,S) the moved photograph
    validity    (1,1,S,S) how far its pixels can be trusted
    edit        what was done
    """

    image: Tensor
    crop: Tensor
    render: Tensor
    masks: Tensor | None
    attributes: FaceAttributes
    carried: Tensor
    validity: Tensor
    edit: Edit
    alpha: Tensor | None = None
