"""Clips through ComfyUI's VIDEO: a portrait that a clip drives, a portrait along keyframes, a clip that is edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inprocess import Pack
from PIL import Image, ImageOps
from video_files import SOURCE, talking_frames, write_clip

KEYS = '{"curve": "linear", "keys": [{"time": 0, "yaw": 0}, {"time": 0.16, "yaw": 15}]}'


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", talking_frames(5), sound="aac")


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    """(1,255,257,3), an odd size."""
    pixels = np.asarray(Image.open(SOURCE).convert("RGB").crop((60, 20, 317, 275)))
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def video(path: Path) -> Any:
    from comfy_api.v0_0_2 import InputImpl

    return InputImpl.VideoFromFile(str(path))


def test_a_clip_drives_a_portrait_of_odd_size(pack: Pack, clip: Path, portrait: torch.Tensor) -> None:
    (moved,) = pack.run("DiffFAEAnimatePortrait", image=portrait, driving=video(clip))
    parts = moved.get_components()
    assert parts.images.shape == (5, 255, 257, 3)
    assert parts.frame_rate == 25
    assert parts.audio["waveform"].shape[-1] > 4000
    painted = {"model": pack.model, "vae": pack.vae, "steps": 2, "denoise": 0.4}
    (drawn,) = pack.run("DiffFAEAnimatePortrait", image=portrait, driving=video(clip), **painted)
    difference = (drawn.get_components().images - parts.images).abs()
    assert 0.2 < 255 * float(difference[:, 60:200, 60:200].mean()) < 12
    with pytest.raises(pack.library("common.errors").ConfigError, match="model and vae go together"):
        pack.run("DiffFAEAnimatePortrait", image=portrait, driving=video(clip), model=pack.model)


def test_a_portrait_moves_along_keyframes(pack: Pack, portrait: torch.Tensor) -> None:
    (made,) = pack.run("DiffFAEAnimatePortrait", image=portrait, keyframes=KEYS, loop="ping-pong")
    images = made.get_components().images
    assert len(images) == 8  # 5 forwards, 3 backwards
    far = (images - images[:1]).abs().flatten(1).mean(1)
    assert int(far.argmax()) == 4
    with pytest.raises(pack.library("common.errors").ConfigError, match="wire a clip, or write keyframes"):
        pack.run("DiffFAEAnimatePortrait", image=portrait)


@pytest.fixture(scope="module")
def pair() -> torch.Tensor:
    """(1,256,512,3): two people side by side, of whom the left one is the larger."""
    person = Image.open(SOURCE).convert("RGB")
    both = Image.new("RGB", (512, 256), "grey")
    both.paste(person.resize((256, 256)), (0, 0))
    both.paste(ImageOps.mirror(person.resize((224, 224))), (272, 16))
    return torch.from_numpy(np.asarray(both).astype(np.float32) / 255)[None]


def over_blocks(values: torch.Tensor) -> torch.Tensor:
    """Means of (H,W) over the blocks in which H.264 works; of one that is still it may miss some by a few grey levels (the frames that it
    gets are the same there to the last bit: tests/video/test_making.py)."""
    return torch.nn.functional.avg_pool2d(values[None], 16)[0]


@pytest.mark.slow
def test_each_face_has_its_own_clip_or_none(pack: Pack, clip: Path, pair: torch.Tensor) -> None:
    (second,) = pack.run("DiffFAEAnimatePortrait", image=pair, driving_2=video(clip))
    images = second.get_components().images
    spread = images.std(0).mean(-1)
    assert float(over_blocks(spread[:, :176]).max()) < 3 / 255  # who has no clip stays, but for what H.264 does
    assert float(over_blocks(spread[:, 256:]).max()) > 15 / 255
    assert float(spread[:, 256:].max()) > 0.05
    (both,) = pack.run("DiffFAEAnimatePortrait", image=pair, driving=video(clip), driving_2=video(clip))
    assert float(both.get_components().images.std(0).mean(-1)[:, :180].max()) > 0.05
    with pytest.raises(pack.library("common.errors").FaceChoiceError):
        pack.run("DiffFAEAnimatePortrait", image=pair, driving_3=video(clip))
    (turned,) = pack.run("DiffFAEAnimatePortrait", image=pair, driving_2=video(clip), keyframes=f"[null, {KEYS}]")
    further = (turned.get_components().images - images)[-1].abs().mean(-1)
    assert float(over_blocks(further[:, :176]).max()) < 5 / 255
    assert float(over_blocks(further[:, 256:]).max()) > 25 / 255
    assert float(further[:, 256:].max()) > 0.1
    with pytest.raises(pack.library("common.errors").ConfigError, match="the list has some for face 0, but what moves is face 1"):
        pack.run("DiffFAEAnimatePortrait", image=pair, driving_2=video(clip), keyframes=f"[{KEYS}]")


@pytest.mark.slow
def test_each_face_has_its_own_keyframes_or_none(pack: Pack, pair: torch.Tensor) -> None:
    spread = []
    for keys in (f"[null, {KEYS}]", f"[{KEYS}, {KEYS}]"):
        (made,) = pack.run("DiffFAEAnimatePortrait", image=pair, keyframes=keys)
        images = made.get_components().images
        assert images.shape == (5, 256, 512, 3)
        spread.append(images.std(0).mean(-1))
    assert [float(one[:, 256:].max()) > 0.05 for one in spread] == [True, True]
    assert float(over_blocks(spread[0][:, :176]).max()) < 3 / 255
    assert float(spread[1][:, :180].max()) > 0.05


@pytest.mark.slow
def test_several_faces_of_a_clip_are_edited(pack: Pack, pair: torch.Tensor, tmp_path: Path) -> None:
    frames = [(255 * pair[0]).round().byte().numpy()] * 3
    two = write_clip(tmp_path / "two.mp4", frames)
    before = video(two).get_components().images

    def change(**values: Any) -> tuple[float, float]:
        (made,) = pack.run("DiffFAEEditVideo", video=video(two), **values)
        far = 255 * (made.get_components().images - before).abs().mean((0, -1))
        return float(far[:, :170].mean()), float(far[:, 330:].mean())

    left, right = change(keyframes='[null, {"keys": [{"time": 0, "yaw": 12}]}]')
    assert 3 * left < right  # H.264 changes all by a little
    both = change(keyframes='{"keys": [{"time": 0, "yaw": 12}]}', all_faces=True)
    assert min(both) > 3 * left
    with pytest.raises(pack.library("common.errors").ConfigError, match="the list changes no face"):
        change(keyframes="[null]")


def test_a_clip_is_edited(pack: Pack, clip: Path, tmp_path: Path) -> None:
    (made,) = pack.run("DiffFAEEditVideo", video=video(clip), keyframes=KEYS)
    before, after = video(clip).get_components(), made.get_components()
    assert after.images.shape == before.images.shape
    change = (after.images - before.images).abs().flatten(1).mean(1)
    assert float(change[4]) > 2 * float(change[0])
    made.save_to(str(tmp_path / "saved.mp4"))
    assert (tmp_path / "saved.mp4").stat().st_size > 1000
    # a trimmed clip is written for the time of the work
    (part,) = pack.run("DiffFAEEditVideo", video=video(clip).as_trimmed(0.0, 0.08), keyframes=KEYS)
    assert 1 < len(part.get_components().images) < 5
