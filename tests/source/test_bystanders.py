"""Who is who in a picture of several people."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difffae.common.pixels import dilate
from difffae.source.bystanders import distances, find_bystanders, walk

HEIGHT, WIDTH = 160, 200
RIM = 0.04  # of the longer side
SKIN, SHIRT, WALL = (0.8, 0.6, 0.5), ((0.7, 0.1, 0.1), (0.1, 0.3, 0.7)), (0.55, 0.6, 0.55)


def oval(x: float, y: float, height: float) -> Tensor:
    """(478,2) landmarks of which only the four ends of the oval matter."""
    points = torch.tensor([[x, y]]).repeat(478, 1)
    for index, across, down in ((10, 0, -0.5), (152, 0, 0.5), (234, -0.38, 0), (454, 0.38, 0)):
        points[index] += height * torch.tensor([across, down])
    return points


def picture(people: list[tuple[float, float, float]]) -> tuple[Tensor, list[Tensor]]:
    """Faces on bodies (x, y, height of the face) before a wall, the last one in front; and where each of them shows (H,W)."""
    ys, xs = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    image = torch.tensor(WALL)[:, None, None].expand(3, HEIGHT, WIDTH).clone()
    masks: list[Tensor] = []
    for number, (x, y, size) in enumerate(people):
        u, v = (xs - x) / size, (ys - y) / size
        head, body = (u / 0.4).square() + (v / 0.55).square() < 1, (v > 0.6) & (u.abs() < 0.8)
        for mask, colour in ((body, SHIRT[number]), (head, tuple(0.9 * (1 - 0.4 * number) * one for one in SKIN))):
            image = torch.where(mask, torch.tensor(colour)[:, None, None], image)
        masks = [before & ~(head | body) for before in masks] + [head | body]
    return image[None], masks


@pytest.mark.parametrize("gap", [0.72, 0.85, 1.2])
@pytest.mark.parametrize("own", [0, 1])
def test_every_person_has_its_own_head(gap: float, own: int) -> None:
    people = [(70.0, 60.0, 60.0), (70 + 60 * gap, 64.0, 60.0)]
    image, masks = picture(people)
    faces = [oval(*one) for one in people]
    matte = (masks[0] | masks[1]).float()[None, None]
    found = find_bystanders(image, matte, faces[own], faces[1 - own][None])
    share, heads = (found.behind + found.before)[0, 0], torch.arange(HEIGHT)[:, None] < 90  # above the chins
    assert share[masks[1 - own] & heads].mean() > 0.97
    # but for a rim around the other, whose strands a matte misses
    far = dilate(masks[1 - own][None, None].float(), 2 * round(RIM * WIDTH) + 1)[0, 0] == 0
    assert share[masks[own] & heads & far].mean() < 0.01
    assert share[~masks[0] & ~masks[1] & far & heads].mean() < 0.01


@pytest.mark.parametrize("own", [0, 1])
def test_who_covers_whom(own: int) -> None:
    people = [(80.0, 60.0, 60.0), (116.0, 60.0, 60.0)]  # the heads overlap, the second is in front
    image, masks = picture(people)
    faces = [oval(*one) for one in people]
    found = find_bystanders(image, (masks[0] | masks[1]).float()[None, None], faces[own], faces[1 - own][None])
    front, behind = float(found.before.sum()), float(found.behind.sum())
    assert (front > 0) == (own == 0)
    assert (behind > 0) == (own == 1)


def test_several_others_are_all_told_apart() -> None:
    people = [(40.0, 60.0, 40.0), (150.0, 60.0, 40.0)]
    image, masks = picture(people)
    faces = torch.stack([oval(*one) for one in people])
    far = oval(260.0, 60.0, 40.0)  # outside of the picture
    found = find_bystanders(image, (masks[0] | masks[1]).float()[None, None], faces[0], torch.stack([faces[1], far]))
    assert (found.behind + found.before)[0, 0][masks[1]].mean() > 0.95


def test_distances_are_one_at_the_outline_whatever_the_turn() -> None:
    face = oval(100.0, 80.0, 50.0)
    turned = (face - face.mean(0)).flip(1) * torch.tensor([-1.0, 1.0]) + face.mean(0)  # lies on its side
    upright, lying = distances(torch.stack([face, turned]), (HEIGHT, WIDTH))[0]
    assert upright[80, 100] < 0.3
    assert lying[80, 100] < 0.3
    assert abs(float(upright[79, int(100 + 1.2 * 0.38 * 50)]) - 1) < 0.1
    assert abs(float(lying[int(80 + 1.2 * 0.38 * 50), 100]) - 1) < 0.1


def test_a_walk_stops_at_edges() -> None:
    image = torch.zeros(1, 3, 16, 16)
    image[..., 10:] = 1
    certain = torch.zeros(2, 16, 16, dtype=torch.bool)
    certain[0, 8, 1], certain[1, 8, 14] = True, True
    shares = walk(image, torch.full((2, 16, 16), 0.5), certain)
    torch.testing.assert_close(shares.sum(0), torch.ones(16, 16))
    assert shares[0, :, :10].min() > 0.5
    assert shares[1, :, 10:].min() > 0.5
