"""Lines that are closed, and colours that go on, against pictures with known pixels."""

from __future__ import annotations

import torch
from painted import SKIN, WALL

from difffae.carry.filling import beyond_frame, closed_lines, without_background
from difffae.carry.options import CarryOptions


def test_lines_that_no_camera_saw_are_closed_from_both_sides():
    """Red above and blue below a line of green: the line goes, and neither a hole nor a place that may not be closed is touched."""
    picture = torch.zeros(1, 3, 40, 40)
    picture[:, 0, :19], picture[:, 2, 21:] = 0.8, 0.6
    picture[:, 1, 19:21] = 1
    validity = torch.ones(1, 1, 40, 40)
    validity[..., 19:21, :] = 0
    validity[..., 3:12, 3:12] = 0  # a hole of nine pixels
    where = torch.ones_like(validity)
    where[..., 30:] = 0
    image, closed = closed_lines(picture, validity, where, 5)
    assert torch.equal(closed[..., 19:21, :30], torch.ones(1, 1, 2, 30))
    assert image[0, 1, 19:21, :28].max() < 0.01  # no green is left
    assert torch.allclose(image[0, :, 19, 20] + image[0, :, 20, 20], torch.tensor([0.8, 0, 0.6]), atol=0.01)
    assert image[0, 0, 19, 20] > 2 * image[0, 0, 20, 20]  # each side's own colour prevails
    line = torch.zeros(40, 40, dtype=torch.bool)
    line[19:21, :30] = True
    assert torch.equal(image[..., ~line], picture[..., ~line])
    assert torch.equal(closed[..., ~line], validity[..., ~line])
    still, same = closed_lines(picture, torch.ones_like(validity), where, 5)
    assert torch.equal(still, picture)
    assert same.min() == 1


def test_the_person_takes_no_background_along() -> None:
    """The colour of the outline's pixels, half wall, becomes the person's."""
    person_mask = torch.zeros(1, 1, 64, 64)
    person_mask[..., 20:] = 1
    person_mask[..., 19] = 0.5
    image = torch.lerp(WALL[None, :, None, None].expand(1, 3, 64, 64), SKIN[None, :, None, None], person_mask)
    solid, inner = without_background(image, person_mask, CarryOptions.outline)
    assert (solid - SKIN[None, :, None, None]).abs().max() < 1e-5
    assert torch.equal(inner[..., 24:], torch.ones(1, 1, 64, 40))
    assert float(inner[..., :20].max()) == 0


def test_hair_that_the_frame_cuts_goes_on_as_in_a_mirror():
    """A photograph that begins ten rows below the square's top and ends four columns before its right: hair in the left half."""
    picture = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    picture[..., :10, :] = picture[..., 10:11, :]
    picture[..., 36:] = picture[..., 35:36]
    inside, hair, bare = (torch.zeros(1, 1, 40, 40) for _ in range(3))
    inside[..., 10:, :36] = 1
    hair[..., :20, :20] = 1  # also where the border repeats it
    grown = beyond_frame(picture, inside, hair, bare)
    assert torch.equal(grown[..., 10:, :36], picture[..., 10:, :36])
    assert torch.allclose(grown[..., 2:10, :15], picture[..., 10:18, :15].flip(-2), atol=1e-6)
    # no hair, no mirror
    assert torch.equal(grown[..., 25:], picture[..., 25:])
    assert torch.equal(beyond_frame(picture, inside, hair * 0, bare), picture)
    whole = torch.ones_like(inside)
    assert beyond_frame(picture, whole, hair, bare) is picture
    assert torch.equal(beyond_frame(picture, whole * 0, hair, bare), picture)


def test_beside_an_ear_that_the_frame_cuts_there_is_what_lies_around_the_head():
    """A head before a wall, with an ear that its mask lacks, at which the photograph ends, fourteen columns before the square."""
    picture, inside, bare = WALL[None, :, None, None].expand(1, 3, 64, 64).clone(), torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    picture[..., 24:40, 20:49] = SKIN[:, None, None]
    picture[..., 30:34, 49:] = SKIN[:, None, None]  # as the border repeats it
    inside[..., :50] = 1
    bare[..., 24:40, 20:49] = 1
    still = torch.zeros(1, 1, 64, 64)
    grown = beyond_frame(picture, inside, still, bare)
    assert torch.equal(grown[..., :50], picture[..., :50])
    assert (picture[..., 50:] - WALL[:, None, None]).abs().max() > 0.1
    assert (grown[..., 50:] - WALL[:, None, None]).abs().max() < 0.02
    # a head away from the frame: as it was
    assert torch.equal(beyond_frame(picture, inside, still, torch.where(torch.arange(64) < 44, bare, 0)), picture)
