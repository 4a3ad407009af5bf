"""Regions of references in a carried photograph, after Swap Slots.

Shape letters: B frames, C crop side in pixels, K photographs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..difffae.carry.prepared import Carried, Prepared
from ..difffae.carry.region_parts import FaceAreas, Parts
from ..difffae.carry.region_sources import reference_parts, source_parts
from ..difffae.carry.region_transfer import take_regions
from ..difffae.head.attributes import FaceAttributes
from .analysis import as_crop, estimate
from .bundle import Bundle
from .frames import frames
from .sockets import Borrowed, Crop, Taken, Tokens
from .tokens import layers_of


@dataclass(frozen=True, eq=False)
class Reference:
    """A portrait of which regions were taken, with its numbers; every part of 1 or B frames."""

    taken: Taken
    crop: Crop
    attributes: FaceAttributes

    def carried(self, bundle: Bundle, target: FaceAttributes, areas: FaceAreas, batch: int, part: slice) -> Parts:
        """Some of its frames, carried to the targets (of these frames alone)."""
        pictures, known = (frames(values, batch)[part] for values in (self.crop.picture, self.crop.known.to(self.crop.picture)))
        shows = layers_of(self.taken.reference, frames(self.crop.picture, batch), part)
        return reference_parts(pictures, known, self.attributes.expand(batch)[part], target, areas, bundle.head, shows)


def references(bundle: Bundle, slots: Tokens | None, like: Tensor) -> list[Reference]:
    """What the swaps of `slots` took, with the faces found; like: a tensor on the device to work on. Raises NoFaceError, ImageError."""
    found = []
    for taken in () if slots is None else slots.taken:
        assert taken.reference.photo is not None
        crop = as_crop(bundle, taken.reference.photo.to(like), taken.reference.crop, "reference")
        found.append(Reference(taken, crop, estimate(bundle, crop)))
    return found


def with_references(
    bundle: Bundle,
    carried: Carried,
    prepared: Prepared,
    target: FaceAttributes,
    taken: list[Reference],
    batch: int,
    part: slice,
) -> tuple[Parts, list[Carried]]:
    """Some frames of a carried photograph with the regions of references, and these as they were carried.

    prepared: the photograph, with layers; target attributes: of the frames `part` of B = batch.
    """
    areas = FaceAreas.of(bundle.head, target, prepared.image)
    mixed = source_parts(prepared, carried, areas)
    givers = []
    for reference in taken:
        parts = reference.carried(bundle, target, areas, batch, part)
        mixed = take_regions(mixed, parts, reference.taken.regions, areas, reference.taken.strength)
        givers.append(parts.carried)
    return mixed, givers


def borrowed(taken: list[Reference], givers: list[list[Carried]], whose: Tensor) -> tuple[Borrowed, ...]:
    """For Paste Back: what `with_references` gave for all parts of a batch; whose (B,K,C,C). References that are squares without a
    larger original have no finer detail to lend."""
    lent = []
    for number, reference in enumerate(taken):
        if reference.crop.original is None:
            continue
        names = ("offset_to_source", "light_ratio", "person_alpha")
        flow, ratio, front = (torch.cat([getattr(part[number], name) for part in givers]) for name in names)
        share = whose[:, number + 1 : number + 2]
        lent.append(Borrowed(reference.crop.squares, reference.crop.original, flow, ratio, front, share))
    return tuple(lent)


def weighted(one: Borrowed, weight: Tensor) -> Borrowed:
    """As shown in a picture where the carried photograph counts by weight (B,1,C,C)."""
    return replace(one, whose=one.whose.to(weight) * weight)
