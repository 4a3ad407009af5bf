"""Render synthetic portrait pairs into shards for training.

python scripts/render_synthetic.py MAKEHUMAN PAIRS --slots SLOTS [--expressions landmarks.npz] [--photographs FOLDER] [--count 500]

PAIRS/synthetic_NNN.safetensors holds pairs of one person: images (N,2,3,256,256) uint8, labels (N,2,256,256) uint8, and the attributes
of both pictures: shape, albedo, pose (N,2,5,3), camera, expression, light (N,2,9,3). SLOTS/synthetic_NNN.safetensors holds the same
pictures singly: images (2N,3,256,256), labels (2N,256,256). Shards appear as they are finished; existing ones are kept.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from difffae.data.people import load_expressions
from difffae.data.synthetic import SyntheticPeople
from difffae.head import HeadModel

LOG = logging.getLogger("render_synthetic")


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Under a temporary name first, so that a training that runs already never reads half a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("makehuman", type=Path)
    parser.add_argument("pairs", type=Path, help="folder for the pairs")
    parser.add_argument("--slots", type=Path, help="folder for single labelled pictures")
    parser.add_argument("--expressions", type=Path, help=".npz with blendshapes of real faces")
    parser.add_argument("--photographs", type=Path, help="folder of pictures for backgrounds")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--shard", type=int, default=100, help="pairs in a shard")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first pair")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    head = HeadModel.load()
    table = load_expressions(arguments.expressions, head.expression_names) if arguments.expressions else None
    people = SyntheticPeople(arguments.makehuman, head, expressions=table, photographs=arguments.photographs)
    for number in range(-(-arguments.count // arguments.shard)):
        path = arguments.pairs / f"synthetic_{number:03d}.safetensors"
        if path.exists():
            continue
        first = arguments.seed + number * arguments.shard
        made = [people.pair(s) for s in range(first, min(first + arguments.shard, arguments.seed + arguments.count))]
        images = torch.stack([(pair.image * 255).round().to(torch.uint8) for pair in made])
        labels = torch.stack([pair.labels for pair in made])
        names = made[0].attributes.tensors()
        attributes = {name: torch.stack([getattr(pair.attributes, name) for pair in made]) for name in names}
        if arguments.slots:
            write(arguments.slots / path.name, {"images": images.flatten(0, 1), "labels": labels.flatten(0, 1)})
        write(path, {"images": images, "labels": labels, **attributes})
        LOG.info("%s: %d pairs", path, len(made))


if __name__ == "__main__":
    main()
