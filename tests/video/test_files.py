"""Reading and writing clips: every frame, its time, its colours, its sound; odd sizes, deep colours, turned and broken files."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_files import seconds, sound, write_clip

from difffae.common.errors import ConfigError, VideoError
from difffae.video.reading import Clip, Frame, read_frames
from difffae.video.writing import Encoding, join_pieces, write_piece

STEPS = (3000, 3600, 4503, 1501)
UNEVEN = [sum(STEPS[i % 4] for i in range(index)) for index in range(30)]
TURNS = {  # as a file's header stores them, row by row
    90: (0, 1, 0, -1, 0, 0),
    180: (-1, 0, 0, 0, -1, 0),
    270: (0, -1, 0, 1, 0, 0),
}


def waves(count: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth colours that move, each frame brighter than the last one, so that their order shows."""
    y, x = np.mgrid[:height, :width]
    colours = [(90 + 2 * i + 25 * np.sin(x / 25), 90 + 2 * i + 25 * np.cos(y / 19), 100 + 2 * i + 0 * x) for i in range(count)]
    return [np.stack(each, -1).astype(np.uint8) for each in colours]


def rewritten(source: Path, output: Path, pieces: tuple[int, ...] = (12, 24)) -> tuple[list[Frame], list[Frame]]:
    """Every frame as a picture, encoded in pieces, and read back."""
    clip, frames = Clip.read(source), list(read_frames(source))
    encoding, files = Encoding.of(output, clip), []
    for start, end in zip((0, *pieces), (*pieces, len(frames)), strict=True):
        files.append(output.with_suffix(f".{start}.piece"))
        write_piece(files[-1], encoding, [(frame.pts, frame.picture()) for frame in frames[start:end]])
    join_pieces(output, encoding, files, source)
    return frames, list(read_frames(output))


@pytest.mark.parametrize(
    ("height", "width", "options", "suffix"),
    [
        (64, 96, {}, ".mp4"),
        (64, 96, {"times": UNEVEN}, ".mov"),
        (64, 96, {"times": [9000 + t for t in UNEVEN]}, ".mp4"),
        (65, 97, {"pixel_format": "yuv444p"}, ".mp4"),
        (64, 96, {"pixel_format": "yuv420p10le"}, ".mp4"),
        (64, 96, {"pixel_format": "yuvj420p"}, ".mp4"),
        (64, 96, {"time_base": Fraction(1, 30)}, ".mp4"),
    ],
    ids=["plain", "uneven", "late", "odd", "deep", "full", "coarse"],
)
def test_what_is_written_is_what_was_read(tmp_path: Path, height: int, width: int, options: dict, suffix: str) -> None:
    source = write_clip(tmp_path / "in.mp4", waves(30, height, width), sound="aac", crf="12", **options)
    before, after = rewritten(source, output := tmp_path / f"out{suffix}")
    assert [frame.index for frame in after] == list(range(30))
    assert seconds(after, output) == seconds(before, source)
    assert sound(output) == sound(source)
    assert len(sound(output)) > 50
    old, new = Clip.read(source), Clip.read(output)
    assert abs(new.rate / old.rate - 1) < 0.05  # the last frame is as long as others
    assert (new.width, new.height, new.depth) == (old.width, old.height, old.depth) == (width, height, 8 + 2 * ("10le" in str(options)))
    for one, other in zip(before, after, strict=True):
        difference = other.picture() - one.picture()
        assert float(difference.abs().mean()) * 255 < 1
        assert float(difference.mean().abs()) * 255 < 0.7  # a wrong range or matrix of colours shifts them all


def test_webm_keeps_odd_sizes_and_its_own_sound(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.webm", waves(10, 65, 97), codec="libvpx-vp9", sound="libopus", time_base=Fraction(1, 1000))
    before, after = rewritten(source, output := tmp_path / "out.webm", (6,))
    assert len(after) == 10
    assert seconds(after, output) == seconds(before, source)
    assert (Clip.read(output).width, Clip.read(output).height) == (97, 65)
    assert [name for _, name in sound(output)] == [name for _, name in sound(source)]


def test_sound_that_a_file_cannot_hold_is_named(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", waves(4, 64, 96), sound="aac")
    with pytest.raises(ConfigError, match=r"out\.webm: cannot hold sound of the kind aac"):
        rewritten(source, tmp_path / "out.webm", (2,))
    assert not (tmp_path / "out.webm").exists()


def test_pixels_survive_rgb_and_back(tmp_path: Path) -> None:
    # without FFmpeg's accurate rounding, brightness is one level off
    source = write_clip(tmp_path / "in.mp4", waves(3, 64, 96))
    encoding = Encoding.of(tmp_path / "out.mp4", Clip.read(source))
    for frame in read_frames(source):
        raw, again = (shown.to_ndarray().astype(int) for shown in (frame.raw, encoding.frame(frame.picture(), 0)))
        assert abs(raw[:64] - again[:64]).max() == 0
        assert abs(raw[64:] - again[64:]).max() <= 1


def test_untouched_frames_keep_their_pixels(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", waves(3, 64, 96))
    encoding = Encoding.of(tmp_path / "out.mp4", Clip.read(source))
    for frame in read_frames(source):
        assert encoding.frame(frame, 7).to_ndarray().tobytes() == frame.raw.to_ndarray().tobytes()


@pytest.mark.parametrize("turn", TURNS)
def test_turned_clips_are_read_upright(tmp_path: Path, turn: int) -> None:
    pixels = waves(3, 64, 96)
    for frame in pixels:
        frame[:16, :16] = (250, 20, 20)  # marks the stored picture's upper left corner
    source = write_clip(tmp_path / "in.mp4", pixels)
    data = bytearray(source.read_bytes())
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, u, c, d, v = TURNS[turn]
    place = data.index(plain, data.index(b"tkhd"))
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, u, c << 16, d << 16, v, 0, 0, 1 << 30)
    source.write_bytes(data)
    clip, first = Clip.read(source), next(read_frames(source)).array()
    assert (clip.width, clip.height) == ((96, 64) if turn == 180 else (64, 96))
    # turned clockwise, the upper left corner comes to the upper right, the lower right, the lower left
    corner = {90: first[:16, -16:], 180: first[-16:, -16:], 270: first[-16:, :16]}[turn]
    assert corner[4:12, 4:12, 0].mean() > 200
    assert corner[4:12, 4:12, 1].mean() < 60


def test_broken_files_say_where(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(20)]
    whole = write_clip(tmp_path / "in.mp4", noise, g="1").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 20000] = bytes(20000)  # several frames
    (tmp_path / "holed.mp4").write_bytes(damaged)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("cut", "holed"):
        read: list[int] = []
        with pytest.raises(VideoError, match=rf"{name}\.mp4: .*frame (\d+)") as caught:
            read.extend(frame.index for frame in read_frames(tmp_path / f"{name}.mp4"))
        assert read == list(range(len(read)))
        assert 5 <= len(read) <= 14
        assert f"frame {len(read)}" in str(caught.value)
    with pytest.raises(VideoError, match=r"empty\.mp4: cannot be opened"):
        next(read_frames(tmp_path / "empty.mp4"))


def test_a_file_that_is_no_video_is_refused_for_writing(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", waves(2, 64, 96))
    with pytest.raises(ConfigError, match=r"out\.png: is no video that can be written"):
        Encoding.of(tmp_path / "out.png", Clip.read(source))
