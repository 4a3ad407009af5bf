"""Draw docs/edit.jpg and docs/swap.jpg: edits and swaps of the bundled pictures, as `python -m difffae` makes them.

python scripts/readme_picture.py docs/edit.jpg docs/swap.jpg
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

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
    numbers = {
        "--yaw 18": Adjustments(yaw=18),
        "--grin 0.8": Adjustments(grin=0.8),
        "--blink 1": Adjustments(blink=1),
        "--light-azimuth -60 --light-strength 0.9": Adjustments(light_azimuth=-60, light_strength=0.9),
    }
    cells: Cells = []
    for who, other in ((a, b), (b, a)):
        cells.append(("source", who.picture))
        cells += [(text, model.edit(who, adjust=change).crop) for text, change in numbers.items()]
        cells.append(("--query (the other one)", model.edit(who, other).crop))
    return cells


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
    sheet(edits(model, a, b), 6).save(edit_path, quality=90, optimize=True)
    sheet(swaps(model, a, b, c), 6).save(swap_path, quality=90, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
