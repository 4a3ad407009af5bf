"""MakeHuman's assets -> shards of rendered pairs: two pictures of one person, with exact labels and attributes.

synthetic_NNN.safetensors holds pairs of one person: images (N,2,3,256,256) uint8, labels (N,2,256,256) uint8 (0 face, 1 hair,
2 clothes, 3 background), the attributes of both pictures: shape, albedo, pose (N,2,5,3), camera, expression, light (N,2,9,3), and of each
person seed, tone (ITA in degrees), male (0 or 1), age (years), style (index into people.STYLES), glasses and hat (0 or 1), each (N,).
With geometry also depth (N,2,256,256) float16 and normals (N,2,3,256,256) int8, 1/127.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..people.people import STYLES, Person
from ..studio.synthetic import SyntheticPeople
from .pairs import to_bytes
from .shards import is_wanted, write_shard


def write_people(
    people: SyntheticPeople,
    output: Path,
    count: int,
    *,
    seed: int = 0,
    per_shard: int = 100,
    labelled: Path | None = None,
    geometry: bool = False,
    fingerprints: Mapping[str, str] | None = None,
) -> None:
    """Write shards of pairs; they appear as they are finished, and existing ones are kept.

    Args:
        people: Who is rendered.
        output: Folder of the shards.
        count: Pairs, each of another person.
        seed: Of the first pair; the others have the seeds after it.
        per_shard: Pairs in a shard.
        labelled: A folder for the same pictures singly, for the slots: images (2N,3,S,S) and labels (2N,S,S).
        geometry: Keep depth and normals too.
        fingerprints: Of the head's file.

    Raises:
        ConfigError: For shards that are there and were made with another head file.
    """
    for folder in (output, labelled) if labelled is not None else (output,):
        folder.mkdir(parents=True, exist_ok=True)
    seeds = range(seed, seed + count)
    with tqdm(total=count, desc="people", unit="person") as bar:
        for number, start in enumerate(range(0, count, per_shard)):
            path, chosen = output / f"synthetic_{number:03d}.safetensors", seeds[start : start + per_shard]
            if is_wanted(path, fingerprints or {}):
                tensors = _shard(people, chosen, geometry, bar)
                if labelled is not None:
                    write_shard(labelled / path.name, {name: tensors[name].flatten(0, 1) for name in ("images", "labels")})
                write_shard(path, tensors, fingerprints)
            bar.update(start + len(chosen) - bar.n)


def _shard(people: SyntheticPeople, seeds: range, geometry: bool, bar: tqdm) -> dict[str, Tensor]:
    made = []
    for seed in seeds:
        made.append(people.pair(seed))
        bar.update()
    persons = [facts(people.person(seed)) for seed in seeds]
    tensors = {"images": torch.stack([to_bytes(pair.image) for pair in made]), "labels": torch.stack([pair.labels for pair in made])}
    tensors |= {name: torch.stack([getattr(pair.attributes, name) for pair in made]) for name in made[0].attributes.tensors()}
    tensors |= {name: torch.tensor([float(person[name]) for person in persons]) for name in persons[0]}
    if geometry:
        tensors["depth"] = torch.stack([pair.depth[:, 0] for pair in made]).half()
        tensors["normals"] = torch.stack([(pair.normals * 127).round().to(torch.int8) for pair in made])
    return tensors


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
