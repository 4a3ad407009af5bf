"""Squares at the photograph's own resolution: the model sees a face at its own size, the photograph is moved pixel by pixel.

Hats and much hair go on beyond a square. Then the photograph is moved on a wider canvas: the square with a margin on every side.

Shape letters: B faces, b some of them, S side of the squares, N side of the same squares in the photograph's own pixels, M margin of a
canvas in these pixels (0 without one) and C = N + 2 M its side, K slots, h and w sides of the slot masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.options import CarryOptions
from ..common.batches import expanded
from ..faces.crop import FaceCrop, extract
from ..head.attributes import FaceAttributes
from .description import MARGIN, Faces, Parts, SlotTokens

SMALLEST = 256  # pixels: smaller squares are enlarged, since moving pixels costs a little of their sharpness
LARGEST = 512  # what larger squares hold of finer detail is moved apart (compositing.native_detail)
# share of the border of a square that the person must come up to, and how near (a share of the side), so that there is something to save
LEAST_CUT = 0.02
SHOULDERS_AT = 0.6  # of a square's height: below there, shoulders may leave it
JOIN = 0.03  # of the side: width within which what was said of a square goes over into what was said of its canvas
# of CarryOptions: lengths that are shares of the side, or of the head as the camera sees it
LENGTHS = (
    *("reach", "hair_reach", "motion_blur", "light_reach", "matte_light_reach", "light_border", "body_border", "light_blur"),
    *("collar_blur", "eye_margin", "eye_blur", "hair_light_blur", "body_reach", "body_edge", "highlight_reach"),
    *("highlight_blur", "depth_tolerance", "mesh_edge", "closing", "line", "fill_blur", "plain_reach", "nape_hair"),
)


def native_side(faces: Faces) -> int:
    """The side at which squares are moved, one for all rows: an even number of pixels from SMALLEST to LARGEST.

    Squares without a photograph around them have the model's size alone.

    >>> import torch
    >>> from difffae.edit.description import Faces
    >>> from difffae.faces.crop import FaceCrop
    >>> square = FaceCrop(left=100, top=50, side=412, height=1000, width=800)
    >>> native_side(Faces(torch.zeros(1, 3, 256, 256), torch.ones(1, 1, 256, 256), (square,), torch.zeros(1, 3, 1000, 800)))
    412
    """
    size = faces.picture.shape[-1]
    if faces.original is None or not faces.squares:
        return size
    side = max(square.side for square in faces.squares)
    return min(max(side + side % 2, SMALLEST), LARGEST)


def with_photograph(faces: Faces, crop: Faces, tolerance: float = 2 / 255) -> Faces:
    """Faces with the photograph that their squares were cut from, so that they are moved in its own pixels.

    Args:
        faces: squares of which the origin is not known.
        crop: the squares as they were cut.
        tolerance: largest difference of squares that nobody has worked on; 16-bit numbers round.

    Returns:
        the faces themselves if their squares were worked on since: then the photograph no longer shows what they do.
    """
    own, now = crop.picture.to(faces.picture), faces.picture
    if crop.original is None or own.shape[1:] != now.shape[1:] or len(own) not in (1, len(now)) or (own - now).abs().max() > tolerance:
        return faces
    # the squares as they were cut, bit for bit
    was = {name: getattr(crop, name) for name in ("squares", "original", "gaps", "turns", "transparency")}
    return replace(faces, picture=own.expand_as(now), **was)


def canvas_margin(faces: Faces, side: int, givers: Sequence[Faces] = ()) -> int:
    """M: how far photographs whose squares have N = `side` pixels are to be moved beyond them, one for all rows; 0: not at all.

    A margin is needed where the person's upper part comes up to the border of a square and the picture goes on there, and where hair
    does that is taken from others (givers), or away for it: that falls below the square, too.
    """
    slots = faces.slots
    if faces.original is None or not faces.squares or slots is None or slots.matte is None or "background" not in slots.order:
        return 0
    person = slots.matte[:, 0] > 0.5
    upper = person[:, : round(SHOULDERS_AT * person.shape[-2])]
    near = max(1, round(LEAST_CUT * person.shape[-1]))  # strands reach farther than the matte
    sides = person[:, :near].any(1), upper[..., :near].any(2), upper[..., -near:].any(2)
    cut = torch.stack([part.float().mean(1) > LEAST_CUT for part in sides]).cpu()
    beyond = torch.tensor([[one.top > 0, one.left > 0, one.left + one.side < one.width] for one in faces.squares]).T
    below = any(one.top + one.side < one.height for one in faces.squares)
    falls = below and bool(givers) and any(_reaches_down(one) for one in (faces, *givers))
    return round(MARGIN * side) if falls or bool((cut & beyond).any()) else 0


def _reaches_down(faces: Faces) -> bool:
    """Whether hair comes down to the lower border of a square."""
    hair = None if faces.slots is None else faces.slots.hair
    if hair is None:
        return False
    near = max(1, round(LEAST_CUT * hair.shape[-1]))
    return bool(((hair[:, 0, -near:] > 0.5).any(1).float().mean(1) > LEAST_CUT).any())


def widened(square: FaceCrop, side: int, margin: int) -> FaceCrop:
    """A square of N = `side` pixels with a margin on every side, in whole pixels of the picture too: exact where N is the square's own
    side or its quarter is a whole number, else within half a pixel of the picture."""
    around = round(square.side * margin / side)
    return replace(square, left=square.left - around, top=square.top - around, side=square.side + 2 * around, size=side + 2 * margin)


def native_rows(faces: Faces, side: int, batch: int, rows: slice = slice(None), margin: int = 0) -> tuple[Tensor, Tensor]:
    """Some rows of squares at another side, cut from their photographs again.

    Args:
        faces: of 1 or B rows.
        side: N.
        batch: B.
        rows: which of the B.
        margin: M.

    Returns:
        pictures (b,3,C,C), and where they show the photograph (b,1,C,C).
    """
    size, count = faces.picture.shape[-1], len(range(batch)[rows])
    if (side == size and not margin) or faces.original is None or not faces.squares:
        pictures, inside = expanded(faces.picture, batch)[rows], expanded(faces.inside_picture.to(faces.picture), batch)[rows]
        pictures, inside = resize(pictures, side).clamp(0, 1), resize(inside, side, "bilinear")
        return (padded(pictures, margin), padded(inside, margin, 0.0)) if margin else (pictures, inside)
    # one photograph and one square serve all rows
    alike = len(faces.original) == len(faces.squares) == 1
    cut = []
    for row in [0] if alike else range(batch)[rows]:
        cut.append(extract(faces.picture_around(row).to(faces.picture), widened(faces.square(row), side, margin)))
    pictures, inside = torch.cat([picture for picture, _ in cut]), torch.cat([known for _, known in cut])
    return expanded(pictures, count), expanded(inside, count)


@dataclass(frozen=True, eq=False)
class Canvas:
    """Where some rows of squares lie on their wider canvases.

    side    N
    margin  M, 0 without a canvas: then everything stays as it is, bit for bit
    zoom    (b or 1,) sides of the squares as shares of those of the canvases
    """

    side: int
    margin: int
    zoom: Tensor

    @classmethod
    def of(cls, faces: Faces, side: int, margin: int, batch: int, rows: slice) -> Canvas:
        """Canvases of some rows of `batch`; faces of as many rows, or of one."""
        shares = torch.full((1,), side / (side + 2 * margin))
        if margin and faces.original is not None and faces.squares:
            shares = torch.tensor([one.side / widened(one, side, margin).side for one in faces.squares])
            shares = shares if len(shares) == 1 else expanded(shares, batch)[rows]
        return cls(side, margin, shares.to(faces.picture))

    @property
    def width(self) -> int:
        """C."""
        return self.side + 2 * self.margin

    def attributes(self, face: FaceAttributes) -> FaceAttributes:
        """Numbers of the squares' faces (b or 1) as the canvases show them: the same heads, smaller in a larger picture."""
        return replace(face, camera=self.camera(face.camera)) if self.margin else face

    def camera(self, camera: Tensor) -> Tensor:
        """The same of cameras (b or 1,3) alone: p = s (x + t) with the middle of both pictures at 0."""
        if not self.margin:
            return camera
        scale = camera[:, :1] * self.zoom.to(camera)[:, None]
        return torch.cat([scale, camera[:, 1:].expand(len(scale), -1)], 1)

    def points(self, points: Tensor, size: int) -> Tensor:
        """Points (b or 1,P,3) in pixels of squares of S = `size` pixels -> in pixels of the canvases."""
        if not self.margin:
            return points * (self.side / size)
        centred = (points - points.new_tensor([size / 2, size / 2, 0])) * (self.zoom.to(points)[:, None, None] * (self.width / size))
        return centred + points.new_tensor([self.width / 2, self.width / 2, 0])

    def slots(self, parts: Parts, slots: SlotTokens, pictures: Tensor, batch: int, rows: slice) -> SlotTokens:
        """The same rows of slots of B squares, which know nothing but background beyond them; who is a person there says the matte.

        pictures: (b,3,C,C).
        """
        assert slots.masks is not None
        masks = expanded(slots.masks, batch)[rows].to(pictures)
        beyond = self.cells(torch.zeros_like(masks[:, 0]), 1.0)
        masks = self.cells(masks)
        masks[:, slots.order.index("background")] += beyond
        matte = hair = None
        if slots.matte is not None and parts.matte is not None:
            matte = self.joined(resize(expanded(slots.matte, batch)[rows].to(pictures), self.side, "bilinear"), parts.matte(pictures))
        if slots.hair is not None and parts.hair is not None:
            hair = self.joined(resize(expanded(slots.hair, batch)[rows].to(pictures), self.side, "bilinear"), parts.hair(pictures))
        return SlotTokens(slots.tokens, masks, slots.order, matte, hair)

    def cells(self, values: Tensor, beyond: float = 0.0) -> Tensor:
        """Maps of squares (b,...,h,w) at a coarse scale as maps of the canvases, with one value beyond the squares."""
        return padded(values, round(MARGIN * values.shape[-1]), beyond) if self.margin else values

    def joined(self, inner: Tensor, whole: Tensor) -> Tensor:
        """What was said of squares (b,c,N,N) within what was said of their canvases (b,c,C,C)."""
        return torch.lerp(whole, padded(inner, self.margin), ramp(inner, self.margin))


def padded(values: Tensor, margin: int, value: float | None = None) -> Tensor:
    """(b,c,n,n) with a margin on every side, of one value, or of the border's."""
    if value is None:
        return F.pad(values, (margin,) * 4, mode="replicate")
    return F.pad(values, (margin,) * 4, value=value)


def ramp(inner: Tensor, margin: int) -> Tensor:
    """(1,1,n+2m,n+2m): how far squares (b,c,n,n) count on a canvas with a margin m: 0 outside, rising to 1 within JOIN of their border."""
    side = inner.shape[-1]
    place = torch.arange(side, device=inner.device, dtype=inner.dtype) + 0.5
    rise = (torch.minimum(place, side - place) / max(1.0, JOIN * side)).clamp(max=1)
    return padded(torch.minimum(rise[:, None], rise[None])[None, None], margin, 0.0)


def options_on(canvas: Canvas, options: CarryOptions | None) -> CarryOptions | None:
    """The options with the lengths that they have in the squares: on a canvas these are smaller shares of the side."""
    if not canvas.margin or options is None:
        return options
    return replace(options, **{name: getattr(options, name) * (canvas.side / canvas.width) for name in LENGTHS})


def resize(values: Tensor, side: int, mode: str = "bicubic") -> Tensor:
    """(B,C,h,w) -> (B,C,side,side), anti-aliased; values of that size are returned as they are."""
    if tuple(values.shape[-2:]) == (side, side):
        return values
    return F.interpolate(values, (side, side), mode=mode, antialias=True, align_corners=False)


@dataclass(frozen=True, eq=False)
class _WithOptions:
    """A model that moves photographs by other options; all else is the model's."""

    model: Parts
    carry_options: CarryOptions | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def steady(model: Parts, turned: bool = True) -> Any:
    """A model whose backgrounds are the same from frame to frame.

    Args:
        model: the model.
        turned: whether heads are turned. Else little of what is behind them comes into view, and it is made up without its structure.

    Returns:
        the model with other options; itself if it moves no photographs.
    """
    own = model.carry_options
    return model if own is None else _WithOptions(model, replace(own, still_background=True, structure=own.structure and turned))
