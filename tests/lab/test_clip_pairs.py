"""`reconstruct`: pairs of test clips, baselines, and PSNR against the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from difffae.cli import main
from difffae.common.errors import ConfigError
from difffae.common.images import read_image
from difffae.diffusion.denoiser import DenoiserConfig
from difffae.diffusion.schedule import ScheduleConfig
from difffae.edit.model import EditModel
from difffae.edit.profiles import Profile
from difffae.lab.tables import clip_pairs
from difffae.lab.tables.pairs import read_pairs
from difffae.lab.videos.prepare_video import encode_picture
from difffae.lab.videos.tar_samples import write_tar
from difffae.source.slots import SlotsConfig

SIDE = 64
SMALL = Profile(
    "small",
    {"kind": "open", "latent_channels": 4, "width": 8, "deep_width": 8, "norm_groups": 4},
    SlotsConfig(
        image_size=SIDE,
        stem_channels=8,
        block_channels=(8, 8),
        layers_per_block=1,
        feature_channels=16,
        norm_groups=4,
        head_width=4,
        slot_size=12,
    ),
    DenoiserConfig(
        sample_size=SIDE // 8,
        block_channels=(8, 16),
        attention_levels=(False, True),
        layers_per_block=1,
        heads=2,
        token_size=12,
        norm_groups=4,
        identity_size=5,
        schedule=ScheduleConfig.latent_diffusion(),
    ),
    "test",
)


def flat(value: int) -> Tensor:
    return torch.full((3, SIDE, SIDE), value, dtype=torch.uint8)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of two chunks; frame k of clip c has the grey 40 + 20 c + 10 k, its render 100 in the upper half alone."""
    folder = tmp_path / "test"
    folder.mkdir()
    samples = []
    for clip in range(2):
        for chunk, count in enumerate((3, 2)):
            for frame in range(count):
                render = flat(100)
                render[:, SIDE // 2 :] = 0
                files = {
                    "png": encode_picture(flat(40 + 20 * clip + 10 * frame), format="PNG"),
                    "render.png": encode_picture(render, format="PNG"),
                    "numbers.safetensors": save({"identity": torch.full((5,), float(frame))}),
                }
                samples.append((f"person{clip}/v/{chunk:03d}/{frame:06d}", files))
    write_tar(folder / "000000.tar", samples)
    return folder


def test_pairs_are_first_and_last_frames_of_a_first_chunk(clips: Path) -> None:
    pairs = clip_pairs.read_pairs(clips, 5)
    assert pairs.names == ("person0/v", "person1/v")
    assert (pairs.source[:, 0, 0, 0] * 255).round().tolist() == [40, 60]
    assert (pairs.truth[:, 0, 0, 0] * 255).round().tolist() == [60, 80]
    assert pairs.identity.tolist() == [[0.0] * 5] * 2  # the source's
    assert len(clip_pairs.read_pairs(clips, 1)) == 1
    with pytest.raises(ConfigError, match="no clips with two frames"):
        clip_pairs.read_pairs(clips.parent, 5)


def test_baselines_and_their_psnr(clips: Path) -> None:
    pairs = clip_pairs.read_pairs(clips, 5)
    model = SMALL.build(seed=0).eval()
    made = clip_pairs.baselines(model, pairs)
    found = clip_pairs.scores(made, pairs.truth)
    far = -20 * torch.log10(torch.tensor(20 / 255))  # every pixel is off by 20
    assert found[clip_pairs.COPIED][0] == pytest.approx(float(far), abs=1e-3)
    assert found[clip_pairs.COPIED][1] == pytest.approx(0.0, abs=1e-3)
    # off by 40 and by 20 in the upper halves, by 20 in the lower ones
    half = [(up**2 + 20**2) / 2 / 255**2 for up in (40, 20)]
    assert found[clip_pairs.PASTED][0] == pytest.approx(float(-10 * torch.log10(torch.tensor(half)).mean()), abs=1e-3)
    assert torch.equal(made[clip_pairs.DRAWN], pairs.render)


def test_result_is_decoded_from_noise_by_the_models_conditions(clips: Path) -> None:
    pairs = clip_pairs.read_pairs(clips, 5)
    model = SMALL.build(seed=0).eval()
    torch.nn.init.normal_(model.denoiser.unet.conv_out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    made = clip_pairs.reconstruct(model, pairs, steps=3)
    assert made.shape == (2, 3, SIDE, SIDE)
    assert torch.equal(made, clip_pairs.reconstruct(model, pairs, steps=3))
    torch.testing.assert_close(made, clip_pairs.reconstruct(model, pairs, steps=3, batch=1), atol=1e-4, rtol=1e-4)
    assert (made - clip_pairs.reconstruct(model, pairs, steps=3, seed=1)).abs().max() > 1e-3


def test_command_writes_a_sheet_and_numbers(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SMALL.build(seed=0).save(tmp_path / "model.safetensors", license="test", source="test")
    sheet = tmp_path / "sheet.png"
    flags = ["--model", str(tmp_path / "model.safetensors"), "--clips", str(clips), "--steps", "2", "--output", str(sheet)]
    flags += ["--keep", str(tmp_path / "kept")]
    assert main(["reconstruct", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 pairs")
    assert "source copied: 22.11 ± 0.00" in lines
    assert sheet.is_file()
    # what `evaluate --pairs-file` reads
    pairs = read_pairs(tmp_path / "kept" / "pairs.csv")
    assert [(pair.source.name, pair.query.name, pair.result) for pair in pairs] == [(f"000{i}.png",) * 3 for i in range(2)]
    greys = [[float(read_image(path)[0][0, 0, 0] * 255) for path in (pair.source, pair.query)] for pair in pairs]
    assert greys == [[40, 60], [60, 80]]
    copied, made = (pairs[1].find(tmp_path / "kept" / name) for name in ("source-copied", "model"))
    assert copied is not None
    assert copied.read_bytes() == pairs[1].source.read_bytes()
    assert made is not None
    assert EditModel.load(tmp_path / "model.safetensors").image_size == SIDE
