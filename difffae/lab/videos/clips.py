"""One face's run through a video, cut as FOMM cuts VoxCeleb (video-preprocessing, crop_vox.py and util.py; paper section 5.1).

Boxes are (left, top, right, bottom) in pixels, x right, y down. The arithmetic is FOMM's to the letter: its intersection over union counts
pixels (hence + 1), and its squares are truncated towards zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
# A square frame that a face fills to this share was cut out already, as FOMM's own clips are (there it is 0.83): nothing is left to cut
CROPPED = 0.5


@dataclass(frozen=True)
class ClipRules:
    """What makes a run of frames a chunk; FOMM's values."""

    iou: float = 0.25  # least overlap of a frame's box with the chunk's first one
    min_frames: int = 64
    max_frames: int = 1024
    min_size: int = 256  # of the tube box's longer side, before it grows, in pixels of the video
    increase: float = 0.1  # growth of the tube box on every side


@dataclass(frozen=True)
class Chunk:
    """Frames start (inclusive) to end (exclusive) of a video, all cut by one box in whole pixels."""

    start: int
    end: int
    box: tuple[int, int, int, int]


def box_overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes of whole pixels, right and bottom ones included."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return shared / (sum(areas) - shared)


def joined(a: Box, b: Box) -> Box:
    """The smallest box around both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def grown_square(box: Box, increase: float) -> tuple[int, int, int, int]:
    """A tube box grown by `increase` of its width and height on every side, and the shorter side further, to a square."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    across = max(increase, ((1 + 2 * increase) * height - width) / (2 * width))
    down = max(increase, ((1 + 2 * increase) * width - height) / (2 * height))
    return int(left - across * width), int(top - down * height), int(right + across * width), int(bottom + down * height)


def nearest_box(boxes: Sequence[Box], last: Box | None) -> int:
    """Which of a frame's boxes (largest first) continues `last`: the one that overlaps it most; the largest if none does."""
    return 0 if last is None else max(range(len(boxes)), key=lambda index: (box_overlap(boxes[index], last), -index))


def find_chunks(boxes: Sequence[Box | None], height: int, width: int, rules: ClipRules) -> tuple[list[Chunk], dict[str, int]]:
    """The chunks of a video of which every frame has a box or None (no face), and how many runs were dropped for which reason.

    Reasons: `short`, `small`, `outside` (the square leaves the frame). A frame without a face ends a chunk. What would be too small or
    outside in a video that was cut out already is taken as it is, the whole frame.
    """
    chunks: list[Chunk] = []
    dropped: Counter[str] = Counter()
    start, first, tube = 0, None, None

    def close(end: int) -> None:
        if tube is None:
            return
        found = _chunk(start, end, tube, height, width, rules)
        if isinstance(found, Chunk):
            chunks.append(found)
        else:
            dropped[found] += 1

    for index, box in enumerate(boxes):
        if box is None or first is None or box_overlap(first, box) < rules.iou or index - start >= rules.max_frames:
            close(index)
            start, first, tube = index, box, box
        elif tube is not None:
            tube = joined(tube, box)
    close(len(boxes))
    return chunks, dict(sorted(dropped.items()))


def _chunk(start: int, end: int, tube: Box, height: int, width: int, rules: ClipRules) -> Chunk | str:
    """The chunk of a finished run, or why it is none."""
    if end - start < rules.min_frames:
        return "short"
    size = max(tube[2] - tube[0], tube[3] - tube[1])
    left, top, right, bottom = grown_square(tube, rules.increase)
    reason = "small" if size < rules.min_size else "outside" if left < 0 or top < 0 or right > width or bottom > height else None
    if reason is None:
        return Chunk(start, end, (left, top, right, bottom))
    if height == width >= rules.min_size and size >= CROPPED * width:
        return Chunk(start, end, (0, 0, width, height))
    return reason
