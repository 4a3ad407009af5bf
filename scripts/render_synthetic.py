"""Draw docs/synthetic.jpg, a contact sheet of rendered people as training sees them.

python scripts/render_synthetic.py MAKEHUMAN docs/synthetic.jpg [--count 64] [--expressions landmarks.npz] [--seed 9000]

The shards that training reads come from `python -m difffae prepare people`.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from difffae.common.images import to_picture
from difffae.head.morphable import HeadModel
from difffae.lab.people.behaviour import load_expressions
from difffae.lab.studio.lens import photograph
from difffae.lab.studio.synthetic import SyntheticPeople

TILE = 160  # pixels of a picture on the sheet


def sheet(people: SyntheticPeople, seed: int, count: int) -> Image.Image:
    """`count` people as training sees them, eight in a row."""
    tiles = []
    for s in range(seed, seed + count):
        taken = photograph(people.portrait(s).image, s)
        tiles.append(F.interpolate(taken, (TILE, TILE), mode="bicubic", antialias=True)[0].clamp(0, 1))
    rows = [torch.cat(tiles[k : k + 8], 2) for k in range(0, count, 8)]
    return to_picture(torch.cat(rows, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("makehuman", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=64, help="a multiple of 8")
    parser.add_argument("--expressions", type=Path, help=".npz with blendshapes of real faces")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first person")
    arguments = parser.parse_args()
    head = HeadModel.load()
    table = load_expressions(arguments.expressions, head.expression_names) if arguments.expressions else None
    people = SyntheticPeople(arguments.makehuman, head, expressions=table)
    sheet(people, arguments.seed, arguments.count).save(arguments.output, quality=82, optimize=True)


if __name__ == "__main__":
    main()
