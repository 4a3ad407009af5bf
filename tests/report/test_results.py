"""Reports measure the face that was edited, whoever else is in the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difffae import Adjustments, DiffFAE, read_image, write_image
from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import NoFaceError
from difffae.edit.description import Sampling
from difffae.edit.recipe import identity_distances, read_recipe
from difffae.report.results import Row, find_results, measure_pair

SIDES = (300, 200)


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


def square(name: str, side: int) -> Tensor:
    image = read_image(asset_path(name))[0]
    return F.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0]


@pytest.fixture(scope="module")
def group() -> Tensor:
    """(3,320,520), a large face beside a smaller one."""
    picture = torch.full((3, 320, 520), 0.6)
    picture[:, 10:310, :300] = square("surprised.jpg", SIDES[0])
    picture[:, 60:260, 310:510] = square("side_light.jpg", SIDES[1])
    return picture


def numbers(rows: list[Row]) -> dict[str, float]:
    return {row.key: row.value for row in rows}


def swapped_sizes(group: Tensor) -> Tensor:
    """The same with the left person so much smaller that the right one is the largest."""
    picture = torch.full_like(group, 0.6)
    picture[:, 110:210, 100:200] = square("surprised.jpg", 100)
    picture[:, :, 310:] = group[:, :, 310:]
    return picture


@pytest.mark.slow
def test_the_face_that_was_edited(model: DiffFAE, group: Tensor) -> None:
    source = model.analyse(group, 1)
    query = model.analyse(square("turned.jpg", 256))
    result = model.edit(source, adjust=Adjustments(yaw=15), sampling=Sampling(denoise=0.0))
    measured = numbers(measure_pair(model, source, query, find_results(model, source, result.image[None]).portrait(0)))
    assert measured["identity"] < 0.43
    other = numbers(measure_pair(model, source, query, model.analyse(result.image, 0)))
    assert other["identity"] > 0.5
    # nothing is edited: nothing is different
    same = numbers(measure_pair(model, source, query, find_results(model, source, group[None]).portrait(0)))
    assert same["identity"] < 0.02
    # the order by size has changed, the place has not
    left = model.analyse(group, 0)
    found = find_results(model, left, swapped_sizes(group)[None])
    assert found.square(0).centre[0] < 300
    assert measure_pair(model, left, left, found.portrait(0))[0].value < 0.43
    scaled = F.interpolate(result.image[None], scale_factor=0.5, mode="area")
    assert numbers(measure_pair(model, source, query, find_results(model, source, scaled).portrait(0)))["identity"] < 0.43


def test_results_of_something_else(model: DiffFAE, group: Tensor) -> None:
    source = model.analyse(group, 1)
    other_shape = find_results(model, source, group[None, :, :, :320])  # places cannot be compared: the largest
    assert other_shape.square(0).centre[0] < 300
    with pytest.raises(NoFaceError, match=r"^result: no face found; use a picture"):
        find_results(model, source, torch.full_like(group, 0.5)[None])
    alone = group.clone()
    alone[:, :, 300:] = 0.6
    with pytest.raises(NoFaceError, match=r"^b.png: no face is where the source's is; "):
        find_results(model, source, alone[None], "b.png")


def test_the_recipe_measures_the_face_at_its_place(model: DiffFAE) -> None:
    """Two faces in one crop: by the landmarks it is the one that was edited, though the other one is in the middle."""
    wide = torch.full((1, 3, 256, 256), 0.6)
    wide[:, :, 78:178, 78:178] = square("surprised.jpg", 100)
    wide[:, :, 78:178, 156:256] = square("side_light.jpg", 100)
    faces = model.landmarker.detect(wide)[0]
    right = max((face.landmarks for face in faces), key=lambda points: float(points[:, 0].mean()))
    changed = wide.clone()
    changed[:, :, 78:178, 78:178] = square("turned.jpg", 100)
    in_the_middle, edited = (
        identity_distances(model.landmarker, model.identity, wide, changed, landmarks)[0] for landmarks in (None, right[None])
    )
    assert edited < 0.2
    assert in_the_middle > 0.43


@pytest.mark.slow
def test_command_line(model: DiffFAE, group: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, result = str(tmp_path / "group.png"), str(tmp_path / "result.png")
    write_image(source, group)
    assert main(["edit", "--source", source, "--face", "1", "--yaw", "15", "--output", result]) == 0
    capsys.readouterr()
    assert main(["report", "--source", source, "--face", "1", "--query", source, "--result", result, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["identity"] < 0.43
    (stored,) = read_recipe(result).identity_distance or []
    assert stored == pytest.approx(measured["identity"], abs=0.15)
