"""The two sides of a swap by photograph, each prepared once for many targets: the source whose hair
is replaced, and the reference that lends its own.

The reference is carried as the source is, to the target's head: its hair onto that head, in that light.

Shape letters: B batch, H and W picture sides. Positions are x right, y down, in -1..1 over the
picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.options import CarryOptions
from ..common.errors import ConfigError
from ..common.pixels import flow_grid, gather, nearest_inside, pixel_grid
from ..common.rows import repeat_rows
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..person.prepared import Carried, Prepared, prepare
from ..source.regions import Layers
from .region_parts import TAKEN, TAKEN_AWAY, FaceAreas, Parts, moved_shares, refined


@dataclass(frozen=True, eq=False)
class SwapSource:
    """What a swap needs to know of its source alone, worked out once for all targets.

    Attributes:
        layers: of the source, refined by its colours.
    """

    layers: Layers

    @classmethod
    def of(cls, prepared: Prepared, side: int | None = None) -> SwapSource:
        """Of photographs that were prepared with layers, with a square of some side around the face; None: they are that square. Raises
        ConfigError for others."""
        if prepared.person is None:
            raise ConfigError("swap: the source was prepared without layers, which say where its regions are; give layers")
        layers = prepared.person.layers
        areas = FaceAreas.of(prepared.head, prepared.face, prepared.image, side)
        return cls(refined(prepared.image, layers, areas, TAKEN_AWAY))

    def parts(self, carried: Carried, areas: FaceAreas) -> Parts:
        """What the moved source shows where.

        Args:
            carried: the source, moved.
            areas: of the head where it is now.
        """
        mine = repeat_rows(self, len(carried.image)) if len(self.layers.hair) == 1 else self
        return Parts(carried, moved_shares(carried, mine.layers, areas), carried.own_share)


def source_parts(prepared: Prepared, carried: Carried, areas: FaceAreas) -> Parts:
    """What a moved source shows where. For several targets of one source, keep a `SwapSource`.

    Args:
        prepared: the source, prepared with layers.
        carried: the same, moved.
        areas: of the head where it is now.

    Raises:
        ConfigError: for a source without layers.
    """
    return SwapSource.of(prepared).parts(carried, areas)


@dataclass(frozen=True, eq=False)
class SwapReference:
    """A reference that was prepared for a camera, to be moved to targets that this camera sees.

    Attributes:
        prepared: the reference as the camera would see it.
        layers: of that, refined by their colours.
        grid: (B,H,W,2) where the reference's picture shows what the camera sees, -1..1.
        inside: (B,1,H,W) 1 where it does.
    """

    prepared: Prepared
    layers: Layers
    grid: Tensor
    inside: Tensor

    @classmethod
    def of(
        cls,
        picture: Tensor,
        inside_picture: Tensor,
        own: FaceAttributes,
        camera: Tensor,
        head: HeadModel,
        layers: Layers,
        options: CarryOptions | None = None,
        side: int | None = None,
    ) -> SwapReference:
        """Prepare a reference.

        Args:
            picture: (B,3,H,W) RGB 0..1.
            inside_picture: (B,1,H,W) validity of the picture itself.
            own: B faces, the picture's attributes.
            camera: (B,3) or (1,3) of the targets.
            head: the head model.
            layers: of the picture.
            options: how to move it; its expressions are never stretched.
            side: of the square around the face; None: the picture is that square.
        """
        o = replace(options or CarryOptions(), stretch_expression=False, eyes=False)
        layers = refined(picture, layers, FaceAreas.of(head, own, picture, side), TAKEN)
        # shoulders follow the camera all over, which a move does only near the head
        grid, inside = _aligned(inside_picture, own.camera, camera)
        aligned = F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)
        layers = layers.map(lambda layer: F.grid_sample(layer, grid, padding_mode="border", align_corners=False))
        there = replace(own, camera=camera.expand_as(own.camera))
        # where its border goes on it is a guess, but a guess of hair or cloth, not of skin
        return cls(prepare(aligned, there, head, None, layers, o), layers, grid, inside)

    def move(self, target: FaceAttributes, areas: FaceAreas) -> Parts:
        """The reference at a target's head, in its light.

        Args:
            target: as many faces as references, or one for all of them; one reference may get many.
                Their camera is that which the reference was prepared for.
            areas: of the target's head.

        Raises:
            ConfigError: for another camera.
        """
        mine = repeat_rows(self, len(target)) if len(self.inside) == 1 else self
        o, camera = mine.prepared.options, mine.prepared.face.camera
        if not torch.equal(target.camera.expand_as(camera), camera):
            raise ConfigError("reference: was prepared for another camera than the target's; prepare it for this one")
        carried = mine.prepared.move(target)
        shares = moved_shares(carried, mine.layers, areas)
        # from here on the offset is that to the picture itself, for detail that is finer than the
        # crop's
        (height, width), grid = mine.prepared.size, flow_grid(carried.offset_to_source)
        whole = F.grid_sample(mine.grid.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
        seen = F.grid_sample(mine.inside, grid, padding_mode="zeros", align_corners=False)
        half = whole.new_tensor([width / 2, height / 2])
        carried = replace(
            carried,
            offset_to_source=((whole - pixel_grid(height, width, whole)) * half).permute(0, 3, 1, 2),
            validity=carried.validity * (o.guess_validity + (1 - o.guess_validity) * seen),
        )
        return Parts(carried, shares, carried.own_share)


def reference_parts(
    picture: Tensor,
    inside_picture: Tensor,
    own: FaceAttributes,
    target: FaceAttributes,
    areas: FaceAreas,
    head: HeadModel,
    layers: Layers,
    options: CarryOptions | None = None,
) -> Parts:
    """A reference at a target's head, in its light. For several targets under one camera, keep a
    `SwapReference`.

    Args:
        picture: (B,3,H,W) RGB 0..1, the reference.
        inside_picture: (B,1,H,W) validity of the picture itself.
        own: B faces, its attributes.
        target: B faces.
        areas: of the target's head.
        head: the head model.
        layers: of the reference.
        options: how to move it; its expressions are never stretched.
    """
    return SwapReference.of(picture, inside_picture, own, target.camera, head, layers, options).move(target, areas)


def _aligned(inside_picture: Tensor, own: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where a picture shows what another camera would see.

    Args:
        inside_picture: (B,1,H,W) validity of the picture; beyond it the picture's border goes on.
        own: (B,3) camera of the picture.
        wanted: (B,3) or (1,3) the other camera.

    Returns:
        grid (B,H,W,2) of positions in the picture, -1..1, and whether it shows it (B,1,H,W), 0 or
        1.
    """
    scale, x, y = own[:, None, None].unbind(-1)
    scale_t, x_t, y_t = wanted.expand_as(own)[:, None, None].unbind(-1)
    right, down = pixel_grid(inside_picture.shape[-2], inside_picture.shape[-1], inside_picture).unbind(-1)
    # p = s (x + tx, y + ty), y up
    grid = torch.stack([scale * (right / scale_t - x_t + x), scale * (down / scale_t + y_t - y)], dim=-1)
    inside = (F.grid_sample(inside_picture, grid, padding_mode="zeros", align_corners=False) > 0.99).to(inside_picture)
    index = nearest_inside(inside[:, 0] > 0)[0]
    return gather(grid.permute(0, 3, 1, 2), index).permute(0, 2, 3, 1), inside
