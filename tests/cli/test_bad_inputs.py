"""Five hundred generated bad inputs: each gives a right result or one clear line, and leaves no file behind.

The model is loaded once and kept; everything else is as the command line does it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mutations import NUMBERS, bad_json, bad_pictures, mutated, noise_picture
from PIL import Image
from safetensors.torch import save

from difffae import DiffFAE, FaceAttributes, read_image, write_image
from difffae.cli import main, work
from difffae.common.checkpoint import asset_path
from difffae.common.errors import DiffFAEError
from difffae.edit.recipe import Recipe
from difffae.head.axes import AXES

pytestmark = pytest.mark.slow
SOURCE = str(asset_path("side_light.jpg"))


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


Tried = Callable[..., int]


@pytest.fixture
def tried(tmp_path: Path, model: DiffFAE, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tried:
    """Run a command in a folder of its own and look at what it leaves. Returns the exit status."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(work, "load_model", lambda arguments: model)

    def run(*arguments: str, output: str = "out.png") -> int:
        capfd.readouterr()
        status = main(list(arguments))
        said = capfd.readouterr()
        left = {path.name for path in folder.iterdir()}
        if status == 0:
            assert left <= {output}, arguments
            for name in left:
                assert bool(torch.isfinite(read_image(folder / name)[0]).all())
                (folder / name).unlink()
        else:
            assert status == 2, arguments
            lines = [line for line in said.err.splitlines() if not line.startswith(("sampling", "\r"))]
            assert len(lines) == 1, (arguments, said.err)
            assert lines[0].startswith("difffae: ")
            assert len(lines[0]) < 1000
            assert "Traceback" not in said.err
            assert left == set(), arguments
        return status

    return run


@pytest.mark.parametrize("seed", range(3))
def test_pictures(tried: Tried, tmp_path: Path, seed: int) -> None:
    """150 files of six formats, as source, query or the picture of a report."""
    statuses = []
    for index, (name, content) in enumerate(bad_pictures(50, noise_picture(seed), seed)):
        path = tmp_path / name
        path.write_bytes(content)
        line = (["edit", "--source", str(path), "--yaw", "5"], ["edit", "--source", SOURCE, "--query", str(path)], ["report", str(path)])
        statuses.append(tried(*line[index % 3]))
        path.unlink()
    assert set(statuses) == {2}  # no face is in any


def test_pictures_with_a_face(tried: Tried, tmp_path: Path) -> None:
    """Of 30 damaged portraits some are edited; the others are told from them."""
    with Image.open(SOURCE) as opened:
        portrait = opened.convert("RGB").resize((160, 160))
    statuses = []
    for name, content in bad_pictures(30, portrait, 7):
        path = tmp_path / name
        path.write_bytes(content)
        statuses.append(tried("edit", "--source", str(path), "--yaw", "5"))
    assert set(statuses) == {0, 2}


def test_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """60 damaged files of weights, of the networks that are read most."""
    generator = random.Random(4)
    small = {"weight": torch.zeros(3, 4), "bias": torch.zeros(4)}
    small_file = save(small, {"format": "difffae/1", "kind": "landmarks", "config": "{}"})
    whole = (small_file, asset_path("smile.safetensors").read_bytes())
    for index in range(60):
        path = tmp_path / "x.safetensors"
        path.write_bytes(mutated(whole[index % 2], generator))
        option = ("--model", "--identity", "--head")[0 if index % 10 else 1 + index // 10 % 2]  # the others load the model first
        assert main(["edit", option, str(path), "--output", str(tmp_path / "out.png")]) == 2
        said = capsys.readouterr().err
        assert said.startswith("difffae: ")
        assert said.count("\n") == 1
        assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def recipe(attributes: FaceAttributes) -> Recipe:
    return Recipe(
        checkpoint={"name": "open-256", "sha256": "ab" * 32, "license": "Apache-2.0"},
        steps=[{"command": "edit", "seed": 3, "numbers": {"yaw": 5.0}}],
        attributes=json.loads(attributes.to_json()),
        identity_distance=[0.2],
    )


def short(attributes: FaceAttributes) -> FaceAttributes:
    """Rounded, so that the JSON is small."""
    return attributes.map(lambda values: (values * 8).round() / 8)


def test_recipes(tried: Tried, tmp_path: Path, model: DiffFAE) -> None:
    """100 texts that nearly are recipes, in pictures and alone."""
    good = recipe(short(model.analyse(read_image(SOURCE)[0]).attributes))

    class Stored:
        def __init__(self, text: str) -> None:
            self.text = text

        def chunks(self) -> dict[str, str]:
            return {"difffae": self.text}

        def packet(self) -> bytes:
            return good.packet()

    read = 0
    for index, text in enumerate(bad_json(good.to_json(), 100, 5)):
        path = tmp_path / f"{index}.png"
        try:
            write_image(path, torch.zeros(3, 8, 8), recipe=Stored(text.encode("latin-1", "replace").decode("latin-1")))
        except DiffFAEError:
            continue
        read += tried("report", str(path), *(["--json"] if index % 2 else [])) == 0
    assert 0 < read < 100


def test_attributes(model: DiffFAE) -> None:
    """80 texts that nearly are attributes."""
    good = short(model.analyse(read_image(SOURCE)[0]).attributes)
    read, complaints = [], []
    for text in bad_json(good.to_json(), 80, 6):
        try:
            read.append(FaceAttributes.from_json(text))
        except DiffFAEError as error:
            complaints.append(str(error))
    assert len(read) > 0
    assert len(complaints) > 20
    for complaint in complaints:
        assert "\n" not in complaint
        assert len(complaint) < 1000
    for found in read:
        assert all(bool(torch.isfinite(values).all()) for values in found.tensors().values())
        assert len({len(values) for values in found.tensors().values()}) == 1


def test_numbers(tried: Tried) -> None:
    """At and beyond their limits, and no numbers at all: 80 lines."""
    generator = random.Random(8)
    options = {axis.option: axis for axis in AXES}
    others = ("denoise", "steps", "seed", "strength", "face", "query-face")
    statuses = []
    for index in range(74):
        name = generator.choice((*options, *others))
        value = generator.choice(NUMBERS)
        if index % 3 == 0 and name in options:
            axis = options[name]
            value = f"{generator.choice((axis.low - 0.01, axis.high + 0.01, axis.low * 100, -1e9)):g}"
        query = ["--query", SOURCE] if name in others else []
        statuses.append(tried("edit", "--source", SOURCE, *query, f"--{name}={value}"))
    for axis in generator.sample(AXES, 3):
        for limit in (axis.low, axis.high):
            assert tried("edit", "--source", SOURCE, f"--{axis.option}={limit:g}") == 0
    assert statuses.count(2) > 50
