"""The picture of the pages of To and From FLAME_PARAMS: a table instead of an edit, since no FLAME head may be bundled."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

INK, FAINT, HEADING, ARROW = "#22252b", "#9aa0aa", "#f2f3f5", "#d0451b"
WIDTH, PITCH, LEFT, RIGHT = 732, 46, 30, 420  # pixels: of the picture, of a row, and where the columns start
HELD = {  # field of FaceAttributes -> field of FLAME_PARAMS; None: they have none
    "shape": "shape, 100 numbers",
    "expression": "expression, 50 numbers",
    "pose: global, neck": "pose, global rotation",
    "pose: jaw": "pose, jaw",
    "camera: scale": "scale",
    "camera: x, y": "translation",
    "pose: eyes": None,
    "albedo, detail, light": None,
}


def flame_table() -> Image.Image:
    page = Image.new("RGB", (WIDTH, PITCH * (len(HELD) + 1) + 20), "#ffffff")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    draw.rectangle((0, 0, WIDTH, PITCH), fill=HEADING)
    rows = {"face attributes": "FLAME_PARAMS", **HELD}
    for row, (ours, theirs) in enumerate(rows.items()):
        y = row * PITCH + PITCH // 2
        draw.text((LEFT, y), ours, fill=INK, font=font, anchor="lm")
        draw.text((RIGHT, y), theirs or "not held", fill=INK if theirs else FAINT, font=font, anchor="lm")
        if theirs and row:
            draw.line([(RIGHT - 90, y), (RIGHT - 20, y)], fill=ARROW, width=4)
            for tip, back in ((RIGHT - 90, 14), (RIGHT - 20, -14)):
                draw.polygon([(tip, y), (tip + back, y - 9), (tip + back, y + 9)], fill=ARROW)
    return page
