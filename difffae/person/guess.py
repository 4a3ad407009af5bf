"""What a person may look like where the photograph did not show it.

Shape letters: B batch, H and W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..carry.hair_volume import hair_weight, has_scalp
from ..carry.light import hidden_shading
from ..carry.state import Move
from ..common.pixels import dilate, erode, gaussian_blur, pull_push
from ..head.rasterizer import interpolate
from .mouth import INNER, inside_of_mouth


@dataclass(frozen=True, eq=False)
class Guess:
    """What the person may look like where the source did not show it.

    Attributes:
        image: (B,3,H,W).
        validity: (B,1,H,W) of the guess.
        inner: (B,1,H,W) how far it shows the inside of a newly opened mouth.
    """

    image: Tensor
    validity: Tensor
    inner: Tensor


def guess_person(move: Move, image: Tensor, known: Tensor) -> Guess:
    """Hair continues hair and skin continues skin; the inside of the mouth is the head model's.

    Where a hidden point of the scalp lies behind hair of the source, that hair stands in for it.

    Args:
        move: the move.
        image: (B,3,H,W) the moved picture.
        known: (B,1,H,W) how well it is known.
    """
    source, maps, o = move.source, move.known_maps, move.source.options
    scalp = _hairy(move)
    mirrored = maps.hair * scalp
    # a little of a wrong colour would fill a whole hole, and along its edge the mesh shows what lay
    # beside the skin
    sure = erode((2 * known - 1).clamp_min(0), 2 * round(source.pixels(o.mesh_edge) / 2) + 1)
    # where the head model stands out beyond the hair that was seen, that hair goes on
    beyond = scalp * move.posed.mesh * (1 - maps.matte)
    weight = (sure * scalp).maximum(o.mirrored_share * mirrored).maximum(o.beyond_share * beyond)
    hair = pull_push(image, weight)
    # skin goes on in its own colour, under the light that falls on the hidden place
    shading = hidden_shading(source.head, move.posed.raster, move.posed.normals, move.target.light, o)
    skin = pull_push(image / shading, sure * (1 - scalp) * (1 - (1 - o.cloth_share) * maps.hanging))
    guess = torch.lerp((skin * shading).clamp(0, 1), hair, scalp)
    guess, inner = _with_inner_mouth(move, guess, image, known)
    validity = o.guess_validity + (o.mirrored_validity - o.guess_validity) * mirrored
    if move.completed is not None:
        guess = torch.lerp(guess, move.completed.image, move.completed.where)
        validity = torch.lerp(validity, torch.full_like(validity, o.map_validity), move.completed.where)
    return Guess(guess, validity, inner)


def _with_inner_mouth(move: Move, guess: Tensor, image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """A guess (B,3,H,W) with the head model's mouth where that is newly open, and how far it is
    (B,1,H,W).
    """
    where = move.posed.part(*INNER)
    guess = torch.where(where, image, guess)
    # thin gaps between lips and teeth are errors of the fit
    hole = where * (1 - known)
    core = erode(hole, 5)
    if not bool((core > 0).any()):
        return guess, torch.zeros_like(hole)
    wide = gaussian_blur(dilate(core, 5).minimum(hole), move.source.options.edge_blur)
    # only there is it worked out
    raster = move.posed.raster
    raster = replace(raster, face=torch.where(wide[:, 0] > 0, raster.face, -1))
    return torch.lerp(guess, inside_of_mouth(move.source.head, move.target, replace(move.posed, raster=raster), where), wide), wide


def _hairy(move: Move) -> Tensor:
    """How far a pixel's colour is hair's rather than skin's, by its place on the head: (B,1,H,W), 1
    beside the head.
    """
    head, raster = move.source.head, move.posed.raster
    outside = (~move.posed.mesh).to(move.posed.normals)
    if not has_scalp(head):
        return outside
    weight = hair_weight(head, move.unposed)
    # a nape is skin unless hair hangs there
    stands_out = move.source.hair_offsets.norm(dim=-1) * move.target.camera[:, :1]
    hanging = (stands_out / move.source.options.nape_hair).clamp(max=1)
    weight = torch.where(head.vertex_mask("neck"), weight * hanging, weight)
    return interpolate(raster, head.faces, weight[..., None]) + outside
