"""What tells two files of one name apart: the contents, not how they are stored."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
import torch

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import CheckpointError
from difffae.common.fingerprint import fingerprint

ABOUT = {"kind": "identity", "config": {}, "license": "test", "source": "test"}


def test_the_hash_written_out(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", {"b": torch.tensor([[1.5, -2.0]]), "a": torch.tensor([7, 8])}, **ABOUT)
    known = b"a int64 [2]\n" + struct.pack("<2q", 7, 8) + b"b float32 [1, 2]\n" + struct.pack("<2f", 1.5, -2.0)
    assert fingerprint(tmp_path / "a.safetensors") == hashlib.sha256(known).hexdigest()


def test_what_survives_saving_again(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(4, 3, generator=g).half().float(), "b": torch.randn(5, generator=g).half().float()}

    def stored(name: str, tensors: dict[str, torch.Tensor], **how: object) -> str:
        save_checkpoint(tmp_path / f"{name}.safetensors", tensors, **{**ABOUT, **how})
        return fingerprint(tmp_path / f"{name}.safetensors")

    first = stored("first", weights)
    assert stored("renamed", dict(reversed(weights.items())), license="other", source="elsewhere", config={"note": 1}) == first
    assert stored("half", weights, half=True) == first  # these weights are exact in float16
    eight = stored("eight", weights, eight_bit=True)
    assert eight != first
    changed = {**weights, "b": weights["b"].clone()}
    changed["b"][2] = torch.nextafter(changed["b"][2], torch.tensor(9.0))
    others = {
        stored("changed", changed),
        stored("shape", {**weights, "a": weights["a"].reshape(3, 4)}),
        stored("less", {"a": weights["a"]}),
    }
    assert len(others | {first, eight}) == 5


def test_other_files_count_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"graph")
    assert fingerprint(tmp_path / "net.onnx") == hashlib.sha256(b"graph").hexdigest()
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such weights file"):
        fingerprint(tmp_path / "none.onnx")
