"""`prepare portraits`: from any folder of pictures to tables, splits, fits and labelled regions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import SHARED
from safetensors.torch import load_file

from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError
from difffae.common.images import read_image
from difffae.estimation.choose import landmark_fit
from difffae.faces.landmarker import FaceLandmarker
from difffae.head.morphable import HeadModel
from difffae.lab.card.blocks import pair_names
from difffae.lab.prepare.pairs import fit_portraits
from difffae.lab.prepare.portrait_set import prepare_portraits
from difffae.lab.prepare.portraits import dev_files, files_of, read_landmarks, read_manifest, split_of
from difffae.lab.studio.synthetic import BACKGROUND, CLOTHES, FACE, HAIR


def fill(folder: Path) -> None:
    """Two pictures of one person, one alone that is large and lies on its side, a manifest of one, a wall, and text."""
    (folder / "anna").mkdir(parents=True)
    shutil.copy(asset_path("source.png"), folder / "anna" / "a.png")
    shutil.copy(asset_path("turned.jpg"), folder / "anna" / "b.jpg")
    large = Image.open(asset_path("query.png")).convert("RGB").resize((1600, 1600))
    exif = Image.Exif()
    exif[274] = 6  # turn it to the right to see it upright
    large.rotate(90).save(folder / "large.jpg", exif=exif, quality=95)
    Image.new("RGB", (200, 300), "red").save(folder / "wall.png")
    (folder / "text.jpg").write_text("no picture")
    (folder / "manifest.csv").write_text("file,person,licence,split\nlarge.jpg,berta,CC0,dev\n")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("portraits")
    fill(root / "in")
    assert main(["prepare", "portraits", str(root / "in"), "--output", str(root / "out"), "--workers", "1"]) == 0
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_tables_say_who_is_where(prepared: Path) -> None:
    rows = read_manifest(prepared / "out")
    assert {name: (row["person"], row["split"], row["licence"]) for name, row in rows.items()} == {
        "anna/a.png.webp": ("anna", split_of("anna"), ""),
        "anna/b.jpg.webp": ("anna", split_of("anna"), ""),
        "large.jpg.webp": ("berta", "dev", "CC0"),
    }
    # the face of turned.jpg looks to the right edge, by about 20 degrees
    assert float(rows["anna/b.jpg.webp"]["yaw_deg"]) == pytest.approx(21, abs=4)
    assert abs(float(rows["anna/a.png.webp"]["yaw_deg"])) < 4
    errors = [json.loads(line) for line in (prepared / "out" / "errors.jsonl").read_text().splitlines()]
    assert [(row["file"], row["error"].split(";")[0]) for row in errors] == [
        ("text.jpg", "not a picture that can be read"),
        ("wall.png", "no face was found in it"),
    ]


@pytest.mark.slow
def test_landmarks_are_those_of_the_stored_picture(prepared: Path) -> None:
    """The large one was turned upright and scaled down to a square of 512 pixels: found again there, its points agree within a pixel."""
    table = read_landmarks(prepared / "out")
    assert table["files"].tolist() == ["anna/a.png.webp", "anna/b.jpg.webp", "large.jpg.webp"]
    stored = read_image(prepared / "out" / "large.jpg.webp")[0]
    face = FaceLandmarker.load().detect(stored)[0][0]
    distance = (face.landmarks[:, :2] - torch.from_numpy(table["landmarks"][2])[:, :2]).norm(dim=-1)
    assert distance.mean() < 1
    assert stored.shape[-1] < 1600
    assert stored.shape[-1] == int(read_manifest(prepared / "out")["large.jpg.webp"]["width"])


@pytest.mark.slow
def test_fits_are_those_of_prepare_fit(prepared: Path, tmp_path: Path) -> None:
    """The one command's fits equal `prepare fit` on the folder that it wrote."""
    with torch.no_grad():
        fit_portraits(prepared / "out", tmp_path / "fit.safetensors", "dev", landmark_fit(HeadModel.load()))
    one, other = (load_file(str(path)) for path in (prepared / "out" / "fit_dev.safetensors", tmp_path / "fit.safetensors"))
    assert one.keys() == other.keys()
    assert len(one["pictures"]) == 1
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=2e-4), name


@pytest.mark.slow
def test_regions_are_where_they_are(prepared: Path) -> None:
    """source.png: nose, crown, chest and a corner of its crop."""
    shard = load_file(str(next((prepared / "out" / "labels" / split_of("anna")).glob("*.safetensors"))))
    known = torch.from_numpy(np.asarray(Image.open(asset_path("source.png")).convert("RGB")).copy()).float().mean()
    means = shard["images"].float().mean((1, 2, 3))
    labels = shard["labels"][int((means - known).abs().argmin())]
    names = labels[130, 128].item(), labels[40, 128].item(), labels[245, 60].item(), labels[5, 5].item()
    assert names == (FACE, HAIR, CLOTHES, BACKGROUND)


@pytest.mark.slow
def test_goes_on_after_a_kill_and_with_more_pictures(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "out", tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "manifest.csv").unlink()  # killed before the last file was written, and in the middle of a picture
    (tmp_path / "out" / "parts" / "large.jpg.npz").unlink()
    (tmp_path / "out" / "parts" / ".large.jpg.npz.abcd.tmp").write_bytes(b"half")
    assert prepare_portraits(prepared / "in", tmp_path / "out") == {"train": 2, "dev": 1}
    after = contents(tmp_path / "out")
    assert after.keys() == before.keys()
    for name in before:
        if not name.endswith(".npz"):  # those hold the time of writing
            assert after[name] == before[name], name
    shutil.copytree(prepared / "in", tmp_path / "in")
    shutil.copy(asset_path("surprised.jpg"), tmp_path / "in" / "more.jpg")
    counts = prepare_portraits(tmp_path / "in", tmp_path / "out")
    assert sum(counts.values()) == 4
    assert "more.jpg.webp" in read_manifest(tmp_path / "out")


@pytest.mark.slow
def test_any_folder_is_evaluated(prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(prepared / "out", tmp_path / "out")
    rows = [row | {"split": "dev"} for row in read_manifest(tmp_path / "out").values()]  # by hand, as the message says
    line = f"evaluate --portraits {tmp_path / 'out'} --pairs 1 --denoise 0 --output {tmp_path / 'table.json'}".split()
    assert main(line) == 2
    assert "fewer than two persons" in capfd.readouterr().err
    with (tmp_path / "out" / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert main(line) == 0
    assert json.loads((tmp_path / "table.json").read_text())["pairs"] == 1
    (tmp_path / "out" / "fit_dev.safetensors").unlink()  # fits and labels follow the manifest where they are made anew
    assert prepare_portraits(prepared / "in", tmp_path / "out") == {"train": 0, "dev": 3}
    assert len(load_file(str(tmp_path / "out" / "fit_dev.safetensors"))["pictures"]) == 3
    assert not (tmp_path / "out" / "fit_train.safetensors").exists()
    assert not list((tmp_path / "out" / "labels" / "train").glob("*.safetensors"))
    assert {row["split"] for row in read_manifest(tmp_path / "out").values()} == {"dev"}


def test_what_cannot_work_is_said_before_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for made in ("in", "empty"):
        (tmp_path / made).mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "in" / "a.png")
    (tmp_path / "file").touch()
    asked = {
        f"portraits {tmp_path / 'in'} --output {tmp_path / 'in' / 'out'}": "own folder",
        f"portraits {tmp_path / 'empty'} --output {tmp_path / 'out'}": "no pictures here",
        f"portraits {tmp_path / 'in'} --output {tmp_path / 'file'}": "cannot be written",
        f"portraits --output {tmp_path / 'out'}": "needs one input",
        f"fit {tmp_path / 'in'} --output {tmp_path / 'empty'}": "is a folder",
        f"fit {tmp_path / 'in'} --output {tmp_path / 'fit.safetensors'}": "no such file; run `prepare portraits`",
    }
    for line, said in asked.items():
        assert main(["prepare", *line.split()]) == 2
        message = capfd.readouterr().err
        assert said in message
        assert message.count("\n") == 1, message


def test_splits_follow_from_names() -> None:
    people = [f"p{number}" for number in range(2000)]
    tenth, half = ({person for person in people if split_of(person, share) == "dev"} for share in (0.1, 0.5))
    assert tenth < half  # a larger share holds the smaller one
    assert len(tenth) / len(people) == pytest.approx(0.1, abs=0.02)
    assert len(half) / len(people) == pytest.approx(0.5, abs=0.04)
    assert {split_of(person, 1.0) for person in people} == {"dev"}
    assert {split_of(person, 0.0) for person in people} == {"train"}


def test_manifest_says_the_split(tmp_path: Path) -> None:
    held_out = min(dev_files())
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"file,person,split,yaw_deg\na.webp,x,dev,0\nb.webp,y,train,0\n{held_out},z,train,0\nc.webp,w,dev,50\n")
    assert files_of(tmp_path, "dev") == sorted(["a.webp", "c.webp", held_out])
    assert files_of(tmp_path, "train") == ["b.webp"]
    manifest.write_text("file,person,split,yaw_deg\na.webp,x,dev,40\nc.webp,w,dev,50\n")
    with pytest.raises(ConfigError, match="turned by less than 30"):
        pair_names(tmp_path, ["a.webp", "c.webp"], 3)
    manifest.write_text("file,name\na.webp,x\n")
    with pytest.raises(ConfigError, match="no column 'person'"):
        files_of(tmp_path, "dev")


@pytest.mark.skipif(not (SHARED / "portraits").is_dir(), reason="needs the project's portraits")
def test_the_projects_split_is_the_hash() -> None:
    assert files_of(SHARED / "portraits", "dev") == sorted(dev_files())
