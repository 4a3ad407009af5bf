"""`paper-mini`: the paper's structure at a size that two cores train, and slot attention from random starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from training_files import COMMON, DECODER, DENOISER, SLOTS, write_denoiser_shards

from difffae.common.checkpoint import load_checkpoint
from difffae.common.errors import ConfigError
from difffae.common.named_values import build
from difffae.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from difffae.diffusion.denoiser import DenoiserConfig
from difffae.edit.model import EditModel
from difffae.edit.profiles import profile
from difffae.lab.prepare.shards import Shards, write_shard
from difffae.lab.training.denoiser import DenoiserTraining, train_denoiser
from difffae.lab.training.denoiser_batch import read_batch
from difffae.lab.training.latent_scale import measure_latent_scale
from difffae.lab.training.parts import read_slots
from difffae.lab.training.presets import read_configs
from difffae.lab.training.slots import SlotsTraining, train_slots
from difffae.source.slots import SlotEncoder, SlotsConfig

RANDOM = dataclasses.replace(SLOTS, starts="random")


@pytest.fixture
def slot_shards(tmp_path: Path) -> Path:
    folder = tmp_path / "slots"
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    write_shard(folder / "a.safetensors", {"images": torch.randint(0, 256, (8, 3, 32, 32), generator=g, dtype=torch.uint8)})
    return folder


def test_structure_is_the_papers() -> None:
    mini, paper = profile("paper-mini"), profile("paper-256")
    sizes = {"sample_size", "block_channels", "norm_groups", "identity_size", "identity_scale"}
    same = {name: value for name, value in mini.denoiser.to_dict().items() if name not in sizes}
    # of a small model from pure noise the first errors are held back (docs/differences.md)
    assert same["schedule"].pop("clip_sample_range") == 2.2
    theirs = {name: value for name, value in paper.denoiser.to_dict().items() if name not in sizes}
    assert theirs["schedule"].pop("clip_sample_range") == 0
    assert same == theirs
    assert len(mini.denoiser.block_channels) == len(paper.denoiser.block_channels)
    assert (mini.denoiser.adain, mini.denoiser.carry, mini.denoiser.latent_channels) == ("replace", False, 4)
    assert mini.denoiser.schedule.prediction_type == "epsilon"
    assert (mini.slots.slot_count, mini.slots.slot_size, mini.slots.starts) == (4, 192, "random")
    counts = mini.counts()
    assert 6e6 < counts["denoiser"] < 10e6
    with torch.device("meta"):
        assert mini.build("meta").image_size == 128


def test_all_trained_parts_fit_twelve_megabytes(tmp_path: Path) -> None:
    model = profile("paper-mini").build(seed=0)
    model.save(tmp_path / "mini.safetensors", license="test", source="test")
    assert (tmp_path / "mini.safetensors").stat().st_size < 12_000_000
    again = EditModel.load(tmp_path / "mini.safetensors")
    assert again.slots.config == profile("paper-mini").slots
    assert load_checkpoint(tmp_path / "mini.safetensors").config["slots"]["starts"] == "random"


def test_presets_name_the_same_sizes() -> None:
    training, model = read_configs(["paper-mini"], "denoiser", [], [])
    options = build(DenoiserTraining, training, "test")
    assert (options.learning_rate, options.constant_rate, options.batch, options.delta, options.joint) == (1e-4, True, 16, 0.1, True)
    assert options.steps * options.batch == 300_000
    assert build(DenoiserConfig, model, "test") == profile("paper-mini").denoiser
    training, model = read_configs(["paper-mini", "v-prediction"], "denoiser", [], [])
    schedule = dataclasses.replace(profile("paper-mini").denoiser.schedule, prediction_type="v_prediction")
    assert build(DenoiserConfig, model, "test") == dataclasses.replace(profile("paper-mini").denoiser, schedule=schedule)
    training, model = read_configs(["paper-mini", "learned-starts"], "slots", [], [])
    assert build(SlotsTraining, training, "test").mask_weight == 0.0
    assert build(SlotsConfig, model, "test") == dataclasses.replace(profile("paper-mini").slots, starts="learned")
    training, model = read_configs(["paper-mini"], "autoencoder", [], [])
    assert model["kind"] == "open"
    assert (model["latent_channels"], training["crop"]) == (4, 128)


def test_random_starts_come_from_one_normal_distribution() -> None:
    torch.manual_seed(0)
    encoder = SlotEncoder(RANDOM).requires_grad_(False)
    torch.nn.init.constant_(encoder.mean, 3.0)
    torch.nn.init.constant_(encoder.log_spread, -2.0)
    noise = encoder.draw(500, torch.Generator().manual_seed(1))
    assert noise is not None
    starts = encoder.starts(noise)
    assert starts.shape == (500, 4, 12)
    assert float(starts.mean()) == pytest.approx(3.0, abs=0.01)
    assert float(starts.std()) == pytest.approx(float(torch.tensor(-2.0).exp()), abs=0.01)
    # every slot has the same one, unlike learned starts
    torch.testing.assert_close(starts.mean(dim=(0, 2)), torch.full((4,), 3.0), atol=0.02, rtol=0)
    assert SlotEncoder(SLOTS).draw(3, torch.Generator()) is None
    with pytest.raises(ConfigError, match="learned, random"):
        dataclasses.replace(SLOTS, starts="none")


def test_outside_of_training_a_picture_has_the_same_tokens_in_every_process() -> None:
    torch.manual_seed(0)
    encoder = SlotEncoder(RANDOM)
    torch.manual_seed(1)  # another process has drawn other numbers before
    other = SlotEncoder(RANDOM)
    other.load_state_dict(encoder.state_dict())
    image = torch.rand(1, 3, 32, 32)
    tokens, masks = encoder(image)
    assert torch.equal(other(image)[0], tokens)
    drawn = encoder(image, encoder.draw(1, torch.Generator().manual_seed(5)))
    assert (drawn[0] - tokens).abs().max() > 1e-3
    torch.testing.assert_close(drawn[1].sum(dim=1), torch.ones_like(masks[:, 0]))
    # slots change places with their starts
    turned = encoder(image, encoder.drawn.flip(1))
    torch.testing.assert_close(turned[0].flip(1), tokens, atol=1e-5, rtol=1e-5)


def test_slots_learn_from_random_starts_and_resume_exactly(slot_shards: Path, tmp_path: Path) -> None:
    options = SlotsTraining(shards=str(slot_shards), steps=6, **{**COMMON, "learning_rate": 1e-3}, mask_weight=0, decoder_mask_weight=0)
    whole = train_slots(dataclasses.replace(options, folder=str(tmp_path / "whole")), RANDOM, DECODER)
    parts = dataclasses.replace(options, folder=str(tmp_path / "parts"))
    train_slots(parts, RANDOM, DECODER, stop_step=2)
    resumed = train_slots(parts)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    moved = read_slots(tmp_path / "whole/last.pt")
    assert moved.config.starts == "random"
    assert moved.config.order == ()  # nothing taught them their regions
    assert moved.config.names == ("slot 0", "slot 1", "slot 2", "slot 3")
    assert float(moved.log_spread.abs().max()) > 0  # it is zero at the start


def test_source_and_query_start_from_the_same_draw(slot_shards: Path, tmp_path: Path) -> None:
    data = write_denoiser_shards(tmp_path / "denoiser")
    slots = SlotsTraining(folder=str(tmp_path / "s"), shards=str(slot_shards), steps=1, **COMMON, mask_weight=0, decoder_mask_weight=0)
    train_slots(slots, RANDOM, DECODER)
    options = DenoiserTraining(
        folder=str(tmp_path / "d"), shards=str(data), steps=4, joint=True, slots=str(tmp_path / "s/last.pt"), **COMMON
    )
    config = dataclasses.replace(DENOISER, carry=False)
    before = read_slots(options.slots).state_dict()
    model = train_denoiser(options, config)
    assert (model["slots"].state_dict()["mean"] - before["mean"]).abs().max() > 0
    # with the source as the query, the masks of the query are those that the tokens were made with
    sample = Shards(data, ("source", "query")).sample(0)
    sample["query"] = sample["source"]
    noise = model["slots"].draw(1, torch.Generator().manual_seed(3))
    batch = read_batch([sample], model, options, noise)
    tokens, masks = model["slots"](sample["source"][None].float() / 255, noise)
    torch.testing.assert_close(batch.conditions.tokens, tokens)
    torch.testing.assert_close(batch.masks, masks)
    assert (masks - read_batch([sample], model, options).masks).abs().max() > 1e-4


def test_latent_scale_is_measured(slot_shards: Path) -> None:
    torch.manual_seed(0)
    stage = Autoencoder(AutoencoderConfig(latent_channels=4, width=8, deep_width=8, norm_groups=4))
    scale = measure_latent_scale(stage, slot_shards)
    scaled = Autoencoder(dataclasses.replace(stage.config, latent_scale=scale))
    scaled.load_state_dict(stage.state_dict())
    images = torch.stack([Shards(slot_shards, ("images",)).sample(index)["images"] for index in range(8)]).float() / 255
    assert float(scaled.encode(images).detach().std()) == pytest.approx(1.0, abs=1e-3)
    assert measure_latent_scale(scaled, slot_shards) == pytest.approx(scale, rel=1e-5)  # of the unscaled latents, whatever the file's is
