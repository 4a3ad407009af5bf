"""Sheets of small pictures with a label above each, and charts, for the pages of the nodes."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

SIDE, LABEL, GAP = 240, 40, 6  # pixels
INK, PAPER, SOFT = "#22252b", "#ffffff", "#f2f3f5"
Cell = tuple[str, Image.Image]


def fitting(text: str, size: int, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font at `size`, or as much smaller as the text needs to fit the width."""
    while ImageFont.load_default(size).getlength(text) > width:
        size -= 1
    return ImageFont.load_default(size)


def sheet(cells: list[Cell]) -> Image.Image:
    """Up to three cells in one row, more in rows of two: the page beside the graph is 260 pixels wide."""
    columns = len(cells) if len(cells) < 4 else 2
    width = columns * SIDE + (columns - 1) * GAP
    page = Image.new("RGB", (width, -(-len(cells) // columns) * (SIDE + LABEL)), PAPER)
    draw = ImageDraw.Draw(page)
    for index, (label, picture) in enumerate(cells):
        x, y = (index % columns) * (SIDE + GAP), (index // columns) * (SIDE + LABEL)
        draw.text((x + 3, y + LABEL - 9), label, fill=INK, font=fitting(label, 10 * columns, SIDE - 6), anchor="ls")
        page.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y + LABEL))
    return page


def with_text(cells: list[Cell], lines: list[str]) -> Image.Image:
    """Cells above, lines of text below."""
    top = sheet(cells)
    size, pitch = (28, 42) if top.width > 600 else (20, 30)
    page = Image.new("RGB", (top.width, top.height + pitch * len(lines) + 16), SOFT)
    page.paste(top, (0, 0))
    draw = ImageDraw.Draw(page)
    for index, line in enumerate(lines):
        draw.text((10, top.height + 10 + pitch * index), line, fill=INK, font=fitting(line, size, top.width - 20))
    return page


def rows(*sheets: Image.Image) -> Image.Image:
    """Sheets of one width, one below the other."""
    page = Image.new("RGB", (sheets[0].width, sum(one.height for one in sheets)), PAPER)
    top = 0
    for one in sheets:
        page.paste(one, (0, top))
        top += one.height
    return page


def chart(lines: dict[str, tuple[list[float], str]]) -> Image.Image:
    """Lines over the frames of a clip: label -> (degrees, colour)."""
    page = Image.new("RGB", (3 * SIDE + 2 * GAP, 330), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    values = [value for points, _ in lines.values() for value in points]
    low, high = min(values), max(values)
    for row, (label, (points, colour)) in enumerate(lines.items()):
        corners = [(40 + 650 * i / (len(points) - 1), 290 - 250 * (value - low) / (high - low)) for i, value in enumerate(points)]
        draw.line(corners, fill=colour, width=4, joint="curve")
        draw.line([(40, 24 + 30 * row), (80, 24 + 30 * row)], fill=colour, width=4)
        draw.text((90, 24 + 30 * row), label, fill=INK, font=font, anchor="lm")
    caption = f"yaw of a turning head, frames 0 to {len(points) - 1}, {low:.0f} to {high:.0f} degrees"
    draw.text((40, 322), caption, fill=INK, font=font, anchor="ls")
    return page
