from __future__ import annotations

import pytest
import torch

from difffae.common.checkpoint import load_checkpoint, save_checkpoint
from difffae.common.errors import CheckpointError


def save(path, **options):
    g = torch.Generator().manual_seed(0)
    tensors = {"a.weight": torch.randn(6, 5, 3, 3, generator=g), "a.bias": torch.randn(6, generator=g), "index": torch.arange(4)}
    save_checkpoint(path, tensors, kind="test", config={"size": 3}, license="CC0-1.0", source="here", **options)
    return tensors


def test_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = save(path)
    back = load_checkpoint(path, "test")
    assert back.config == {"size": 3}
    assert back.license == "CC0-1.0"
    for name, tensor in tensors.items():
        assert torch.equal(back.tensors[name], tensor)
    assert set(back.part("a")) == {"weight", "bias"}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_eight_bit_error_is_under_half_a_step(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = save(path, eight_bit=True, half=True)
    back = load_checkpoint(path)
    weight = tensors["a.weight"]
    step = weight.reshape(6, -1).abs().amax(1) / 127
    assert ((back.tensors["a.weight"] - weight).reshape(6, -1).abs().amax(1) <= 0.502 * step + 127 * step * 5e-4).all()
    assert back.tensors["a.weight"].dtype == torch.float32
    assert torch.allclose(back.tensors["a.bias"], tensors["a.bias"], atol=2e-3)
    assert torch.equal(back.tensors["index"], tensors["index"])


def test_bad_files(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_checkpoint(path)
    save(path)
    with pytest.raises(CheckpointError, match="holds 'test', but 'head'"):
        load_checkpoint(path, "head")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_checkpoint(path)
