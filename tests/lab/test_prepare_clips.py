"""`prepare clips`: rendered people in the shards of videos, with exact codes; and `prepare frames` of them and of fitted portraits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from people import person
from safetensors.torch import load_file, save_file

from difffae.cli import main
from difffae.common.errors import ConfigError
from difffae.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from difffae.head.attributes import FaceAttributes
from difffae.head.morphable import HeadModel
from difffae.head.render import render
from difffae.lab.prepare.shards import Shards
from difffae.lab.prepare.stills import write_stills
from difffae.lab.videos import prepare_clips as module
from difffae.lab.videos.prepare_clips import ClipOptions, prepare_clips
from difffae.lab.videos.prepare_video import decode_frame
from difffae.lab.videos.prepare_videos import Split
from difffae.lab.videos.tar_samples import read_tar
from difffae.lab.videos.video_pairs import check_networks, write_frames, write_pairs

SIZE = 64


class BareHeads:
    """Stands in for SyntheticPeople, whose assets are no part of the repository: the head's render, brightened, before grey."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head

    def clip(self, seed: int, frames: int, size: int) -> SimpleNamespace:
        faces = [person(self.head, seed, yaw=20.0 * turn) for turn in range(frames)]
        names = faces[0].tensors()
        face = FaceAttributes(self.head.name, **{name: torch.cat([getattr(one, name) for one in faces]) for name in names})
        drawn = render(self.head, face, size)
        mask = drawn.mask.reshape(frames, 1, size, size).float()
        labels = (3 * (1 - mask[:, 0])).round().to(torch.uint8)
        image = (drawn.image * 0.9 + 0.1).clamp(0, 1) * mask + 0.5 * (1 - mask)
        return SimpleNamespace(image=image, labels=labels, attributes=face)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load().requires_grad_(False)


@pytest.fixture
def options(head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipOptions:
    monkeypatch.setattr(module, "load_people", lambda options: BareHeads(head))
    (tmp_path / "assets").mkdir()
    return ClipOptions(str(tmp_path / "assets"), size=SIZE, frames=3)


def test_clips_hold_exact_codes_in_the_form_of_videos(options: ClipOptions, head: HeadModel, tmp_path: Path) -> None:
    out = tmp_path / "clips"
    split = Split(listed=frozenset({"rendered-000001"}))
    prepare_clips(out, options, split, people=2)
    check_networks(out / "train", "open", "dlib-resnet-v1")
    samples = list(read_tar(out / "train/000000.tar"))
    assert [key for key, _ in samples] == [f"rendered-000000/0/000/{row:06d}" for row in range(3)]
    assert [key.split("/")[0] for key, _ in read_tar(out / "test/000000.tar")] == ["rendered-000001"] * 3
    made = BareHeads(head).clip(0, 3, SIZE)
    drawn = render(head, made.attributes, SIZE).image
    for row, (_, files) in enumerate(samples):
        frame = decode_frame(files)
        assert (frame["picture"].float() / 255 - made.image[row]).abs().max() <= 0.5 / 255 + 1e-6
        assert (frame["render"].float() / 255 - drawn[row].clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(frame["labels"], made.labels[row])
        for name, value in made.attributes.tensors().items():
            assert torch.equal(frame[name], value[row]), name
        # the nose's tip lies on the head, and moves with it
        assert frame["labels"][tuple(frame["landmarks"][1].flip(0).long())] == 0
    noses = [float(decode_frame(files)["landmarks"][1, 0]) for _, files in samples]
    assert noses[2] - noses[1] > 2
    assert noses[1] - noses[0] > 2


def test_more_people_come_into_further_shards(options: ClipOptions, tmp_path: Path) -> None:
    out = tmp_path / "clips"
    everyone = Split(share=0.0)
    prepare_clips(out, options, everyone, people=2, shard_samples=6)
    before = (out / "train/000000.tar").read_bytes()
    prepare_clips(out, options, everyone, people=4, shard_samples=6)
    assert (out / "train/000000.tar").read_bytes() == before
    names = {key.split("/")[0] for key, _ in read_tar(out / "train/000001.tar")}
    assert names == {"rendered-000002", "rendered-000003"}
    with pytest.raises(ConfigError, match="frames 3"):
        prepare_clips(out, ClipOptions(options.makehuman, size=SIZE, frames=2), everyone, people=5, shard_samples=6)


def test_pairs_and_frames_of_rendered_people(options: ClipOptions, tmp_path: Path) -> None:
    prepare_clips(tmp_path / "clips", options, Split(share=0.0), people=2)
    frames = [decode_frame(files) for _, files in read_tar(tmp_path / "clips/train/000000.tar")]
    pictures = torch.stack([frame["picture"] for frame in frames])
    torch.manual_seed(0)
    first = Autoencoder(AutoencoderConfig(latent_channels=4, width=16, deep_width=16, norm_groups=4))
    write_pairs(tmp_path / "clips/train", tmp_path / "pairs", first, per_chunk=4)
    shards = Shards(tmp_path / "pairs", ("target", "render", "identity", "source", "query"))
    assert len(shards) == 8
    for index in range(8):
        sample = shards.sample(index)
        source, query = (int((pictures == sample[name]).flatten(1).all(1).nonzero()) for name in ("source", "query"))
        assert source != query
        assert source // 3 == query // 3 == index // 4  # of one person
        torch.testing.assert_close(sample["identity"].float(), frames[source]["identity"], atol=2e-3, rtol=2e-3)
        drawn = first.encode(frames[query]["render"][None].float() / 255)[0]
        torch.testing.assert_close(sample["render"].float(), drawn, atol=2e-2, rtol=2e-2)
    write_frames(tmp_path / "clips/train", tmp_path / "frames", per_chunk=2)
    held = load_file(str(tmp_path / "frames/000000.safetensors"))
    assert torch.equal(held["images"], pictures[[0, 1, 3, 4]])
    assert torch.equal(held["labels"], torch.stack([frames[row]["labels"] for row in (0, 1, 3, 4)]))


def test_stills_are_averaged_down(tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_file({"pictures": pictures}, tmp_path / "fit.safetensors")
    write_stills(tmp_path / "fit.safetensors", tmp_path / "frames", 4)
    images = load_file(str(tmp_path / "frames/still_0000.safetensors"))["images"]
    mean = pictures.float().unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean(dim=(3, 5))
    assert (images.float() - mean).abs().max() <= 0.5 + 1e-4
    with pytest.raises(ConfigError, match="fewer than --size 16"):
        write_stills(tmp_path / "fit.safetensors", tmp_path / "more", 16)


def test_command_refuses_what_cannot_be_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "clips", "--input", str(tmp_path), "--output", str(tmp_path / "out"), "--frames", "1"]) != 0
    assert "a pair is two frames" in capsys.readouterr().err
