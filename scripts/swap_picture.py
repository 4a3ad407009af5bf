"""Draw docs/swap.jpg: swaps among the bundled pictures, as `python -m difffae swap` makes them.

python scripts/swap_picture.py docs/swap.jpg
"""

from __future__ import annotations

import sys

import torch
from PIL import Image, ImageDraw

from difffae import DiffFAE
from difffae.checkpoint import asset_path
from difffae.images import read_image

CELL = 256
ROWS = (
    ("source.png", "query.png", ("hair", "clothes", "background")),
    ("query.png", "source.png", ("hair",)),
    ("source.png", "surprised.jpg", ("hair",)),
    ("source.png", "query.png", ("background",)),
)
COLUMNS = 2  # swaps beside each other


def main(output: str) -> None:
    model = DiffFAE.from_pretrained("open-256")
    names = {name for source, reference, _ in ROWS for name in (source, reference)}
    people = {name: model.analyse(read_image(asset_path(name))[0], name=name) for name in sorted(names)}
    cells = []
    for source, reference, regions in ROWS:
        result = model.swap(people[source], people[reference], regions)
        words = " + ".join(regions)
        cells += [("source", people[source].picture), ("reference", people[reference].picture), (f"its {words}", result.crop)]
    across = 3 * COLUMNS
    sheet = Image.new("RGB", (across * CELL, len(cells) // across * (CELL + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (text, picture) in enumerate(cells):
        x, y = index % across * CELL, index // across * (CELL + 16)
        pixels = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        sheet.paste(Image.fromarray(pixels), (x, y + 16))
        draw.text((x + 4, y + 2), text, fill="black")
    sheet.save(output, quality=90, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
