"""Draw docs/edit.jpg: edits of the two bundled public-domain portraits, as `python -m difffae` makes them.

python scripts/readme_picture.py docs/edit.jpg
"""

from __future__ import annotations

import sys

import torch
from PIL import Image, ImageDraw

from difffae import Adjustments, DiffFAE
from difffae.checkpoint import asset_path
from difffae.images import read_image


def main(output: str) -> None:
    model = DiffFAE.from_pretrained("open-256")
    a, b = (model.analyse(read_image(asset_path(name))[0], name=name) for name in ("source.png", "query.png"))
    taken = model.edit(a, b)
    cells = [
        ("source", a.picture),
        ("query", b.picture),
        ("render", taken.render),
        ("carried (preview)", taken.carried),
        ("edit", taken.crop),
    ]
    numbers = {
        "--yaw 18": Adjustments(yaw=18),
        "--yaw -18 --pitch -8": Adjustments(yaw=-18, pitch=-8),
        "--jaw-open 0.6": Adjustments(jaw_open=0.6),
        "--light-azimuth -60": Adjustments(light_azimuth=-60),
        "all of a kind": Adjustments(yaw=12, roll=6, smile=-0.6, brow_up=0.6, light_azimuth=50),
    }
    numbers["--yaw 12 --roll 6 --smile -0.6 ..."] = numbers.pop("all of a kind")
    cells += [(text, model.edit(a, adjust=change).crop) for text, change in numbers.items()]
    cells += [(text, model.edit(b, adjust=change).crop) for text, change in numbers.items()]
    sheet = Image.new("RGB", (5 * 256, (len(cells) // 5) * 272), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (text, picture) in enumerate(cells):
        x, y = (index % 5) * 256, (index // 5) * 272
        pixels = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        sheet.paste(Image.fromarray(pixels), (x, y + 16))
        draw.text((x + 4, y + 2), text, fill="black")
    sheet.save(output, quality=90, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
