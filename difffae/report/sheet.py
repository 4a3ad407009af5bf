"""Contact sheet of an edit: source, queries, what was measured, render, slots, carried photograph, result.

Pictures are (3,H,W) RGB 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..head.adjust import light_direction
from ..head.attributes import FaceAttributes

if TYPE_CHECKING:
    from ..edit.description import Portrait
    from ..edit.result import EditResult

CELL, CAPTION, GAP = 256, 22, 6
PAPER, INK = (24, 24, 28), (235, 235, 235)
REGION_COLOURS = {"face": (255, 170, 120), "hair": (120, 90, 255), "clothes": (80, 210, 120), "background": (90, 150, 210)}
# Chains of the face mesh that make a face readable: oval, eyes, brows, lips, nose
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10,
)  # fmt: skip
CHAINS = (
    OVAL,
    (33, 160, 158, 133, 153, 144, 33),
    (263, 387, 385, 362, 380, 373, 263),
    (70, 63, 105, 66, 107),
    (300, 293, 334, 296, 336),
    (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 61),
    (78, 81, 13, 311, 308, 402, 14, 178, 78),
    (168, 6, 195, 4),
    (98, 2, 327),
)


def _picture(image: Tensor) -> Image.Image:
    """(3,H,W) or (1,3,H,W) -> a cell's picture."""
    image = image.detach().float().cpu().reshape(3, *image.shape[-2:])
    if image.shape[-1] != CELL:
        image = F.interpolate(image[None], (CELL, CELL), mode="bicubic", antialias=True)[0]
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int = 12, fill: tuple[int, int, int] = INK) -> None:
    draw.text(place, text, fill=fill, font=ImageFont.load_default(size), stroke_width=1, stroke_fill=(0, 0, 0))


def describe(attributes: FaceAttributes, expression_names: Sequence[str], most: int = 3) -> list[str]:
    """A face in words: angles, the strongest expressions, where the light comes from."""
    pose = axis_angle_to_matrix(attributes.pose[0].detach().float().cpu())
    yaw, pitch, roll = to_yaw_pitch_roll(matrix_to_axis_angle(pose[0] @ pose[1])).tolist()
    lines = [f"yaw {yaw:+.0f}  pitch {pitch:+.0f}  roll {roll:+.0f}"]
    values = attributes.expression[0].detach().float().cpu()
    for index in values.abs().topk(min(most, len(values))).indices.tolist():
        if abs(values[index]) >= 0.1 and index < len(expression_names):
            lines.append(f"{expression_names[index]} {values[index]:.2f}")
    azimuth, elevation = light_direction(attributes.light.detach().float().cpu())[0].tolist()
    side = "right" if azimuth >= 0 else "left"
    lines.append(f"light {abs(azimuth):.0f} {side}, {abs(elevation):.0f} {'above' if elevation >= 0 else 'below'}")
    return lines


def landmark_overlay(picture: Tensor, landmarks: Tensor, lines: Sequence[str]) -> Image.Image:
    """A crop (1,3,S,S) with its landmarks (1,478,2 or more, in its pixels) drawn over it and lines of text."""
    cell = _picture(picture)
    points = (landmarks[0, :, :2].detach().float().cpu() * (CELL / picture.shape[-1])).numpy()
    draw = ImageDraw.Draw(cell)
    for x, y in points[:468]:
        draw.point((float(x), float(y)), fill=(90, 220, 255))
    for chain in CHAINS:
        draw.line([(float(points[i, 0]), float(points[i, 1])) for i in chain], fill=(255, 225, 90), width=1)
    for row, line in enumerate(lines):
        _text(draw, (5, CELL - 4 - 14 * (len(lines) - row)), line)
    return cell


def mask_overlay(picture: Tensor, masks: Tensor, order: Sequence[str]) -> Image.Image:
    """A crop (1,3,S,S) tinted by its slot masks (1,K,h,w), with a legend; order names the region of every slot."""
    masks = F.interpolate(masks.detach().float().cpu(), (CELL, CELL), mode="bilinear", align_corners=False)[0]
    names = list(order) + [f"slot {index}" for index in range(len(order), len(masks))]
    spare = [(230, 80, 80), (230, 230, 80), (80, 230, 230), (230, 80, 230)]
    colours = [REGION_COLOURS.get(name, spare[index % len(spare)]) for index, name in enumerate(names)]
    tint = torch.einsum("khw,kc->chw", masks / masks.sum(0).clamp_min(1e-6), torch.tensor(colours).float() / 255)
    grey = torch.from_numpy(np.asarray(_picture(picture)).copy()).permute(2, 0, 1).float().mean(0, keepdim=True) / 255
    cell = _picture(tint * (0.35 + 0.65 * grey))
    draw = ImageDraw.Draw(cell)
    shown: dict[str, tuple[int, int, int]] = dict(zip(names, colours, strict=False))
    for row, (name, colour) in enumerate(shown.items()):
        _text(draw, (5, CELL - 4 - 14 * (len(shown) - row)), name, fill=colour)
    return cell


def contact_sheet(
    source: Portrait,
    result: EditResult,
    queries: Mapping[str, Portrait],
    expression_names: Sequence[str],
    order: Sequence[str],
    columns: int = 4,
) -> Tensor:
    """Everything of one edit on one page, (3,H,W). queries maps captions to portraits; order names the slots' regions."""
    cells = [("source", _picture(source.picture))]
    cells += [(caption, _picture(portrait.picture)) for caption, portrait in queries.items()]
    for caption, portrait in {"source": source, **queries}.items():
        overlay = landmark_overlay(portrait.picture, portrait.landmarks, describe(portrait.attributes, expression_names))
        cells.append((f"attributes: {caption}", overlay))
    cells.append(("render", _picture(result.render)))
    if result.masks is not None:
        cells.append(("slot masks of the source", mask_overlay(source.picture, result.masks, order)))
    cells.append(("carried", _picture(result.carried)))
    cells.append(("result", _picture(result.crop)))
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    page = Image.new("RGB", (columns * (CELL + GAP) + GAP, rows * (CELL + CAPTION + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, (caption, cell) in enumerate(cells):
        x = GAP + (index % columns) * (CELL + GAP)
        y = GAP + (index // columns) * (CELL + CAPTION + GAP)
        _text(draw, (x + 2, y + 2), caption, size=14)
        page.paste(cell, (x, y + CAPTION))
    return torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1).float() / 255
