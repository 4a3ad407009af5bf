"""Draw docs/edit.jpg and docs/swap.jpg: edits and swaps of the bundled pictures, as `python -m difffae` makes them.

python scripts/readme_picture.py docs/edit.jpg docs/swap.jpg
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw
from torch import Tensor

from difffae import Adjustments, DiffFAE
from difffae.common.checkpoint import asset_path
from difffae.common.images import read_image, to_picture
from difffae.edit.editor import Portrait
from difffae.vocabulary import SWAPPABLE

Cells = list[tuple[str, Tensor]]
CELL, LINE = 256, 16  # pixels: side of a picture, height of its text


def edits(model: DiffFAE, a: Portrait, b: Portrait) -> Cells:
    taken = model.edit(a, b)
    cells = [("source", a.picture), ("query", b.picture), ("render", taken.render), ("carried (preview)", taken.carried)]
    cells.append(("edit", taken.crop))
    numbers = {
        "--yaw 18": Adjustments(yaw=18),
        "--yaw -18 --pitch -8": Adjustments(yaw=-18, pitch=-8),
        "--jaw-open 0.6": Adjustments(jaw_open=0.6),
        "--light-azimuth -60": Adjustments(light_azimuth=-60),
        "--yaw 12 --roll 6 --smile -0.6 ...": Adjustments(yaw=12, roll=6, smile=-0.6, brow_up=0.6, light_azimuth=50),
    }
    return cells + [(text, model.edit(who, adjust=change).crop) for who in (a, b) for text, change in numbers.items()]


def swaps(model: DiffFAE, a: Portrait, b: Portrait, long_hair: Portrait) -> Cells:
    cells: Cells = []
    chosen = ((a, b, SWAPPABLE), (b, a, ("hair",)), (a, long_hair, ("hair",)), (a, b, ("background",)))
    for source, reference, regions in chosen:
        result = model.swap(source, reference, regions)
        cells += [("source", source.picture), ("reference", reference.picture), (f"its {' + '.join(regions)}", result.crop)]
    return cells


def sheet(cells: Cells, columns: int) -> Image.Image:
    """Pictures (1,3,256,256) with their texts above them, row by row."""
    drawn = Image.new("RGB", (columns * CELL, len(cells) // columns * (CELL + LINE)), "white")
    draw = ImageDraw.Draw(drawn)
    for index, (text, picture) in enumerate(cells):
        x, y = index % columns * CELL, index // columns * (CELL + LINE)
        drawn.paste(to_picture(picture), (x, y + LINE))
        draw.text((x + 4, y + 2), text, fill="black")
    return drawn


def main(edit_path: str, swap_path: str) -> None:
    model = DiffFAE.from_pretrained("open-256")
    a, b, c = (model.analyse(read_image(asset_path(name))[0], name=name) for name in ("source.png", "query.png", "surprised.jpg"))
    sheet(edits(model, a, b), 5).save(edit_path, quality=90, optimize=True)
    sheet(swaps(model, a, b, c), 6).save(swap_path, quality=90, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
