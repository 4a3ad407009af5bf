"""Landmarks: the networks against LiteRT's outputs, the geometry around them, and the portraits' stored landmarks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from places import SHARED
from torch import Tensor

from difffae.common.errors import CheckpointError, ImageError
from difffae.faces.blendshapes import BLENDSHAPE_NAMES, LANDMARK_SUBSET
from difffae.faces.detector import weighted_nms
from difffae.faces.landmarker import VISIBLE, FaceLandmarker, face_roi, search_sides, tiles
from difffae.faces.tiles import Pyramid, from_roi

PORTRAITS = SHARED / "portraits"
needs_portraits = pytest.mark.skipif(not PORTRAITS.is_dir(), reason="portraits are not here")


@pytest.fixture(scope="module")
def landmarker() -> FaceLandmarker:
    return FaceLandmarker.load()


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    with np.load(PORTRAITS / "landmarks.npz") as data:
        return {name: data[name] for name in data.files}


def read(name: str) -> Tensor:
    with Image.open(PORTRAITS / name) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def pattern(size: int) -> Tensor:
    """A smooth picture (1,3,size,size) that anyone can make again."""
    axis = torch.arange(size, dtype=torch.float64) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([0.5 + 0.5 * torch.sin(6.0 * x + 2.0 * k) * torch.cos(5.0 * y - k) for k in range(3)])[None].float()


# The numbers of the next three tests are LiteRT 2.3's, from the original face_landmarker.task on the same inputs


def test_detector_equals_litert(landmarker: FaceLandmarker) -> None:
    with torch.no_grad():
        boxes, scores = landmarker.detector(pattern(128) * 2 - 1)
    assert boxes.shape == (1, 896, 16)
    assert scores.shape == (1, 896)
    expected = {
        0: ([0.38215, 28.69572, -3.37544, -3.67470], -5.62089),
        301: ([-0.53623, 44.96355, -9.39117, -1.34639], -4.71531),
        511: ([-0.51533, 45.54976, -10.02126, -1.80299], -4.17102),
        512: ([3.14032, 48.64082, -5.05416, -5.59732], -4.29913),
        895: ([-5.65001, 108.95200, -22.87037, -16.39781], -15.31548),
    }
    for anchor, (values, score) in expected.items():
        assert boxes[0, anchor, [0, 2, 5, 15]].tolist() == pytest.approx(values, abs=1e-3)
        assert float(scores[0, anchor]) == pytest.approx(score, abs=1e-3)


def test_mesh_equals_litert(landmarker: FaceLandmarker) -> None:
    with torch.no_grad():
        landmarks, presence = landmarker.mesh(pattern(256))
    expected = {
        0: [152.56932, 155.40688, -10.55288],
        33: [93.45366, 95.63342, 6.89642],
        263: [183.45030, 95.94587, 3.81685],
        477: [175.14584, 89.69701, -3.52853],
    }
    for index, point in expected.items():
        assert landmarks[0, index].tolist() == pytest.approx(point, abs=1e-3)
    assert presence.tolist() == pytest.approx([-24.317], abs=2e-3)


def test_blendshapes_equal_litert(landmarker: FaceLandmarker) -> None:
    t = torch.arange(478.0)
    points = torch.stack([200 + 80 * torch.sin(t * 0.7), 150 + 100 * torch.cos(t * 1.3)], dim=-1)
    with torch.no_grad():
        scores = landmarker.blendshapes(points[None])
    # one block is stored in 8 bits, hence the tolerance
    assert scores[0, [1, 9, 25, 44, 51]].tolist() == pytest.approx([0.00078, 0.06161, 0.13483, 0.00110, 0.0], abs=5e-3)
    # the scores depend on neither place nor size
    moved = landmarker.blendshapes(points[None] * 3 + 50)
    torch.testing.assert_close(moved, scores, atol=1e-4, rtol=0)


def test_names_and_subset() -> None:
    assert len(BLENDSHAPE_NAMES) == len(set(BLENDSHAPE_NAMES)) == 52
    assert len(LANDMARK_SUBSET) == 146
    assert list(LANDMARK_SUBSET) == sorted(set(LANDMARK_SUBSET))


def test_weighted_nms_averages_by_score() -> None:
    a, b, c = torch.zeros(16), torch.zeros(16), torch.zeros(16)
    a[:4], b[:4], c[:4] = torch.tensor([0.0, 0, 10, 10]), torch.tensor([1.0, 0, 11, 10]), torch.tensor([50.0, 50, 60, 60])
    merged, scores = weighted_nms(torch.stack([c, a, b]), torch.tensor([0.7, 0.6, 0.9]))
    assert scores.tolist() == pytest.approx([0.9, 0.7])
    assert merged[0, :4].tolist() == pytest.approx([0.6, 0.0, 10.6, 10.0])
    assert merged[1, :4].tolist() == [50.0, 50.0, 60.0, 60.0]
    empty, none = weighted_nms(torch.zeros(0, 16), torch.zeros(0))
    assert empty.shape == (0, 16)
    assert none.shape == (0,)


@pytest.mark.parametrize("side", [12.0, 40.0, 110.0])
def test_crops_sample_where_roi_says(side: float) -> None:
    """On a picture whose value is its own x (and y), a crop's pixels are from_roi of their centres, at every reduction and turn."""
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(301) + 0.5, indexing="ij")
    rois = torch.tensor([[150.0, 100.0, side, 0.0], [140.0, 90.0, side, 0.6]])
    crops = Pyramid(torch.stack([x, y])).crop(rois, 16, "border", step=2.0)
    v, u = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5) / 16, indexing="ij")
    points = from_roi(torch.stack([u, v], dim=-1).reshape(1, -1, 2).expand(2, -1, -1), rois)
    torch.testing.assert_close(crops.flatten(2).transpose(1, 2), points, atol=1e-2, rtol=0)


def test_large_reductions_do_not_alias() -> None:
    checks = (torch.arange(512)[:, None] + torch.arange(512)[None]) % 2
    crop = Pyramid(checks.float()[None]).crop(torch.tensor([[256.0, 256.0, 512.0, 0.0]]), 32, "border")
    assert float((crop - 0.5).abs().max()) < 1e-4


def test_tiles_cover_the_picture_with_overlap() -> None:
    for height, width, side in ((400, 600, 600.0), (400, 600, 250.0), (37, 901, 100.0)):
        rois = tiles(height, width, side)
        assert set(rois[:, 2].tolist()) == {side}
        for axis, length in ((0, width), (1, height)):
            centres = rois[:, axis].unique()
            assert float(centres[0]) - side / 2 <= 0
            assert float(centres[-1]) + side / 2 >= length
            assert len(centres) == 1 or float(centres.diff().max()) <= side * 2 / 3 + 1e-3


def test_search_goes_from_the_whole_to_the_smallest_face() -> None:
    sides = search_sides(6000)
    assert sides[0] == 6000
    assert sides[-1] == pytest.approx(60 / VISIBLE)
    assert all(0.5 <= b / a < 1 for a, b in itertools.pairwise(sides))
    assert search_sides(40) == [40.0]
    assert search_sides(1000, smallest=100)[-1] == pytest.approx(100 / VISIBLE)


def test_no_face_and_odd_sizes(landmarker: FaceLandmarker) -> None:
    assert landmarker.detect(torch.zeros(3, 96, 64)) == [[]]
    assert landmarker.detect(torch.rand(2, 3, 1, 7, generator=torch.Generator().manual_seed(0))) == [[], []]


def test_bad_input_is_named(landmarker: FaceLandmarker, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\(64, 64, 3\)"):
        landmarker.detect(torch.zeros(64, 64, 3))
    with pytest.raises(ImageError, match="2 lists"):
        landmarker.landmarks_in(torch.zeros(1, 3, 64, 64), [torch.zeros(1, 4)] * 2)
    with pytest.raises(CheckpointError):
        FaceLandmarker.load(tmp_path / "missing.safetensors")


def interocular(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[468:473, :2].mean(0) - landmarks[473:478, :2].mean(0)))


def compare(landmarker: FaceLandmarker, truth: dict[str, np.ndarray], step: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Part found, mean landmark distances over the inter-ocular distance, mean score differences."""
    rows = range(0, len(truth["files"]), step)
    distances, differences = [], []
    for row in rows:
        faces = landmarker.detect(read(str(truth["files"][row])))[0]
        if faces:
            expected = truth["landmarks"][row].astype(np.float32)
            error = np.linalg.norm(faces[0].landmarks.numpy()[:, :2] - expected[:, :2], axis=1).mean()
            distances.append(error / interocular(expected))
            differences.append(np.abs(faces[0].blendshapes.numpy() - truth["blendshapes"][row].astype(np.float32)).mean())
    return len(distances) / len(rows), np.array(distances), np.array(differences)


@pytest.mark.slow
@needs_portraits
def test_portraits_sample(landmarker: FaceLandmarker, truth: dict[str, np.ndarray]) -> None:
    assert tuple(truth["blendshape_names"]) == BLENDSHAPE_NAMES
    found, distances, differences = compare(landmarker, truth, 60)
    assert found == 1
    assert distances.mean() < 0.007
    assert differences.mean() < 0.005


@pytest.mark.slow
@needs_portraits
def test_all_portraits(landmarker: FaceLandmarker, truth: dict[str, np.ndarray]) -> None:
    found, distances, differences = compare(landmarker, truth, 1)
    assert found >= 0.995
    assert distances.mean() < 0.006
    assert np.quantile(distances, 0.95) < 0.015
    assert differences.mean() < 0.004


@needs_portraits
def test_batch_equals_single(landmarker: FaceLandmarker) -> None:
    picture = read("congress_0003.webp")
    batch = landmarker.detect(torch.stack([picture, torch.zeros_like(picture), picture.flip(-1)]))
    assert [len(faces) for faces in batch] == [1, 0, 1]
    single = landmarker.detect(picture)[0][0]
    torch.testing.assert_close(batch[0][0].landmarks, single.landmarks, atol=1e-2, rtol=0)
    assert single.box.shape == (4,)
    assert float(single.box[0]) == pytest.approx(float(single.landmarks[:468, 0].min()))


@needs_portraits
def test_flip_mirrors_landmarks_and_scores(landmarker: FaceLandmarker) -> None:
    """Pixel centres at +0.5: mirrored points add up to the width. Left and right scores change places."""
    swap = [BLENDSHAPE_NAMES.index(_mirror_name(name)) for name in BLENDSHAPE_NAMES]
    pairs = torch.tensor([(1, 1), (152, 152), (33, 263), (133, 362), (61, 291), (468, 473)])
    sums = []
    for name in ("congress_0003.webp", "london_0010.webp", "canada_0005.webp", "sfhqt2i_0300.webp"):
        picture = read(name)
        face, mirrored = landmarker.detect(picture)[0][0], landmarker.detect(picture.flip(-1))[0][0]
        total = (face.landmarks[pairs[:, 0], 0] + mirrored.landmarks[pairs[:, 1], 0]).mean()
        sums.append(float(total) - picture.shape[2])
        assert float((mirrored.blendshapes[swap] - face.blendshapes).abs().mean()) < 0.04
    assert abs(float(np.mean(sums))) < 1.0


def _mirror_name(name: str) -> str:
    if name.endswith("Left"):
        return name[:-4] + "Right"
    return name[:-5] + "Left" if name.endswith("Right") else name


@needs_portraits
def test_tracking_follows_a_face(landmarker: FaceLandmarker) -> None:
    picture = read("london_0010.webp")
    face = landmarker.detect(picture)[0][0]
    rois = face_roi(face.landmarks[None])
    tracked = landmarker.landmarks_in(picture, rois)[0][0]
    assert tracked.score > 0.9
    assert float((tracked.landmarks - face.landmarks)[:, :2].norm(dim=-1).mean()) < 0.02 * float(rois[0, 2])
    away = landmarker.landmarks_in(picture, torch.tensor([[20.0, 20.0, 30.0, 0.0]]))[0][0]
    assert away.score < landmarker.threshold


def paste(canvas: Tensor, portrait: Tensor, width: int, x: int, y: int) -> None:
    """A portrait, reduced to `width` pixels, into a picture (3,H,W)."""
    height = round(portrait.shape[1] * width / portrait.shape[2])
    small = F.interpolate(portrait[None], size=(height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    canvas[:, y : y + height, x : x + width] = small


@needs_portraits
def test_several_faces_largest_first(landmarker: FaceLandmarker) -> None:
    picture = torch.full((3, 400, 900), 0.4)
    for x, width, name in ((20, 130, "congress_0003.webp"), (300, 240, "congress_0100.webp"), (650, 180, "congress_0200.webp")):
        paste(picture, read(name), width, x, 40)
    faces = landmarker.detect(picture)[0]
    assert [int(f.box[0]) // 300 for f in faces] == [1, 2, 0]
    areas = [f.area for f in faces]
    assert areas == sorted(areas, reverse=True)


@pytest.mark.slow
@needs_portraits
def test_small_face_in_a_large_picture(landmarker: FaceLandmarker, truth: dict[str, np.ndarray]) -> None:
    """A face of about 60 pixels in 6000x4000."""
    row = list(truth["files"]).index("congress_0100.webp")
    portrait = read("congress_0100.webp")
    points = truth["landmarks"][row].astype(np.float32)
    width = round(60 * portrait.shape[2] / np.ptp(points[:468, 1]))
    picture = torch.rand(1, 3, 62, 93, generator=torch.Generator().manual_seed(1))
    picture = F.interpolate(picture, size=(4000, 6000), mode="bilinear", align_corners=False)[0]
    paste(picture, portrait, width, 4321, 2345)
    faces = landmarker.detect(picture)[0]
    expected = points[1, :2] * width / portrait.shape[2] + np.array([4321, 2345])
    assert len(faces) == 1
    assert np.linalg.norm(faces[0].landmarks[1, :2].numpy() - expected) < 3
