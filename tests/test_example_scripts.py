"""The scripts of docs/examples/, run as a reader would, in an empty folder on the pictures that ship."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from places import ROOT

from difffae import read_image
from difffae.common.checkpoint import asset_path
from difffae.video.reading import Clip

EXAMPLES = ROOT / "docs" / "examples"
pytestmark = pytest.mark.slow


def run(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stderr
    return result.stdout


def changed(folder: Path, name: str) -> float:
    """Mean absolute difference of a written picture from the source, in grey levels of 255."""
    source, image = read_image(ROOT / "difffae" / "assets" / "source.png")[0], read_image(folder / name)[0]
    assert image.shape == source.shape
    return 255 * float((image - source).abs().mean())


def test_edit(tmp_path: Path):
    run("edit.py", tmp_path)
    assert changed(tmp_path, "turned.png") > 1
    assert changed(tmp_path, "lit.png") > 1


def test_swap(tmp_path: Path):
    run("swap.py", tmp_path)
    assert changed(tmp_path, "hair.png") > 1
    both, hair = (read_image(tmp_path / name)[0] for name in ("hair_and_turn.png", "hair.png"))
    assert float((both - hair).abs().mean()) > 1 / 255


def test_animate(tmp_path: Path):
    run("animate.py", tmp_path)
    clip = Clip.read(tmp_path / "moved.mp4")
    assert clip.frames == 21  # 0.8 seconds at 25 frames a second, both ends shown
    (tmp_path / "moved.mp4").rename(tmp_path / "driver.mp4")
    run("animate.py", tmp_path, str(asset_path("query.png")), "driver.mp4")
    assert Clip.read(tmp_path / "moved.mp4").frames == 21


def test_train_tiny(tmp_path: Path):
    told = run("train_tiny.py", tmp_path)
    found = re.fullmatch(r"5 pictures, 300 steps: ([\d.]+) dB", told.strip())
    assert found, told
    assert float(found[1]) > 15  # grey everywhere has about 11
    assert read_image(tmp_path / "tiny.png")[0].shape == (3, 128, 256)
    again = torch.load(tmp_path / "tiny" / "last.pt", weights_only=True)
    assert again["step"] == 300


def test_evaluate_folder(tmp_path: Path):
    lines = run("evaluate_folder.py", tmp_path).splitlines()
    assert len(lines) == 5
    mean = [float(text) for text in lines[-1].split()[1:]]
    assert 0 < mean[0] < 0.6  # identity
    assert mean[1] < 8  # degrees of yaw
    assert mean[4] < 0.9  # light left


def test_every_script_is_tested():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert {f"test_{name}" for name in names} <= set(globals())
    assert len(names) == 5
