"""One person through frames with cuts, others and gaps; the people are the bundled portraits, pasted into one picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difffae.common.checkpoint import asset_path
from difffae.common.errors import FaceChoiceError
from difffae.common.images import read_image
from difffae.faces.following import VIEWS, Follower
from difffae.faces.landmarker import FaceLandmarker
from difffae.faces.tracking import follow_face
from difffae.source.identity import IdentityNetwork

HEIGHT, WIDTH, SIDE = 300, 640, 260
HERE, THERE = 20, 350


@pytest.fixture(scope="module")
def landmarker() -> FaceLandmarker:
    return FaceLandmarker.load()


@pytest.fixture(scope="module")
def identity() -> IdentityNetwork:
    return IdentityNetwork.load()


@pytest.fixture(scope="module")
def people() -> dict[str, Tensor]:
    """Two people who look alike for the network (0.49 apart), their faces in the same place of squares of one size."""
    read = {name: read_image(asset_path(f"{name}.jpg"))[0] for name in ("surprised", "turned")}
    return {name: F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0] for name, image in read.items()}


def frame(people: dict[str, Tensor], dim: float = 1.0, **where: int) -> Tensor:
    """A frame (3,H,W) with people from these columns on."""
    picture = torch.full((3, HEIGHT, WIDTH), 0.5)
    for name, x in where.items():
        picture[:, 20 : 20 + SIDE, x : x + SIDE] = people[name]
    return picture * dim


def followed(landmarker: FaceLandmarker, identity: IdentityNetwork | None, frames: list[Tensor], index: int = 0) -> list[int | None]:
    """The column at which the followed face begins in each frame, to 10 pixels, relative to where the squares were pasted."""
    pictures = torch.stack(frames)
    chosen = follow_face(landmarker.detect(pictures), index, "video", pictures, identity)
    return [None if face is None else round(float(face.box[0]) / 10) * 10 for face in chosen]


def test_whoever_leaves_is_not_replaced(landmarker: FaceLandmarker, identity: IdentityNetwork, people: dict[str, Tensor]) -> None:
    both, other, nobody = (
        frame(people, surprised=HERE, turned=THERE),
        frame(people, turned=THERE),
        frame(people),
    )
    seen = followed(landmarker, identity, [both, both, other, nobody, other, both])
    assert seen[2:5] == [None, None, None]
    assert seen[0] == seen[1] == seen[5]
    assert seen[0] is not None


def test_cuts(landmarker: FaceLandmarker, identity: IdentityNetwork, people: dict[str, Tensor]) -> None:
    """After a cut somebody else sits in exactly the same place; after the next one the person sits elsewhere."""
    one, another = frame(people, surprised=HERE), frame(people, turned=HERE)
    elsewhere = frame(people, surprised=THERE, turned=HERE)
    start, gone, moved, back = followed(landmarker, identity, [one, another, elsewhere, one])
    assert gone is None
    assert start == back
    assert start is not None
    assert moved == start + THERE - HERE


def test_by_place_alone_a_cut_or_a_leap_ends_the_track(landmarker: FaceLandmarker, people: dict[str, Tensor]) -> None:
    start, moved, leapt = followed(
        landmarker, None, [frame(people, surprised=HERE), frame(people, surprised=HERE + 20), frame(people, turned=THERE)]
    )
    assert start is not None
    assert moved == start + 20
    assert leapt is None


def test_a_dimmed_or_blurred_person_stays(landmarker: FaceLandmarker, identity: IdentityNetwork, people: dict[str, Tensor]) -> None:
    clear = frame(people, surprised=HERE)
    small = F.interpolate(clear[None], scale_factor=0.25, mode="area")
    blurred = F.interpolate(small, (HEIGHT, WIDTH), mode="bilinear")[0]
    seen = followed(landmarker, identity, [clear, frame(people, 0.95, surprised=HERE), blurred, clear])
    assert None not in seen
    assert max(seen) - min(seen) <= 10


def test_memory_stays_small(landmarker: FaceLandmarker, identity: IdentityNetwork, people: dict[str, Tensor]) -> None:
    follower = Follower(identity=identity)
    picture = frame(people, surprised=HERE)
    faces = landmarker.detect(picture)[0]
    for number in range(3 * VIEWS):
        assert follower.step(faces, (picture + 0.001 * number).clamp(0, 1)) is faces[0]
    assert len(follower.views) <= VIEWS
    assert len(follower.tokens) == 1


def test_the_face_is_chosen_in_the_first_frame_that_shows_any(landmarker: FaceLandmarker, people: dict[str, Tensor]) -> None:
    follower = Follower(index=2, name="clip.mp4")
    assert follower.step([]) is None
    with pytest.raises(FaceChoiceError, match=r"^clip.mp4: face 2 was asked for, but frame 1 shows 1; choose 0 to 0, largest first$"):
        follower.step(landmarker.detect(frame(people, turned=HERE))[0])
