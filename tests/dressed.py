"""Heads with a cap of hair and clothes, each of one colour, and what they show where."""

from __future__ import annotations

import torch
from torch import Tensor

from difffae.common.pixels import dilate
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.person.prepared import prepare
from difffae.source.regions import Layers
from difffae.swap.region_parts import FaceAreas, Parts
from difffae.swap.region_sources import source_parts

SIZE = 192


def dressed(head: HeadModel, face: FaceAttributes, hair: Tensor, cloth: Tensor, behind: Tensor, cap: int = 25) -> tuple[Tensor, Layers]:
    """A head with a cap of hair of one colour (3,) around its scalp and clothes of another, before a background (1,3,S,S)."""
    drawn = render(head, face, SIZE)
    mesh = drawn.mask.float()
    scalp, body = (head.part_mask(drawn.raster, name)[:, None].float() for name in ("scalp", "shoulders"))
    head_only = mesh * (1 - body)
    covered = dilate(scalp, cap) * (1 - head.part_mask(drawn.raster, "neck", "face", "ears")[:, None].float()) * (1 - body)
    worn = (mesh * body).maximum(covered * 0)
    image = behind * (1 - mesh) + drawn.image.clamp(0, 1) * mesh
    image = torch.lerp(image, cloth[:, None, None].expand_as(image), worn)
    image = torch.lerp(image, hair[:, None, None].expand_as(image), covered)
    someone = head_only.maximum(covered).maximum(worn)
    return image, Layers(someone, someone, covered.maximum(worn), covered)


GREY = torch.full((1, 3, SIZE, SIZE), 0.5)
BROWN, RED, BLUE, GREEN = (torch.tensor(c) for c in ([0.25, 0.15, 0.08], [0.7, 0.1, 0.1], [0.1, 0.15, 0.6], [0.1, 0.6, 0.2]))


def parts(head: HeadModel, face: FaceAttributes, image: Tensor, layers: Layers) -> tuple[Parts, FaceAreas]:
    prepared = prepare(image, face, head, torch.ones_like(image[:, :1]), layers)
    areas = FaceAreas.of(head, face, image)
    return source_parts(prepared, prepared.move(face), areas), areas
