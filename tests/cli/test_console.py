"""Paths with any characters on consoles of any encoding, and pictures that are their own query."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from difffae.cli import entry, main
from difffae.common.checkpoint import asset_path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "utf-8"])
def test_messages_on_any_console(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "argv", ["difffae", "edit", "--source", str(tmp_path / "照片 é \udcff.png"), "--yaw", "5"])
    with pytest.raises(SystemExit) as left:
        entry()
    err.flush()
    shown = err.buffer.getvalue()  # type: ignore[attr-defined]
    assert left.value.code == 2
    assert shown.startswith(b"difffae: ")
    assert shown.count(b"\n") == 1
    assert b"no such picture" in shown


@pytest.mark.slow
def test_an_output_that_the_console_cannot_show(tmp_path: Path) -> None:
    name = "照片 é 🙂.png"
    command = [
        sys.executable,
        "-m",
        "difffae",
        "edit",
        "--yaw",
        "5",
        "--source",
        str(asset_path("source.png")),
        "--output",
        name,
    ]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert run.returncode == 0
    assert b"Traceback" not in run.stderr
    assert run.stdout.count(b"\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (384, 384)


@pytest.mark.slow
def test_a_picture_as_its_own_query_is_the_source_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Image.open(asset_path("surprised.jpg")) as opened:
        upright = opened.convert("RGB")
    upright.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, upright.width).astype(np.uint8), (upright.height, 1))))
    upright.transpose(Image.Transpose.ROTATE_180).save("inverted.png")
    shutil.copy("inverted.png", "copy.png")
    for query in ("inverted.png", "copy.png"):
        assert main(["edit", "--source", "inverted.png", "--query", query, "--output", "out.png"]) == 0
        with Image.open("inverted.png") as before, Image.open("out.png") as after:
            assert np.array_equal(np.asarray(before), np.asarray(after))
