"""Whole clips from file to file: a portrait that a clip drives, and a clip that is edited."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F

from ...common.checkpoint import asset_path
from ...common.images import read_image
from ...edit.description import Sampling
from ...edit.editor import DiffFAE, Portrait
from ...head.adjust import Adjustments
from ...video.keyframes import Keyframes
from ...video.making import Change, Driven, along_keyframes, animate, edit_clip
from .timing import Timing, synchronize

FRAMES, RATE, SIDE = 48, 25, 256
# a head that turns and nods, and a mouth and lids that open and close, as those of people who talk
KEYS = {
    "keys": [
        {"time": 0, "yaw": 0, "pitch": 0, "jaw_open": 0, "smile": 0, "blink": 0},
        {"time": 0.4, "yaw": 8, "jaw_open": 0.3, "blink": 0},
        {"time": 0.5, "blink": 1},
        {"time": 0.6, "jaw_open": 0.05, "smile": 0.4, "blink": 0},
        {"time": 1.2, "yaw": -10, "pitch": 5, "jaw_open": 0.35},
        {"time": (FRAMES - 1) / RATE, "yaw": 0, "pitch": 0, "jaw_open": 0, "smile": 0},
    ]
}
EDITED = Adjustments(smile=0.4, light_azimuth=50, light_strength=0.7)
MOVED = Sampling(denoise=0)


def measure_clips(model: DiffFAE, steps: int, runs: int, note: Callable[[str], None]) -> dict[str, Timing]:
    """Milliseconds for a frame of a clip of SIDE x SIDE pixels: found, analysed, moved, encoded; sound aside, all that a user waits for
    once the model is loaded and the portrait analysed.

    Args:
        model: with the estimator to measure.
        steps: of the rows that are painted.
        runs: how often each row is measured.
        note: called with what comes next.
    """
    portraits = []
    for name in ("source.png", "query.png"):
        image = read_image(asset_path(name))[0].to(model.device)
        portraits.append(model.analyse(F.interpolate(image[None], (SIDE, SIDE), mode="area")[0], name=name))
    me, other = portraits
    with tempfile.TemporaryDirectory() as folder:
        clip, output = Path(folder) / "clip.mp4", Path(folder) / "out.mp4"
        note("clips, made by keyframes")
        _clip(model, other, clip)
        painted = Sampling(steps=steps)
        change = {0: Change(EDITED)}
        rows = {
            "driven frame": lambda: animate(model, [Driven(me, clip)], output, sampling=MOVED),
            "driven frame, painted": lambda: animate(model, [Driven(me, clip)], output, sampling=painted),
            "edited frame": lambda: edit_clip(model, clip, output, changes=change, sampling=MOVED),
        }
        found = {}
        for name, call in rows.items():
            note(f"clips, {name}")
            found[name] = Timing(tuple(_timed(call, model.device) / FRAMES for _ in range(runs)))
    return found


def _clip(model: DiffFAE, portrait: Portrait, path: Path) -> None:
    along_keyframes(model, [(portrait, Change(None, Keyframes.of(KEYS, RATE)))], path, rate=Fraction(RATE), sampling=MOVED)


def _timed(call: Callable[[], None], device: torch.device) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    synchronize(device)
    return 1000 * (time.perf_counter() - start)
