"""Two processes train as one does, on the CPU (gloo): the same losses, the same weights, and they resume."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from places import ROOT
from training_files import COMMON, DENOISER, FIRST_STAGE, SLOTS, write_denoiser_shards

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import ConfigError
from difffae.lab.prepare.shards import write_shard
from difffae.lab.training.autoencoder import AutoencoderTraining, train_autoencoder
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser
from difffae.lab.training.processes import Processes
from difffae.source.slots import SlotEncoder

SCRIPT = """
import json
import sys
from difffae.lab.training.autoencoder import AutoencoderTraining, train_autoencoder
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser
from training_files import DENOISER, FIRST_STAGE
for options in json.loads(sys.argv[1]):
    stop = options.pop("stop_step")
    if "portraits" in options:
        train_autoencoder(AutoencoderTraining(**options), FIRST_STAGE, stop)
    else:
        train_denoiser(DenoiserTraining(**options), DENOISER, stop)
"""


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    shards = write_denoiser_shards(tmp_path / "shards")
    torch.manual_seed(5)
    slots = tmp_path / "slots.safetensors"
    save_checkpoint(slots, SlotEncoder(SLOTS).state_dict(), kind="slots", config=SLOTS.to_dict(), license="test", source="test")
    common = COMMON | {"shards": str(shards), "steps": 6, "log_every": 1, "autocast": False, "hole_weight": 0.0}
    frozen = DenoiserTraining(**common)
    joint = DenoiserTraining(**common, joint=True, slots=str(slots), accumulation=2, gradient_checkpointing=True)
    rival = {"adversarial_alone": 1, "adversarial_warmup": 2, "discriminator_width": 4}
    judged = DenoiserTraining(**common, **rival, adversarial_weight=0.5)  # some processes have no row in its levels
    runs = {"frozen": (frozen, None), "joint": (joint, None), "judged": (judged, None), "resumed": (frozen, 3)}
    for name in ("frozen", "joint", "judged"):
        train_denoiser(dataclasses.replace(runs[name][0], folder=str(tmp_path / "one" / name)), DENOISER)

    orders = [
        {**dataclasses.asdict(options), "folder": str(tmp_path / "two" / name), "stop_step": stop} for name, (options, stop) in runs.items()
    ]
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    resume = {**orders[-1], "stop_step": None}
    done = subprocess.run([*launcher, json.dumps([*orders, resume])], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]

    for name in ("frozen", "joint", "judged"):
        assert losses(tmp_path / "two" / name) == pytest.approx(losses(tmp_path / "one" / name), abs=5e-4)
    assert losses(tmp_path / "two" / "resumed") == pytest.approx(losses(tmp_path / "two" / "frozen"), abs=2e-5)
    states = {name: torch.load(tmp_path / "two" / name / "last.pt", weights_only=True) for name in runs}
    one = torch.load(tmp_path / "one" / "frozen" / "last.pt", weights_only=True)
    assert torch.equal(states["frozen"]["generator"], one["generator"])  # a run may go on in another number of processes
    for part in ("model", "ema"):
        for key, value in states["frozen"][part].items():
            torch.testing.assert_close(states["resumed"][part][key], value, atol=1e-6, rtol=0)
            torch.testing.assert_close(one[part][key], value, atol=5e-3, rtol=0)  # Adam's first steps magnify rounding


@pytest.mark.slow
def test_a_discriminator_learns_in_two_processes_as_in_one(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    (tmp_path / "shards").mkdir()
    images = torch.randint(0, 256, (8, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    write_shard(tmp_path / "shards" / "0.safetensors", {"images": images})
    rival = {"adversarial_weight": 0.2, "discriminator_width": 4, "discriminator_layers": 2}
    options = AutoencoderTraining(
        shards=str(tmp_path / "shards"), crop=32, batch=4, warmup=1, steps=4, log_every=1, autocast=False, adversarial_warmup=0, **rival
    )
    train_autoencoder(dataclasses.replace(options, folder=str(tmp_path / "one")), FIRST_STAGE)
    order = {**dataclasses.asdict(options), "folder": str(tmp_path / "two"), "stop_step": None}
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, json.dumps([order])], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=5e-4)
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True)["stage"]["discriminator"] for name in ("one", "two"))
    for name, value in one.items():
        if name.endswith("original"):
            torch.testing.assert_close(two[name], value, atol=options.discriminator_rate, rtol=0)


def test_rows_are_shared_evenly() -> None:
    processes = Processes("cpu")
    processes.count = 2
    rows = []
    for processes.index in (0, 1):
        rows += [index for part in processes.rows(12, 3) for index in range(12)[part]]
    assert sorted(rows) == list(range(12))
    with pytest.raises(ConfigError, match="batch=6"):
        processes.rows(6, 2)


def test_several_processes_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match="pip install accelerate"):
        Processes("cpu")
