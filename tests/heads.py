"""The bundled head, and a person with a mass of hair."""

from __future__ import annotations

import pytest
from painted import HAIR, SIZE, SKIN, paint
from people import person

from difffae.carry.hair_volume import middle_of_skull
from difffae.common.pixels import dilate, pixel_grid
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.head.shading import project
from difffae.source.regions import Layers


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return HeadModel.load()


@pytest.fixture(scope="session")
def afro(head: HeadModel):
    """A person with a round mass of hair of 12 pixels around the skull: picture, layers, attributes."""
    face = person(head, 3)
    covered = render(head, face, SIZE).mask
    points = project(head(face.shape, face.expression, face.pose), face.camera)[..., :2]
    middle = middle_of_skull(head, points)[0, 0]
    above = (pixel_grid(SIZE, SIZE, covered)[..., 1] < middle[1] + 0.1)[None, None]
    hair = dilate(covered, 25) * above * (1 - covered)
    person_mask = covered.maximum(hair)
    return paint((covered, SKIN), (hair, HAIR)), Layers(person_mask, person_mask, hair, hair), face
