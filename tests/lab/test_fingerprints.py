"""What training data states of the files that it was made with, from fitted portraits to the denoiser's shards, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difffae.cli import main
from difffae.common.checkpoint import asset_path, load_checkpoint, save_checkpoint
from difffae.common.errors import ConfigError
from difffae.common.fingerprint import fingerprint
from difffae.edit.model import EditModel
from difffae.lab.prepare.json_lines import claim
from difffae.lab.prepare.networks import agreed
from difffae.lab.prepare.pairs import PICTURES
from difffae.lab.prepare.shards import stated_fingerprints, write_shard
from difffae.lab.training.common import made_with
from difffae.lab.training.denoiser import DenoiserTraining

HEAD, IDENTITY = (fingerprint(asset_path(name)) for name in ("open_head.safetensors", "identity.safetensors"))
OTHER = "0123" * 16


def pictures(path: Path, stated: dict[str, str]) -> None:
    """A shard of pictures as round trips make them, of noise."""
    generator = torch.Generator().manual_seed(0)
    sizes = {name: 1 if name == "validity" else 3 for name in PICTURES}
    rows = {name: torch.randint(256, (1, size, 256, 256), generator=generator).to(torch.uint8) for name, size in sizes.items()}
    points = 60 + 130 * torch.rand(1, 478, 2, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shard(path, rows | {"landmarks": points, "target_landmarks": points.clone()}, stated)


def other_identity(path: Path) -> str:
    """The bundled identity network with other weights, under the same name; returns its fingerprint."""
    kept = load_checkpoint(asset_path("identity.safetensors"))
    tensors = {name: value * 1.01 for name, value in kept.tensors.items()}
    save_checkpoint(path, tensors, kind="identity", config=kept.config, license="test", source="test")
    return fingerprint(path)


def refused(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    return capfd.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_latents_state_head_and_identity_and_keep_to_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "pairs/a.safetensors", {"head": HEAD})
    encode = ["prepare", "encode", "--input", tmp_path / "pairs", "--output", tmp_path / "latents"]
    assert main([str(word) for word in encode]) == 0
    made = tmp_path / "latents/a.safetensors"
    assert stated_fingerprints(made) == {"head": HEAD, "identity": IDENTITY}

    other = other_identity(tmp_path / "other.safetensors")
    said = refused(capfd, *encode, "--identity", tmp_path / "other.safetensors")
    assert f"latents/a.safetensors: was made with another identity file (fingerprint {IDENTITY[:12]}, not {other[:12]})" in said
    made.unlink()
    assert main([str(word) for word in [*encode, "--identity", tmp_path / "other.safetensors"]]) == 0
    assert stated_fingerprints(made) == {"head": HEAD, "identity": other}

    # a model that says what it was trained with takes neither another identity file nor pictures of another head
    whole = EditModel.load(asset_path("open-256.safetensors"))
    whole.fingerprints = {"head": HEAD, "identity": IDENTITY}
    whole.save(tmp_path / "model.safetensors", license="test", source="test")
    made.unlink()
    encode += ["--model", tmp_path / "model.safetensors"]
    said = refused(capfd, *encode, "--identity", tmp_path / "other.safetensors")
    assert "model.safetensors: was trained with another identity file" in said
    pictures(tmp_path / "pairs/a.safetensors", {"head": OTHER})
    assert "model.safetensors: was trained with another head file" in refused(capfd, *encode)
    assert not made.exists()


@pytest.mark.slow
def test_numbers_of_another_head_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Fitted portraits, rendered people and codes hold a head's numbers: another head's file of the same name means others by them."""
    fitted = tmp_path / "fit.safetensors"
    (tmp_path / "people").mkdir()
    for path in (fitted, tmp_path / "people/a.safetensors"):
        write_shard(path, {"pictures": torch.zeros(1, 3, 8, 8), "error": torch.zeros(1)}, {"head": OTHER})
    steps = {
        "roundtrips": (fitted, "out"), "synthetic": (tmp_path / "people", "out"),
        "codes": (fitted, "codes.safetensors"),
    }  # fmt: skip
    for step, (source, output) in steps.items():
        said = refused(capfd, "prepare", step, "--input", source, "--output", tmp_path / output)
        assert f"was made with another head file (fingerprint {OTHER[:12]}, not {HEAD[:12]})" in said
        assert not [path for path in (tmp_path / output).rglob("*") if path.is_file()]
    estimator = ["train", "estimator", "--set", f"real={fitted}", f"synthetic={fitted}", f"folder={tmp_path / 'run'}", "steps=1"]
    assert "fit.safetensors: was made with another head file" in refused(capfd, *estimator)


def test_a_training_keeps_to_what_its_shards_were_made_with(tmp_path: Path) -> None:
    row = {"target": torch.zeros(1, 8, 4, 4)}
    for name, stated in (("train", {"head": HEAD, "identity": IDENTITY}), ("same", {"head": HEAD}), ("dev", {"identity": OTHER})):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "0.safetensors", row, stated)
    known = {"head": HEAD, "identity": IDENTITY}
    options = {"shards": str(tmp_path / "train"), "folder": str(tmp_path)}
    assert made_with(DenoiserTraining(**options, dev_shards=str(tmp_path / "same"), identity_weight=0.1), None) == known
    with pytest.raises(ConfigError, match="dev: was made with another identity file"):
        made_with(DenoiserTraining(**options, dev_shards=str(tmp_path / "dev")), None)
    other_identity(tmp_path / "other.safetensors")
    judged = DenoiserTraining(**options, identity_weight=0.1, identity_network=str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match="train: was made with another identity file"):
        made_with(judged, None)
    with pytest.raises(ConfigError, match=r"last\.pt: was trained with another head file"):
        made_with(DenoiserTraining(**options), {"config": {"fingerprints": {"head": OTHER}}})


def test_what_is_not_stated_may_be_any(tmp_path: Path) -> None:
    """Data of before, and networks whose contents nobody knows."""
    assert agreed("a", {}, {"head": HEAD}) == {"head": HEAD}
    assert agreed("a", {"head": HEAD}, {"identity": OTHER}) == {"head": HEAD, "identity": OTHER}
    claim(tmp_path, {"size": 1})
    claim(tmp_path, {"size": 1, "fingerprints": {"head": HEAD}})
    claim(tmp_path / "new", {"size": 1, "fingerprints": {"head": HEAD}})
    with pytest.raises(ConfigError, match="was begun with fingerprints"):
        claim(tmp_path / "new", {"size": 1, "fingerprints": {"head": OTHER}})


@pytest.mark.slow
def test_files_of_another_step_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shard = tmp_path / "labels/a.safetensors"
    shard.parent.mkdir()
    write_shard(shard, {"images": torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "labels": torch.zeros(1, 8, 8, dtype=torch.uint8)})
    wrong = {
        "roundtrips": (shard, "holds no 'pictures', so it is of another step; give what `prepare fit` or `prepare portraits` wrote"),
        "frames": (shard, "holds no 'pictures'"),
        "codes": (shard.parent, "holds no 'shape', so it is of another step; give what `prepare people` wrote"),
        "synthetic": (shard.parent, "holds no 'shape'"),
        "encode": (
            shard.parent,
            "holds no 'target', so it is of another step; give what `prepare roundtrips` or `prepare synthetic` wrote",
        ),
    }
    for step, (source, said) in wrong.items():
        assert f"{shard}: {said}" in refused(capfd, "prepare", step, "--input", source, "--output", tmp_path / f"{step}.out")
    assert "labels: is a folder" in refused(capfd, "prepare", "roundtrips", "--input", shard.parent, "--output", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for step in ("encode", "synthetic", "codes"):
        empty = ["--input", tmp_path / "empty", "--output", tmp_path / f"{step}.none"]
        assert "no .safetensors shards here" in refused(capfd, "prepare", step, *empty)


@pytest.mark.parametrize("stage", ["autoencoder", "slots", "denoiser", "estimator"])
def test_the_folder_of_another_stage_is_left_alone(stage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "last.pt"
    torch.save({"config": {"other": 1}, "model": {}, "ema": {}}, checkpoint)
    before = checkpoint.read_bytes()
    assert f"{checkpoint}: is the checkpoint of another stage" in refused(capfd, "train", stage, "--set", f"folder={tmp_path}", "steps=1")
    assert checkpoint.read_bytes() == before
    checkpoint.write_bytes(before[:100])
    assert f"{checkpoint}: neither a complete training checkpoint" in refused(
        capfd, "train", stage, "--set", f"folder={tmp_path}", "steps=1"
    )
