"""The lips around a mouth that opens: whole where a mesh has torn or stretched them.

Shape letters: H and W picture height and width; windows around a mouth are smaller.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..carry.state import Move
from ..common.pixels import dilate, gather, gaussian_blur, luma_of, nearest_inside, sampled
from .mouth import MOUTH, MouthFrame, edge_at
from .mouth_opening import Opening, relit_there, smooth_ramp, smooth_step

# how far, in widths of the mouth, the seam of closed lips is drawn into the lower one, and how far from its middle
SEAM_REACH, SEAM_WIDE = 0.10, (0.10, 0.20)
SEAM_DARK = -0.85, -0.70  # less luma, as a share of the lip's, is that of its seam
# lips that close over teeth: openings of the photograph's mouth from which they were drawn thin, and of the closed one up to which they are
# whole; how much of their own colour they get back, and of their seam's shade, how wide it is, and what light on them is worth
WERE_OPEN, NOW_CLOSED = (0.05, 0.14), (0.02, 0.07)
BACK_TO_COLOUR, SEAM_SHADE, SEAM_HALF, LIP_LIGHT = 0.8, 0.5, 0.016, 0.6
# shares of a lip's thickness from its outer edge on in which the photograph's comes in, thickness from which there is one, and distances
# from the corner, in widths of the mouth
OWN_FROM, THICK, OWN_CORNER = (0.1, 0.6), (0.01, 0.04), (0.0, 0.08)
THINNEST = 0.01  # lip
# the seam beside the corners of lips that part is closed: how far around, and up to which thickness, in widths of the mouth
CORNER_REACH, SEAM_THICK = (0.17, 0.1), 0.15
# distances from the corners, in widths of the mouth, outside of which a torn mesh is left, of lips that hardly part and of others
CORNER_HEALS = (-0.02, 0.06), (-0.07, -0.02)
BESIDE = 0.1  # beyond the farthest place of a lip, in widths of the mouth, up to which skin goes along with it
LEAST_LIP = 12  # pixels of a lip from which its colour is known


def softened_seam(move: Move, row: int, image: Tensor, amount: float) -> Tensor:
    """One picture (1,3,H,W) whose closed lips have moved: slits of a pixel between those of the mesh are no row of dots."""
    slit = move.posed.part(*MOUTH)[row, None].to(image)
    soft = gaussian_blur(image, max(0.7, move.source.pixels(0.004)))
    return torch.lerp(image, soft, amount * gaussian_blur(dilate(slit, 3), 0.6))


def moved_lips(opening: Opening, before: MouthFrame, picture: Tensor) -> Tensor:
    """A picture (1,C,H,W) in which the outer edges of lips, and the skin beside them, have gone to where they are now."""
    frame = opening.frame
    ys, xs = (torch.arange(one.start, one.stop).to(picture) for one in (opening.rows, opening.columns))
    places = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)
    along, down = frame.straight(places).unbind(-1)
    above, below, upper, lower = (edge_at(edge, along) for edge in (frame.above, frame.below, frame.upper, frame.lower))
    chin, nose = frame.below[:, 1].max() + BESIDE, frame.above[:, 1].min() - BESIDE
    low = (1 - ((down - below) / (chin - below)).clamp(0, 1)) * (below - edge_at(before.below, along))
    high = (1 - ((above - down) / (above - nose)).clamp(0, 1)) * (above - edge_at(before.above, along))
    by = opening.parts * torch.where(down > (upper + lower) / 2, low, high)
    moved = picture.clone()
    shown = sampled(picture, (places - by[..., None] * frame.down)[None]).clamp(0, 1)
    moved[opening.here] = torch.where(by == 0, picture[opening.here], shown)
    return moved


def healed_lips(move: Move, row: int, opening: Opening, window: Tensor) -> tuple[Tensor, Tensor]:
    """The window (1,3,...) with whole lips, and where it may be changed (1,1,...).

    What closed lips hid of themselves comes to view as they part: their colour goes on.
    """
    frame, size = opening.frame, window.shape[-2:]
    hole = move.posed.part(*MOUTH)[row, None, :, opening.rows, opening.columns].to(window)
    hole = hole.maximum(opening.shrunk(opening.alpha[None]))
    edge = dilate(hole, 2 * max(1, round(0.045 * frame.width)) + 1)
    lips = _within_lips(opening) > 0.015
    lips = opening.shrunk(lips[None].to(window)) > 0.5
    edge = edge.maximum(_stretched_seam(opening, window, lips, edge))
    whole = lips & (edge < 0.1)
    if not bool(whole.any()):
        return window, edge
    even = (0, size[1] % 2, 0, size[0] % 2)
    nearest = nearest_inside(F.pad(whole[:, 0], even))[0]
    healed = gaussian_blur(gather(F.pad(window, even), nearest)[..., : size[0], : size[1]], max(0.5, 0.014 * frame.width))
    low, high = (one + (other - one) * opening.parts for one, other in zip(*CORNER_HEALS, strict=True))
    corners = opening.shrunk(smooth_ramp(_from_corners(opening), low, high)[None])
    lips_now = torch.lerp(window, healed, edge.maximum(gaussian_blur(edge, 0.6)) * corners)
    if opening.parts > 0:
        colours, share = _own_lips(move, row, opening)
        lips_now = torch.lerp(lips_now, opening.shrunk(colours), opening.shrunk(share[None]))
        beside = opening.shrunk(_beside_corners(opening)[None])
        lips_now = torch.lerp(lips_now, _without_thin_lines(lips_now, SEAM_THICK * frame.width), beside)
    outside = opening.shrunk(opening.inside.clamp(max=0)[None])
    shadow = 1 - 0.30 * torch.exp(-((outside / 0.022) ** 2)) * min(1.0, frame.opening / 0.1)
    return lips_now * shadow, dilate(hole, 2 * max(2, round(0.09 * frame.width)) + 1)


def closed_lips(move: Move, row: int, opening: Opening, window: Tensor) -> Tensor:
    """The window (1,3,...) with lips that closed over teeth: thin lips drawn wide again have lost their colour, and have no seam."""
    closes = smooth_step(opening.own.opening, *WERE_OPEN) * (1 - smooth_step(opening.frame.opening, *NOW_CLOSED))
    if closes == 0:
        return window
    lips = smooth_ramp(_within_lips(opening), -0.005, 0.035) * smooth_ramp(_from_corners(opening), 0.0, 0.1)
    upper, lower = (
        lip_colour(move, row, opening.own, *edges)
        for edges in ((opening.own.above, opening.own.upper), (opening.own.below, opening.own.lower))
    )
    below_seam = (opening.below - opening.above) / 2
    colour = torch.lerp(upper, lower, smooth_ramp(below_seam, -0.02, 0.02))
    colour = relit_there(move, row, opening, colour)
    luma = luma_of(opening.grown(window)[None])[0]
    mean = (luma * lips).sum() / lips.sum().clamp_min(1)
    made = colour * (luma.clamp_min(0) / mean.clamp_min(0.02)) ** LIP_LIGHT  # moved pictures swing below black
    made = made * (1 - SEAM_SHADE * torch.exp(-((below_seam / SEAM_HALF) ** 2)))
    share = BACK_TO_COLOUR * closes * lips
    return torch.lerp(window, opening.shrunk(made.clamp(0, 1)), opening.shrunk(share[None]))


def _within_lips(opening: Opening) -> Tensor:
    """(h,w): how far places lie within the outer edges of lips, in widths of the mouth; negative outside."""
    above, below = opening.outer
    return torch.minimum(opening.down - above, below - opening.down)


def _own_lips(move: Move, row: int, opening: Opening) -> tuple[Tensor, Tensor]:
    """The photograph's lips between the edges of those now: colours (3,h,w) and share (h,w), the more the nearer to the opening."""
    frame, own, there = opening.frame, opening.own, _there(opening)
    # the lip that a place belongs to, from its outer edge to the opening
    is_lower = opening.above < opening.below
    outside = torch.where(is_lower, *opening.outer[::-1])
    inside = opening.down + torch.where(is_lower, opening.above, -opening.below)
    thick = inside - outside
    step = (opening.down - outside) / thick.where(thick.abs() > THINNEST, THINNEST * (1 - 2 * is_lower.to(thick)))
    (own_above, own_upper), (own_below, own_lower) = ((edge_at(edge, there) for edge in lip) for lip in own.lips)
    own_outside, own_inside = torch.where(is_lower, own_below, own_above), torch.where(is_lower, own_lower, own_upper)
    # where closed lips meet there is their seam
    most = 1 - SEAM_HALF / (own_inside - own_outside).abs().clamp_min(2 * SEAM_HALF)
    places = own.places(torch.stack([there, torch.lerp(own_outside, own_inside, step.clamp_max(1) * most)], -1))
    shown = sampled(move.source.image[row : row + 1], places[None])[0].clamp(0, 1)
    share = smooth_ramp(step, *OWN_FROM) * smooth_ramp(thick.abs(), *THICK) * smooth_ramp(_from_corners(opening), *OWN_CORNER)
    return relit_there(move, row, opening, shown), opening.parts * min(frame.frontal, own.frontal) * share


def _there(opening: Opening) -> Tensor:
    """(h,w): where along the photograph's mouth places lie, by their share of the way between the corners."""
    now, own = opening.frame.upper[:, 0], opening.own.upper[:, 0]
    return torch.lerp(own[0], own[-1], (opening.along - now[0]) / (now[-1] - now[0]))


def _beside_corners(opening: Opening) -> Tensor:
    """(h,w) in 0..1: where the seam of lips that were closed goes on beside an opening's corners."""
    frame = opening.frame
    near = [
        torch.exp(-(((opening.along - end[0]) / CORNER_REACH[0]) ** 2) - ((opening.down - end[1]) / CORNER_REACH[1]) ** 2)
        for end in (frame.upper[0], frame.upper[-1])
    ]
    return opening.parts * torch.maximum(*near)


def _without_thin_lines(picture: Tensor, thick: float) -> Tensor:
    """A picture without dark lines across it that are thinner than a number of pixels."""
    size = 2 * max(1, round(thick / 2)) + 1
    padded = F.pad(picture, (0, 0, size - 1, size - 1), mode="replicate")
    return -F.max_pool2d(-F.max_pool2d(padded, (size, 1), 1), (size, 1), 1)


def _from_corners(opening: Opening) -> Tensor:
    """(h,w): how far places lie from the nearer corner, in widths of the mouth."""
    return torch.minimum(opening.along, 1 - opening.along)


def lip_colour(move: Move, row: int, own: MouthFrame, outer: Tensor, inner: Tensor) -> Tensor:
    """(3,1,1): of a lip in the photograph, along its middle, by its edges (P,2)."""
    along = torch.linspace(0.25, 0.75, 7, device=outer.device, dtype=outer.dtype)
    places = own.places(torch.stack([along, (edge_at(outer, along) + edge_at(inner, along)) / 2], -1))
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
