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
from safetensors.torch import save_file
from torch import Tensor

from difffae.head.morphable import HeadModel
from difffae.lab.people.behaviour import load_expressions
from difffae.lab.people.people import STYLES, Person
from difffae.lab.studio.lens import photograph
from difffae.lab.studio.synthetic import SyntheticPeople

LOG = logging.getLogger("render_synthetic")
TILE = 160  # pixels of a picture on the sheet


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Under a temporary name first, so that a training that runs already never reads half a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


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


def sheet(people: SyntheticPeople, seed: int, count: int) -> Image.Image:
    """`count` people as training sees them, eight in a row."""
    tiles = []
    for s in range(seed, seed + count):
        taken = photograph(people.portrait(s).image, s)
        tiles.append(F.interpolate(taken, (TILE, TILE), mode="bicubic", antialias=True)[0].clamp(0, 1))
        LOG.info("picture %d of %d", len(tiles), count)
    rows = [torch.cat(tiles[k : k + 8], 2) for k in range(0, count, 8)]
    return Image.fromarray((torch.cat(rows, 1) * 255).round().byte().permute(1, 2, 0).numpy())


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
    for number in range(-(-arguments.count // arguments.shard)):
        path = arguments.pairs / f"synthetic_{number:03d}.safetensors"
        if path.exists():
            continue
        first = arguments.seed + number * arguments.shard
        seeds = range(first, min(first + arguments.shard, arguments.seed + arguments.count))
        made = [people.pair(s) for s in seeds]
        images = torch.stack([(pair.image * 255).round().to(torch.uint8) for pair in made])
        labels = torch.stack([pair.labels for pair in made])
        names = made[0].attributes.tensors()
        tensors = {name: torch.stack([getattr(pair.attributes, name) for pair in made]) for name in names}
        persons = [facts(people.person(s)) for s in seeds]
        tensors |= {name: torch.tensor([float(person[name]) for person in persons]) for name in persons[0]}
        if arguments.geometry:
            tensors["depth"] = torch.stack([pair.depth[:, 0] for pair in made]).half()
            tensors["normals"] = torch.stack([(pair.normals * 127).round().to(torch.int8) for pair in made])
        if arguments.slots:
            write(arguments.slots / path.name, {"images": images.flatten(0, 1), "labels": labels.flatten(0, 1)})
        write(path, {"images": images, "labels": labels, **tensors})
        LOG.info("%s: %d pairs", path, len(made))


if __name__ == "__main__":
    main()
