"""Clips through ComfyUI's VIDEO: a portrait that a clip drives, a portrait along keyframes, a clip that is edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inprocess import Pack
from PIL import Image
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
