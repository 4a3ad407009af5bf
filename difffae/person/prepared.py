"""A photograph moved and relit to other attributes through the two posed meshes.

Shape letters: B batch, V vertices, H and W picture height and width.

The two meshes say where every visible point of the source's skin goes, so the photograph itself can
be moved there. What the meshes cannot know (what comes to view, the inside of a newly opened mouth)
is marked by the validity and left to the diffusion model. Moving to equal attributes is the
identity, bit for bit: displacements are interpolated as differences, and light as the logarithm of
a ratio, so both are exactly zero where nothing changes.

`prepare` works out what depends on the source alone; `Prepared.move` does the rest for one target:

    prepared = prepare(picture, face, head, layers=layers)
    for target in targets:
        show(prepared.move(target).image)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.exposure import face_skin
from ..carry.expression import stretch_expression
from ..carry.hair_volume import hair_offsets, outline_offsets
from ..carry.light import body_below, chin_shade, fold_light, log_light_ratio, log_shading, smile_folds, spread_light
from ..carry.motion import (
    fading,
    follow_surface,
    moved_validity,
    pose_head,
    resting_offset,
    seen_by_source,
    seen_depth,
    spread_offset,
    turn_head,
)
from ..carry.options import CarryOptions
from ..carry.state import Move, Source, skull_turned
from ..common.pixels import flow_grid, relit
from ..common.rows import map_tensors, repeat_rows
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..source.regions import Layers
from .bending import bend, face_reshaped
from .eyes import eye_source, move_eyes, rested_eyes
from .inner_mouth import open_mouths
from .mouth import upper_teeth
from .passes import person_before_background, person_source
from .skin_tone import coloured_shade, lost_colour

GUESSED = 0.6  # validity up to which pixels may be made up (`CarryOptions`), so that the photograph's fine detail is not theirs
SEEN = 0.8  # and from which on a photograph showed them


@dataclass(frozen=True, eq=False)
class Carried:
    """A photograph that was moved and relit.

    Attributes:
        image: (B,3,H,W) RGB 0..1.
        validity: (B,1,H,W) in 0..1, how far each pixel can be trusted.
        offset_to_source: (B,2,H,W) source minus target position in pixels (x right, y down).
        light_ratio: (B,3,H,W) target light over source light.
        mesh_mask: (B,1,H,W) 1 where the target's mesh covers the pixel.
        person_alpha: (B,1,H,W) share of the moved person; the rest is background that stayed. All
            ones without layers.
        own_share: (B,1,H,W) 1 where the pixels are the photograph's own, which its fine detail fits.
    """

    image: Tensor
    validity: Tensor
    offset_to_source: Tensor
    light_ratio: Tensor
    mesh_mask: Tensor
    person_alpha: Tensor
    own_share: Tensor


@dataclass(frozen=True, eq=False)
class Prepared(Source):
    """Photographs ready to be moved (made by `prepare`)."""

    def __getitem__(self, rows: slice) -> Prepared:
        """Rows of the batch, as views."""
        return map_tensors(self, lambda tensor: tensor[rows])

    def move(self, target: FaceAttributes) -> Carried:
        """Move and relight the photographs.

        Args:
            target: as many faces as photographs, or one for all of them; one photograph may get
                many.

        Returns:
            one row per target. Where the target equals the source in every number, the photograph
            itself, bit for bit.

        Raises:
            AttributeShapeError: for other numbers of faces.
        """
        source = repeat_rows(self, len(target)) if len(self) == 1 < len(target) else self
        move = start_move(source, target)
        image = moved_image(move)
        validity = moved_validity(move)
        alpha = torch.ones_like(validity)
        if source.person is not None:
            person = person_before_background(move, image, validity)
            image, validity, alpha = person.image, person.validity, person.alpha
        # a bent neck takes its shade along
        layered = alpha.new_ones(1) if move.bend is None else 1 - move.bend.share
        if bool((layered > 0).any()):
            shade = chin_shade(source, move.target, move.posed) * layered
            image = torch.where(shade == 0, image, relit(image, shade.exp()))
        image, validity, offset, own = move_eyes(move, target.expand(len(source)), image, validity)
        image, validity, inside = open_mouths(move, image, validity)
        mesh = move.posed.mesh.to(image.dtype)
        validity = validity.clamp(0, 1)
        # where the photograph ends in the square is not for a move to say
        seen = share_seen(validity / source.validity.clamp_min(0.05))
        own = own * (1 - inside) * torch.where(move.still, 1, seen)
        return Carried(image, validity, offset, move.light_ratio, mesh, alpha, own)


def share_seen(validity: Tensor) -> Tensor:
    """0..1, how far pixels of some validity were shown by a photograph, and not made up."""
    return ((validity - GUESSED) / (SEEN - GUESSED)).clamp(0, 1)


def prepare(
    image: Tensor,
    source: FaceAttributes,
    head: HeadModel,
    inside_picture: Tensor | None = None,
    layers: Layers | None = None,
    options: CarryOptions | None = None,
    landmarks: Tensor | None = None,
) -> Prepared:
    """Work out what depends on photographs alone, to move them afterwards. Differentiable with respect to
    the image.

    Args:
        image: (B,3,H,W) RGB 0..1, even sides; crops that the source's attributes describe.
        source: B faces, or one for all photographs.
        head: the head model of these numbers.
        inside_picture: (B,1,H,W) validity of the image itself, 0 where a crop left its photograph
            and at holes of an earlier move; None for all valid.
        layers: what the image shows where. Without them light reaches only as far as the skin, and
            the background is dragged along near the head.
        options: how to move.
        landmarks: (B,478,3) of the image in its pixels, for the eyes; None takes the head's, which
            lie less exactly.

    Raises:
        AttributeShapeError: for other numbers of faces.

    >>> from difffae import Adjustments, DiffFAE, read_image
    >>> from difffae.person.prepared import prepare
    >>> from difffae.common.checkpoint import asset_path
    >>> from difffae.head.adjust import adjust
    >>> model = DiffFAE.from_pretrained("open-256")
    >>> face = model.analyse(read_image(asset_path("source.png"))[0])
    >>> prepared = prepare(face.picture, face.attributes, model.head)
    >>> target = adjust(face.attributes, Adjustments(yaw=10), model.head.expression_names)
    >>> moved = prepared.move(target)
    >>> moved.image.shape, moved.validity.shape
    (torch.Size([1, 3, 256, 256]), torch.Size([1, 1, 256, 256]))
    """
    o, face = options or CarryOptions(), source.expand(len(image))
    lifted = offsets = image.new_zeros(len(image), head.vertex_count, 3)
    if layers is not None:
        lifted = hair_offsets(head, face, head(face.shape, face.expression, face.pose), layers.hair)
        offsets = lifted + outline_offsets(head, face, lifted, layers)
    posed = pose_head(head, face, offsets, (image.shape[-2], image.shape[-1]))
    folds = smile_folds(head) if o.folds else None
    prepared = Prepared(
        image=image,
        face=face,
        head=head,
        options=o,
        inside_picture=inside_picture,
        hair_offsets=lifted,
        offsets=offsets,
        posed=posed,
        log_shading=log_shading(posed.normals, face.light, o.shading_floor),
        skin=face_skin(image, posed, head, o),
        lost_colour=lost_colour(image, posed, None if layers is None else layers.hair),
        body=None if layers is None else body_below(image, posed, face, head, layers, o),
        depth=seen_depth(posed.raster),
        upper_teeth=tuple(upper_teeth(head).nonzero()[:, 0].tolist()),
        person=None,
        eyes=eye_source(head, face, image, posed, landmarks) if o.eyes else None,
        folds=None if folds is None else folds.to(image).expand(len(image), -1, -1, -1),
    )
    return prepared if layers is None else replace(prepared, person=person_source(prepared, layers))


def start_move(source: Source, target: FaceAttributes) -> Move:
    """Where every pixel of the moved photographs comes from, and in which light.

    Args:
        source: the photographs.
        target: as many faces, or one.
    """
    o, head = source.options, source.head
    target = target.expand(len(source))
    if source.eyes is not None:
        target = rested_eyes(source.face, target, head.expression_names)
    if o.stretch_expression:
        target = stretch_expression(source.face, target, head.expression_names)
    # a head posed among others differs in its last bits from the same head posed alone, so what does
    # not change is set to zero where the numbers are equal
    still = _equal_rows(source.face, target, ("shape", "expression", "pose", "camera"))
    unlit = still & _equal_rows(source.face, target, ("light",))
    maps = None if source.person is None else source.person.maps
    bent, offset = None, torch.zeros_like(source.image[:, :2])
    resting = offset
    log_ratio = resting_light = torch.zeros_like(source.image)
    moves = not bool(still.all())
    posed = turn_head(source, target) if moves else source.posed
    ratio, body = log_light_ratio(source, posed, target)
    surface = follow_surface(source, posed, ratio)
    if moves:
        resting = torch.where(still, 0, resting_offset(source, posed, surface))
        whole = skull_turned(source, posed, still).maximum(face_reshaped(source, posed, still))
        if o.bend is not None and source.person is not None and source.person.outline is not None and bool(whole.any()):
            bent = bend(source, posed, surface, resting, whole)
        if bent is None or not bool((bent.share == 1).all()):
            offset = torch.where(still, 0, spread_offset(source, posed, surface, resting))
        if bent is not None:
            offset = torch.lerp(offset, bent.offset, bent.share)
    grid = flow_grid(offset)
    if moves and maps is not None:
        maps = maps.carried_along(grid)
    if not bool(unlit.all()):
        if bent is None or bool((bent.share < 1).any()):
            lights = spread_light(source, posed, surface, body, maps, resting, target.lamp)
        else:
            lights = torch.zeros_like(source.image), torch.zeros_like(source.image)
        if bent is not None:
            own = _own_light(source, ratio, body, target.lamp, grid, resting)
            lights = torch.lerp(lights[0], own[0], bent.share), torch.lerp(lights[1], own[1], bent.share)
        folds = fold_light(source, target, posed)
        shade = coloured_shade(source.lost_colour, lights[0], grid)
        log_ratio, resting_light = torch.where(unlit, 0, lights[0] + folds + shade), torch.where(unlit, 0, lights[1])
    return Move(
        source=source,
        target=target,
        posed=posed,
        offset=offset,
        resting_offset=resting,
        grid=grid,
        seen=seen_by_source(source, posed, surface, grid),
        fade=fading(source, surface.distance, o.reach),
        light_ratio=log_ratio.exp(),
        resting_light=resting_light.exp(),
        maps=maps,
        still=_all_zero(offset),
        unlit=_all_zero(log_ratio),
        bend=bent,
    )


def _own_light(
    source: Source, ratio: Tensor, body: Tensor | None, lamp: Tensor | None, grid: Tensor, resting: Tensor
) -> tuple[Tensor, Tensor]:
    """The light of a bent photograph (`spread_light`): every pixel takes that of its own place along, whatever the target's mesh shows
    where it goes.

    Args:
        source: the photographs.
        ratio: (B,V,3) logarithm of the light ratio on the head's vertices.
        body: the same on the body, or None.
        lamp: (B,1) how far numbers set the light, or None.
        grid: (B,H,W,2) source positions of the target's pixels.
        resting: (B,2,H,W) offset of what rests on the shoulders.
    """
    assert source.person is not None
    surface = follow_surface(source, source.posed, ratio)
    head, rest = spread_light(source, source.posed, surface, body, source.person.maps, torch.zeros_like(resting), lamp)
    head, rest = (
        F.grid_sample(one, at, padding_mode="border", align_corners=False) for one, at in ((head, grid), (rest, flow_grid(resting)))
    )
    return head, rest


def moved_image(move: Move) -> Tensor:
    """(B,3,H,W): the photographs moved and relit as a whole; rows in which nothing changes keep
    their bits.
    """
    moved = move.source.image
    if not move.all_still:
        moved = F.grid_sample(moved, move.grid, mode="bicubic", padding_mode="border", align_corners=False)
        moved = torch.where(move.still, move.source.image, moved)
    return torch.where(move.unlit & move.still, moved, relit(moved, move.light_ratio))


def _equal_rows(a: FaceAttributes, b: FaceAttributes, names: Sequence[str]) -> Tensor:
    """(B,1,1,1) bool: faces of which all the named numbers are equal."""
    pairs = ((getattr(a, name), getattr(b, name)) for name in names)
    equal = torch.stack([(one == other).flatten(1).all(1) for one, other in pairs])
    return equal.all(0)[:, None, None, None]


def _all_zero(values: Tensor) -> Tensor:
    """(B,1,1,1) bool: rows of (B,C,H,W) that are zero all over."""
    return (values.flatten(1).abs().amax(1) == 0)[:, None, None, None]


def carry(
    image: Tensor,
    source: FaceAttributes,
    target: FaceAttributes,
    head: HeadModel,
    inside_picture: Tensor | None = None,
    layers: Layers | None = None,
    options: CarryOptions | None = None,
    landmarks: Tensor | None = None,
) -> Carried:
    """`prepare` and `Prepared.move` in one, for photographs that are moved once. Arguments as
    there.
    """
    return prepare(image, source, head, inside_picture, layers, options, landmarks).move(target)


def nothing_carried(image: Tensor) -> Carried:
    """For profiles that move no photograph, as the paper's: the picture (B,3,H,W) where it was,
    none of it valid.
    """
    still, unlit, none = torch.zeros_like(image[:, :2]), torch.ones_like(image), torch.zeros_like(image[:, :1])
    return Carried(image, none, still, unlit, none, torch.ones_like(none), none)
