"""Swaps by photograph: hair, clothes or background of a reference, its own pixels. What `carry` is to the source of an edit, this is to the
reference of a swap.

Tokens say in 192 numbers what a region looks like; a photograph of it says more. The reference is carried to the target's head: its hair
onto that head, its collar to that neck, in that light. Its region is laid over the source's, whose own is taken away first. What neither
photograph showed is a guess, and marked so, for the model to paint from the swapped tokens.

Shape letters: B batch, R regions (4, in the order of regions.REGIONS), H and W picture sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import dilate, erode, flow_grid, gather, gaussian_blur, nearest_inside, pixel_grid, pull_push, trusted
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..source.regions import REGIONS, Layers
from .carry import Carried, carry
from .person_layer import CarryOptions, empty_place, without_background
from .region_parts import BACKGROUND, CLOTHES, FACE, HAIR, TAKEN, TAKEN_AWAY, FaceAreas, Parts, moved_shares, refined

GAP = 7  # pixels: lines in hair that no camera saw, between head and what stands out from it


@dataclass(frozen=True)
class TransferOptions:
    """Lengths are shares of the crop's side."""

    tint_blur: float = 0.02  # standard deviation of the window in which skin of the reference gets the colour of the source's
    largest_tint: float = 5.0
    skin_validity: float = 0.6  # of skin of the reference that stands in for skin that the source's hair or clothes hid
    unlike: float = 0.25  # difference of that skin from the source's around it (0..1) at which it is glasses, a beard, a tie


def source_parts(
    carried: Carried,
    picture: Tensor,
    known: Tensor,
    before: FaceAreas,
    areas: FaceAreas,
    layers: Layers,
    options: CarryOptions | None = None,
) -> Parts:
    """Parts of a carried photograph. picture (B,3,H,W), known (B,1,H,W) and layers of what was carried; areas of the head before, and
    where it is now."""
    o = options or CarryOptions()
    shares = moved_shares(carried, refined(picture, layers, before, TAKEN_AWAY), areas)
    return Parts(carried, shares, *_backdrop(picture, known, layers.person, o), torch.ones_like(known))


def reference_parts(
    picture: Tensor,
    known: Tensor,
    own: FaceAttributes,
    target: FaceAttributes,
    areas: FaceAreas,
    head: HeadModel,
    layers: Layers,
    options: CarryOptions | None = None,
) -> Parts:
    """Parts of a reference, carried to the target's head and light.

    picture (B,3,H,W), known (B,1,H,W), own attributes and layers of the reference; areas of the target's head. Its background
    stays as it is.
    """
    o = replace(options or CarryOptions(), stretch_expression=False)
    backdrop, backdrop_validity = _backdrop(picture, known, layers.person, o)
    layers = refined(picture, layers, FaceAreas.of(head, own, picture), TAKEN)
    # shoulders follow the camera all over, which `carry` moves only near the head
    grid, inside = _aligned(known, own.camera, target.camera)
    aligned = F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
    layers = layers.map(lambda layer: F.grid_sample(layer, grid, padding_mode="border", align_corners=False))
    there = replace(own, camera=target.camera.expand_as(own.camera))
    # where its border goes on it is a guess, but a guess of hair or cloth, not of skin
    carried = carry(aligned, there, target, head, None, layers, o)
    shares = moved_shares(carried, layers, areas)
    # from here on the motion is that from the picture itself, for detail that is finer than the crop's
    h, w = known.shape[-2:]
    there_grid = flow_grid(carried.flow)
    whole = F.grid_sample(grid.permute(0, 3, 1, 2), there_grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
    seen = F.grid_sample(inside, there_grid, padding_mode="zeros", align_corners=False)
    carried = replace(
        carried,
        flow=((whole - pixel_grid(h, w, known)) * known.new_tensor([w / 2, h / 2])).permute(0, 3, 1, 2),
        validity=carried.validity * (o.guess_validity + (1 - o.guess_validity) * seen),
    )
    return Parts(carried, shares, backdrop, backdrop_validity, torch.ones_like(known))


def _backdrop(picture: Tensor, known: Tensor, person: Tensor, o: CarryOptions) -> tuple[Tensor, Tensor]:
    """The picture without its person, filled from around, and how well that is known: behind the person no better than around."""
    wide, fill, plain = empty_place(picture, person, o)
    return torch.lerp(picture, fill, wide), torch.lerp(known, plain * pull_push(known, 1 - wide), wide)


def _aligned(known: Tensor, own: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where a picture with the camera `own` (B,3) shows what one with the camera `wanted` does: grid (B,H,W,2), and whether it does
    (B,1,H,W). Beyond what is known (B,1,H,W) its border goes on."""
    scale, x, y = own[:, None, None].unbind(-1)
    scale_t, x_t, y_t = wanted.expand_as(own)[:, None, None].unbind(-1)
    right, down = pixel_grid(known.shape[-2], known.shape[-1], known).unbind(-1)
    # p = s (x + tx, y + ty), y up
    grid = torch.stack([scale * (right / scale_t - x_t + x), scale * (down / scale_t + y_t - y)], dim=-1)
    inside = (F.grid_sample(known, grid, padding_mode="zeros", align_corners=False) > 0.99).to(known)
    index = nearest_inside(inside[:, 0] > 0)[0]
    return gather(grid.permute(0, 3, 1, 2), index).permute(0, 2, 3, 1), inside


def take_regions(
    base: Parts,
    reference: Parts,
    regions: Sequence[str],
    areas: FaceAreas,
    strength: float = 1.0,
    options: CarryOptions | None = None,
    transfer: TransferOptions | None = None,
) -> Parts:
    """The base with some regions (names of regions.REGIONS but face) of the reference; areas of the head that both were carried to.

    strength 0..1 lets the reference shine through. Taking nothing gives the base itself.
    """
    o, t = options or CarryOptions(), transfer or TransferOptions()
    if not regions or strength == 0:
        return base
    skin = _tinted_skin(base, reference, t)
    result = replace(base, whose=F.pad(base.whose, (0, 0, 0, 0, 0, 1)))
    for region in (HAIR, CLOTHES):
        if REGIONS[region] in regions:
            result = _without(result, reference, region, areas, skin, strength, o, t)
    # a collar lies below hair, hair lies over everything but the inner face
    for region in (CLOTHES, HAIR):
        if REGIONS[region] in regions:
            cover = strength * reference.shares[:, region : region + 1] * (1 - areas.features)
            if region == HAIR:
                # beside the head, hair of a turned reference may be a smear; gaps in it are none
                sure = erode(dilate(reference.carried.validity, GAP), GAP)
                cover = cover * torch.where(areas.mesh > 0, 1.0, trusted(sure))
            if region == CLOTHES:
                cover = cover * (1 - result.shares[:, HAIR : HAIR + 1])
            colours, _ = without_background(reference.carried.image, reference.shares[:, region : region + 1], o)
            result = _laid(result, colours, reference.carried.validity, cover, region)
    if REGIONS[BACKGROUND] in regions:
        result = _behind(result, reference, strength, o)
    return result


def _laid(base: Parts, colours: Tensor, validity: Tensor, cover: Tensor, region: int) -> Parts:
    """The base with colours (B,3,H,W) of a region over it, as far as cover (B,1,H,W) says."""
    return replace(
        base,
        carried=replace(
            base.carried,
            image=torch.lerp(base.carried.image, colours, cover),
            validity=torch.lerp(base.carried.validity, validity, cover),
        ),
        shares=base.shares * (1 - cover) + _one_hot(region, base.shares) * cover,
        whose=base.whose * (1 - cover) + _last(base.whose) * cover,
    )


def _behind(base: Parts, reference: Parts, strength: float, o: CarryOptions) -> Parts:
    """The base's person in front of the reference's background."""
    backdrop = torch.lerp(base.backdrop, reference.backdrop, strength)
    validity = torch.lerp(base.backdrop_validity, reference.backdrop_validity, strength)
    person = 1 - base.shares[:, BACKGROUND:]
    colours, _ = without_background(base.carried.image, person, o)
    image = torch.lerp(backdrop, colours, person)
    carried = replace(base.carried, image=image, validity=torch.lerp(validity, base.carried.validity, person))
    theirs = strength * reference.backdrop_validity * (1 - person)
    return Parts(carried, base.shares, backdrop, validity, base.whose * person + _last(base.whose) * theirs)


def _tinted_skin(base: Parts, reference: Parts, t: TransferOptions) -> tuple[Tensor, Tensor]:
    """Skin of the reference in the colours of the base's (B,3,H,W), and how well it is known (B,1,H,W)."""
    bare = (base.shares * reference.shares)[:, FACE : FACE + 1]
    both = erode(bare, 5) * (base.carried.validity > 0.5) * (reference.carried.validity > 0.5)
    sigma = t.tint_blur * max(bare.shape[-2:])
    near = gaussian_blur(both, sigma)

    def mean(picture: Tensor) -> Tensor:
        return gaussian_blur(picture * both, sigma) / near.clamp_min(1e-4) + 0.02

    ratio = (mean(base.carried.image) / mean(reference.carried.image)).clamp(1 / t.largest_tint, t.largest_tint)
    tint = pull_push(ratio.log(), both * near).exp() if bool((both > 0).any()) else torch.ones_like(ratio)
    return (reference.carried.image * tint).clamp(0, 1), t.skin_validity * reference.carried.validity


def _without(
    base: Parts,
    reference: Parts,
    region: int,
    areas: FaceAreas,
    skin: tuple[Tensor, Tensor],
    strength: float,
    o: CarryOptions,
    t: TransferOptions,
) -> Parts:
    """The base without its own hair or clothes: skin, cloth and background that were behind, as far as anything tells.

    skin: of the reference, tinted, and its validity.
    """
    image, shares = base.carried.image, base.shares
    gone = shares[:, region : region + 1]
    wide = ((dilate(gone, 2 * o.outline + 1) - 0.05) / 0.3).clamp(0, 1)
    rest = shares * (1 - _one_hot(region, shares))
    sure = rest * (1 - wide)
    bare_there = reference.shares[:, FACE : FACE + 1]
    if region == HAIR:
        # the head goes on below its hair; beside the head there is what lies around
        on_head = areas.mesh
        total = sure[:, CLOTHES:].sum(1, keepdim=True)
        around = pull_push(sure[:, CLOTHES:] / total.clamp_min(1e-3), total.clamp(0, 1)).clamp_min(0)
        cloth = around[:, :1] / around.sum(1, keepdim=True).clamp_min(1e-3)
    else:
        on_head, cloth = bare_there, torch.zeros_like(gone)
    below = torch.cat([on_head, torch.zeros_like(gone), (1 - on_head) * cloth, (1 - on_head) * (1 - cloth)], dim=1)
    seen_skin, seen_cloth = (erode(sure[:, i : i + 1], 5).clamp(0, 1).square() for i in (FACE, CLOTHES))
    own_skin = (pull_push(image / areas.shading, seen_skin) * areas.shading).clamp(0, 1)
    own_cloth = pull_push(image, seen_cloth)
    difference = dilate((skin[0] - own_skin).abs().amax(1, keepdim=True), 3)
    theirs = bare_there * trusted(reference.carried.validity) * torch.exp(-((difference / t.unlike) ** 2))
    bare = torch.lerp(own_skin, skin[0], theirs)
    bare_validity = torch.lerp(torch.full_like(gone, o.guess_validity), skin[1], theirs)
    fill = below[:, :1] * bare + below[:, 2:3] * own_cloth + below[:, 3:] * base.backdrop
    validity = below[:, :1] * bare_validity + below[:, 2:3] * o.guess_validity + below[:, 3:] * base.backdrop_validity
    wide = wide * strength
    carried = replace(base.carried, image=torch.lerp(image, fill, wide), validity=torch.lerp(base.carried.validity, validity, wide))
    return replace(base, carried=carried, shares=torch.lerp(shares, rest + gone * below, strength), whose=base.whose * (1 - wide))


def _last(whose: Tensor) -> Tensor:
    """(1,K,1,1): 1 for the reference in hand."""
    return F.one_hot(torch.tensor(whose.shape[1] - 1, device=whose.device), whose.shape[1]).to(whose)[None, :, None, None]


def _one_hot(region: int, like: Tensor) -> Tensor:
    """(1,R,1,1): 1 for one region."""
    return F.one_hot(torch.tensor(region, device=like.device), len(REGIONS)).to(like)[None, :, None, None]
