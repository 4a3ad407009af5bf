"""A photograph of clothes that goes on below its frame: lapels, seams and outlines run on in their own direction.

Rows below the frame show what lies above it along these lines: colours as they meet the frame, with the cloth's own grain, mirrored. Lines
that meet end there, as the two sides of a jacket do.

Shape letters: C channels, H and W picture height and width, N new rows.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..common.pixels import dilate, erode, gaussian_blur, odd, sampled
from .dressed import Dressed, foreground

# shares of the face's side
FRAME = 0.015  # rows that are not read at the frame
BAND = 0.10  # height of the band above the frame in which lines are followed
ALONG = 0.03  # standard deviation of the blur of directions along the frame
STRAIGHT = 0.5  # depth in which lines become upright
STEEPEST = 1.2  # columns that a line goes aside per row, at most
COLOURS = 0.05  # height of the band whose mean colours go on
SHARP = 0.03  # depth in which the picture itself, mirrored, gives way to these colours
UNSURE = 0.02  # width of the border of clothes and skin that may be either
CLOSING = 0.7  # columns per row by which an opening that the frame cuts grows narrower on each side
GRAIN, STRONGEST = 0.01, 0.006  # standard deviation of what counts as grain, and its greatest difference
EDGE = 0.003  # squared differences of neighbouring pixels that tell a direction (0..1)


def longer(one: Dressed, rows: int) -> Dressed:
    """The same photograph with more rows below.

    Args:
        one: the photograph; its person reaches the lower border.
        rows: how many more.

    Returns:
        with colours of the person alone in the new rows, wherever alpha is above 0.
    """
    side = one.square.side
    cut = max(1, round(FRAME * side))
    front = foreground(one.picture, one.alpha)
    maps = torch.cat([front, one.picture, one.alpha, one.hair, one.cloth, one.face], 1)[..., : one.picture.shape[-2] - cut, :]
    drift = _drift(front[..., :-cut, :], one.alpha[..., :-cut, :], side)
    new = _along(maps, drift, _closing(maps[:, 8:9, -1:], maps[:, 6:7, -1:], side), rows + cut, side)
    both = torch.cat([maps, new], -2)
    picture = torch.lerp(both[:, 3:6], both[:, :3], torch.cat([torch.zeros_like(maps[:, :1]), torch.ones_like(new[:, :1])], -2))
    alpha, hair, cloth, face = both[:, 6:].split(1, 1)
    square = replace(one.square, height=one.square.height + rows)
    return replace(one, picture=picture.clamp(0, 1), alpha=alpha, hair=hair, cloth=cloth, face=face, square=square)


def _drift(front: Tensor, alpha: Tensor, side: float) -> Tensor:
    """By how many columns per row lines go to the right where they meet the lower border (W,): by the structure tensor there."""
    band = max(4, round(BAND * side))
    part = gaussian_blur(torch.cat([front * alpha, 0.5 * alpha], 1)[..., -band:, :], 0.7)
    across, down = (torch.gradient(part, dim=dim)[0] for dim in (-1, -2))
    near = torch.linspace(0.3, 1, part.shape[-2], device=front.device)[:, None]
    moments = torch.cat([(across * down), across.square()], 1).view(2, -1, part.shape[-2], part.shape[-1])
    product, square = ((one * near).sum((0, 1)) / near.sum() for one in moments)
    product, square = (gaussian_blur(one.expand(3, -1)[None, None], ALONG * side)[0, 0, 1] for one in (product, square))
    return (-product / (square + EDGE / max(1.0, 0.5 * band))).clamp(-STEEPEST, STEEPEST)


def _closing(cloth: Tensor, person: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Of the columns of the lowest row (W,): the nearest one with clothes where a person is bare, and how far that is; 0 elsewhere.

    cloth, person (1,1,1,W) in 0..1: the rim of either may be the other.
    """
    columns = torch.arange(cloth.shape[-1], device=cloth.device)
    there, bare = person > 0.5, (cloth <= 0.5) & (person > 0.5)
    worn = (erode(cloth * person, odd(2 * UNSURE * side)) > 0.5)[0, 0, 0]
    if not bool(worn.any()):
        return columns, torch.zeros_like(columns)
    bare = ((dilate(bare.to(cloth), odd(4 * UNSURE * side)) > 0) & there)[0, 0, 0] & ~worn
    at = worn.nonzero()[:, 0]
    away, index = (columns[:, None] - at).abs().min(1)
    return torch.where(bare, at[index], columns), torch.where(bare, away, 0)


def _along(maps: Tensor, drift: Tensor, closing: tuple[Tensor, Tensor], rows: int, side: float) -> Tensor:
    """Rows (1,C,N,W) below maps (1,C,H,W), whose lines go aside by `_drift` and whose openings close by `_closing`."""
    height, width = maps.shape[-2:]
    columns = torch.arange(width, device=maps.device, dtype=maps.dtype)
    depth = torch.arange(1, rows + 1, device=maps.device, dtype=maps.dtype)[:, None]
    reach = STRAIGHT * side
    at = columns + drift * reach * (1 - torch.exp(-depth / reach))
    # lines do not cross: between those that meet there is a seam
    at = (at.cummax(1).values + at.flip(1).cummin(1).values.flip(1)) / 2
    at = at + torch.arange(width, device=maps.device, dtype=maps.dtype) * 1e-4
    place = torch.searchsorted(at.contiguous(), columns.expand(rows, -1).contiguous()).clamp(1, width - 1)
    before, after = at.gather(1, place - 1), at.gather(1, place)
    line = place - 1 + ((columns - before) / (after - before)).clamp(0, 1)
    nearest, away = (one.to(maps)[line.round().long().clamp(0, width - 1)] for one in closing)
    closed = (away > 0) & (away < CLOSING * depth)
    line = torch.where(closed, nearest, line)
    slope = sampled(drift[None, None, None].expand(1, 1, 1, -1), torch.stack([line, torch.zeros_like(line)], -1)[None], "bilinear")[0, 0]

    def above(up: Tensor) -> Tensor:
        """What the lines show so many rows (N,W) or (N,1) above the border."""
        up = up.expand_as(line)
        return sampled(maps, torch.stack([line - slope * up, height - 1 - up], -1)[None], "bilinear")

    steps = torch.linspace(0, COLOURS * side, 6).tolist()
    base = torch.stack([above(torch.full_like(depth, step)) for step in steps]).mean(0)
    deep = BAND * side
    up = deep - (depth % (2 * deep) - deep).abs()
    own = above(up)
    around = torch.stack([above(up + step * GRAIN * side) for step in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)]).mean(0)
    sharp = torch.exp(-depth / (SHARP * side))
    grain = (own - around).clamp(-STRONGEST, STRONGEST)
    grain = torch.cat([grain[:, :6], torch.zeros_like(grain[:, 6:])], 1)
    new = torch.lerp(base + grain, own, sharp)
    new[:, 6:] = above(torch.zeros_like(depth))[:, 6:]
    new[:, 8] = new[:, 8].maximum(closed.to(new))
    return new
