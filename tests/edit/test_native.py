"""The photograph is moved in its own pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from difffae.edit.description import Faces
from difffae.edit.native import LARGEST, SMALLEST, native_rows, native_side, with_photograph
from difffae.faces.crop import FaceCrop, extract


def faces(*sides: int, picture: int = 700) -> Faces:
    original = torch.rand(1, 3, picture, picture, generator=torch.Generator().manual_seed(1))
    squares = tuple(FaceCrop(20, 10, side, picture, picture) for side in sides)
    cut = [extract(original, square) for square in squares]
    return Faces(torch.cat([one for one, _ in cut]), torch.cat([known for _, known in cut]), squares, original)


@pytest.mark.parametrize(("sides", "expected"), [((300,), 300), ((301,), 302), ((100,), SMALLEST), ((690,), LARGEST), ((300, 411), 412)])
def test_side(sides: tuple[int, ...], expected: int):
    assert native_side(faces(*sides)) == expected


def test_pixels_are_the_photographs_own():
    some = faces(300)
    picture, inside = native_rows(some, 300, 1)
    assert some.original is not None
    assert torch.equal(picture, some.original[..., 10:310, 20:320])
    assert inside.min() == 1


def test_rows_of_a_batch():
    some = faces(300, 280)
    whole, _ = native_rows(some, 300, 2)
    second, _ = native_rows(some, 300, 2, slice(1, 2))
    assert whole.shape == (2, 3, 300, 300)
    assert torch.equal(whole[1:], second)
    assert not torch.equal(whole[:1], second)


def test_squares_that_were_worked_on_are_moved_as_they_are():
    crop = faces(300)
    loose = replace(crop, squares=(), original=None)
    assert native_side(with_photograph(loose, crop)) == 300
    painted = replace(loose, picture=1 - loose.picture)
    assert with_photograph(painted, crop) is painted
    assert native_side(painted) == 256
    assert torch.equal(native_rows(painted, 256, 1)[0], painted.picture)
