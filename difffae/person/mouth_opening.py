"""One mouth of a moved picture, and what its parts share: windows, the light around, ramps, colours.

Shape letters: B batch, V vertices, N landmarks, H and W picture height and width, h and w those of a window around the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import Move
from ..common.pixels import gaussian_blur, luma_of, pull_push, relit
from ..head.morphable import HeadModel
from .mouth import LOWER, OUTER_LOWER, OUTER_UPPER, UPPER, MouthFrame, edge_at

SAMPLES = 2  # by which a mouth is painted finer than the picture, for smooth edges
LIP_MARKS = tuple(dict.fromkeys(UPPER + LOWER + OUTER_UPPER + OUTER_LOWER))
FARTHEST = 0.12  # of lips from those of a fit, in widths of the mouth
CORNER = 0.045, 0.15  # radius of an opening's corners: the most, and as a share of the opening
PARTS = 0.03, 0.1  # growth of an opening, in the same, from which, and up to which, lips are the photograph's own and not the mesh's
# --- the light around a mouth ---
SKIN_LIGHT = 0.6  # luma of skin for which colours are given
TEETH, TEETH_TINT = 0.92, (1.12, 0.97, 0.885)  # luma of teeth there, and their colour over it in white light
BRIGHTEST = 1.08  # of teeth, beside bright parts of the skin
SHADE = 0.85, 1.05, 1.15  # powers of shade on teeth in red, green and blue
WHITE = 0.92  # most of it
OWN, LEAST_OWN = 0.75, 12  # quantile of a photograph's own teeth, and pixels from which they tell
MOST_FLESH = 1.4  # of what is given for flesh, beside the luma of teeth
SKIN_HUE = (1.27, 0.93, 0.83)  # colour of skin over its luma in white light
TAKES = 0.3, 0.5  # powers of the light's tint that teeth, and wet flesh, take
COLOURLESS = 0.06, 0.14  # of skin: differences of its channels over its luma that only a picture without colours shows


@dataclass(frozen=True, eq=False)
class Opening:
    """One mouth of a moved picture, in a window around it, at SAMPLES times the window's resolution (h,w).

    rows, columns  of the window
    frame, own     the mouth now, and in the photograph
    places         (h,w,2) in pixels
    along, down    (h,w) in widths of the mouth
    below, above   (h,w) distance from the upper lip downwards, and from the lower lip upwards, in widths
    inside         (h,w) distance from the nearer lip, negative outside
    alpha          (h,w) share of the opening
    teeth          0..1, how far the photograph shows teeth
    """

    rows: slice
    columns: slice
    frame: MouthFrame
    own: MouthFrame
    places: Tensor
    along: Tensor
    down: Tensor
    below: Tensor
    above: Tensor
    inside: Tensor
    alpha: Tensor
    teeth: float = 0.0

    @classmethod
    def of(cls, frame: MouthFrame, own: MouthFrame, size: tuple[int, int], teeth: float = 0.0) -> Opening:
        middle = frame.middle
        reach = 0.85 * frame.width
        low, high = (middle - reach).floor().tolist(), (middle + reach).ceil().tolist()
        columns, rows = (slice(int(min(max(a, 0), n - 2)), int(min(max(b, 2), n))) for a, b, n in zip(low, high, size[::-1], strict=True))
        ys, xs = ((torch.arange((one.stop - one.start) * SAMPLES).to(middle) + 0.5) / SAMPLES - 0.5 + one.start for one in (rows, columns))
        places = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)
        along, down = frame.straight(places).unbind(-1)
        below, above = down - edge_at(frame.upper, along), edge_at(frame.lower, along) - down
        between = torch.minimum(below, above)
        # lips meet in a round corner
        radius = teeth * min(CORNER[0], CORNER[1] * frame.opening) * smooth_step(frame.opening - own.opening, *PARTS)
        if radius > 0:
            between = between.minimum(radius - torch.hypot((radius - below).clamp_min(0), (radius - above).clamp_min(0)))
        inside = torch.stack([between, along - frame.upper[0, 0], frame.upper[-1, 0] - along]).amin(0)
        alpha = (inside * frame.width + 0.6).clamp(0, 1) * ((below + above) * frame.width / 1.2).clamp(0, 1)
        return cls(rows, columns, frame, own, places, along, down, below, above, inside, alpha, teeth)

    @cached_property
    def outer(self) -> tuple[Tensor, Tensor]:
        """Outer edges of the upper and of the lower lip, each (h,w), as places down."""
        return edge_at(self.frame.above, self.along), edge_at(self.frame.below, self.along)

    @cached_property
    def parts(self) -> float:
        """How far lips that show teeth part, 0..1."""
        return self.teeth * smooth_step(self.frame.opening - self.own.opening, *PARTS)

    @property
    def here(self) -> tuple[slice, slice, slice, slice]:
        """Index of the window in pictures."""
        return slice(None), slice(None), self.rows, self.columns

    def shrunk(self, values: Tensor) -> Tensor:
        """Values (C,h,w) at the picture's resolution: (1,C,h/SAMPLES,w/SAMPLES)."""
        return F.avg_pool2d(values[None], SAMPLES)

    def grown(self, values: Tensor) -> Tensor:
        """Values (1,C,...) of the window at this resolution: (C,h,w)."""
        return F.interpolate(values, self.alpha.shape, mode="bilinear", align_corners=False)[0]


@dataclass(frozen=True, eq=False)
class MouthLight:
    """The light around a mouth, as the skin there shows it.

    hue     (3,h,w) colour of the skin over its luma
    share   (1,h,w) luma over its mean in the mouth
    mean    that mean
    bright  luma of the bright parts of the skin
    own     luma of the teeth that the photograph shows, 0 without any
    """

    hue: Tensor
    share: Tensor
    mean: float
    bright: float
    own: float

    @classmethod
    def around(cls, move: Move, row: int, opening: Opening, image: Tensor, validity: Tensor) -> MouthLight:
        """Of a window (1,3,...) of the moved picture and its validity."""
        face = move.posed.part("face")[row, None, :, opening.rows, opening.columns]
        known = (face & (validity > 0.5)).to(image)
        skin = gaussian_blur(pull_push(image, known), 0.25 * opening.frame.width)
        luma = luma_of(skin)
        inside = opening.shrunk(opening.alpha[None])
        mean = max(float((luma * inside).sum() / inside.sum().clamp_min(1e-3)), 0.02)
        bright = float(luma_of(image)[known > 0.5].quantile(0.9)) if bool((known > 0.5).any()) else mean
        hue, share = opening.grown(skin / luma.clamp_min(0.02)), opening.grown((luma / mean).clamp(0.5, 1.6))
        return cls(hue, share, mean, bright, _own_teeth(move, row) * float(move.light_ratio[row : row + 1][opening.here].mean()))

    @property
    def teeth(self) -> Tensor:
        """(3,h,w): colour of teeth in it."""
        return self._teeth_luma * self._tinted(TEETH_TINT, TAKES[0])

    def flesh(self, colour: tuple[float, float, float]) -> Tensor:
        """(3,h,w): what has a colour beside skin of luma SKIN_LIGHT in white light."""
        # beside teeth it keeps its darkness, however dark the skin is
        return min((self.mean / SKIN_LIGHT) ** 0.8, MOST_FLESH * self._teeth_luma) * self._tinted(colour, TAKES[1])

    def shaded(self, share: Tensor) -> Tensor:
        """(3,h,w): what shade between lips leaves of the light on teeth, of which share (h,w) is left: what is around them is red."""
        return share ** (1 + (colour_map(SHADE, self.hue) - 1) * self._colourful)

    @property
    def _colourful(self) -> float:
        """0 in a picture without colours, else 1."""
        red, green, blue = self.hue.mean((1, 2)).tolist()
        return smooth_step(max(red, green, blue) - min(red, green, blue), *COLOURLESS)

    @property
    def _teeth_luma(self) -> float:
        usual = min(TEETH * (self.mean / SKIN_LIGHT) ** 0.55, BRIGHTEST * self.bright)
        return max(usual, min(self.own, WHITE))

    def _tinted(self, colour: tuple[float, float, float], power: float) -> Tensor:
        """(3,h,w): a colour of white light in the light here, without the hue that a picture without colours lacks."""
        flat = colour_map(colour, self.hue)
        grey = luma_of(flat) * self.hue
        tinted = flat * (self.hue / colour_map(SKIN_HUE, self.hue)).clamp(0.4, 2) ** power
        return torch.lerp(grey, tinted, self._colourful)


def mouth_marks(head: HeadModel, points: Tensor, size: tuple[int, int]) -> Tensor:
    """Landmarks (B,N,3) in pixels of projected vertices (B,V,3)."""
    height, width = size
    scale = points.new_tensor([width / 2, height / 2, max(height, width) / 2])
    return (head.landmarks(points) + points.new_tensor([1, 1, 0])) * scale - points.new_tensor([0.5, 0.5, 0])


def moved_marks(move: Move, row: int, now: Tensor, before: Tensor, teeth: float) -> tuple[Tensor, Tensor]:
    """Landmarks (N,3) in pixels of a mouth now, and in the photograph: of lips that part and show teeth, where the photograph shows them.

    A fit takes a part of teeth for lips, and the other way round. What lies beside its lips in a photograph moves along with them.
    Landmarks of photographs come with their eyes; without these the fit's are taken, which lie less exactly.

    Args:
        move: the move.
        row: of the batch.
        now, before: (N,3) of the fit.
        teeth: 0..1, how far the photograph shows teeth.
    """
    eyes, lips = move.source.eyes, list(LIP_MARKS)
    if eyes is None or teeth == 0:
        return now, before
    frame, own = MouthFrame.of(now), MouthFrame.of(before)
    away = own.straight(eyes.landmarks[row, lips, :2].to(now)) - own.straight(before[lips, :2])
    parts = teeth * smooth_step(frame.opening - own.opening, *PARTS)
    away = parts * min(frame.frontal, own.frontal) * away.clamp(-FARTHEST, FARTHEST)
    moved, shown = now.clone(), before.clone()
    shown[lips, :2] += away[:, :1] * own.along + away[:, 1:] * own.down
    moved[lips, :2] += away[:, :1] * frame.along + away[:, 1:] * frame.down
    return moved, shown


def smooth_ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 up to `low`, 1 from `high`, smooth between."""
    t = ((values - low) / (high - low)).clamp(0, 1)
    return t.square() * (3 - 2 * t)


def smooth_step(value: float, low: float, high: float) -> float:
    """The same of one number."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def colour_map(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


def relit_there(move: Move, row: int, opening: Opening, colours: Tensor) -> Tensor:
    """Colours (3,h,w) of the photograph in the target's light."""
    return relit(colours[None], opening.grown(move.light_ratio[row : row + 1][opening.here])[None])[0]


def _own_teeth(move: Move, row: int) -> float:
    """Luma of the teeth that a photograph shows, 0 where it shows hardly any."""
    person = move.source.person
    if person is None or person.teeth is None:
        return 0.0
    shown = luma_of(move.source.image[row])[person.teeth[row] > 0.5]
    return float(shown.quantile(OWN)) if len(shown) >= LEAST_OWN else 0.0
