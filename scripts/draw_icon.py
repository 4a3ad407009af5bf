"""Draw assets/icon.png and assets/banner.png, which ComfyUI's registry shows: the open 3D head, lit from two sides.

python scripts/draw_icon.py [FOLDER]
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from difffae.common.checkpoint import asset_path
from difffae.common.images import read_image
from difffae.edit.editor import DiffFAE
from difffae.head.adjust import Adjustments, adjust
from difffae.head.morphable import HeadModel
from difffae.head.render import render

ICON, BANNER = 400, (1260, 540)
SCALE = 3  # drawn this much larger, for smooth edges
WARM, COOL, FILL = (1.0, 0.56, 0.26), (0.30, 0.56, 1.0), (0.05, 0.055, 0.07)
NIGHT, DEEP, PAPER, GREY = (33, 36, 46), (13, 14, 19), "#f4f2ee", "#a9aeba"
Vector = tuple[float, float, float]


def sculpture(head: HeadModel, attributes, size: int, warm: Vector, cool: Vector) -> Image.Image:
    """RGBA of the head (size, size); warm, cool: where the two lights come from (x right, y up, z to the viewer)."""
    shown = render(head, attributes, size)
    normals = shown.normals[0].movedim(0, -1).numpy()
    picture = np.array(FILL) * np.ones_like(normals)
    for direction, colour, strength in ((warm, WARM, 1.05), (cool, COOL, 0.95)):
        towards = np.array(direction) / np.linalg.norm(direction)
        lambert = normals @ towards
        half = towards + np.array((0, 0, 1))
        half /= np.linalg.norm(half)
        shine = np.clip(normals @ half, 0, 1) ** 24
        picture += strength * np.clip(lambert, 0, None)[..., None] ** 1.15 * np.array(colour) + 0.10 * shine[..., None] * np.array(colour)
    picture = 1 - np.exp(-1.55 * picture)  # rolls off instead of burning out
    # the shoulders end where the render does: let them sink into the dark
    down, across = np.linspace(0, 1, size)[:, None, None], np.abs(np.linspace(-1, 1, size))[None, :, None]
    fade = np.clip((1.02 - down) / 0.3, 0, 1) * np.clip((0.98 - across) / 0.25, 0, 1)
    pixels = np.concatenate([picture * fade, shown.mask[0].movedim(0, -1).numpy() * fade**0.5], -1)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8), "RGBA")


def backdrop(width: int, height: int, centre: tuple[float, float]) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot((x - centre[0]) / height, (y - centre[1]) / height)[..., None]
    mix = np.clip(distance / 0.95, 0, 1) ** 1.3
    return Image.fromarray(((1 - mix) * NIGHT + mix * np.array(DEEP)).round().astype(np.uint8), "RGB")


def icon(head: HeadModel, face) -> Image.Image:
    side = ICON * SCALE
    page = backdrop(side, side, (side * 0.5, side * 0.42))
    size = round(side * 1.3)
    straight = adjust(face, Adjustments(absolute=True, yaw=0, pitch=0, roll=0), head.expression_names)
    figure = sculpture(head, straight, size, (-1.0, 0.25, 0.35), (1.0, 0.25, 0.35))
    page.paste(figure, ((side - size) // 2, round(side * 0.5 - size * 0.447)), figure)
    return page.resize((ICON, ICON), Image.Resampling.LANCZOS)


def banner(head: HeadModel, face) -> Image.Image:
    width, height = (SCALE * side for side in BANNER)
    page = backdrop(width, height, (width * 0.66, height * 0.45))
    # place and size as shares of the width and height, what the head does, where the warm and the cool light come from
    figures = (
        (0.555, 0.86, Adjustments(absolute=True, yaw=-30, pitch=0, roll=0), (-1.0, 0.3, 0.3), (0.9, 0.1, -0.25)),
        (0.865, 0.86, Adjustments(absolute=True, yaw=30, pitch=0, roll=0), (-0.9, 0.1, -0.25), (1.0, 0.3, 0.3)),
        (0.71, 1.04, Adjustments(absolute=True, yaw=0, pitch=0, roll=0, smile=0.7), (-1.0, 0.25, 0.35), (1.0, 0.25, 0.35)),
    )
    for place, share, change, warm, cool in figures:
        size = round(height * share)
        figure = sculpture(head, adjust(face, change, head.expression_names), size, warm, cool)
        page.paste(figure, (round(width * place) - size // 2, height - size), figure)
    draw = ImageDraw.Draw(page)
    left = round(width * 0.055)
    lines = (("DiffFAE", 0.215, 0.52, PAPER), ("pose, expression, light", 0.073, 0.64, GREY))
    for text, share, base, colour in lines:
        draw.text((left, round(height * base)), text, fill=colour, font=ImageFont.load_default(round(height * share)), anchor="ls")
    return page.resize(BANNER, Image.Resampling.LANCZOS)


@torch.inference_mode()
def main(folder: str = "assets") -> None:
    head = HeadModel.load()
    face = DiffFAE.from_pretrained("open-256").analyse(read_image(asset_path("source.png"))[0]).attributes
    face = replace(face, expression=torch.zeros_like(face.expression), shape=0.35 * face.shape)  # nobody's head
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, picture in (("icon.png", icon(head, face)), ("banner.png", banner(head, face))):
        picture.save(Path(folder) / name, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
