"""Render the reference portraits of the bundled workflows: `python scripts/render_examples.py MAKEHUMAN` writes difffae/assets/*.jpg.

Three synthetic people, one for each group of attributes: a turned head, a surprised face, a hard light from the left of the image.
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from difffae.common.checkpoint import asset_path
from difffae.common.images import to_picture
from difffae.head.adjust import Adjustments, adjust
from difffae.head.morphable import HeadModel
from difffae.lab.people.people import frame
from difffae.lab.people.randomness import generator
from difffae.lab.studio.synthetic import SyntheticPeople

SIDE = 384
MEAN_SHAPE = 0.4  # share of a random person's deviation from the mean head that is kept: rarer faces look less like people


def both(stem: str, value: float) -> dict[str, float]:
    return {f"{stem}Left": value, f"{stem}Right": value}


@dataclass(frozen=True)
class Example:
    """seed: the person; backdrop: seed of the background; light: degrees from the right of the image, degrees from above, share from
    one side; expression: scores by name."""

    seed: int
    backdrop: int
    yaw: float = 0.0
    light: tuple[float, float, float] = (10.0, 25.0, 0.35)
    expression: dict[str, float] = field(default_factory=dict)


EXAMPLES = {
    "turned": Example(17, 9, yaw=20),
    "surprised": Example(21, 1, expression=both("browOuterUp", 0.8) | both("eyeWide", 0.5) | {"browInnerUp": 0.9, "jawOpen": 0.35}),
    "side_light": Example(10, 22, light=(-75, 10, 0.9), expression=both("mouthSmile", 0.3)),
}


def render(people: SyntheticPeople, example: Example) -> torch.Tensor:
    """(3,SIDE,SIDE) in 0..1."""
    person = people.person(example.seed)
    shape = person.shape * MEAN_SHAPE
    person = replace(person, shape=shape, camera=frame(people.head, shape, generator(0)))
    names = people.head.expression_names
    calm, _ = people.attributes(person, example.seed)
    scores = torch.tensor([[example.expression.get(name, 0.0) for name in names]])
    calm = replace(calm, pose=torch.zeros_like(calm.pose), expression=scores)
    azimuth, elevation, strength = example.light
    wanted = Adjustments(yaw=example.yaw, light_azimuth=azimuth, light_elevation=elevation, light_strength=strength)
    return people.render(person, adjust(calm, wanted, names), example.backdrop, SIDE).image[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("makehuman", type=Path, help="folder of MakeHuman's CC0 assets")
    parser.add_argument("--out", type=Path, default=asset_path("source.png").parent)
    arguments = parser.parse_args()
    people = SyntheticPeople(arguments.makehuman, HeadModel.load())
    for name, example in EXAMPLES.items():
        to_picture(render(people, example)).save(arguments.out / f"{name}.jpg", quality=92)


if __name__ == "__main__":
    main()
