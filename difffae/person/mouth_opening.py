"""One mouth of a moved picture, and what its parts share: windows, ramps, colours.

Shape letters: B batch, V vertices, N landmarks, H and W picture height and width, h and w those of a window around the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head.morphable import HeadModel
from .mouth import MouthFrame, edge_at

LUMA = (0.299, 0.587, 0.114)
SAMPLES = 2  # by which a mouth is painted finer than the picture, for smooth edges


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

    @classmethod
    def of(cls, frame: MouthFrame, own: MouthFrame, size: tuple[int, int]) -> Opening:
        middle = frame.middle
        reach = 0.85 * frame.width
        low, high = (middle - reach).floor().tolist(), (middle + reach).ceil().tolist()
        columns, rows = (slice(int(min(max(a, 0), n - 2)), int(min(max(b, 2), n))) for a, b, n in zip(low, high, size[::-1], strict=True))
        ys, xs = ((torch.arange((one.stop - one.start) * SAMPLES).to(middle) + 0.5) / SAMPLES - 0.5 + one.start for one in (rows, columns))
        places = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)
        along, down = frame.straight(places).unbind(-1)
        below, above = down - edge_at(frame.upper, along), edge_at(frame.lower, along) - down
        inside = torch.stack([below, above, along - frame.upper[0, 0], frame.upper[-1, 0] - along]).amin(0)
        alpha = (inside * frame.width + 0.6).clamp(0, 1) * ((below + above) * frame.width / 1.2).clamp(0, 1)
        return cls(rows, columns, frame, own, places, along, down, below, above, inside, alpha)

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


def mouth_marks(head: HeadModel, points: Tensor, size: tuple[int, int]) -> Tensor:
    """Landmarks (B,N,3) in pixels of projected vertices (B,V,3)."""
    height, width = size
    scale = points.new_tensor([width / 2, height / 2, max(height, width) / 2])
    return (head.landmarks(points) + points.new_tensor([1, 1, 0])) * scale - points.new_tensor([0.5, 0.5, 0])


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


def luma_of(image: Tensor) -> Tensor:
    """(...,3,H,W) -> (...,1,H,W)."""
    return (image * colour_map(LUMA, image)).sum(-3, keepdim=True)
