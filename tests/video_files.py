"""Talking-head videos for the tests: the shipped portrait moves over a textured background, encoded by PyAV."""

from __future__ import annotations

import hashlib
import math
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from difffae.video.reading import Clip, Frame

SOURCE = Path(__file__).resolve().parents[1] / "difffae" / "assets" / "source.png"
SIDE = 320


def background(side: int = SIDE) -> np.ndarray:
    """Smooth waves of colour (side,side,3) uint8, so that the encoder keeps them."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(2 * math.pi * (a * x + b * y)) for a, b in ((3, 1), (1, 4), (2, -3))]
    return np.stack([128 + 40 * wave for wave in waves], axis=-1).astype(np.uint8)


def talking_frames(count: int, phase: float = 0.0, jump: int | None = None) -> list[np.ndarray]:
    """A portrait that sways, nods and breathes; from frame `jump` on there is no face."""
    portrait = Image.open(SOURCE).convert("RGB")
    frames = []
    for index in range(count):
        t = phase + 2 * math.pi * index / 64
        side = round(270 + 8 * math.sin(t))
        turned = portrait.rotate(4 * math.sin(2 * t), Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.BICUBIC)
        frame = Image.fromarray(background())
        if jump is None or index < jump:
            frame.paste(turned, (round(25 + 8 * math.cos(t)), round(25 + 6 * math.sin(t))))
        frames.append(np.asarray(frame))
    return frames


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    """Encode frames (H,W,3) uint8 at 25 per second, the index in front so that the file can be cut off."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_clip(
    path: Path,
    frames: list[np.ndarray],
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 90000),
    pixel_format: str = "yuv420p",
    codec: str = "libx264",
    sound: str | None = None,
    **options: str,
) -> Path:
    """Encode frames (H,W,3) uint8 at given times, by default 25 a second, with noise as sound of a given kind ("aac", "libopus")."""
    import av

    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        heard = None if sound is None else container.add_stream(sound, rate=48000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = (times[index] if times else round(index / 25 / time_base)), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard is not None:
            rng = np.random.default_rng(0)
            for index in range(len(frames) * 48000 // 25 // 1024):
                noise = av.AudioFrame.from_ndarray(rng.normal(0, 0.1, (1, 1024)).astype(np.float32), format="fltp", layout="mono")
                noise.rate, noise.pts = 48000, index * 1024
                container.mux(heard.encode(noise))
            container.mux(heard.encode())
    return path


def seconds(frames: list[Frame], path: Path) -> list[Fraction]:
    """When the frames of a clip are shown."""
    return [frame.pts * Clip.read(path).time_base for frame in frames]


def sound(path: Path) -> list[tuple[Fraction, str]]:
    """Time and hash of every packet of sound."""
    import av

    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(packet.pts * packet.time_base, hashlib.md5(bytes(packet)).hexdigest()) for packet in packets if packet.size]


def fatal(task: str) -> dict[str, str]:
    """Work for a pool of processes, of which the task "die" kills its own."""
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"done": task}
