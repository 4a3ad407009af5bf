"""Render synthetic portrait pairs into shards for training, or a contact sheet of them.

python scripts/render_synthetic.py MAKEHUMAN PAIRS [--slots SLOTS] [--expressions landmarks.npz] [--photographs FOLDER] [--count 500]
python scripts/render_synthetic.py MAKEHUMAN docs/synthetic.jpg --sheet 64 [--expressions landmarks.npz] [--seed 9000]

PAIRS/synthetic_NNN.safetensors holds pairs of one person: images (N,2,3,256,256) uint8, labels (N,2,256,256) uint8 (0 face, 1 hair,
2 clothes, 3 background), the attributes of both pictures: shape, albedo, pose (N,2,5,3), camera, expression, light (N,2,9,3), and of each
person seed, tone (ITA in degrees), male (0 or 1), age (years), style (index into people.STYLES), glasses and hat (0 or 1), each (N,).
With --geometry also depth (N,2,256,256) float16 and normals (N,2,3,256,256) int8, 1/127. SLOTS/synthetic_NNN.safetensors holds the same
pictures singly: images (2N,3,256,256), labels (2N,256,256). Shards appear as they are finished; existing ones are kept.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from difffae.common.images import to_picture
from difffae.head.morphable import HeadModel
from difffae.lab.people.behaviour import load_expressions
from difffae.lab.people.people import STYLES, Person
from difffae.lab.prepare.pairs import to_bytes
from difffae.lab.prepare.shards import write_shard
from difffae.lab.studio.lens import photograph
from difffae.lab.studio.synthetic import SyntheticPeople

LOG = logging.getLogger("render_synthetic")
TILE = 160  # pixels of a picture on the sheet


def facts(person: Person) -> dict[str, float]:
    """What a person is, as numbers."""
    return {
        "seed": person.seed,
        "tone": person.tone,
        "male": person.sex == "male",
        "age": person.age,
        "style": [style for style, _, _ in STYLES].index(person.style),
        "glasses": person.glasses is not None,
        "hat": person.hat is not None,
    }


def shard(people: SyntheticPeople, seeds: range, geometry: bool) -> dict[str, Tensor]:
    """The tensors of one shard of pairs."""
    made = [people.pair(seed) for seed in seeds]
    persons = [facts(people.person(seed)) for seed in seeds]
    tensors = {"images": torch.stack([to_bytes(pair.image) for pair in made]), "labels": torch.stack([pair.labels for pair in made])}
    tensors |= {name: torch.stack([getattr(pair.attributes, name) for pair in made]) for name in made[0].attributes.tensors()}
    tensors |= {name: torch.tensor([float(person[name]) for person in persons]) for name in persons[0]}
    if geometry:
        tensors["depth"] = torch.stack([pair.depth[:, 0] for pair in made]).half()
        tensors["normals"] = torch.stack([(pair.normals * 127).round().to(torch.int8) for pair in made])
    return tensors


def sheet(people: SyntheticPeople, seed: int, count: int) -> Image.Image:
    """`count` people as training sees them, eight in a row."""
    tiles = []
    for s in range(seed, seed + count):
        taken = photograph(people.portrait(s).image, s)
        tiles.append(F.interpolate(taken, (TILE, TILE), mode="bicubic", antialias=True)[0].clamp(0, 1))
        LOG.info("picture %d of %d", len(tiles), count)
    rows = [torch.cat(tiles[k : k + 8], 2) for k in range(0, count, 8)]
    return to_picture(torch.cat(rows, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("makehuman", type=Path)
    parser.add_argument("pairs", type=Path, help="folder for the pairs, or the sheet's file")
    parser.add_argument("--slots", type=Path, help="folder for single labelled pictures")
    parser.add_argument("--expressions", type=Path, help=".npz with blendshapes of real faces")
    parser.add_argument("--photographs", type=Path, help="folder of pictures for backgrounds")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--shard", type=int, default=100, help="pairs in a shard")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first pair")
    parser.add_argument("--geometry", action="store_true", help="keep depth and normals as well")
    parser.add_argument("--sheet", type=int, metavar="N", help="write one picture of N people (a multiple of 8) instead of shards")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    head = HeadModel.load()
    table = load_expressions(arguments.expressions, head.expression_names) if arguments.expressions else None
    people = SyntheticPeople(arguments.makehuman, head, expressions=table, photographs=arguments.photographs)
    if arguments.sheet:
        sheet(people, arguments.seed, arguments.sheet).save(arguments.pairs, quality=82, optimize=True)
        return
    folders = [arguments.pairs] if arguments.slots is None else [arguments.pairs, arguments.slots]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    end = arguments.seed + arguments.count
    for number, first in enumerate(range(arguments.seed, end, arguments.shard)):
        path = arguments.pairs / f"synthetic_{number:03d}.safetensors"
        if path.exists():
            continue
        tensors = shard(people, range(first, min(first + arguments.shard, end)), arguments.geometry)
        if arguments.slots:
            write_shard(arguments.slots / path.name, {name: tensors[name].flatten(0, 1) for name in ("images", "labels")})
        write_shard(path, tensors)
        LOG.info("%s: %d pairs", path, len(tensors["images"]))


if __name__ == "__main__":
    main()
