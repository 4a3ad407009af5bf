"""Third step of an edit: what the denoiser is told, and the latents it starts from.

Shape letters: B faces, I identity size, Z latent channels, S side of the square crops, h = S/8 and w = S/8.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..common.batches import common_batch, expanded
from ..diffusion.conditions import Conditions, Encoder, carry_latents
from .description import Faces
from .moved_photo import MovedPhoto
from .moving import swapped
from .native import resize


def conditions(
    first_stage: Encoder, faces: Faces, identity: Tensor, render: Tensor, moved: MovedPhoto | None
) -> tuple[Conditions, Tensor | None]:
    """What the denoiser is told of an edit, and the latents (B,Z,h,w) of the moved photograph to start from.

    Args:
        first_stage: encodes pictures.
        faces: the source with slots and swaps, of 1 or B rows.
        identity: (B or 1,I) tokens of who it is (paper 4.2).
        render: (B or 1,3,S,S) the 3D head with the target's numbers (paper 4.1).
        moved: the moved photographs, or None to carry nothing, as the paper: then there is nothing to start from either.

    Raises:
        ImageError: batches that do not go together.
    """
    tokens = swapped(faces).tokens
    sizes = {"slots": len(tokens), "identity": len(identity), "render": len(render)}
    batch = common_batch(sizes if moved is None else sizes | {"carry": len(moved)})
    latents = first_stage.encode(render.clamp(0, 1))
    told = Conditions(expanded(tokens, batch), expanded(identity.to(tokens), batch), expanded(latents, batch))
    if moved is None:
        return told, None
    side = render.shape[-1]
    shown, validity = resize(moved.square(moved.image), side).clamp(0, 1), resize(moved.square(moved.validity), side, "bilinear")
    carried, validity = carry_latents(first_stage, shown, validity)
    start = expanded(first_stage.encode(shown), batch)
    return replace(told, carried=expanded(carried, batch), validity=expanded(validity, batch)), start
