"""Frames of a video file, by PyAV.

Shape letters: H and W frame height and width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...common.errors import ConfigError, VideoError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


def read_frames(path: str | Path) -> Iterator[np.ndarray]:
    """All frames of the first video stream in order, each (H,W,3) uint8 RGB; one is in memory at a time.

    Raises VideoError if the file is no video, holds no frame, is damaged anywhere or changes its size; ConfigError without PyAV.
    """
    av = load_av()
    shape = None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video stream; leave it out")
            stream = container.streams.video[0]
            # videos are decoded side by side in processes of their own
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise VideoError(f"{path}: frame {frame.pts} is damaged; download it again")
                pixels = frame.to_ndarray(format="rgb24")
                if shape is not None and pixels.shape != shape:
                    raise VideoError(f"{path}: frames change their size from {shape[1]}x{shape[0]}; split it there")
                shape = pixels.shape
                yield pixels
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: not a complete video ({error.strerror}); download it again") from error
    if shape is None:
        raise VideoError(f"{path}: holds no frame; download it again")


def load_av():
    """The PyAV module. Raises ConfigError if it is missing."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise ConfigError("videos are decoded by PyAV, which is missing; pip install 'difffae[prepare]'") from error
    return av
