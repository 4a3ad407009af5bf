"""What the passes of a move share: the source, worked out once, and one move under way.

Shape letters: B batch, C channels, V vertices, N vertices of the face's skin, A directions around the head, H and W picture height and
width. Positions are x right, y down, in -1..1 over the picture; offsets are in pixels (x right, y down).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import flow_length, nearest_inside, relit
from ..common.rows import Later
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel, labelled
from ..head.rasterizer import Raster
from ..source.regions import Layers
from .options import CarryOptions

if TYPE_CHECKING:
    from .head_map import Completed, HeadMap
    from .light import Body
    from .motion import Bend


@dataclass(frozen=True, eq=False)
class PosedHead:
    """The head model with its hair, posed and projected.

    points   (B,V,3) projected vertices, x right and y down in -1..1, z smaller = nearer
    normals  (B,V,3) of the vertices, unit vectors
    raster   which face shows at each pixel
    labels   (B,H,W) int8 index into the head model's LABELS, -1 beside the mesh
    """

    points: Tensor
    normals: Tensor
    raster: Raster
    labels: Tensor

    @cached_property
    def mesh(self) -> Tensor:
        """(B,1,H,W) bool: the pixels that the head covers."""
        return self.raster.mask[:, None]

    @cached_property
    def shoulders(self) -> Tensor:
        """(B,H,W) bool: the pixels that show the head model's shoulders."""
        return self.part("shoulders")[:, 0]

    def part(self, *names: str) -> Tensor:
        """(B,1,H,W) bool: the pixels that show parts of these names."""
        return labelled(self.labels, *names)[:, None]

    @property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """Flat index (B,H,W) of the nearest pixel of the mesh, and the distance (B,H,W) to it in pixels."""
        return self._nearest[0]

    @property
    def nearest_above(self) -> tuple[Tensor, Tensor]:
        """The same of the mesh above the shoulders."""
        return self._nearest[1]

    @property
    def nearest_shoulders(self) -> tuple[Tensor, Tensor]:
        """The same of the shoulders; of the mesh where none are in sight."""
        return self._nearest[2]

    @cached_property
    def _nearest(self) -> list[tuple[Tensor, Tensor]]:
        mesh = self.raster.mask
        some = self.shoulders.flatten(1).any(1)[:, None, None]
        # searched together, which costs little more than one of them
        masks = torch.cat([mesh, mesh & ~self.shoulders, torch.where(some, self.shoulders, mesh)])
        return list(zip(*(found.chunk(3) for found in nearest_inside(masks)), strict=True))


@dataclass(frozen=True, eq=False)
class Skin:
    """The photograph on the vertices of the head.

    colours    (B,N,3) RGB 0..1 of the face's skin
    area       (B,N) how much of the picture each of these stands for, in any unit; next to 0 for vertices that face away from the camera or
               lie beside the picture
    brightest  (B,V,1) value of the brightest channel around every vertex of the head
    """

    colours: Tensor
    area: Tensor
    brightest: Tensor


@dataclass(frozen=True, eq=False)
class Outline:
    """The head's outline in a picture, around the middle of its skull.

    middle  (B,1,2) position of the skull's middle, -1..1
    turn    (B,1) radians by which the head is turned in the plane of the picture, clockwise
    reach   (B,A) how far the head reaches in each direction, in units of half the side; direction 0 is up, clockwise
    """

    middle: Tensor
    turn: Tensor
    reach: Tensor


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The picture as if the person were not in it.

    place     (B,1,H,W) 1 where the person or its outline was
    filled    (B,3,H,W) the picture, with that place filled by the colours around
    wall      (B,1,1,1) how far the background is one plain wall
    validity  (B,1,H,W) how far the filled colours can be trusted
    lines     (B,1,1,1) how much straight lines stand out in the background around the person
    """

    place: Tensor
    filled: Tensor
    wall: Tensor
    validity: Tensor
    lines: Tensor


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of the source that move with its pixels, each (B,1,H,W) in 0..1 but for the colours.

    Attributes:
        light: how far a change of light may change the pixel.
        matte: share of the person.
        body: share of what moves with the head; the rest of the person rests on the shoulders.
        firm: the same, away from its outline.
        standing_out: hair, hats and clothes beside the mesh.
        hanging: clothes, and hair below the lobes of the ears.
        resting: what rests on the shoulders.
        hair: hair and hats, where the photograph shows anything.
        colours: (B,3,H,W) of what moves with the head, going on beyond it.
    """

    light: Tensor
    matte: Tensor
    body: Tensor
    firm: Tensor
    standing_out: Tensor
    hanging: Tensor
    resting: Tensor
    hair: Tensor
    colours: Tensor

    def carried_along(self, grid: Tensor) -> Maps:
        """The maps where the source's pixels have gone.

        Args:
            grid: (B,H,W,2) source positions of the target's pixels.
        """
        maps = [getattr(self, field.name) for field in fields(self)]
        moved = F.grid_sample(torch.cat(maps, dim=1), grid, padding_mode="border", align_corners=False)
        return Maps(*moved.split([one.shape[1] for one in maps], dim=1))


@dataclass(frozen=True, eq=False)
class PersonSource:
    """What the source's layers tell: the person apart from the background.

    Attributes:
        layers: what the image shows where, as it was given.
        maps: what moves with the head.
        hanging: (B,1,H,W) 1 where clothes and hanging hair move as the shoulders do, and not as the head.
        strands: (B,1,H,W) share of hair below the lobes of the ears.
        resting: (B,3,H,W) share of what lies on the shoulders (clothes, chest) and does not turn with the head: where the picture
            shows it; before a neck, where it goes on behind the jaw; and behind all that moves.
        resting_colours: (B,3,H,W) its colours, going on beyond it.
        backdrop: what is behind the person.
        vacated: (B,1,H,W) where the background shows once the head has gone.
        own_colours: (B,3,H,W) the person's, without the background that its outline is mixed with.
        outline: of the head, or None for a head model without labels.
        own_outline: of the person around it, by the matte; None likewise.
        lips_apart: (B,1,1,1) distance of the lips, in units of half the side.
        teeth: (B,1,H,W) where the picture shows upper teeth, or None where it shows none.
        head_map: the head's colours all around, or None for a head model without labels; few moves need them.
    """

    layers: Layers
    maps: Maps
    hanging: Tensor
    strands: Tensor
    resting: Tensor
    resting_colours: Tensor
    backdrop: Backdrop
    vacated: Tensor
    own_colours: Tensor
    outline: Outline | None
    own_outline: Outline | None
    lips_apart: Tensor
    teeth: Tensor | None
    head_map: Later[HeadMap | None]


@dataclass(frozen=True, eq=False)
class EyeSource:
    """Eyes taken apart (made by `eyes.eye_source`); pairs are the subject's right and left eye.

    Lengths are widths of the eye; curves have one value per column of `eyes.EyeFrame`.

    Attributes:
        landmarks: (B,N,3) of the photographs, in their pixels.
        on_head: (B,N,3) those of the source's head.
        upper: (B,2,W) edge of the upper lid.
        lower: (B,2,W) edge of the lower lid.
        top: (B,2,W) line above which nothing moves.
        iris: (B,2,3) its middle, along and across, and its radius.
        white: (B,2,4,h,w) RGB from lid to lid, and how dark the lids make it.
        disc: (B,2,4,k,k) RGB of the iris, unshaded, and where the photograph shows it.
        look: (B,1,h,w) logarithm of a closed eye's brightness over that of the skin around it.
        open: (B,2) how far the photographs show the eyes open, 0..1.
        around: (B,V,2) how far vertices belong to each eye.
    """

    landmarks: Tensor
    on_head: Tensor
    upper: Tensor
    lower: Tensor
    top: Tensor
    iris: Tensor
    white: Tensor
    disc: Tensor
    look: Tensor
    open: Tensor
    around: Tensor


@dataclass(frozen=True, eq=False)
class Source:
    """All that a move needs to know of its source, one row per photograph.

    Attributes:
        image: (B,3,H,W) RGB 0..1.
        face: B faces, which describe the image.
        head: the head model of these numbers.
        options: how to move.
        inside_picture: (B,1,H,W) validity of the image itself, 0 where it left its photograph; None for all valid.
        hair_offsets: (B,V,3) how far hair lifts the unposed head's vertices, in the head's unit.
        offsets: (B,V,3) the same, with what fits the outline to the person's.
        posed: the source's head.
        log_shading: (B,V,3) logarithm of the light on each vertex.
        skin: the photograph on the head's vertices.
        lost_colour: (B,3,H,W) what highlights of the skin lack of its colour (`skin_tone`).
        body: the person below the head, or None without layers.
        depth: (B,1,H,W) farthest depth that the camera saw around each pixel; far below all depths beside the mesh.
        upper_teeth: numbers of the vertices of the upper teeth.
        person: what the layers tell, or None without layers.
        eyes: the eyes, taken apart, or None if the mesh moves them.
        folds: (B,1,R,R) of a smile on the head's surface, or None.
    """

    image: Tensor
    face: FaceAttributes
    head: HeadModel
    options: CarryOptions
    inside_picture: Tensor | None
    hair_offsets: Tensor
    offsets: Tensor
    posed: PosedHead
    log_shading: Tensor
    skin: Skin
    lost_colour: Tensor
    body: Body | None
    depth: Tensor
    upper_teeth: tuple[int, ...]
    person: PersonSource | None
    eyes: EyeSource | None
    folds: Tensor | None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        return self.image.shape[-2], self.image.shape[-1]

    @property
    def side(self) -> int:
        """Longer side of the picture in pixels."""
        return max(self.size)

    @property
    def validity(self) -> Tensor:
        """(B,1,H,W): `inside_picture`, or all ones."""
        return torch.ones_like(self.image[:, :1]) if self.inside_picture is None else self.inside_picture

    @property
    def unit(self) -> float:
        """1/256 of the side, in pixels."""
        return self.side / 256

    def pixels(self, share: float) -> float:
        """A length that is a share of the side, in pixels."""
        return share * self.side

    def window(self, share: float) -> int:
        """The odd number of pixels of a window that reaches so far (a share of the side) to both sides of its middle."""
        return 2 * round(share * self.side) + 1


@dataclass(frozen=True, eq=False)
class Move:
    """One move under way: where everything comes from and how it is lit.

    Attributes:
        source: what is moved.
        target: B faces, where it goes, with stretched expressions.
        posed: the target's head.
        offset: (B,2,H,W) source minus target position of every pixel, in pixels.
        resting_offset: (B,2,H,W) the same of what rests on the shoulders.
        grid: (B,H,W,2) source positions of the target's pixels, -1..1.
        seen: (B,1,H,W) how well the source's camera saw the surface point that the target shows, 0
            beside the mesh.
        fade: (B,1,H,W) 1 on the mesh, falling with the distance from it.
        light_ratio: (B,3,H,W) target light over source light.
        resting_light: (B,3,H,W) the same on what rests on the shoulders.
        maps: the source's maps, carried along; None without layers.
        still: (B,1,1,1) bool, nothing in this row moves.
        unlit: (B,1,1,1) bool, no light in this row changes.
        completed: the moved head as its map has it, or None without a map.
        bend: how turned heads are bent as one piece, or None.
    """

    source: Source
    target: FaceAttributes
    posed: PosedHead
    offset: Tensor
    resting_offset: Tensor
    grid: Tensor
    seen: Tensor
    fade: Tensor
    light_ratio: Tensor
    resting_light: Tensor
    maps: Maps | None
    still: Tensor
    unlit: Tensor
    completed: Completed | None = None
    bend: Bend | None = None

    @cached_property
    def shift(self) -> Tensor:
        """(B,1,H,W): by how many pixels each pixel moved."""
        return flow_length(self.offset)

    @cached_property
    def resting_shift(self) -> Tensor:
        """(B,1,H,W): the same of what rests on the shoulders."""
        return flow_length(self.resting_offset)

    @cached_property
    def resting_image(self) -> Tensor:
        """(B,3,H,W): the photographs where they were, in the light on what rests."""
        return relit(self.source.image, self.resting_light)

    @cached_property
    def unposed(self) -> Tensor:
        """(B,V,3): the target's vertices before posing."""
        return self.source.head.unposed(self.target.shape, self.target.expression)

    @cached_property
    def turned(self) -> Tensor:
        """(B,1,1,1): 1 where the skull itself moves by more than a few pixels, 0 where it does not: a jaw that opens is no turn."""
        return skull_turned(self.source, self.posed, self.still)

    @cached_property
    def any_turned(self) -> bool:
        """Whether any row is `turned`."""
        return bool(self.turned.any())

    @cached_property
    def all_still(self) -> bool:
        """Whether nothing moves in any row."""
        return bool(self.still.all())

    @property
    def known_maps(self) -> Maps:
        """`maps`, of a source that has them."""
        assert self.maps is not None
        return self.maps


def skull_turned(source: Source, target: PosedHead, still: Tensor) -> Tensor:
    """`Move.turned` of a source and its target's head. still: (B,1,1,1) bool, rows in which nothing moves."""
    scalp = source.head.vertex_mask("scalp")
    if not bool(scalp.any()):
        return 1 - still.to(target.points)
    moved = (source.posed.points - target.points)[:, scalp, :2].norm(dim=-1).mean(1) * 128
    return (moved / 4 - 1).clamp(0, 1)[:, None, None, None]
