"""The lips around a mouth that opens: whole where a mesh has torn or stretched them.

Shape letters: H and W picture height and width; windows around a mouth are smaller.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import Move
from ..common.pixels import dilate, gather, gaussian_blur, luma_of, nearest_inside, sampled
from .mouth import LOWER, MOUTH, OUTER_LOWER, OUTER_UPPER, UPPER, edge_at
from .mouth_opening import Opening, mouth_marks, relit_there, smooth_ramp, smooth_step

# how far, in widths of the mouth, the seam of closed lips is drawn into the lower one, and how far from its middle
SEAM_REACH, SEAM_WIDE = 0.10, (0.10, 0.20)
SEAM_DARK = -0.85, -0.70  # less luma, as a share of the lip's, is that of its seam
# lips that close over teeth: openings of the photograph's mouth from which they were drawn thin, and of the closed one up to which they are
# whole; how much of their own colour they get back, and of their seam's shade, how wide it is, and what light on them is worth
WERE_OPEN, NOW_CLOSED = (0.05, 0.14), (0.02, 0.07)
BACK_TO_COLOUR, SEAM_SHADE, SEAM_HALF, LIP_LIGHT = 0.8, 0.5, 0.016, 0.6
LEAST_LIP = 12  # pixels of a lip from which its colour is known


def softened_seam(move: Move, row: int, image: Tensor, amount: float) -> Tensor:
    """One picture (1,3,H,W) whose closed lips have moved: slits of a pixel between those of the mesh are no row of dots."""
    slit = move.posed.part(*MOUTH)[row, None].to(image)
    soft = gaussian_blur(image, max(0.7, move.source.pixels(0.004)))
    return torch.lerp(image, soft, amount * gaussian_blur(dilate(slit, 3), 0.6))


def healed_lips(move: Move, row: int, opening: Opening, window: Tensor) -> tuple[Tensor, Tensor]:
    """The window (1,3,...) with whole lips, and where it may be changed (1,1,...).

    What closed lips hid of themselves comes to view as they part: their colour goes on.
    """
    frame, head, size = opening.frame, move.source.head, window.shape[-2:]
    hole = move.posed.part(*MOUTH)[row, None, :, opening.rows, opening.columns].to(window)
    hole = hole.maximum(opening.shrunk(opening.alpha[None]))
    edge = dilate(hole, 2 * max(1, round(0.045 * frame.width)) + 1)
    marks = mouth_marks(head, move.posed.points[row : row + 1], move.source.size)[0]
    lips = _within_lips(opening, marks) > 0.015
    lips = opening.shrunk(lips[None].to(window)) > 0.5
    edge = edge.maximum(_stretched_seam(opening, window, lips, edge))
    whole = lips & (edge < 0.1)
    if not bool(whole.any()):
        return window, edge
    even = (0, size[1] % 2, 0, size[0] % 2)
    nearest = nearest_inside(F.pad(whole[:, 0], even))[0]
    healed = gaussian_blur(gather(F.pad(window, even), nearest)[..., : size[0], : size[1]], max(0.5, 0.014 * frame.width))
    corners = opening.shrunk(smooth_ramp(_from_corners(opening), -0.02, 0.06)[None])
    lips_now = torch.lerp(window, healed, edge.maximum(gaussian_blur(edge, 0.6)) * corners)
    outside = opening.shrunk(opening.inside.clamp(max=0)[None])
    shadow = 1 - 0.30 * torch.exp(-((outside / 0.022) ** 2)) * min(1.0, frame.opening / 0.1)
    return lips_now * shadow, dilate(hole, 2 * max(2, round(0.09 * frame.width)) + 1)


def closed_lips(move: Move, row: int, opening: Opening, window: Tensor) -> Tensor:
    """The window (1,3,...) with lips that closed over teeth: thin lips drawn wide again have lost their colour, and have no seam."""
    closes = smooth_step(opening.own.opening, *WERE_OPEN) * (1 - smooth_step(opening.frame.opening, *NOW_CLOSED))
    if closes == 0:
        return window
    head, size = move.source.head, move.source.size
    now, before = (mouth_marks(head, points[row : row + 1], size)[0] for points in (move.posed.points, move.source.posed.points))
    lips = smooth_ramp(_within_lips(opening, now), -0.005, 0.035) * smooth_ramp(_from_corners(opening), 0.0, 0.1)
    upper, lower = (_lip_colour(move, row, before, *points) for points in ((OUTER_UPPER, UPPER), (OUTER_LOWER, LOWER)))
    below_seam = (opening.below - opening.above) / 2
    colour = torch.lerp(upper, lower, smooth_ramp(below_seam, -0.02, 0.02))
    colour = relit_there(move, row, opening, colour)
    luma = luma_of(opening.grown(window)[None])[0]
    mean = (luma * lips).sum() / lips.sum().clamp_min(1)
    made = colour * (luma / mean.clamp_min(0.02)) ** LIP_LIGHT
    made = made * (1 - SEAM_SHADE * torch.exp(-((below_seam / SEAM_HALF) ** 2)))
    share = BACK_TO_COLOUR * closes * lips
    return torch.lerp(window, opening.shrunk(made.clamp(0, 1)), opening.shrunk(share[None]))


def _within_lips(opening: Opening, marks: Tensor) -> Tensor:
    """(h,w): how far places lie within the outer edges of lips by landmarks (N,3), in widths of the mouth; negative outside."""
    upper, lower = (_sorted(opening.frame.straight(marks[list(points), :2])) for points in (OUTER_UPPER, OUTER_LOWER))
    return torch.minimum(opening.down - edge_at(upper, opening.along), edge_at(lower, opening.along) - opening.down)


def _from_corners(opening: Opening) -> Tensor:
    """(h,w): how far places lie from the nearer corner, in widths of the mouth."""
    return torch.minimum(opening.along, 1 - opening.along)


def _lip_colour(move: Move, row: int, marks: Tensor, outer: tuple[int, ...], inner: tuple[int, ...]) -> Tensor:
    """(3,1,1): of a lip in the photograph, along its middle."""
    # the outer edge has one more landmark beside each corner
    places = ((marks[list(outer[2:-2]), :2] + marks[list(inner[1:-1]), :2]) / 2)[1:-1]
    colours = sampled(move.source.image[row : row + 1], places[None, None], "bilinear")[0, :, 0]
    return colours.median(1).values[:, None, None]


def _stretched_seam(opening: Opening, window: Tensor, lips: Tensor, edge: Tensor) -> Tensor:
    """(1,1,...) in 0..1: the dark line between closed lips, which a mesh that drops its jaw draws far into the lower one.

    lips: bool (1,1,...); edge: (1,1,...), what is healed anyway.
    """
    luma = luma_of(window)
    below = lips & (opening.shrunk(opening.above[None]) < 0)
    bare = luma[below & (edge < 0.1) & (opening.shrunk((opening.along - 0.5).abs()[None]) < 0.3)]
    if len(bare) < LEAST_LIP:
        return torch.zeros_like(luma)
    reach = dilate(edge, 2 * round(SEAM_REACH * opening.frame.width) + 1)
    middle = opening.shrunk(1 - smooth_ramp((opening.along - 0.5).abs(), *SEAM_WIDE)[None])
    dark = smooth_ramp(-luma / bare.median().clamp_min(0.02), *SEAM_DARK) * below * reach * middle
    return gaussian_blur(dilate(dark, 5), 1.0)


def _sorted(edge: Tensor) -> Tensor:
    return edge[edge[:, 0].argsort()]
