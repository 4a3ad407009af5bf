"""The training stages on tiny models: they learn, resume exactly, and export what they trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from difffae.checkpoint import save_checkpoint
from difffae.conditions import Conditions
from difffae.denoiser import Denoiser, DenoiserConfig
from difffae.errors import CheckpointError, ConfigError
from difffae.losses import UNLABELLED
from difffae.mixture_decoder import MixtureDecoderConfig
from difffae.schedule import ScheduleConfig
from difffae.slots import REGIONS, SlotEncoder, SlotsConfig
from difffae.training.denoiser import Batch, DenoiserTraining, Dropout, drop_conditions, export_denoiser, read_batch, train_denoiser
from difffae.training.loop import LoopOptions, learning_rate
from difffae.training.shards import Shards, stacked, write_shard
from difffae.training.slots import SlotsTraining, augment, collate, export_slots, measure_order, train_slots

SLOTS = SlotsConfig(
    image_size=32, patch=4, stem_channels=16, block_channels=(16, 32), layers_per_block=1, feature_channels=16, slot_size=12, slot_hidden=16
)
DECODER = MixtureDecoderConfig(token_size=12, channels=8, start=4, size=16)
DENOISER = DenoiserConfig(
    sample_size=8,
    latent_channels=2,
    carry=True,
    block_channels=(8, 16),
    attention_levels=(False, True),
    layers_per_block=1,
    heads=2,
    token_size=12,
    norm_groups=4,
    identity_size=6,
    adain="blend",
    schedule=ScheduleConfig.open_256(),
)
COMMON = {"batch": 4, "warmup": 1, "log_every": 2, "learning_rate": 3e-3, "weight_decay": 0.0, "ema": 0.5}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def slot_shards(tmp_path: Path) -> Path:
    """Pictures of four coloured quarters, in random places; two shards, the second without labels."""
    folder = tmp_path / "slots"
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    colours = torch.tensor([[220, 160, 120], [60, 30, 10], [20, 40, 200], [90, 200, 90]], dtype=torch.uint8)
    labels = torch.full((12, 32, 32), 3, dtype=torch.uint8)
    for index in range(12):
        y, x = torch.randint(4, 12, (2,), generator=g).tolist()
        labels[index, y : y + 12, x : x + 12] = 0
        labels[index, y - 4 : y, x : x + 12] = 1
        labels[index, y + 12 :, x : x + 12] = 2
    images = colours[labels.long()].permute(0, 3, 1, 2)
    write_shard(folder / "a.safetensors", {"images": images[:8], "labels": labels[:8]})
    write_shard(folder / "b.safetensors", {"images": images[8:]})
    return folder


@pytest.fixture
def denoiser_shards(tmp_path: Path) -> Path:
    folder = tmp_path / "denoiser"
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    for name in "ab":
        target = torch.randn(6, 2, 8, 8, generator=g)
        write_shard(
            folder / f"{name}.safetensors",
            {
                "target": target.half(),
                "render": (target * 0.5).half(),
                "carried": (target + 0.1 * torch.randn(target.shape, generator=g)).half(),
                "validity": torch.randint(0, 256, (6, 1, 8, 8), generator=g, dtype=torch.uint8),
                "identity": torch.randn(6, 6, generator=g).half(),
                "tokens": torch.randn(6, 4, 12, generator=g).half(),
                "masks": torch.softmax(torch.randn(6, 4, 8, 8, generator=g) * 3, dim=1).half(),
                "source": torch.randint(0, 256, (6, 3, 32, 32), generator=g, dtype=torch.uint8),
                "query": torch.randint(0, 256, (6, 3, 32, 32), generator=g, dtype=torch.uint8),
            },
        )
    return folder


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.equal(x, y), name


def test_shards_read_what_was_written(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.safetensors", {"a": torch.arange(3), "b": torch.tensor([0, 51, 255], dtype=torch.uint8)})
    write_shard(tmp_path / "1.safetensors", {"a": torch.arange(3, 5), "b": torch.zeros(2, dtype=torch.uint8)})
    shards = Shards(tmp_path, ("a",))
    assert [int(shards.sample(index)["a"]) for index in range(len(shards))] == [0, 1, 2, 3, 4]
    assert stacked([shards.sample(1), shards.sample(2)], "b").tolist() == pytest.approx([0.2, 1.0])
    write_shard(tmp_path / "2.safetensors", {"a": torch.arange(5, 6)})
    shards.refresh()
    assert len(shards) == 6
    assert int(shards.sample(5)["a"]) == 5


def test_shard_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prepare the training data"):
        Shards(tmp_path, ("a",))
    with pytest.raises(ConfigError, match="same number"):
        write_shard(tmp_path / "x.safetensors", {"a": torch.zeros(2), "b": torch.zeros(3)})
    write_shard(tmp_path / "x.safetensors", {"a": torch.zeros(2)})
    with pytest.raises(ConfigError, match="has no 'b'"):
        Shards(tmp_path, ("a", "b"))
    (tmp_path / "y.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a complete shard"):
        Shards(tmp_path, ("a",))


def test_learning_rate() -> None:
    options = LoopOptions(learning_rate=1.0, warmup=10, steps=100)
    assert learning_rate(options, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(options, 50, 0.0) == pytest.approx(0.5)
    assert learning_rate(options, 100, 0.0) == pytest.approx(0.0)
    assert learning_rate(dataclasses.replace(options, steps=0, minutes=2.0), 50, 1.0) == pytest.approx(0.5)
    assert learning_rate(dataclasses.replace(options, constant_rate=True), 99, 0.0) == pytest.approx(1.0)


def test_augment_moves_labels_with_pictures(slot_shards: Path) -> None:
    images, labels = collate([Shards(slot_shards, ("images",)).sample(index) for index in range(8)], "cpu")
    moved, moved_labels = augment(images, labels, torch.rand(8, 7, generator=torch.Generator().manual_seed(1)))
    assert moved.shape == images.shape
    assert set(moved_labels.unique().tolist()) == {0, 1, 2, 3, UNLABELLED}
    for index in range(8):  # inside a region the colour stays that of the region, up to one gain per picture
        clothes = moved[index][:, moved_labels[index] == 2]
        if clothes.shape[1] > 20:
            assert (clothes.argmax(dim=0) == 2).float().mean() > 0.8


def test_unlabelled_samples_collate(slot_shards: Path) -> None:
    shards = Shards(slot_shards, ("images",))
    small = {"images": shards.sample(0)["images"], "labels": shards.sample(0)["labels"][::4, ::4]}
    _, labels = collate([small, shards.sample(9)], "cpu")
    assert labels.shape == (2, 32, 32)
    assert (labels[1] == UNLABELLED).all()
    assert torch.equal(labels[0][::4, ::4], small["labels"])


def test_slots_learn_the_labels(slot_shards: Path, tmp_path: Path) -> None:
    options = SlotsTraining(
        folder=str(tmp_path / "run"), shards=str(slot_shards), steps=120, augment=False, mask_weight=1.0, autocast=False, **COMMON
    )
    model = train_slots(options, SLOTS, DECODER)
    log = rows(tmp_path / "run")
    assert log[-1]["masks"] < 0.5 * log[0]["masks"]
    assert log[-1]["reconstruction"] < log[0]["reconstruction"]
    order, overlap = measure_order(model["slots"], Shards(slot_shards, ("images",)))
    assert order == REGIONS
    assert overlap.diagonal().min() > 0.5
    export_slots(tmp_path / "run" / "last.pt", tmp_path / "slots.safetensors", license="test", source="test")
    images, _ = collate([Shards(slot_shards, ("images",)).sample(0)], "cpu")
    torch.testing.assert_close(SlotEncoder.load(tmp_path / "slots.safetensors")(images)[1], model["slots"](images)[1], atol=2e-2, rtol=0)


def test_slots_resume_exactly(slot_shards: Path, tmp_path: Path) -> None:
    options = SlotsTraining(shards=str(slot_shards), steps=6, **COMMON)
    whole = train_slots(dataclasses.replace(options, folder=str(tmp_path / "whole")), SLOTS, DECODER)
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_slots(parts, SLOTS, DECODER, stop_step=3)
    assert_equal_weights(train_slots(parts), whole)
    assert_equal_weights(train_slots(parts), whole)  # a finished run does nothing more


def test_denoiser_learns_and_exports(denoiser_shards: Path, tmp_path: Path) -> None:
    options = DenoiserTraining(
        folder=str(tmp_path / "run"), shards=str(denoiser_shards), dev_shards=str(denoiser_shards), steps=150, autocast=False, **COMMON
    )
    model = train_denoiser(options, DENOISER)
    log = rows(tmp_path / "run")
    losses = [row["diffusion"] for row in log if "diffusion" in row]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert 0 < log[-1]["dev_diffusion"] < losses[0]
    export_denoiser(tmp_path / "run" / "last.pt", tmp_path / "d.safetensors", license="test", source="test")
    loaded = Denoiser.load(tmp_path / "d.safetensors")
    assert loaded.config == DENOISER
    shards = Shards(denoiser_shards, ("target",))
    batch = read_batch([shards.sample(0)], model, options)
    noisy = torch.randn(1, 2, 8, 8)
    a, b = loaded(noisy, 500, batch.conditions), model["denoiser"](noisy, 500, batch.conditions)
    assert (a - b).abs().mean() < 0.05 * b.abs().mean()


def test_denoiser_starts_from_a_file(denoiser_shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    given = Denoiser(DENOISER)
    path = tmp_path / "given.safetensors"
    save_checkpoint(path, given.state_dict(), kind="denoiser", config=DENOISER.to_dict(), license="test", source="test")
    common = COMMON | {"learning_rate": 0.0}
    options = DenoiserTraining(folder=str(tmp_path / "run"), shards=str(denoiser_shards), steps=1, start=str(path), **common)
    assert_equal_weights(train_denoiser(options), torch.nn.ModuleDict({"denoiser": given}))


def test_denoiser_resumes_exactly(denoiser_shards: Path, tmp_path: Path) -> None:
    options = DenoiserTraining(shards=str(denoiser_shards), steps=6, **COMMON)
    whole = train_denoiser(dataclasses.replace(options, folder=str(tmp_path / "whole")), DENOISER)
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_denoiser(parts, DENOISER, stop_step=2)
    assert_equal_weights(train_denoiser(parts), whole)


def test_joint_training_moves_the_slots(slot_shards: Path, denoiser_shards: Path, tmp_path: Path) -> None:
    train_slots(SlotsTraining(folder=str(tmp_path / "s"), shards=str(slot_shards), steps=2, **COMMON), SLOTS, DECODER)
    path = tmp_path / "slots.safetensors"
    export_slots(tmp_path / "s" / "last.pt", path, license="test", source="test")
    options = DenoiserTraining(folder=str(tmp_path / "d"), shards=str(denoiser_shards), steps=4, joint=True, slots=str(path), **COMMON)
    model = train_denoiser(options, DENOISER)
    before = SlotEncoder.load(path).state_dict()
    after = model["slots"].state_dict()
    assert (after["initial"] - before["initial"]).abs().max() > 0
    with pytest.raises(ConfigError, match="pre-trained slots"):
        train_denoiser(dataclasses.replace(options, slots="", folder=str(tmp_path / "e")), DENOISER)


def batch_of(shards: Path) -> Batch:
    data = Shards(shards, ("target",))
    model = torch.nn.ModuleDict({"denoiser": Denoiser(DENOISER)})
    return read_batch([data.sample(index) for index in range(12)], model, DenoiserTraining())


def test_dropout_of_conditions(denoiser_shards: Path) -> None:
    batch = batch_of(denoiser_shards)
    base = DenoiserTraining(carry_dropout=0, region_dropout=0, token_dropout=0, identity_dropout=0)
    g = torch.Generator().manual_seed(0)

    def dropped_by(options: DenoiserTraining) -> Conditions:
        return drop_conditions(batch, Dropout.draw(options, 12, 4, g))

    same = dropped_by(base)
    for name in ("tokens", "identity", "render", "carried", "validity"):
        assert torch.equal(getattr(same, name), getattr(batch.conditions, name)), name
    gone = dropped_by(dataclasses.replace(base, carry_dropout=1.0))
    assert gone.carried is not None
    assert gone.validity is not None
    assert gone.carried.abs().sum() == gone.validity.sum() == 0
    some = dropped_by(dataclasses.replace(base, token_dropout=0.5)).tokens.abs().sum(dim=2) == 0
    assert 0.25 < some.float().mean() < 0.75
    region = dropped_by(dataclasses.replace(base, region_dropout=1.0))
    assert region.carried is not None
    assert batch.conditions.carried is not None
    dropped = (region.carried == 0).all(dim=1)
    for index in range(12):  # exactly the cells of one slot are gone
        areas = [(batch.masks[index, slot] >= 0.5) for slot in range(4)]
        assert any(torch.equal(dropped[index], area) for area in areas)
