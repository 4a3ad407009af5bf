"""Figures as grids of pictures with names of rows and columns.

Shape letters: H and W picture sides, S tokens, h and w map sides. Pictures are RGB 0..1.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...common.images import from_picture, to_picture
from ...report.sheet import INK, PAPER, REGION_COLOURS

GAP, HEADER, LINE = 6, 38, 15
MARGIN = 118  # for the names of rows
SPARE = ((230, 80, 80), (230, 230, 80), (80, 230, 230), (230, 80, 230))  # of slots beyond the four regions
HEAT = ((0.0, 0.0, 0.0), (0.35, 0.05, 0.45), (0.85, 0.25, 0.25), (1.0, 0.65, 0.15), (1.0, 1.0, 0.75))  # 0 to 1 in even steps
Row = tuple[str, Sequence[Tensor | None]]


def grid(columns: Sequence[str], rows: Sequence[Row], cell: int = 192) -> Tensor:
    """A page (3,H,W): rows of pictures (3,H,W) or (1,3,H,W), scaled to squares of `cell` pixels; None leaves a cell empty."""
    font = ImageFont.load_default(12)
    count = max(len(columns), max(len(pictures) for _, pictures in rows))
    page = Image.new("RGB", (MARGIN + count * (cell + GAP) + GAP, HEADER + len(rows) * (cell + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, name in enumerate(columns):
        text = "\n".join(textwrap.wrap(name, max(8, cell // 7))[:2])
        draw.multiline_text((MARGIN + GAP + index * (cell + GAP), 5), text, fill=INK, font=font, spacing=2)
    for index, (name, pictures) in enumerate(rows):
        top = HEADER + index * (cell + GAP)
        text = "\n".join(textwrap.wrap(name, 16)[: max(1, cell // LINE)])
        draw.multiline_text((GAP, top + 4), text, fill=INK, font=font, spacing=3)
        for column, picture in enumerate(pictures):
            if picture is not None:
                page.paste(_cell(picture, cell), (MARGIN + GAP + column * (cell + GAP), top))
    return from_picture(page)


def _cell(picture: Tensor, size: int) -> Image.Image:
    picture = picture.detach().float().cpu().reshape(1, 3, *picture.shape[-2:])
    if tuple(picture.shape[-2:]) != (size, size):
        picture = F.interpolate(picture, (size, size), mode="bicubic", antialias=True)
    return to_picture(picture)


def grey(picture: Tensor) -> Tensor:
    """(1,3,H,W) -> (1,1,H,W)."""
    return picture.detach().float().cpu().mean(1, keepdim=True)


def heat(picture: Tensor, values: Tensor) -> Tensor:
    """A map (h,w) of 0..1 in colours, with the picture (1,3,H,W) showing through: (1,3,H,W). Colours mean the same in all maps."""
    size = picture.shape[-2:]
    at = F.interpolate(values.detach().float().cpu()[None, None], size, mode="bilinear", align_corners=False).clamp(0, 1)
    place = at[0, 0] * (len(HEAT) - 1)
    low = place.floor().long().clamp_max(len(HEAT) - 2)
    table = torch.tensor(HEAT)
    colour = torch.lerp(table[low], table[low + 1], (place - low)[..., None]).permute(2, 0, 1)[None]
    return 0.75 * colour + 0.25 * grey(picture)


def slot_colours(order: Sequence[str]) -> Tensor:
    """(S,3): a region's colour for its first slot, spare ones for its others."""
    seen: set[str] = set()
    spare = list(SPARE) * len(order)
    colours = []
    for name in order:
        colours.append(spare.pop(0) if name in seen or name not in REGION_COLOURS else REGION_COLOURS[name])
        seen.add(name)
    return torch.tensor(colours).float() / 255


def tint(picture: Tensor, masks: Tensor, colours: Tensor) -> Tensor:
    """A picture (1,3,H,W) coloured by masks (1,S,h,w) that sum to 1, with colours (S,3)."""
    wide = F.interpolate(masks.detach().float().cpu(), picture.shape[-2:], mode="bilinear", align_corners=False)
    return torch.einsum("bshw,sc->bchw", wide, colours) * (0.35 + 0.65 * grey(picture))
