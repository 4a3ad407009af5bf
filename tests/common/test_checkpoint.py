from __future__ import annotations

import pytest
import torch

from difffae.common.checkpoint import filled, load_checkpoint, save_checkpoint
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


def test_a_part_of_a_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(
        path,
        {"a.weight": torch.ones(2, 2), "ab.weight": torch.zeros(3), "b.weight": torch.full((4, 4), 2.0)},
        kind="test",
        config={"size": 3},
        license="CC0-1.0",
        source="here",
        eight_bit=True,
    )
    part = load_checkpoint(path, "test", parts=("a",))
    assert list(part.tensors) == ["a.weight"]
    assert torch.allclose(part.part("a")["weight"], torch.ones(2, 2), atol=1e-3)  # with its scale
    assert set(load_checkpoint(path, parts=("a", "b")).tensors) == {"a.weight", "b.weight"}
    header = load_checkpoint(path, parts=())
    assert header.tensors == {}
    assert (header.kind, header.config, header.license) == ("test", {"size": 3}, "CC0-1.0")
    with pytest.raises(CheckpointError, match="holds 'test', but 'head'"):
        load_checkpoint(path, "head", parts=())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_checkpoint(path, parts=())


def test_filled_modules_hold_their_own_weights():
    tensors = {"weight": torch.randn(3, 2), "bias": torch.randn(3)}
    before = torch.get_rng_state()
    layer = filled(lambda: torch.nn.Linear(2, 3), tensors, "x")
    assert torch.equal(torch.get_rng_state(), before)  # no random start was drawn
    assert torch.equal(layer.weight, tensors["weight"])
    assert layer.weight.data_ptr() != tensors["weight"].data_ptr()
    assert not layer.weight.requires_grad
    assert not layer.training
    with pytest.raises(CheckpointError, match="x: the weights do not fit their configuration"):
        filled(lambda: torch.nn.Linear(2, 4), tensors, "x")
