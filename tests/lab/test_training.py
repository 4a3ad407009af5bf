"""The training stages on tiny models: they learn, resume exactly, and export what they trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from training_files import COMMON, DECODER, DENOISER, SLOTS, write_denoiser_shards

from difffae.common.checkpoint import save_checkpoint
from difffae.common.errors import CheckpointError, ConfigError
from difffae.common.named_values import build
from difffae.diffusion.conditions import Conditions
from difffae.diffusion.denoiser import Denoiser, DenoiserConfig
from difffae.diffusion.first_stages import VQConfig, VQFirstStage, describe
from difffae.diffusion.initialisation import init_from
from difffae.edit.profiles import profile
from difffae.lab.losses.losses import UNLABELLED
from difffae.lab.prepare.shards import Shards, stacked, write_shard
from difffae.lab.training.denoiser import DenoiserStage, DenoiserTraining, train_denoiser
from difffae.lab.training.denoiser import build as build_denoiser
from difffae.lab.training.denoiser_batch import Batch, Dropout, drop_conditions, read_batch
from difffae.lab.training.loop import LoopOptions, learning_rate
from difffae.lab.training.parts import read_denoiser, read_slots
from difffae.lab.training.presets import read_configs
from difffae.lab.training.slots import SlotsTraining, augment, collate, measure_order, train_slots
from difffae.source.slots import SlotEncoder, SlotsConfig
from difffae.vocabulary import REGIONS

pytestmark = pytest.mark.usefixtures("one_thread")


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
    return write_denoiser_shards(tmp_path / "denoiser")


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


@pytest.mark.slow
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
    assert_equal_weights(read_slots(tmp_path / "run" / "last.pt"), model["slots"])
    assert model["slots"].config.order == REGIONS


@pytest.mark.slow
def test_slots_resume_exactly(slot_shards: Path, tmp_path: Path) -> None:
    options = SlotsTraining(shards=str(slot_shards), steps=6, **COMMON)
    whole = train_slots(dataclasses.replace(options, folder=str(tmp_path / "whole")), SLOTS, DECODER)
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_slots(parts, SLOTS, DECODER, stop_step=3)
    assert_equal_weights(train_slots(parts), whole)
    assert_equal_weights(train_slots(parts), whole)  # a finished run does nothing more


@pytest.mark.slow
def test_slots_start_from_others_and_hold_on_to_their_tokens(slot_shards: Path, tmp_path: Path) -> None:
    """From a trained start with new labels: the tokens stay nearer to the start's with keep_weight than without."""
    first = SlotsTraining(folder=str(tmp_path / "first"), shards=str(slot_shards), steps=30, augment=False, autocast=False, **COMMON)
    train_slots(first, SLOTS, DECODER)
    start = read_slots(tmp_path / "first" / "last.pt")
    images = Shards(slot_shards, ("images",)).sample(0)["images"][None].float() / 255
    tokens, far = start(images)[0], {}
    for keep in (0.0, 20.0):
        options = dataclasses.replace(
            first, folder=str(tmp_path / f"keep{keep}"), start=str(tmp_path / "first" / "last.pt"), keep_weight=keep, steps=25
        )
        model = train_slots(options)
        far[keep] = (model["slots"](images)[0] - tokens).square().mean().item()
        assert ("moved" in rows(tmp_path / f"keep{keep}")[-1]) == (keep > 0)
    assert 0 < far[20.0] < 0.5 * far[0.0]
    with pytest.raises(ConfigError, match="keep_weight"):
        train_slots(dataclasses.replace(first, folder=str(tmp_path / "none"), keep_weight=1.0))
    with pytest.raises(ConfigError, match="sizes"):
        train_slots(
            dataclasses.replace(first, folder=str(tmp_path / "other"), start=options.start), dataclasses.replace(SLOTS, iterations=2)
        )


@pytest.mark.slow
def test_denoiser_learns_and_exports(denoiser_shards: Path, tmp_path: Path) -> None:
    options = DenoiserTraining(
        folder=str(tmp_path / "run"), shards=str(denoiser_shards), dev_shards=str(denoiser_shards), steps=150, autocast=False, **COMMON
    )
    model = train_denoiser(options, DENOISER)
    log = rows(tmp_path / "run")
    losses = [row["diffusion"] for row in log if "diffusion" in row]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert 0 < log[-1]["dev_diffusion"] < losses[0]
    loaded, encoder = read_denoiser(tmp_path / "run" / "last.pt")
    assert encoder is None
    assert loaded.config == DENOISER
    assert_equal_weights(torch.nn.ModuleDict({"denoiser": loaded}), model)
    raw, _ = read_denoiser(tmp_path / "run" / "last.pt", raw=True)
    assert not torch.equal(raw.unet.conv_out.weight, loaded.unet.conv_out.weight)


def test_denoiser_starts_from_a_file(denoiser_shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    given = Denoiser(DENOISER)
    path = tmp_path / "given.safetensors"
    save_checkpoint(path, given.state_dict(), kind="denoiser", config=DENOISER.to_dict(), license="test", source="test")
    common = COMMON | {"learning_rate": 0.0}
    options = DenoiserTraining(folder=str(tmp_path / "run"), shards=str(denoiser_shards), steps=1, start=str(path), **common)
    assert_equal_weights(train_denoiser(options), torch.nn.ModuleDict({"denoiser": given}))


@pytest.mark.slow
def test_denoiser_resumes_exactly(denoiser_shards: Path, tmp_path: Path) -> None:
    options = DenoiserTraining(shards=str(denoiser_shards), steps=6, **COMMON)
    whole = train_denoiser(dataclasses.replace(options, folder=str(tmp_path / "whole")), DENOISER)
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_denoiser(parts, DENOISER, stop_step=2)
    assert_equal_weights(train_denoiser(parts), whole)


@pytest.mark.slow
def test_joint_training_moves_the_slots(slot_shards: Path, denoiser_shards: Path, tmp_path: Path) -> None:
    train_slots(SlotsTraining(folder=str(tmp_path / "s"), shards=str(slot_shards), steps=2, **COMMON), SLOTS, DECODER)
    path = tmp_path / "s" / "last.pt"
    options = DenoiserTraining(folder=str(tmp_path / "d"), shards=str(denoiser_shards), steps=4, joint=True, slots=str(path), **COMMON)
    model = train_denoiser(options, DENOISER)
    before = read_slots(path).state_dict()
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


# ------------------------------------------------------------------------------------- ways of running the same training


@pytest.fixture
def slots_file(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    path = tmp_path / "slots.safetensors"
    save_checkpoint(path, SlotEncoder(SLOTS).state_dict(), kind="slots", config=SLOTS.to_dict(), license="test", source="test")
    return path


def test_focus_draws_the_levels_of_edits(denoiser_shards: Path) -> None:
    def draw(**settings: float) -> torch.Tensor:
        options = DenoiserTraining(shards=str(denoiser_shards), **settings)
        model, _, needed = build_denoiser(options, DENOISER, None)
        return DenoiserStage(options, model, needed).draw_steps(4000, torch.Generator().manual_seed(0))

    count = DENOISER.schedule.train_steps
    plain, half, whole = draw(), draw(focus=0.5, focus_from=0.2, focus_to=0.6), draw(focus=1.0, focus_from=0.2, focus_to=0.6)
    inside = [((steps >= 0.2 * count) & (steps < 0.6 * count)).float().mean() for steps in (plain, half, whole)]
    assert abs(inside[0] - 0.4) < 0.03
    assert abs(inside[1] - 0.7) < 0.03
    assert inside[2] == 1
    assert whole.min() <= 0.21 * count
    assert whole.max() >= 0.59 * count
    assert torch.equal(plain, torch.randint(count, (4000,), generator=torch.Generator().manual_seed(0)))


@pytest.mark.slow
def test_memory_saving_changes_nothing(denoiser_shards: Path, slots_file: Path, tmp_path: Path) -> None:
    """Gradient checkpointing (with the attention maps of Eq. 7) and accumulation: the same weights and losses, up to rounding."""
    common = COMMON | {"log_every": 1}
    plain = DenoiserTraining(
        shards=str(denoiser_shards), steps=3, joint=True, slots=str(slots_file), hole_weight=0.0, autocast=False, **common
    )
    whole = train_denoiser(dataclasses.replace(plain, folder=str(tmp_path / "plain")), DENOISER).state_dict()
    for name, change in {"checkpointing": {"gradient_checkpointing": True}, "parts": {"accumulation": 2}}.items():
        saving = dataclasses.replace(plain, folder=str(tmp_path / name), **change)
        other = train_denoiser(saving, DENOISER).state_dict()
        for key in whole:
            torch.testing.assert_close(other[key], whole[key], atol=2e-4, rtol=0, msg=f"{name}: {key}")
        for row, expected in zip(rows(tmp_path / name), rows(tmp_path / "plain"), strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], abs=2e-5)
            assert row["consistency"] == pytest.approx(expected["consistency"], abs=2e-5)
    with pytest.raises(ConfigError, match="batch=4"):
        train_denoiser(dataclasses.replace(plain, folder=str(tmp_path / "odd"), accumulation=3), DENOISER)


def test_slots_save_memory_too(slot_shards: Path, tmp_path: Path) -> None:
    plain = SlotsTraining(shards=str(slot_shards), steps=3, autocast=False, mask_weight=0.0, decoder_mask_weight=0.0, **COMMON)
    whole = train_slots(dataclasses.replace(plain, folder=str(tmp_path / "plain")), SLOTS, DECODER).state_dict()
    saving = dataclasses.replace(plain, folder=str(tmp_path / "saving"), gradient_checkpointing=True, accumulation=2)
    other = train_slots(saving, SLOTS, DECODER).state_dict()
    for key in whole:
        torch.testing.assert_close(other[key], whole[key], atol=2e-4, rtol=0, msg=key)


@pytest.mark.slow
def test_bfloat16_trains_float32_weights(denoiser_shards: Path, tmp_path: Path) -> None:
    options = DenoiserTraining(shards=str(denoiser_shards), steps=4, **COMMON)
    runs = {}
    for half in (False, True):
        name = f"run{half}"
        runs[half] = train_denoiser(dataclasses.replace(options, folder=str(tmp_path / name), autocast=half), DENOISER).state_dict()
        assert {value.dtype for value in runs[half].values()} == {torch.float32}
    exact, rounded = (rows(tmp_path / f"run{half}")[-1]["loss"] for half in (False, True))
    assert rounded == pytest.approx(exact, rel=0.02)
    assert any(not torch.equal(runs[True][key], runs[False][key]) for key in runs[True])  # it did run in bfloat16


@pytest.mark.slow
def test_tensorboard_shows_scalars_and_samples(denoiser_shards: Path, slot_shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = tmp_path / "first.safetensors"
    stage = VQFirstStage(VQConfig(latent_channels=2, codes=8, block_channels=(4, 4), layers_per_block=1, norm_groups=2))
    save_checkpoint(first, stage.state_dict(), kind="first-stage", config=describe(stage), license="test", source="test")
    common = COMMON | {"tensorboard": True}
    denoiser = DenoiserTraining(folder=str(tmp_path / "d"), shards=str(denoiser_shards), steps=4, first_stage=str(first), **common)
    train_denoiser(denoiser, DENOISER, stop_step=2)
    train_denoiser(denoiser)
    train_slots(SlotsTraining(folder=str(tmp_path / "s"), shards=str(slot_shards), steps=2, **common), SLOTS, DECODER)
    events = {}
    for name in "ds":
        events[name] = EventAccumulator(str(tmp_path / name / "tensorboard"))
        events[name].Reload()
    assert [event.step for event in events["d"].Scalars("loss")] == [2, 4]
    assert events["d"].Scalars("loss")[1].value == pytest.approx(rows(tmp_path / "d")[-1]["loss"], rel=1e-5)
    assert min(event.value for event in events["d"].Scalars("samples_per_second")) > 0
    assert [event.step for event in events["d"].Images("samples")] == [2, 4]
    shown = events["d"].Images("samples")[0]
    assert (shown.width, shown.height) == (5 * 32, 4 * 32)  # source, render, carried, target, sample; four rows
    assert {tag: (events["s"].Images(tag)[0].width, events["s"].Images(tag)[0].height) for tag in events["s"].Tags()["images"]} == {
        "reconstructions": (2 * 32, 4 * 32),
        "masks": (5 * 32, 4 * 32),
        "decoder_masks": (5 * 32, 4 * 32),
    }


@pytest.mark.slow
def test_slots_reconstruct_latents(slot_shards: Path, tmp_path: Path) -> None:
    """Paper 5.4: with a first stage the slots are trained on its latents."""
    first = tmp_path / "first.safetensors"
    stage = VQFirstStage(VQConfig(latent_channels=2, codes=8, block_channels=(4, 4), layers_per_block=1, norm_groups=2))
    save_checkpoint(first, stage.state_dict(), kind="first-stage", config=describe(stage), license="test", source="test")
    options = SlotsTraining(folder=str(tmp_path / "s"), shards=str(slot_shards), steps=30, first_stage=str(first), augment=False, **COMMON)
    model = train_slots(dataclasses.replace(options, mask_weight=0.0, decoder_mask_weight=0.0), SLOTS)
    assert model["decoder"](torch.zeros(1, 4, 12))[0].shape == (1, 2, 16, 16)
    log = rows(tmp_path / "s")
    assert log[-1]["reconstruction"] < 0.9 * log[0]["reconstruction"]


def test_denoiser_begins_with_what_fits(denoiser_shards: Path, tmp_path: Path) -> None:
    """`init`: a U-Net without AdaIN, with fewer inputs and another token size, as Stable Diffusion's."""
    torch.manual_seed(3)
    other = dataclasses.replace(DENOISER, adain="none", carry=False, token_size=20)
    given = Denoiser(other).state_dict()
    save_checkpoint(tmp_path / "unet.safetensors", given, kind="denoiser", config=other.to_dict(), license="test", source="test")
    common = COMMON | {"learning_rate": 0.0}
    options = DenoiserTraining(
        folder=str(tmp_path / "r"), shards=str(denoiser_shards), steps=1, init=str(tmp_path / "unet.safetensors"), **common
    )
    begun = train_denoiser(options, DENOISER).state_dict()
    assert torch.equal(begun["denoiser.unet.conv_in.weight"][:, :4], given["unet.conv_in.weight"])
    assert begun["denoiser.unet.conv_in.weight"][:, 4:].abs().max() == 0
    assert torch.equal(begun["denoiser.unet.mid_block.resnets.0.conv1.weight"], given["unet.mid_block.resnets.0.conv1.weight"])


def test_adain_that_replaces_moves_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From a U-Net without AdaIN, as Stable Diffusion's: a blend answers as that did, Eq. 4 as it stands does not, and is warned of."""
    torch.manual_seed(3)
    plain = Denoiser(dataclasses.replace(DENOISER, adain="none", carry=False)).eval()
    torch.nn.init.normal_(plain.unet.conv_out.weight, std=0.1)  # a new one answers zero
    file = tmp_path / "unet.safetensors"
    save_checkpoint(file, plain.state_dict(), kind="denoiser", config=plain.config.to_dict(), license="test", source="test")
    g = torch.Generator().manual_seed(4)
    noisy, tokens, identity = (torch.randn(shape, generator=g) for shape in ((2, 2, 8, 8), (2, 4, 12), (2, 6)))
    conditions, changed = Conditions(tokens, identity, torch.zeros(2, 2, 8, 8)), {}
    with torch.no_grad():
        known = plain(noisy, 500, conditions)
        for adain in ("blend", "replace"):
            caplog.clear()
            denoiser = Denoiser(dataclasses.replace(plain.config, adain=adain)).eval()
            report = init_from(denoiser, file)
            assert len(report.copied) == len(plain.state_dict())
            changed[adain] = ((denoiser(noisy, 500, conditions) - known).norm() / known.norm()).item()
            assert [record.getMessage().split(" and ")[0] for record in caplog.records] == (
                [f"{file}: has no trained AdaIN,"] if adain == "replace" else []
            )
    assert changed["blend"] == 0
    assert changed["replace"] > 0.3


def test_data_of_another_size_is_refused(slot_shards: Path, denoiser_shards: Path, tmp_path: Path) -> None:
    """Latents and slots of 256 pixels, say, for the 512 configuration: here 32 and 64."""
    common = {"folder": str(tmp_path / "r"), "steps": 1, **COMMON}
    large, wide = dataclasses.replace(DENOISER, sample_size=16), dataclasses.replace(SLOTS, image_size=64)
    with pytest.raises(ConfigError, match=r"denoiser: its latents are 2x8x8 .*, but this denoiser is for 2x16x16; prepare pictures"):
        train_denoiser(DenoiserTraining(shards=str(denoiser_shards), **common), large)
    with pytest.raises(ConfigError, match=r"its pictures 'images' are 32x32 pixels, but these slots are for 64x64; .*--size 64"):
        train_slots(SlotsTraining(shards=str(slot_shards), **common), wide, DECODER)
    torch.manual_seed(0)
    slots = tmp_path / "slots.safetensors"
    save_checkpoint(slots, SlotEncoder(wide).state_dict(), kind="slots", config=wide.to_dict(), license="test", source="test")
    with pytest.raises(ConfigError, match=r"its pictures 'source' are 32x32 pixels, but these slots are for 64x64"):
        train_denoiser(DenoiserTraining(shards=str(denoiser_shards), joint=True, slots=str(slots), **common), DENOISER)
    assert not (tmp_path / "r/last.pt").exists()


def test_presets() -> None:
    training, model = read_configs(["paper-256", "no-acr", "no-identity"], "denoiser", ["batch=8"], [])
    options = build(DenoiserTraining, training, "test")
    assert (options.learning_rate, options.steps, options.batch, options.joint, options.weight_decay) == (1e-4, 100_000, 8, True, 0.0)
    assert options.delta == 0.0
    config = build(DenoiserConfig, model, "test")
    assert config == dataclasses.replace(profile("paper-256").denoiser, adain="none")
    for count in (2, 4, 8):
        training, model = read_configs(["paper-256", f"slots-{count}"], "slots", [], [])
        assert build(SlotsTraining, training, "test").mask_weight == 0.0
        slots = build(SlotsConfig, model, "test")
        assert slots == dataclasses.replace(SlotsConfig(), slot_count=count, order=slots.order)
        assert len(slots.order) == count
    model = read_configs(["paper-256", "random-starts"], "slots", [], [])[1]
    assert build(SlotsConfig, model, "test") == dataclasses.replace(SlotsConfig(), starts="random")
    with pytest.raises(ConfigError, match="slots-8"):  # the choices are named
        read_configs(["slots-3"], "slots", [], [])
    with pytest.raises(ConfigError, match="changes nothing"):
        read_configs(["no-acr"], "slots", [], [])
