"""bench: counts and operations against published ones, timing, recorded functions, and the command from end to end at a small size."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import difffae.edit.profiles as profiles
from difffae.cli import main
from difffae.common.errors import ConfigError
from difffae.diffusion.acceleration import FastDenoiser, Recorded, accelerate
from difffae.diffusion.autoencoder import AutoencoderConfig
from difffae.diffusion.conditions import Conditions
from difffae.diffusion.denoiser import Denoiser, DenoiserConfig
from difffae.edit.model import DEFAULT_IDENTITY
from difffae.edit.profiles import Profile, profile
from difffae.lab.bench.counts import costs
from difffae.lab.bench.machine import Peaks, describe, probe
from difffae.lab.bench.timing import Timing, measure
from difffae.source.slots import SlotsConfig

CPU = torch.device("cpu")
TINY = DenoiserConfig(
    sample_size=8,
    latent_channels=4,
    carry=True,
    block_channels=(16, 32),
    attention_levels=(False, True),
    layers_per_block=1,
    heads=2,
    norm_groups=4,
    identity_size=128,
    adain="blend",
)
FIRST = AutoencoderConfig(latent_channels=4, width=16, deep_width=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1), norm_groups=4)


def tiny(name: str = "open-256", first_stage: str = "vq-f8") -> Profile:
    return Profile(name, {"kind": "open", **FIRST.to_dict()}, replace(SlotsConfig.open_256(), image_size=64), TINY, DEFAULT_IDENTITY)


@pytest.mark.slow
def test_operations_of_the_papers_model_are_the_published_ones() -> None:
    """88 GMAC per step; 622 and 273 GFLOP for Stable Diffusion's decoder and encoder at 256 pixels; ArcFace r50 6.3 GMAC."""
    found = costs(profile("paper-256", "kl-f8"))
    giga = {name: cost.operations / 1e9 for name, cost in found.items()}
    assert giga["denoise"] == pytest.approx(176.4, abs=0.1)
    assert giga["decode"] == pytest.approx(622, abs=1)
    assert giga["encode"] == pytest.approx(273, abs=1)
    assert giga["identity"] == pytest.approx(12.6, abs=0.1)
    assert found["denoise"].parameters == 865_839_684
    assert found["encode"].parameters + found["decode"].parameters == 83_653_863


def test_counts_add_up() -> None:
    counts = profile("paper-512").counts()
    assert counts["total"] == sum(counts[name] for name in ("denoiser", "slots", "first_stage", "identity"))
    assert counts["slots_encoder"] < counts["slots"]
    with torch.device("meta"):
        plain = Denoiser(replace(TINY, adain="none"))
    assert tiny().counts()["denoiser_unet"] == sum(p.numel() for p in plain.parameters())


def test_timing_is_the_median_after_warm_up() -> None:
    calls = []
    timing = measure(lambda: calls.append(1), CPU, warm_up=3, runs=5)
    assert len(calls) == 8
    assert len(timing.runs) == 5
    timing = Timing((5.0, 1.0, 9.0, 2.0))
    assert timing.median == statistics.median([5.0, 1.0, 9.0, 2.0]) == 3.5
    assert (timing.fastest, timing.slowest) == (1.0, 9.0)


def test_floors_are_weights_over_bandwidth_and_operations_over_the_peak() -> None:
    """The H200's row of the published floors: 1.69 GB at 4.8 TB/s and 176.4 GFLOP at 790 TFLOP/s."""
    memory, arithmetic = Peaks(4.8e12, 790e12).floor_ms(2 * 845_155_524, 176.4e9)
    assert memory == pytest.approx(0.352, abs=1e-3)
    assert arithmetic == pytest.approx(0.223, abs=1e-3)


def test_the_probe_finds_sane_peaks() -> None:
    peaks = probe(CPU, torch.float32, scale=0.1)
    assert 1e8 < peaks.bandwidth < 1e13
    assert 1e8 < peaks.arithmetic < 1e15
    machine = describe(CPU)
    assert machine.device
    assert machine.torch == torch.__version__


def rerun(function, inputs):
    """In the place of a CUDA graph: computes anew into one output, from whatever the held inputs hold."""
    output = function(*inputs).clone()

    def replay() -> Tensor:
        output.copy_(function(*inputs))
        return output

    return replay


def test_recorded_functions_follow_their_inputs_and_keep_earlier_results() -> None:
    recordings = []

    def recorder(function, inputs):
        recordings.append([tensor.shape for tensor in inputs])
        return rerun(function, inputs)

    double = Recorded(lambda x, y: 2 * x + y, recorder)
    x, y = torch.ones(2), torch.zeros(2)
    first = double(x, y)
    x.fill_(5)
    second = double(x, y + 1)
    assert first.tolist() == [2, 2]  # not overwritten by the second replay
    assert second.tolist() == [11, 11]
    assert double(torch.ones(3), torch.ones(3)).tolist() == [3, 3, 3]
    assert len(recordings) == 2  # one per shape
    assert double(x, y).tolist() == [10, 10]


def conditions(batch: int) -> Conditions:
    g = torch.Generator().manual_seed(batch)
    numbers = [torch.randn(batch, *shape, generator=g) for shape in ((4, 192), (128,), (4, 8, 8), (4, 8, 8))]
    return Conditions(*numbers, torch.ones(batch, 1, 8, 8))


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    model = Denoiser(TINY).eval().requires_grad_(False)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    return model


@pytest.mark.parametrize("carry", [True, False])
def test_a_recorded_denoiser_answers_the_same(denoiser: Denoiser, carry: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difffae.diffusion.acceleration.Recorded", lambda function: Recorded(function, rerun))
    fast = FastDenoiser(denoiser, "graphed", "cuda")  # only its name: nothing is sent there
    for batch, step in ((1, 10), (1, 900), (2, 500)):
        told = conditions(batch) if carry else replace(conditions(batch), carried=None, validity=None)
        noisy, steps = torch.randn(batch, 4, 8, 8), torch.full((batch,), step)
        assert torch.allclose(fast(noisy, steps, told), denoiser(noisy, steps, told), atol=1e-6)
    assert fast.config is denoiser.config


@pytest.mark.slow
def test_the_compiled_denoiser_is_one_graph_and_answers_the_same(denoiser: Denoiser) -> None:
    """Traced by dynamo and run without a code generator, which would take a minute."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fast = FastDenoiser(denoiser, "compiled", CPU, backend="eager")
    told, noisy, steps = conditions(1), torch.randn(1, 4, 8, 8), torch.tensor([300])
    with torch.no_grad():
        assert torch.allclose(fast(noisy, steps, told), denoiser(noisy, steps, told), atol=1e-5)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_modes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="mode 'fast' is unknown; choose from eager, compiled, graphed"):
        accelerate(torch.sin, "fast", CPU)
    with pytest.raises(ConfigError, match="records CUDA graphs, but the device is 'cpu'"):
        accelerate(torch.sin, "graphed", CPU)


@pytest.mark.slow
def test_the_command_measures_a_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(profiles, "profile", tiny)
    monkeypatch.setattr("difffae.lab.bench.machine.CPU_SIDE", 128)
    monkeypatch.setattr("difffae.lab.bench.machine.CPU_COPY", 1 << 20)
    output = tmp_path / "bench.json"
    options = ["--steps", "1", "3", "--batch", "1", "2", "--runs", "2", "--warm-up", "0", "--device", "cpu", "--json", str(output)]
    assert main(["bench", "--random", *options]) == 0
    table, found = capsys.readouterr().out, json.loads(output.read_text())
    rows = found["rows"]
    stages = ["landmarks", "fit", "render", "carry", "slots", "identity", "encode", "denoise", "decode", "paste"]
    assert [row["what"] for row in rows[:10]] == stages
    generated = [(row["batch"], row["steps"]) for row in rows if row["what"] == "generate"]
    assert generated == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert [row["steps"] for row in rows if row["what"] == "edit"] == [1, 3]
    assert all(row["runs"] == 2 and 0 < row["fastest_ms"] <= row["median_ms"] <= row["slowest_ms"] for row in rows)
    for row in rows:
        assert row["images_per_second"] == pytest.approx(1000 * row["batch"] / row["median_ms"])
    by_key = {(row["batch"], row["steps"]): row for row in rows if row["what"] == "generate"}
    peak, cost = found["peaks"]["arithmetic"], found["costs"]
    expected = 2 * sum(times * cost[name]["operations"] for name, times in (("encode", 1), ("denoise", 3), ("decode", 1)))
    assert by_key[2, 3]["arithmetic_floor_ms"] == pytest.approx(1000 * expected / peak)
    assert by_key[2, 3]["memory_floor_ms"] == pytest.approx(by_key[1, 3]["memory_floor_ms"])  # weights are read once for all
    assert found["machine"]["device"] in table
    assert table.count("\n| generate |") == 4
    assert found["weights"] == "random"


def test_requests_that_cannot_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, says in (
        (["--model", "paper-256"], "the paper's weights are not published; add --random"),
        (["--model", str(tmp_path / "x.safetensors"), "--random"], "random weights need a name"),
        (["--model", "mine.safetensors", "--count"], "can be counted by name"),
        (["--json", str(tmp_path / "none" / "x.json")], "give a file in an existing folder"),
    ):
        assert main(["bench", *options]) == 2
        assert says in capsys.readouterr().err
