"""Frames to a video file, by PyAV: encoded piece by piece, each piece by itself, and joined at the end with the sound.

A piece keeps its encoded packets in a file of its own, so that work which was interrupted goes on after the last whole piece and gives the
same bytes as work that was not.

Shape letters: H and W frame height and width.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..common.errors import ConfigError, VideoError
from ..common.files import atomic_write
from ..common.images import check_folder
from .reading import FULL, NARROW, SCALING, UNKNOWN, Clip, Frame, import_av, opened

# without frames that wait for later ones, a piece's packets are in the order of its frames, and pieces follow one another
X264 = ("libx264", {"crf": "16", "preset": "medium", "bf": "0"})
VP9 = ("libvpx-vp9", {"crf": "20", "b": "0", "row-mt": "1", "auto-alt-ref": "0", "lag-in-frames": "0"})
CODECS = {".mp4": X264, ".m4v": X264, ".mov": X264, ".mkv": X264, ".webm": VP9}
THREADS = 2  # of the encoder; part of the result
COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded.

    suffix         of the file, one of CODECS
    width, height  of the frames in pixels, odd ones too
    rate           frames a second, on average
    time_base      seconds per unit of the frames' times
    depth          bits of a colour, 8 or 10
    colours        of COLOURS, as FFmpeg numbers them
    """

    suffix: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    depth: int = 8
    colours: tuple[int, ...] = (UNKNOWN, 0, UNKNOWN, UNKNOWN)

    @staticmethod
    def of(output: str | Path, clip: Clip, width: int | None = None, height: int | None = None) -> Encoding:
        """For an output like a clip, of another size if given. Raises ConfigError for a file of an unknown kind."""
        suffix = check_clip(output).suffix.lower()
        with opened(clip.path) as (_, stream):
            colours = tuple(int(getattr(stream.codec_context, name)) for name in COLOURS)
        size = (width or clip.width, height or clip.height)
        return Encoding(suffix, *size, clip.rate, clip.time_base, 10 if clip.depth > 8 else 8, colours)

    @property
    def pixel_format(self) -> str:
        """H.264 has pictures of odd sizes only with all of their colour."""
        odd = self.suffix != ".webm" and (self.width % 2 or self.height % 2)
        full = self.suffix != ".webm" and self.depth <= 8 and self.colours[1] == FULL
        return ("yuvj" if full else "yuv") + ("444p" if odd else "420p") + ("10le" if self.depth > 8 else "")

    def configure(self, context: Any) -> None:
        """Set up an encoder."""
        context.width, context.height = self.width, self.height
        context.pix_fmt, context.time_base, context.framerate = self.pixel_format, self.time_base, self.rate
        context.thread_count = THREADS
        context.options = dict(CODECS[self.suffix][1])
        for name, value in zip(COLOURS, self.colours, strict=True):
            setattr(context, name, value)

    def frame(self, picture: Tensor | Frame, pts: int) -> Any:
        """A picture (3,H,W) RGB 0..1, or a frame that stays as it was decoded, as a frame of the encoder's own."""
        av = import_av()
        if isinstance(picture, Frame):
            raw = picture.raw
            if not raw.rotation % 360 and raw.format.name == self.pixel_format:
                raw.pts, raw.time_base, raw.pict_type = pts, self.time_base, 0
                return raw
            pixels = picture.array()
        else:
            top = 255 if self.depth <= 8 else 65535
            pixels = (picture.detach().clamp(0, 1) * top).round().permute(1, 2, 0).cpu().numpy()
            pixels = pixels.astype(np.uint8 if self.depth <= 8 else np.uint16)
        if pixels.shape[:2] != (self.height, self.width):
            raise VideoError(f"frame of {pixels.shape[1]}x{pixels.shape[0]}; {self.width}x{self.height} is needed")
        name = "rgb24" if pixels.dtype == np.uint8 else "rgb48le"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=name)
        matrix, ranged = (self.colours[0] if self.colours[0] != UNKNOWN else None), self.colours[1] or NARROW
        frame = frame.reformat(format=self.pixel_format, dst_colorspace=matrix, dst_color_range=ranged, interpolation=SCALING)
        frame.pts, frame.time_base = pts, self.time_base
        frame.colorspace, frame.color_range = self.colours[:2]
        return frame


def check_clip(path: str | Path) -> Path:
    """Make sure that a video can be written. Raises ConfigError for an unknown ending, ImageError where nothing can be written."""
    path = Path(path)
    if path.suffix.lower() not in CODECS:
        raise ConfigError(f"{path}: is no video that can be written; choose from {', '.join(CODECS)}")
    return check_folder(path)


def write_piece(path: str | Path, encoding: Encoding, pictures: Iterable[tuple[int, Tensor | Frame]]) -> int:
    """Encode some frames by themselves.

    Args:
        path: where to keep their packets.
        encoding: how.
        pictures: time and picture of every frame, in order.

    Returns:
        how many frames there were.
    """
    av = import_av()
    context = av.CodecContext.create(CODECS[encoding.suffix][0], "w")
    encoding.configure(context)
    context.flags |= av.codec.context.Flags.global_header
    packets, count = [], 0
    for pts, picture in pictures:
        packets += context.encode(encoding.frame(picture, pts))
        count += 1
    packets += context.encode(None)
    if len(packets) != count:
        raise VideoError(f"{path}: {len(packets)} packets came of {count} frames; report this with your version of FFmpeg")
    data = torch.from_numpy(np.frombuffer(b"".join(bytes(packet) for packet in packets), dtype=np.uint8).copy())
    table = [[packet.size, packet.pts, packet.dts, int(packet.is_keyframe)] for packet in packets]
    with atomic_write(path) as temporary:
        save_file({"data": data, "packets": torch.tensor(table, dtype=torch.int64)}, temporary)
    return count


def join_pieces(
    output: str | Path, encoding: Encoding, pieces: Sequence[Path], sound_of: str | Path | None = None, comment: str | None = None
) -> None:
    """Write the pieces one after the other, and the sound of another file as it is, packet by packet.

    Args:
        output: the file.
        encoding: of the pieces.
        pieces: files of `write_piece`, in order.
        sound_of: a video whose sound to copy; None, or one without sound, gives none.
        comment: kept in the file's metadata.

    Raises:
        ConfigError: a kind of sound that the file cannot hold.
    """
    av = import_av()
    container_format = {".m4v": "mp4", ".mkv": "matroska"}.get(encoding.suffix, encoding.suffix[1:])
    options = {"movflags": "+faststart", "fflags": "+bitexact"} if container_format in ("mp4", "mov") else {"fflags": "+bitexact"}
    with atomic_write(output) as temporary, av.open(str(temporary), "w", format=container_format, options=options) as container:
        if comment is not None:
            container.metadata["comment"] = comment
        stream = container.add_stream(CODECS[encoding.suffix][0], rate=encoding.rate)
        encoding.configure(stream.codec_context)
        stream.time_base = encoding.time_base
        pictures = _packets(pieces, stream, encoding.time_base)
        if sound_of is None:
            for packet in pictures:
                container.mux(packet)
            return
        with av.open(str(sound_of)) as source:
            heard = list(source.streams.audio)
            copies = {sound.index: _sound_stream(container, sound, output) for sound in heard}
            # one packet of each stream in memory, whatever the length
            for packet in heapq.merge(pictures, _sound(source, heard, copies), key=_time):
                container.mux(packet)


def _sound_stream(container: Any, sound: Any, output: str | Path) -> Any:
    try:
        return container.add_stream_from_template(sound)
    except ValueError as error:
        name = sound.codec_context.name
        raise ConfigError(f"{output}: cannot hold sound of the kind {name}; write an .mkv, or leave the sound out") from error


def _packets(pieces: Sequence[Path], stream: Any, time_base: Fraction) -> Iterator[Any]:
    av = import_av()
    every = chain.from_iterable(_loaded(piece) for piece in pieces)
    waiting, length = None, max(1, round(1 / stream.average_rate / time_base))
    for data, pts, dts, key in every:
        if waiting is not None:
            waiting.duration = length = pts - waiting.pts
            yield waiting
        waiting = av.Packet(data)
        waiting.pts, waiting.dts, waiting.time_base, waiting.stream, waiting.is_keyframe = pts, dts, time_base, stream, bool(key)
    if waiting is not None:
        waiting.duration = length  # the last frame is as long as the one before it
        yield waiting


def _loaded(piece: Path) -> Iterator[tuple[bytes, int, int, int]]:
    tensors = load_file(piece)
    data, place = tensors["data"].numpy().tobytes(), 0
    for size, pts, dts, key in tensors["packets"].tolist():
        yield data[place : place + size], pts, dts, key
        place += size


def _sound(source: Any, heard: Sequence[Any], copies: dict[int, Any]) -> Iterator[Any]:
    if not heard:
        return
    for packet in source.demux(*heard):
        if packet.size and packet.dts is not None:
            packet.stream = copies[packet.stream.index]
            yield packet


def _time(packet: Any) -> Fraction:
    return packet.dts * packet.time_base
