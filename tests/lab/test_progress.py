"""What a training says on the console, and what `--dry-run` says of one."""

from __future__ import annotations

import json
import logging
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from training_files import COMMON, DENOISER, write_denoiser_shards

from difffae.cli import main
from difffae.common.errors import ConfigError
from difffae.lab.training import progress as module
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser
from difffae.lab.training.progress import Progress


def test_lines_come_after_seconds_and_then_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    progress = Progress(batch=4, of=1000)
    said = []
    for step in range(1, 1001):  # two steps a second, loss 2 in odd ones and 4 in even ones
        clock[0] += 0.5
        progress.step(torch.tensor(2.0 if step % 2 else 4.0))
        if progress.wanted:
            said.append((step, progress.line(step, 0.0)))
    steps = [step for step, _ in said]
    assert steps[:3] == [6, 15, 29]  # after 3, then 4.5, then 6.75 seconds
    assert max(b - a for a, b in pairwise(steps)) == 120  # a minute
    assert said[0][1] == "step 6 of 1,000, loss 3, 8 samples/s, 8 min left"


def test_checkpoints_are_no_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    progress = Progress(batch=10, of=0)
    progress.step(torch.tensor(1.0))
    clock[0] = 100.0
    progress.paused(96.0)
    assert progress.line(1, 5.0) == "step 1, loss 1, 2.5 samples/s, 5 min left"


def training(tmp_path: Path, **more: object) -> DenoiserTraining:
    return DenoiserTraining(shards=str(tmp_path / "shards"), folder=str(tmp_path / "run"), **COMMON | {"steps": 3, "log_every": 50} | more)


def test_short_runs_log_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_denoiser_shards(tmp_path / "shards")
    with caplog.at_level(logging.INFO, "difffae"):
        train_denoiser(training(tmp_path), DENOISER)
    (line,) = (json.loads(text) for text in (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert line["step"] == 3
    assert line["loss"] > 0
    begun, ended = caplog.messages[0], caplog.messages[-1]
    assert "12 samples in 2 shards" in begun
    said = re.fullmatch(r"step 3 of 3, loss (\S+), \S+ samples/s, 0 s left", ended)
    assert said is not None, ended
    assert float(said[1]) == pytest.approx(line["loss"], rel=1e-3)


def test_dry_run_says_what_a_run_takes_and_writes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_denoiser_shards(tmp_path / "shards")
    with caplog.at_level(logging.INFO, "difffae"):
        train_denoiser(training(tmp_path, dry_run=True, steps=1000), DENOISER)
    data, sizes, memory, time = caplog.messages
    assert data.startswith(f"data    {tmp_path / 'shards'}: 12 samples in 2 shards")
    count = sum(parameter.numel() for parameter in train_denoiser(training(tmp_path), DENOISER).parameters())
    assert f"{count / 1e6:.2f} M parameters" in sizes
    assert f"{4 * 5 * count / 1e6:.1f} MB for weights" in memory  # float32: weights, their average, gradients and two moments
    assert re.search(r"1,000 steps take \d+ (s|min)", time)


def test_dry_run_leaves_the_folder_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_denoiser_shards(tmp_path / "shards")
    (tmp_path / "config.json").write_text(json.dumps({"model": DENOISER.to_dict()}))
    line = f"train denoiser --config {tmp_path / 'config.json'} --set shards={tmp_path / 'shards'} folder={tmp_path / 'run'} batch=4"
    assert main([*line.split(), "--dry-run"]) == 0
    assert "60 minutes are" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*line.split(), "--dry-run", "--num-processes", "2"]) == 2
    assert "leave --num-processes out" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write_denoiser_shards(tmp_path / "shards")
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match=r"folder=.*run: cannot be made"):
        train_denoiser(training(tmp_path), DENOISER)
