"""Frames of a video file, by PyAV: upright, in order, one in memory at a time.

Shape letters: H and W frame height and width.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.errors import VideoError
from ..common.needs import missing

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# FFmpeg's bicubic, with FULL_CHR_H_INT, FULL_CHR_H_INP and ACCURATE_RND: without them brightness is a level off after RGB and back
SCALING = 4 | 0x2000 | 0x4000 | 0x40000
UNKNOWN = 2  # a colour space that nobody named
NARROW, FULL = 1, 2  # the ranges of brightness 16 to 235 and 0 to 255
AGAIN = "download it again, or cut it before there"


def is_video(path: str | Path | None) -> bool:
    """Whether a file's name is that of a video."""
    return path is not None and str(path).lower().endswith(SUFFIXES)


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    index     its number, from 0
    pts       when it is shown, in units of the clip's time base
    raw       PyAV's frame as it was decoded, before it was turned upright
    """

    index: int
    pts: int
    raw: Any

    @property
    def depth(self) -> int:
        """Bits of a colour."""
        return self.raw.format.components[0].bits

    def array(self) -> np.ndarray:
        """(H,W,3) RGB, uint8, or uint16 of all 16 bits where a colour has more than 8."""
        raw = self.raw
        matrix = raw.colorspace if raw.colorspace != UNKNOWN else None
        how = {"src_colorspace": matrix, "src_color_range": raw.color_range or NARROW, "interpolation": SCALING}
        pixels = raw.reformat(format="rgb24" if self.depth <= 8 else "rgb48le", **how).to_ndarray()
        return np.rot90(pixels, self.raw.rotation // 90) if self.raw.rotation % 360 else pixels

    def picture(self) -> Tensor:
        """(3,H,W) RGB 0..1."""
        pixels = np.ascontiguousarray(self.array().transpose(2, 0, 1))
        return torch.from_numpy(pixels.astype(np.float32)) / (255 if pixels.dtype == np.uint8 else 65535)


@dataclass(frozen=True)
class Clip:
    """What a video file says of itself.

    path           the file
    width, height  of its frames when they are upright, in pixels
    rate           frames a second, on average
    time_base      seconds per unit of the frames' times
    frames         how many there are, as the file says or as its length suggests; 0 where it says nothing
    depth          bits of a colour
    """

    path: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames: int
    depth: int

    @staticmethod
    def read(path: str | Path) -> Clip:
        """Look at the first frame. Raises VideoError, ConfigError as `read_frames`."""
        with opened(path) as (container, stream):
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            length = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, 1_000_000)
            count = stream.frames or round(length * rate)
            time_base = Fraction(stream.time_base)
        frames = read_frames(path)
        first = next(frames)
        frames.close()
        height, width = first.array().shape[:2]
        return Clip(str(path), width, height, rate, time_base, count, first.depth)


def read_frames(path: str | Path, threads: int = 0) -> Generator[Frame, None, None]:
    """All frames of the first video stream, in order.

    Args:
        path: the file.
        threads: of the decoder; 0 is as many as there are cores.

    Raises:
        VideoError: the file is no video, holds no frame, is damaged or cut off anywhere, or changes its size.
        ConfigError: PyAV is missing.
    """
    import_av()
    index, shape, last = 0, None, None
    with opened(path) as (container, stream):
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.options = {"err_detect": "explode"}  # else the decoder paints over what is damaged
        packets, rate = 0, stream.average_rate or stream.guessed_rate or 25
        try:
            for packet in container.demux(stream):
                packets += packet.size > 0
                for raw in packet.decode():
                    if raw.is_corrupt:
                        raise VideoError(f"{path}: frame {index} is damaged; {AGAIN}")
                    size = (raw.width, raw.height)
                    if shape is not None and size != shape:
                        raise VideoError(f"{path}: frames change their size from {shape[0]}x{shape[1]} at frame {index}; split it there")
                    # formats without times, such as bare streams, have the rate alone
                    pts = raw.pts if raw.pts is not None else round(index / rate / stream.time_base)
                    if last is not None and pts <= last:
                        raise VideoError(f"{path}: frame {index} is shown before the one before it; {AGAIN}")
                    yield Frame(index, pts, raw)
                    index, shape, last = index + 1, size, pts
        except _error() as error:
            raise VideoError(f"{path}: cannot be decoded from frame {index} on ({error.strerror}); {AGAIN}") from error
        if stream.frames > packets:
            raise VideoError(f"{path}: ends at frame {index} of {stream.frames}; {AGAIN}")
    if not index:
        raise VideoError(f"{path}: holds no frame; download it again")


def read_comment(path: str | Path) -> str | None:
    """The comment in a video's metadata, where `writing.join_pieces` keeps a recipe. Raises VideoError, ConfigError."""
    with opened(path) as (container, _):
        return next((text for name, text in container.metadata.items() if name.lower() == "comment"), None)


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """A file's container and its first video stream. Raises VideoError, ConfigError."""
    av = import_av()
    try:
        container = av.open(str(path))
    except (_error(), OSError) as error:
        raise VideoError(f"{path}: cannot be opened as a video ({error.strerror}); check the path, or download it again") from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{path}: has no video stream; give a clip with pictures")
        yield container, container.streams.video[0]


def import_av() -> Any:
    """The PyAV module. Raises ConfigError if it is missing."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise missing("videos", error) from error
    return av


def _error() -> Any:
    return import_av().error.FFmpegError
