"""Swaps by photograph: hair of a reference, its own pixels. Clothes and backgrounds are replaced in whole photographs.

Tokens say in 192 numbers what a region looks like; a photograph of it says more. The hair of the
reference, carried to the target's head, is laid over the source's, whose own is taken away first.
What neither photograph showed is a guess, and marked so, for the model to paint from the swapped
tokens.

Shape letters: B batch, R regions (4, in the order of `vocabulary.REGIONS`), K photographs, H and W
picture sides.

    prepared = prepare(picture, face, head, inside_picture, layers)
    areas = FaceAreas.of(head, target, picture)
    parts = source_parts(prepared, prepared.move(target), areas)
    theirs = reference_parts(other, its_inside_picture, its_face, target, areas, head, its_layers)
    swapped = take_hair(parts, theirs, areas).carried
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.filling import without_background
from ..carry.options import CarryOptions, TransferOptions
from ..common.pixels import dilate, erode, gaussian_blur, odd, pull_push, trusted
from ..vocabulary import REGIONS
from .region_parts import BACKGROUND, CLOTHES, FACE, HAIR, FaceAreas, Parts

STRANDS = 0.035  # of the side: how far they do
GAP = 7  # pixels: lines in hair that no camera saw, between head and what stands out from it


@dataclass(frozen=True, eq=False)
class _Swap:
    """What the steps of one swap share.

    Attributes:
        reference: the reference at the target's head.
        areas: of the target's head.
        strength: 0..1.
        skin: (B,3,H,W) the reference's skin in the colours of the source's.
        skin_validity: (B,1,H,W) how well it is known.
        carrying: settings of moving.
        options: settings of the swap.
    """

    reference: Parts
    areas: FaceAreas
    strength: float
    skin: Tensor
    skin_validity: Tensor
    carrying: CarryOptions
    options: TransferOptions


def take_hair(
    base: Parts,
    reference: Parts,
    areas: FaceAreas,
    strength: float = 1.0,
    options: CarryOptions | None = None,
    transfer: TransferOptions | None = None,
) -> Parts:
    """The base with the hair of a reference.

    Args:
        base: the source, or what an earlier swap made of it.
        reference: the reference, carried to the same head.
        areas: of the head that both were carried to.
        strength: 0..1, below 1 the base shines through.
        options: settings of moving.
        transfer: settings of the swap.

    Returns:
        the base itself if nothing is taken; else parts with one more photograph in `owner_share`.
    """
    if strength == 0:
        return base
    t = transfer or TransferOptions()
    swap = _Swap(reference, areas, strength, *_tinted_skin(base, reference, t), options or CarryOptions(), t)
    return _over(_without(replace(base, owner_share=F.pad(base.owner_share, (0, 0, 0, 0, 0, 1))), swap), swap)


def _over(base: Parts, swap: _Swap) -> Parts:
    """The base with the reference's hair over everything but the inner face."""
    reference, areas = swap.reference, swap.areas
    own = reference.shares[:, HAIR : HAIR + 1]
    # beside the head, hair of a turned reference may be a smear; gaps in it are none
    sure = erode(dilate(reference.carried.validity, GAP), GAP)
    cover = swap.strength * own * (1 - areas.features) * torch.where(areas.mesh > 0, 1.0, trusted(sure))
    colours, _ = without_background(reference.carried.image, own, swap.carrying.outline)
    carried = replace(
        base.carried,
        image=torch.lerp(base.carried.image, colours, cover),
        validity=torch.lerp(base.carried.validity, reference.carried.validity, cover),
    )
    shares = base.shares * (1 - cover) + _hair_alone(base.shares) * cover
    return replace(base, carried=carried, shares=shares, owner_share=_owned(base, 1 - cover, cover))


def _tinted_skin(base: Parts, reference: Parts, t: TransferOptions) -> tuple[Tensor, Tensor]:
    """Skin of the reference in the colours of the base's (B,3,H,W), and how well it is known
    (B,1,H,W).
    """
    bare = (base.shares * reference.shares)[:, FACE : FACE + 1]
    both = erode(bare, 5) * (base.carried.validity > 0.5) * (reference.carried.validity > 0.5)
    sigma = t.tint_blur * max(bare.shape[-2:])
    near = gaussian_blur(both, sigma)

    def mean(picture: Tensor) -> Tensor:
        return gaussian_blur(picture * both, sigma) / near.clamp_min(1e-4) + 0.02

    ratio = (mean(base.carried.image) / mean(reference.carried.image)).clamp(1 / t.largest_tint, t.largest_tint)
    tint = pull_push(ratio.log(), both * near).exp() if bool((both > 0).any()) else torch.ones_like(ratio)
    return (reference.carried.image * tint).clamp(0, 1), t.skin_validity * reference.carried.validity


def _without(base: Parts, swap: _Swap) -> Parts:
    """The base without its own hair: skin, cloth and background that were behind, as far as anything tells."""
    image, shares = base.carried.image, base.shares
    assert base.backdrop is not None
    assert base.backdrop_validity is not None
    gone = shares[:, HAIR : HAIR + 1]
    own = ((dilate(gone, 2 * swap.carrying.outline + 1) - 0.05) / 0.3).clamp(0, 1)
    # strands that no mask holds stand out from it before the background
    beside = ((dilate(gone, odd(2 * STRANDS * max(gone.shape[-2:]))) - 0.05) / 0.3).clamp(0, 1)
    wide = own.maximum(beside * shares[:, BACKGROUND:])
    rest = shares * (1 - _hair_alone(shares))
    sure = rest * (1 - own)
    below = _below(sure, swap)
    bare, bare_validity = _skin_below(image, sure[:, FACE : FACE + 1], swap)
    cloth = pull_push(image, _inner(sure[:, CLOTHES : CLOTHES + 1]))
    guess = swap.carrying.guess_validity
    fill = below[:, :1] * bare + below[:, 2:3] * cloth + below[:, 3:] * base.backdrop
    validity = below[:, :1] * bare_validity + below[:, 2:3] * guess + below[:, 3:] * base.backdrop_validity.minimum(base.carried.validity)
    # background beside it that is to be repainted stays so
    validity = torch.where(wide > own, validity.minimum(base.carried.validity), validity)
    wide = wide * swap.strength
    carried = replace(base.carried, image=torch.lerp(image, fill, wide), validity=torch.lerp(base.carried.validity, validity, wide))
    shares = torch.lerp(torch.lerp(shares, rest + gone * below, swap.strength), below, wide)
    return replace(base, carried=carried, shares=shares, owner_share=base.owner_share * (1 - wide))


def _below(sure: Tensor, swap: _Swap) -> Tensor:
    """What lies below hair that is taken away: shares (B,R,H,W). The head goes on below it; beside the head there is what lies around.

    sure (B,R,H,W): shares of the other regions, away from its border.
    """
    on_head = swap.areas.mesh
    total = sure[:, CLOTHES:].sum(1, keepdim=True)
    around = pull_push(sure[:, CLOTHES:] / total.clamp_min(1e-3), total.clamp(0, 1)).clamp_min(0)
    cloth = around[:, :1] / around.sum(1, keepdim=True).clamp_min(1e-3)
    return torch.cat([on_head, torch.zeros_like(cloth), (1 - on_head) * cloth, (1 - on_head) * (1 - cloth)], dim=1)


def _skin_below(image: Tensor, sure: Tensor, swap: _Swap) -> tuple[Tensor, Tensor]:
    """Skin (B,3,H,W) where something hid it, and its validity (B,1,H,W): the source's goes on, or
    the reference shows some.

    image (B,3,H,W) of the base, sure (B,1,H,W) where that is skin.
    """
    own = (pull_push(image / swap.areas.shading, _inner(sure)) * swap.areas.shading).clamp(0, 1)
    difference = dilate((swap.skin - own).abs().amax(1, keepdim=True), 3)
    bare = swap.reference.shares[:, FACE : FACE + 1]
    theirs = bare * trusted(swap.reference.carried.validity) * torch.exp(-((difference / swap.options.unlike) ** 2))
    guess = torch.full_like(sure, swap.carrying.guess_validity)
    return torch.lerp(own, swap.skin, theirs), torch.lerp(guess, swap.skin_validity, theirs)


def _inner(share: Tensor) -> Tensor:
    """Where a share (B,1,H,W) is sure enough to give colours to others."""
    return erode(share, 5).clamp(0, 1).square()


def _owned(base: Parts, own: Tensor, theirs: Tensor) -> Tensor:
    """The share of each photograph (B,K,H,W) where the base counts by own and the reference in hand
    by theirs (B,1,H,W).
    """
    count = base.owner_share.shape[1]
    last = F.one_hot(torch.tensor(count - 1, device=theirs.device), count).to(theirs)[None, :, None, None]
    return base.owner_share * own + last * theirs


def _hair_alone(like: Tensor) -> Tensor:
    """(1,R,1,1): 1 for hair."""
    return F.one_hot(torch.tensor(HAIR, device=like.device), len(REGIONS)).to(like)[None, :, None, None]
