"""Second step of an edit: the photographs moved and relit, with the regions that come from other faces.

Shape letters: B faces, S side of the square crops, N the same in the photograph's own pixels (on a wider canvas both are the canvas's),
K slots, D token size, h and w sides of the slot masks, R references.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..carry.filling import beyond_frame
from ..carry.framing import within_frame
from ..common.batches import common_batch, expanded
from ..common.errors import ConfigError, ImageError
from ..head.attributes import FaceAttributes
from ..head.render import render
from ..person.prepared import Carried, Prepared, nothing_carried
from ..person.prepared import prepare as prepare_photos
from ..source.regions import kept_pixels, swapped_region
from ..source.slots import UNKNOWN_ORDER, swap
from ..swap.region_parts import BACKGROUND, HAIR, FaceAreas
from ..swap.region_sources import SwapReference, SwapSource
from ..swap.region_transfer import take_hair
from ..vocabulary import REGIONS
from .analysing import layers_of, with_attributes, with_own_matte
from .apart import Apart, PreparedMove, borne_along, held, set_apart, with_things
from .description import MARGIN, Edit, Faces, Parts, RegionSwap, SlotTokens
from .moved_photo import MovedPhoto, ReferenceDetail
from .native import Canvas, canvas_margin, native_rows, native_side, options_on, resize
from .staging import staged

log = logging.getLogger(__name__)
CHUNK = 4  # faces at a time, which bounds the memory
MAPS = ("offset_to_source", "light_ratio", "person_alpha")


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
    if not slots.order:
        raise ConfigError(f"swap: {UNKNOWN_ORDER}")
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


@dataclass(frozen=True, eq=False)
class PreparedFaces:
    """What moving needs of some faces alone, worked out once for all targets (made by `prepare`).

    faces       whose they are
    photos      the photographs
    canvas      where their squares lie in them
    pictures    (b,3,N,N) the photographs as they are
    alone       the persons apart from everybody and everything else in them
    regions     their regions, or None without swaps by photograph
    references  those of the swaps by photograph, for one camera
    swaps       those swaps
    """

    faces: Faces
    photos: Prepared
    canvas: Canvas
    pictures: Tensor
    alone: Apart
    regions: SwapSource | None = None
    references: tuple[SwapReference, ...] = ()
    swaps: tuple[RegionSwap, ...] = ()

    def move(self, target: FaceAttributes) -> PreparedMove:
        """The photographs at the targets (b rows)."""
        target = held(self.photos.head, self.photos.face, self.canvas.attributes(target), self.alone.hidden)
        moved = self.photos.move(target)
        borne = borne_along(self.photos.head, self.photos.face, target, self.alone, self.pictures)
        if self.regions is None:
            return with_things(PreparedMove(moved, moved.own_share), self.alone, borne, self.pictures)
        areas = FaceAreas.of(self.photos.head, target, self.photos.image, self.canvas.side)
        mixed = self.regions.parts(moved, areas)
        givers = []
        for one, reference in zip(self.swaps, self.references, strict=True):
            theirs = reference.move(target, areas)
            mixed = take_hair(mixed, theirs, areas, one.strength)
            givers.append(theirs.carried)
        carried = replace(mixed.carried, person_alpha=1 - mixed.shares[:, BACKGROUND:])
        return with_things(PreparedMove(carried, mixed.owner_share, tuple(givers)), self.alone, borne, self.pictures)


def prepare(parts: Parts, faces: Faces, camera: Tensor | None = None, rows: slice = slice(None), batch: int | None = None) -> PreparedFaces:
    """Work out what moving needs of faces alone.

    Args:
        parts: the networks of a model that carries photographs.
        faces: with attributes; with slots, if light shall stay off the background, or for swaps.
        camera: (b or 1,3) of the targets; None is the faces' own.
        rows: the rows to prepare.
        batch: of how many; by default as many as faces or swaps.

    Raises:
        NoFaceError: a reference shows no face. ConfigError, ImageError: as `swapped`.
    """
    state = None if faces.slots is None else swapped(faces)
    batch = batch or (len(faces) if state is None else max(len(faces), len(state.tokens)))
    side = native_side(faces)
    # clothes and backgrounds were replaced in the whole photographs (staging)
    taken = () if state is None else tuple(one for one in state.taken if REGIONS[HAIR] in one.regions)
    # decided for all faces, not for some rows: all pictures of a video have one size
    margin = 0 if parts.matte is None else canvas_margin(faces, side, [one.reference for one in taken])
    canvas = Canvas.of(faces, side, margin, batch, rows)
    pictures, inside = native_rows(faces, side, batch, rows, canvas.margin)
    assert faces.attributes is not None
    own, frame = canvas.attributes(faces.attributes.to(pictures.device).expand(batch)[rows]), inside
    if state is not None and state.redraw is not None:
        inside = inside * _kept(parts, own, canvas.cells(expanded(state.redraw, batch)[rows].to(pictures)), canvas.width)
    alone = _alone(parts, faces, Apart(pictures, inside), own, canvas, batch, rows)
    landmarks = None if faces.landmarks is None else canvas.points(expanded(faces.landmarks, batch)[rows], faces.picture.shape[-1])
    options = options_on(canvas, parts.carry_options)
    image = alone.image
    if alone.layers is not None:
        image = beyond_frame(image, frame, alone.layers.hair, (alone.layers.person - alone.layers.loose).clamp_min(0))
    photos = prepare_photos(image, own, parts.head, alone.inside, alone.layers, options, landmarks)
    if not taken:
        return PreparedFaces(faces, photos, canvas, pictures, alone)
    camera = own.camera if camera is None else canvas.camera(camera)
    ready: dict[int, SwapReference] = {}  # one face may give its hair more than once
    for reference in (one.reference for one in taken):
        if id(reference) not in ready:
            ready[id(reference)] = _prepared_reference(parts, reference, camera, canvas, batch, rows)
    references = tuple(ready[id(one.reference)] for one in taken)
    return PreparedFaces(faces, photos, canvas, pictures, alone, SwapSource.of(photos, canvas.side), references, taken)


def _alone(parts: Parts, faces: Faces, photos: Apart, own: FaceAttributes, canvas: Canvas, batch: int, rows: slice) -> Apart:
    """Some rows of the photographs (b,3,N,N) with what they show where, and without other people; as they are for faces without slots."""
    if faces.slots is None:
        return photos
    slots, part, numbers = faces.slots, rows, range(batch)[rows]
    if slots.masks is not None and canvas.margin:
        slots, part = canvas.slots(parts, slots, photos.image, batch, rows), slice(None)
        batch = len(photos.image)
    photos = replace(photos, layers=layers_of(slots, photos.image, batch, part))
    matte = slots.matte
    if matte is not None:
        matte = resize(expanded(matte, batch)[part].to(photos.image), photos.image.shape[-1], "bilinear")
    return set_apart(parts, faces, canvas, own, photos, matte, numbers)


def move(parts: Parts, edit: Edit, prepared: PreparedFaces | None = None) -> MovedPhoto:
    """The photographs of an edit, moved and relit to the target, with the photographs of its swaps laid over them.

    A model that carries no photograph gets the squares as they are: with validity 0, or, where nothing moves, with that of the pixels
    that swaps by tokens leave.

    Args:
        prepared: what `prepare` made of `edit.faces` for the target's camera, to move one photograph many times.

    Raises:
        ImageError: unequal batches, or squares of another size than the model's.
        NoFaceError: a reference shows no face.
    """
    faces, side = edit.faces, parts.image_size
    if tuple(faces.picture.shape[-2:]) != (side, side):
        got = f"{faces.picture.shape[-1]}x{faces.picture.shape[-2]}"
        raise ImageError(f"image: is {got}; crops of {side}x{side} are needed, from DiffFAE Crop Face")
    faces = with_own_matte(_with_references(parts, faces))
    batch = _batch(edit, faces)
    stage = None
    if parts.carry_options is not None and faces.slots is not None:
        faces, stage = staged(parts, faces, swapped(faces).taken, batch)
    target = framed(parts, edit).to(faces.picture.device).expand(batch)
    assert faces.attributes is not None
    unchanged = _equal_rows(faces.attributes.to(target.shape.device).expand(batch), target) & (not faces.swaps)
    if parts.carry_options is None:
        return _not_carried(parts, faces, expanded(faces.picture, batch), target, unchanged)
    if prepared is None and _serves_all(faces, target):
        prepared = prepare(parts, faces, target.camera[:1])
    moved, persons, margin = [], [], 0
    for part in parts.chunks(batch, CHUNK):
        ready = prepare(parts, faces, target.camera[part], part, batch) if prepared is None else prepared
        moved.append(ready.move(target[part]))
        if faces.transparency is not None and faces.transparency.cuts_out:
            persons.append((ready.photos.move(ready.photos.face).person_alpha, moved[-1].carried.person_alpha))
        margin = ready.canvas.margin
    side += 2 * round(MARGIN * side) if margin else 0
    owner_share = torch.cat([one.owner_share for one in moved])
    whole = _moved([one.carried for one in moved], owner_share[:, :1], side, unchanged)
    details = _details(faces, [one.givers for one in moved], owner_share, side)
    share = torch.cat([torch.zeros_like(one.carried.validity) if one.kept is None else one.kept for one in moved])
    found = _of_persons(persons)
    return replace(whole, references=details, margin=margin, stage=stage, kept=share if bool(share.any()) else None, **found)


def framed(parts: Parts, edit: Edit) -> FaceAttributes:
    """The targets of an edit, of 1 or B faces, turned as far as the frames of the photographs allow; a log line says how far."""
    source, target = edit.source, edit.target
    if parts.carry_options is None or source.attributes is None or not source.squares:
        return target
    corners = [(-one.left, -one.top, one.width - one.left, one.height - one.top, one.side) for one in source.squares]
    frame = torch.tensor(corners, dtype=target.pose.dtype, device=target.pose.device)
    frame = frame[:, :4] * (2 / frame[:, 4:]) - 1
    batch = max(len(source.attributes), len(frame), len(target))
    own = source.attributes.to(target.pose.device)
    return within_frame(parts.head, own, target.expand(batch), frame, log.warning)


def _of_persons(found: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The shares of persons before and after, by chunks, for MovedPhoto."""
    if not found:
        return {}
    before, after = (torch.cat(shares) for shares in zip(*found, strict=True))
    return {"person_before": before[:1] if len(found[0][0]) == 1 else before, "person_after": after}


def _serves_all(faces: Faces, target: FaceAttributes) -> bool:
    """Whether one preparation serves all targets: one photograph, and references that are seen by one camera."""
    assert faces.attributes is not None
    state = None if faces.slots is None else swapped(faces)
    taken = () if state is None else state.taken
    rows = [len(faces), len(faces.attributes), *([] if state is None else [len(state.tokens)]), *(len(one.reference) for one in taken)]
    return max(rows) == 1 and (not taken or bool((target.camera == target.camera[:1]).all()))


def _with_references(parts: Parts, faces: Faces) -> Faces:
    """The faces, with the attributes of the references whose photographs are taken, and of those that a reference took from."""
    if parts.carry_options is None or not any(swap.photo for swap in faces.swaps):
        return faces
    known: dict[int, Faces] = {}  # one face may give several regions
    for reference in (one.reference for one in faces.swaps if one.photo):
        if id(reference) not in known:
            named = with_attributes(parts, replace(reference, name="reference"))
            known[id(reference)] = _with_references(parts, named)
    return replace(faces, swaps=tuple(replace(one, reference=known.get(id(one.reference), one.reference)) for one in faces.swaps))


def _batch(edit: Edit, faces: Faces) -> int:
    """How many rows an edit has. Raises ImageError."""
    assert faces.attributes is not None
    sizes = {"image": len(faces), "source": len(faces.attributes), "target": len(edit.target), "crop": len(faces.inside_picture)}
    return common_batch(sizes if faces.slots is None else sizes | {"slots": len(swapped(faces).tokens)})


def _not_carried(parts: Parts, faces: Faces, pictures: Tensor, target: FaceAttributes, unchanged: Tensor) -> MovedPhoto:
    """The squares as they are, of which only what swaps by tokens leave in place is known."""
    assert faces.attributes is not None
    batch = len(pictures)
    own = faces.attributes.to(target.shape.device).expand(batch)
    carried = nothing_carried(pictures)
    state = None if faces.slots is None else swapped(faces)
    if state is not None and state.redraw is not None:
        inside = expanded(faces.inside_picture.to(pictures), batch)
        kept = _kept(parts, own, expanded(state.redraw, batch).to(pictures), parts.image_size) * inside
        carried = replace(carried, validity=kept * _equal_rows(own, target)[:, None, None, None])
    return _moved([carried], torch.ones_like(carried.validity), parts.image_size, unchanged)


def _kept(parts: Parts, own: FaceAttributes, redraw: Tensor, side: int) -> Tensor:
    """The share of the pixels of faces (b) that a swap by tokens leaves: (b,1,side,side); redraw (b,1,h,w)."""
    head = parts.head
    face = head.skin_mask(render(head, own, side).raster)[:, None]
    return kept_pixels(redraw, face, (side, side))


def _prepared_reference(parts: Parts, reference: Faces, camera: Tensor, canvas: Canvas, batch: int, rows: slice) -> SwapReference:
    """Some rows of a reference, prepared for the targets' camera, on a canvas like the source's."""
    assert reference.attributes is not None
    assert reference.slots is not None
    theirs = Canvas.of(reference, canvas.side, canvas.margin, batch, rows)
    pictures, inside = native_rows(reference, theirs.side, batch, rows, theirs.margin)
    own = theirs.attributes(reference.attributes.expand(batch)[rows])
    alone = _alone(parts, reference, Apart(pictures, inside), own, theirs, batch, rows)
    assert alone.layers is not None
    options = options_on(theirs, parts.carry_options)
    return SwapReference.of(alone.image, alone.inside, own, camera, parts.head, alone.layers, options, theirs.side)


def _details(faces: Faces, givers: list[tuple[Carried, ...]], shares: Tensor, side: int) -> tuple[ReferenceDetail, ...]:
    """For pasting: the references as they were carried, by chunks; shares (B,1+R,N,N). Squares without a picture around them have no
    finer detail to lend."""
    found = []
    for number, one in enumerate(swapped(faces).taken if faces.slots is not None else ()):
        if one.reference.original is not None:
            maps = _maps([chunk[number] for chunk in givers], side)
            found.append(ReferenceDetail(one.reference, *maps, resize(shares[:, number + 1 : number + 2], side, "bilinear")))
    return tuple(found)


def _moved(carried: list[Carried], owner_share: Tensor, side: int, unchanged: Tensor) -> MovedPhoto:
    """Carried chunks as one batch, with their maps at the side of the squares."""
    image, validity = (torch.cat([getattr(one, name) for one in carried]) for name in ("image", "validity"))
    return MovedPhoto(image, validity, *_maps(carried, side), resize(owner_share, side, "bilinear"), unchanged)


def _maps(carried: list[Carried], side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Offset, light ratio and alpha of carried chunks (B,2 or 3 or 1,side,side)."""
    offset, ratio, alpha = (resize(torch.cat([getattr(one, name) for one in carried]), side, "bilinear") for name in MAPS)
    return offset * (side / carried[0].image.shape[-1]), ratio, alpha


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
