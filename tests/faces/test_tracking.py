"""One face over frames: choosing, filling gaps, smoothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from people import person
from torch import Tensor

from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError, FaceChoiceError, NoFaceError
from difffae.common.images import read_image
from difffae.common.rotations import axis_angle_to_matrix
from difffae.faces.blendshapes import BLENDSHAPE_NAMES
from difffae.faces.crop import FaceCrop
from difffae.faces.landmarker import Face, FaceLandmarker
from difffae.faces.tracking import faces_from_mediapipe, faces_in_boxes, follow_face, join_track, smooth_attributes, smooth_crops
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel

HINT = "use a picture in which a face is at least about 40 pixels high and not in profile"


def face(x: float, y: float, side: float, score: float = 0.5) -> Face:
    """A face of 478 points in a square around (x, y); `score` fills the blendshapes."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(478, 3, generator=generator) - 0.5
    points = points - points.mean(0)
    landmarks = points * side + torch.tensor([x, y, 0.0])
    box = torch.tensor([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    return Face(box, landmarks, torch.full((52,), score), 0.9)


def test_the_same_person_is_followed_when_areas_cross() -> None:
    """One comes nearer while the other goes: the largest face changes, the person does not."""
    frames = []
    for number in range(7):
        left, right = face(100 + 2 * number, 100, 80 - 8 * number), face(300 - 2 * number, 110, 40 + 8 * number)
        frames.append(sorted((left, right), key=lambda one: one.area, reverse=True))
    assert frames[0][0].area > frames[0][1].area
    first, second = follow_face(frames, 0), follow_face(frames, 1)
    assert [round(float(one.landmarks[:, 0].mean())) for one in first] == [100 + 2 * number for number in range(7)]
    assert [round(float(one.landmarks[:, 0].mean())) for one in second] == [300 - 2 * number for number in range(7)]


def test_a_face_is_found_again_where_it_was_lost() -> None:
    near, far = face(100, 100, 50), face(400, 100, 90)
    chosen = follow_face([[near], [], [far, face(110, 100, 30)]])
    assert chosen[0] is near
    assert chosen[1] is None
    assert float(chosen[2].landmarks[:, 0].mean()) == pytest.approx(110, abs=1e-3)
    # the index counts in the first frame that shows anybody
    assert follow_face([[], [far, near]], 1) == [None, near]


def test_a_face_that_is_not_there() -> None:
    with pytest.raises(FaceChoiceError, match=r"^image: face 2 was asked for, but frame 1 shows 2; choose 0 to 1, largest first$"):
        follow_face([[], [face(0, 0, 9), face(50, 0, 5)]], 2)


def test_gaps_are_filled_linearly() -> None:
    faces = [None, face(0, 0, 10, 0.0), None, None, face(30, 60, 10, 0.9), None]
    track = join_track(faces, "interpolate")
    assert (track.landmarks.shape, track.blendshapes.shape, len(track)) == ((6, 478, 3), (6, 52), 6)
    for number in (1, 4):
        assert torch.equal(track.landmarks[number], faces[number].landmarks)
        assert torch.equal(track.blendshapes[number], faces[number].blendshapes)
    assert torch.equal(track.landmarks[0], faces[1].landmarks)
    assert torch.equal(track.landmarks[5], faces[4].landmarks)
    middles = track.landmarks[:, :, :2].mean(1)
    torch.testing.assert_close(middles[2:4], torch.tensor([[10.0, 20.0], [20.0, 40.0]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(track.blendshapes[:, 0], torch.tensor([0.0, 0.0, 0.3, 0.6, 0.9, 0.9]))


def test_frames_without_a_face_are_named() -> None:
    known = face(0, 0, 10)
    cases = [
        ([None], "error", f"image: no face found; {HINT}"),
        ([None], "repeat", f"image: no face found; {HINT}"),
        ([known, known, None], "error", f"image: no face found in frame 2 of 3; {HINT}, or let missing faces be interpolated"),
        ([None, None], "interpolate", f"image: no face found in frame 0 of 2; {HINT}"),
    ]
    for faces, missing, message in cases:
        with pytest.raises(NoFaceError) as caught:
            join_track(faces, missing)
        assert str(caught.value) == message
    with pytest.raises(NoFaceError, match=r"^result: no face found;"):
        join_track([None], name="result")


def test_mediapipe_faces_get_their_depth_in_pixels() -> None:
    """A face there: the plane in pixels, all three axes in units of another crop. Here 192 units are 480 pixels, turned by 30 degrees."""
    own = face(200, 150, 100, 0.25)
    angle, scale = math.radians(30), 480 / 192
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    solid = own.landmarks / scale
    solid[:, :2] = (own.landmarks[:, :2] - 77) @ turn / scale
    given = {
        "landmarks_xy": own.landmarks[:, :2].numpy(),
        "landmarks_3d": solid.numpy(),
        "blendshapes": dict.fromkeys(BLENDSHAPE_NAMES[1:], 0.25),
        "score": 0.8,
    }
    small = {**given, "landmarks_xy": given["landmarks_xy"] / 4}
    (found, nobody) = faces_from_mediapipe([[small, given], []])
    assert nobody == []
    assert len(found) == 2
    torch.testing.assert_close(found[0].landmarks, own.landmarks, atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1].landmarks, own.landmarks / 4, atol=1e-3, rtol=0)
    assert found[0].area > found[1].area
    assert found[0].blendshapes.tolist() == [0.0] + [0.25] * 51
    assert found[0].score == 0.8


def test_faces_in_boxes_keep_the_boxes_order() -> None:
    landmarker = FaceLandmarker.load()
    image, _ = read_image(asset_path("source.png"))
    wide = torch.full((3, 384, 800), 0.5)
    wide[:, :, :384], wide[:, :, 416:] = image, image
    (known,) = landmarker.detect(image)[0]
    x0, y0, x1, y1 = known.box.tolist()
    box = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    empty = {"x": 5, "y": 330, "width": 40, "height": 40}
    found = faces_in_boxes(landmarker, wide, [{**box, "x": x0 + 416}, empty, box])
    assert [round(float(one.landmarks[:, 0].mean() - known.landmarks[:, 0].mean())) for one in found] == [416, 0]
    assert (found[1].landmarks[:, :2] - known.landmarks[:, :2]).norm(dim=1).mean() < 1.5
    assert faces_in_boxes(landmarker, wide, []) == []


def test_boxes_and_landmarks_of_another_kind_are_refused() -> None:
    landmarker = FaceLandmarker.load()
    image = torch.full((3, 64, 64), 0.5)
    box = {"x": 1, "y": 2, "width": 30, "height": 30}
    needed = "bboxes: boxes with x, y, width and height in pixels are needed, but "
    for wrong, message in (
        ({"x": 1, "y": 2}, needed + "one is {'x': 1, 'y': 2}"),
        (7, needed + "one is 7"),
        ({**box, "x": math.nan}, needed + "a number is not finite"),
    ):
        with pytest.raises(ConfigError) as caught:
            faces_in_boxes(landmarker, image, [box, wrong])
        assert str(caught.value) == message
    sparse = {"landmarks_xy": torch.zeros(68, 2), "landmarks_3d": torch.zeros(68, 3), "blendshapes": {}}
    with pytest.raises(ConfigError, match=r"^face_landmarks: a face has 68 points; the 478 of a MediaPipe face mesh are needed$"):
        faces_from_mediapipe([[sparse]])


def squares(places: list[tuple[int, int, int]]) -> list[FaceCrop]:
    return [FaceCrop(left, top, side, 600, 900) for left, top, side in places]


def test_a_square_that_stands_still_stays() -> None:
    for side in (101, 256):
        still = squares([(-7, 33, side)] * 9)
        assert smooth_crops(still, 2.5) == still
    path = squares([(0, 0, 100), (40, 10, 90)])
    assert smooth_crops(path, 0) == path
    assert smooth_crops(path[:1], 5) == path[:1]


def test_squares_are_smoothed() -> None:
    path = squares([(100 + (7 if number % 2 else -7), 50, 200 + (6 if number % 2 else -6)) for number in range(40)])
    smooth = smooth_crops(path, 3)
    assert max(abs(crop.centre[0] - 200) for crop in smooth[10:30]) <= 1
    assert {crop.side for crop in smooth[10:30]} == {200}
    assert {(crop.height, crop.width, crop.size) for crop in smooth} == {(600, 900, 256)}
    # a steady motion is not delayed
    moving = smooth_crops(squares([(5 * number, 0, 100) for number in range(40)]), 3)
    assert [crop.left for crop in moving[12:28]] == [5 * number for number in range(12, 28)]


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load()


def video(head: HeadModel, count: int = 9) -> FaceAttributes:
    return FaceAttributes.cat([person(head, seed, yaw=4.0 * seed) for seed in range(count)])


def test_constant_attributes_stay(head: HeadModel) -> None:
    still = person(head, 3, yaw=20.0, pitch=-10.0, roll=5.0).expand(7)
    for steady in (True, False):
        smooth = smooth_attributes(still, 2.0, steady)
        for name, values in still.tensors().items():
            torch.testing.assert_close(smooth.tensors()[name], values, atol=2e-6, rtol=1e-5)


def test_no_smoothing_returns_the_same_object(head: HeadModel) -> None:
    moving = video(head)
    assert smooth_attributes(moving, 0.0) is moving
    alone = moving[:1]
    assert smooth_attributes(alone, 3.0) is alone


def test_noise_becomes_less_and_identity_steady(head: HeadModel) -> None:
    moving = video(head, 21)
    smooth = smooth_attributes(moving, 2.0)
    for name in ("shape", "albedo"):
        torch.testing.assert_close(smooth.tensors()[name], moving.tensors()[name].mean(0, keepdim=True).expand(21, -1))
    assert smooth.expression[5:15].std(0).mean() < 0.5 * moving.expression[5:15].std(0).mean()
    loose = smooth_attributes(moving, 2.0, steady_identity=False)
    assert loose.shape[:, 0].std() > 0.1 * moving.shape[:, 0].std()


def turned(degrees: Tensor, head: HeadModel) -> FaceAttributes:
    """Whole heads turned about the vertical axis."""
    faces = person(head, 0).expand(len(degrees))
    pose = faces.pose.clone()
    pose[:, 0] = torch.stack([torch.zeros_like(degrees), torch.deg2rad(degrees), torch.zeros_like(degrees)], -1)
    return replace(faces, pose=pose)


def test_rotations_are_averaged_across_half_a_turn(head: HeadModel) -> None:
    """170 and -170 degrees lie 20 degrees apart; their mean is 180, not 0."""
    swinging = turned(torch.tensor([170.0, -170.0] * 20), head)
    smooth = smooth_attributes(swinging, 4.0)
    half_turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    assert (axis_angle_to_matrix(smooth.pose[10:30, 0]) - half_turn).abs().max() < 0.02
    ramp = smooth_attributes(turned(torch.arange(-60.0, 61.0, 3.0), head), 2.0)
    torch.testing.assert_close(torch.rad2deg(ramp.pose[10:31, 0, 1]), torch.arange(-30.0, 31.0, 3.0), atol=0.02, rtol=0)
