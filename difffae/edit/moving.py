"""Second step of an edit: the photographs moved and relit, with the regions that come from other faces.

Shape letters: B faces, S side of the square crops, K slots, D token size, h and w sides of the slot masks, R references.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..carry.carry import Carried, carry, nothing_carried
from ..carry.region_parts import FaceAreas
from ..carry.region_parts import Parts as CarriedParts
from ..carry.region_transfer import reference_parts, source_parts, take_regions
from ..common.batches import common_batch, expanded
from ..common.errors import ConfigError, ImageError
from ..head.attributes import FaceAttributes
from ..head.render import render
from ..source.regions import kept_pixels, swapped_region
from ..source.slots import swap
from .analysing import layers_of, with_attributes
from .description import Edit, Faces, MovedPhoto, Parts, ReferenceDetail, RegionSwap, SlotTokens

CHUNK = 4  # faces at a time, which bounds the memory


@dataclass(frozen=True, eq=False)
class Swapped:
    """What swaps leave of the slots of B faces.

    tokens  (B,K,D) with those of the taken regions
    redraw  (B,1,h,w) 1 where the model repaints a region from its token, or None
    taken   the regions whose photographs are taken, in the order in which they are laid
    """

    tokens: Tensor
    redraw: Tensor | None = None
    taken: tuple[RegionSwap, ...] = ()


def swapped(faces: Faces) -> Swapped:
    """Tokens after the swaps of faces with slots, and what the swaps mean for the carried photograph.

    Raises:
        ImageError: batches that do not go together.
        ConfigError: tokens of different models, or an encoder that knows no regions.
    """
    slots = _slots(faces)
    result = Swapped(slots.tokens)
    for one in faces.swaps:
        result = _after(result, slots, one)
    return result


def _after(before: Swapped, slots: SlotTokens, one: RegionSwap) -> Swapped:
    """The state after one more swap."""
    other = _slots(one.reference)
    if slots.masks is None or other.masks is None:
        raise ConfigError("swap: this model's encoder of the source knows no regions; use a model with slots")
    reference = swapped(one.reference)
    batch = common_batch({"slots": len(before.tokens), "reference": len(reference.tokens)})
    tokens = expanded(before.tokens, batch)
    mixed = swap(tokens, reference.tokens.to(tokens), one.regions, one.strength, slots.order)
    if one.photo:
        return replace(before, tokens=mixed, taken=before.taken + _givers(one, reference))
    # what is repainted shows no photograph any more
    left = ((taken, tuple(name for name in taken.regions if name not in one.regions)) for taken in before.taken)
    masks = expanded(slots.masks, batch)
    redraw = swapped_region(masks, expanded(other.masks, batch).to(masks), one.regions, slots.order)
    if before.redraw is not None:
        redraw = redraw.maximum(expanded(before.redraw, batch))
    return Swapped(mixed, redraw, tuple(replace(taken, regions=names) for taken, names in left if names))


def _givers(one: RegionSwap, reference: Swapped) -> tuple[RegionSwap, ...]:
    """The swap by regions; those that the reference had taken itself are its giver's."""
    found = []
    for region in one.regions:
        giver = next((taken for taken in reversed(reference.taken) if region in taken.regions), None)
        if giver is None:
            found.append(replace(one, regions=(region,)))
        else:
            found.append(replace(giver, regions=(region,), strength=giver.strength * one.strength))
    return (one,) if all(giver.reference is one.reference for giver in found) else tuple(found)


def with_swap(faces: Faces, swap_: RegionSwap) -> Faces:
    """Faces with one more swap; a swap that takes nothing gives the same object.

    Raises:
        ImageError, ConfigError: as `swapped`.
    """
    if swap_.empty:
        return faces
    result = replace(faces, swaps=(*faces.swaps, swap_))
    swapped(result)
    return result


def move(parts: Parts, edit: Edit) -> MovedPhoto:
    """The photographs of an edit, moved and relit to the target, with the photographs of its swaps laid over them.

    A model that carries no photograph gets the squares as they are, with validity 0.

    Raises:
        ImageError: unequal batches, or squares of another size than the model's.
        NoFaceError: a reference shows no face.
    """
    faces, side = edit.faces, parts.image_size
    if tuple(faces.picture.shape[-2:]) != (side, side):
        got = f"{faces.picture.shape[-1]}x{faces.picture.shape[-2]}"
        raise ImageError(f"image: is {got}; crops of {side}x{side} are needed, from DiffFAE Crop Face")
    state = None if faces.slots is None else swapped(faces)
    source, batch = _batched(edit, state)
    pictures, target = source.picture, edit.target.to(faces.picture.device).expand(batch)
    assert source.attributes is not None
    unchanged = _equal_rows(source.attributes, target) & (not faces.swaps)
    references = [] if state is None or parts.carry_options is None else [_with_numbers(parts, one) for one in state.taken]
    carried, shares, givers = [], [], []
    for part in parts.chunks(batch, CHUNK):
        valid = source.inside_picture[part]
        if state is not None and state.redraw is not None:
            valid = valid * _kept(parts, source, expanded(state.redraw, batch), part)
        one, share, theirs = _carried_rows(parts, source, target, valid, references, part)
        carried.append(one)
        shares.append(share)
        givers.append(theirs)
    owner_share = torch.cat(shares)
    moved = _moved(carried, owner_share[:, :1], pictures, unchanged)
    return replace(moved, references=_details(references, givers, owner_share))


def _batched(edit: Edit, state: Swapped | None) -> tuple[Faces, int]:
    """The source with one row per result, on one device, and how many there are."""
    faces = edit.faces
    assert faces.attributes is not None
    sizes = {"image": len(faces), "source": len(faces.attributes), "target": len(edit.target), "crop": len(faces.inside_picture)}
    batch = common_batch(sizes if state is None else sizes | {"slots": len(state.tokens)})
    pictures = expanded(faces.picture, batch)
    inside = expanded(faces.inside_picture.to(pictures), batch)
    attributes = faces.attributes.to(pictures.device).expand(batch)
    return replace(faces, picture=pictures, inside_picture=inside, attributes=attributes), batch


def _carried_rows(
    parts: Parts, source: Faces, target: FaceAttributes, valid: Tensor, references: list[RegionSwap], part: slice
) -> tuple[Carried, Tensor, list[Carried]]:
    """Some rows carried: the photographs, whose pixels they show (b,1+R,S,S), and the references as they were carried."""
    assert source.attributes is not None
    options, head = parts.carry_options, parts.head
    picture, own, wanted = source.picture[part], source.attributes[part], target[part]
    if options is None:
        # what stays where it is needs no carrying
        stays = _equal_rows(own, wanted)[:, None, None, None] & bool(source.swaps)
        return replace(nothing_carried(picture), validity=valid * stays), torch.ones_like(valid), []
    layers = None if source.slots is None else layers_of(source.slots, source.picture, part)
    moved = carry(picture, own, wanted, head, valid, layers, options)
    if not references:
        return moved, torch.ones_like(valid), []
    assert layers is not None
    areas = FaceAreas.of(head, wanted, picture)
    mixed = source_parts(moved, picture, valid, FaceAreas.of(head, own, picture), areas, layers, options)
    givers = []
    for one in references:
        theirs = _reference_rows(parts, one.reference, wanted, areas, len(source), part)
        mixed = take_regions(mixed, theirs, one.regions, areas, one.strength, options)
        givers.append(theirs.carried)
    return mixed.carried, mixed.whose, givers


def _kept(parts: Parts, source: Faces, redraw: Tensor, part: slice) -> Tensor:
    """The share of some rows' pixels (b,1,S,S) that a swap by tokens leaves; redraw (B,1,h,w)."""
    assert source.attributes is not None
    head, side = parts.head, parts.image_size
    face = head.skin_mask(render(head, source.attributes[part], side).raster)[:, None]
    return kept_pixels(redraw[part].to(source.picture), face, (side, side))


def _reference_rows(parts: Parts, reference: Faces, wanted: FaceAttributes, areas: FaceAreas, batch: int, part: slice) -> CarriedParts:
    """Some rows of a reference, carried to the targets of these rows."""
    assert reference.attributes is not None
    assert reference.slots is not None
    pictures = expanded(reference.picture, batch)
    layers = layers_of(reference.slots, pictures, part)
    assert layers is not None
    inside = expanded(reference.inside_picture.to(pictures), batch)[part]
    own = reference.attributes.expand(batch)[part]
    return reference_parts(pictures[part], inside, own, wanted, areas, parts.head, layers, parts.carry_options)


def _with_numbers(parts: Parts, one: RegionSwap) -> RegionSwap:
    """The swap with the attributes of its reference."""
    return replace(one, reference=with_attributes(parts, replace(one.reference, name="reference")))


def _details(references: list[RegionSwap], givers: list[list[Carried]], shares: Tensor) -> tuple[ReferenceDetail, ...]:
    """For pasting: the references as they were carried, by chunks; shares (B,1+R,S,S). Squares without a picture around them have no
    finer detail to lend."""
    found = []
    for number, one in enumerate(references):
        if one.reference.original is not None:
            rows = [chunk[number] for chunk in givers]
            flow, ratio, front = (torch.cat([getattr(row, name) for row in rows]) for name in ("flow", "ratio", "front"))
            found.append(ReferenceDetail(one.reference, flow, ratio, front, shares[:, number + 1 : number + 2]))
    return tuple(found)


def _moved(carried: list[Carried], owner_share: Tensor, pictures: Tensor, unchanged: Tensor) -> MovedPhoto:
    """Carried chunks as one batch."""
    image, validity, flow, ratio, front = (
        torch.cat([getattr(one, name) for one in carried]) for name in ("image", "validity", "flow", "ratio", "front")
    )
    return MovedPhoto(image, validity, pictures, flow, ratio, front, owner_share, unchanged)


def _equal_rows(source: FaceAttributes, target: FaceAttributes) -> Tensor:
    """(B,) bool: all numbers of two faces equal."""
    others = target.tensors()
    same = torch.ones(len(source), dtype=torch.bool, device=source.shape.device)
    for name, values in source.tensors().items():
        same &= (values == others[name]).flatten(1).all(1) if name in others else False
    return same


def _slots(faces: Faces) -> SlotTokens:
    if faces.slots is None:
        raise ConfigError(f"{faces.name}: has no slots; encode them first")
    return faces.slots
