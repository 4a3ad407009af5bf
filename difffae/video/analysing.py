"""First pass over a clip: one person followed from frame to frame, and the numbers of their face in every frame.

Shape letters: B frames, L = 478 landmarks, H and W frame height and width, I identity size.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..common.errors import NoFaceError
from ..common.files import atomic_write
from ..edit.description import Parts
from ..estimation.choose import estimate
from ..faces.crop import FaceCrop, crop_square, extract
from ..faces.landmarker import Face
from ..faces.tracking import Gaps
from ..head.attributes import FaceAttributes
from .pipeline import Workers, ahead
from .reading import Clip, Frame, read_frames
from .smoothing import PLACE, smooth, steadied
from .watching import Watcher
from .work import PIECE, Work

AT_ONCE, PIXELS_AT_ONCE = 8, 4_000_000  # frames, and their pixels, that are in memory together
CUT, CUT_OVER = 0.06, 4.0  # mean difference of two reduced frames at a cut, and how many times that of the frames around it
POINT = 0.05  # pixels: least noise of a landmark
STILL = 0.1  # of a square's side: within so much, one square serves a whole shot
AROUND = 5  # frames on either side
KIND, STATE, NUMBERS = "analysis", "state", "numbers"
NO_FACE = "{}: no frame shows a face; use a clip in which a face is at least about 40 pixels high"
Advance = Callable[[int], None]  # told how many frames were done


@dataclass(frozen=True, eq=False)
class Track:
    """One person through a clip.

    clip     the file
    pieces   files with the landmarks of every frame (`landmarks`)
    pts      B times, in units of the clip's time base
    present  (B,) bool: the frame shows the person
    squares  (B,3) left, top and side of the square around their face, as it was found; of frames without the person, of those around
    numbers  of every frame, smoothed; camera of `whole`; frames without the person have those of the frames around them
    shots    runs of frames between cuts
    """

    clip: Clip
    pieces: tuple[Path, ...]
    pts: tuple[int, ...]
    present: Tensor
    squares: Tensor
    numbers: FaceAttributes
    shots: tuple[slice, ...]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def first(self) -> int:
        """The first frame that shows the person."""
        return int(self.present.long().argmax())

    def seconds(self, index: int) -> float:
        """When a frame is shown, after the first one."""
        return float((self.pts[index] - self.pts[0]) * self.clip.time_base)

    def frames_at(self, moments: Sequence[float]) -> list[int]:
        """Which frames are shown at some moments, in seconds after the first one; the last one after the end."""
        times = [time - self.pts[0] for time in self.pts]
        # the moments of the clip's own frames, which floats round
        return [max(0, bisect.bisect_right(times, moment / self.clip.time_base + 1e-3) - 1) for moment in moments]

    def landmarks(self, piece: int) -> Tensor:
        """(b,478,3) in pixels of the frames, smoothed, of the frames of one piece that show the person."""
        around = [load_file(path).get("landmarks") for path in self.pieces[max(0, piece - 1) : piece + 2]]
        known = [0 if points is None else len(points) for points in around]
        own = min(piece, 1)
        start = sum(known[:own])
        found = torch.cat([points for points in around if points is not None])
        return smooth(found.flatten(1), POINT).reshape(found.shape)[start : start + known[own]]


def follow(parts: Parts, clip: Clip, work: Work, face: int = 0, kind: str = KIND, advance: Advance | None = None) -> Track:
    """Follow one person through a clip, from the last finished piece of the work on.

    Args:
        parts: the networks.
        clip: the file.
        work: keeps what was found.
        face: which face of the first frame that shows one, the largest first.
        kind: what the work calls these pieces.
        advance: told of every finished frame.

    Raises:
        NoFaceError: no frame shows a face. FaceChoiceError: the first one that does has fewer faces.
        VideoError: the clip is broken.
    """
    done = work.pieces(kind)
    watcher = Watcher(face, parts.identity, clip.path)
    if done:
        kept = load_file(done[-1])
        watcher.restore({name.partition(".")[2]: values for name, values in kept.items() if name.startswith(f"{STATE}.")})
    frames: Iterator[Frame] = ahead(islice(read_frames(clip.path), len(done) * PIECE, None), 2 * AT_ONCE)
    if advance is not None and done:
        advance(min(len(done) * PIECE, clip.frames or len(done) * PIECE))
    with Workers(parts.device) as workers:
        while some := list(islice(frames, PIECE)):
            found = _piece(parts, watcher, some, clip, workers, advance)
            with atomic_write(path := work.piece(kind, len(done))) as temporary:
                save_file(found, temporary)
            done.append(path)
    return _track(parts, clip, done)


def count_faces(parts: Parts, clip: Clip) -> int:
    """How many faces the first frame of a clip shows that shows any. Raises NoFaceError, VideoError."""
    for frame in read_frames(clip.path):
        if found := parts.landmarker.detect(frame.picture().to(parts.device))[0]:
            return len(found)
    raise NoFaceError(NO_FACE.format(clip.path))


def whole_square(clip: Clip) -> FaceCrop:
    """The square with the frame's upper left corner and longer side, whose camera places heads in the whole frame."""
    return FaceCrop(0, 0, max(clip.width, clip.height), clip.height, clip.width)


def seen_in(numbers: FaceAttributes, squares: Sequence[FaceCrop], others: Sequence[FaceCrop]) -> FaceAttributes:
    """The same heads in the same frames, with the camera of other squares: one each, or one for all."""

    def places(crops: Sequence[FaceCrop]) -> Tensor:
        rows = torch.tensor([[*crop.centre, crop.side] for crop in crops], dtype=torch.float64)
        return rows.to(numbers.camera.device).expand(len(numbers), -1)

    here, there = places(squares), places(others)
    ratio = here[:, 2:] / there[:, 2:]
    scale = numbers.camera[:, :1].double() * ratio
    shift = 2 * (here[:, :2] - there[:, :2]) / there[:, 2:] * here.new_tensor([1, -1])  # pixels go down, the camera up
    place = numbers.camera[:, :1].double() * numbers.camera[:, 1:].double() * ratio + shift
    return replace(numbers, camera=torch.cat([scale, place / scale], 1).to(numbers.camera))


def squares_of(track: Track, size: int) -> list[FaceCrop]:
    """Squares of every frame that move smoothly, and not at all in shots in which the face hardly moves."""
    result = []
    for shot in track.shots:
        left, top, side = track.squares[shot].double().unbind(1)
        path = torch.stack([left + side / 2, top + side / 2, side], 1)
        least = side.median()
        still = (path.amax(0) - path.amin(0)) < STILL * least
        middle = path.median(0).values.expand_as(path)
        path = torch.where(still, middle, smooth(path, float(PLACE * least)))
        for x, y, wide in path.tolist():
            whole = max(8, 2 * round(wide / 2))
            result.append(FaceCrop(round(x - whole / 2), round(y - whole / 2), whole, track.clip.height, track.clip.width, size))
    return result


def find_shots(change: Tensor) -> tuple[slice, ...]:
    """Runs of frames between cuts, from (B,), how much each frame differs from the one before it."""
    starts = [0]
    for index, value in enumerate(change.tolist()):
        around = torch.cat([change[max(1, index - AROUND) : index], change[index + 1 : index + 1 + AROUND]])
        if index and value > CUT and (not len(around) or value > CUT_OVER * float(around.median())):
            starts.append(index)
    return tuple(slice(start, end) for start, end in zip(starts, [*starts[1:], len(change)], strict=True))


def at_once(height: int, width: int) -> int:
    """How many frames may be in memory together."""
    return max(1, min(AT_ONCE, PIXELS_AT_ONCE // (height * width)))


@torch.no_grad()
def _piece(
    parts: Parts, watcher: Watcher, frames: Sequence[Frame], clip: Clip, workers: Workers, advance: Advance | None
) -> dict[str, Tensor]:
    """What the track needs of some frames, and the state after them, as tensors to keep."""
    rows: list[Face | None] = []
    change, squares, numbers = [], [], []
    size = at_once(clip.height, clip.width)
    waiting: deque[Future[list[FaceAttributes]]] = deque()
    for first in range(0, len(frames), size):
        pictures = torch.stack([frame.picture() for frame in frames[first : first + size]]).to(parts.device)
        watched = watcher.watch(parts.landmarker, pictures, workers, anew=not rows)
        chosen = [face for face, _ in watched]
        change += [changed for _, changed in watched]
        squares += [crop_square(face.landmarks, pictures.shape[-2:], parts.image_size) for face in chosen if face is not None]
        waiting.append(workers.submit(_numbers, parts, pictures, chosen, clip))
        rows += chosen
        while len(waiting) > workers.count or (waiting and len(rows) == len(frames)):
            numbers += waiting.popleft().result()
        if advance is not None:
            advance(len(pictures))
    known = [face for face in rows if face is not None]
    kept = {
        "pts": torch.tensor([frame.pts for frame in frames]),
        "present": torch.tensor([face is not None for face in rows]),
        "change": torch.tensor(change),
        **{f"{STATE}.{name}": values for name, values in watcher.tensors().items()},
    }
    if known:
        kept["squares"] = torch.tensor([[square.left, square.top, square.side] for square in squares])
        kept["landmarks"] = torch.stack([face.landmarks for face in known]).cpu()
        kept |= {f"{NUMBERS}.{name}": values.cpu() for name, values in FaceAttributes.cat(numbers).tensors().items()}
    return {name: values.contiguous() for name, values in kept.items()}


def _numbers(parts: Parts, pictures: Tensor, faces: Sequence[Face | None], clip: Clip) -> list[FaceAttributes]:
    """Those of the pictures that show the person, with the camera of the whole frame; none or one batch."""
    known = [(row, face) for row, face in enumerate(faces) if face is not None]
    if not known:
        return []
    squares = [crop_square(face.landmarks, pictures.shape[-2:], parts.image_size) for _, face in known]
    crops, inside = extract(pictures[[row for row, _ in known]], squares)
    points = torch.stack([square.to_crop(face.landmarks) for square, (_, face) in zip(squares, known, strict=True)])
    scores = torch.stack([face.blendshapes for _, face in known])
    found = estimate(parts.estimator, crops, points, scores, inside)
    return [seen_in(found, squares, [whole_square(clip)])]


def _track(parts: Parts, clip: Clip, pieces: Sequence[Path]) -> Track:
    """The whole clip from its pieces."""
    kept: dict[str, list[Tensor]] = {}
    for path in pieces:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                if name in ("pts", "present", "change", "squares") or name.startswith(f"{NUMBERS}."):
                    kept.setdefault(name, []).append(file.get_tensor(name))
    joined = {name: torch.cat(values) for name, values in kept.items()}
    present = joined["present"]
    if not bool(present.any()):
        raise NoFaceError(NO_FACE.format(clip.path))
    fields: dict[str, Any] = {name.partition(".")[2]: values for name, values in joined.items() if name.startswith(f"{NUMBERS}.")}
    # a row for every frame, those of frames without the person filled from the frames around them
    place = present.long().cumsum(0).sub(1).clamp_min(0)
    numbers = Gaps.of(present.tolist()).fill_attributes(FaceAttributes(parts.head.name, **fields)[place])
    shots = find_shots(joined["change"])
    pts, squares = tuple(joined["pts"].tolist()), joined["squares"][place]
    return Track(clip, tuple(pieces), pts, present, squares, steadied(numbers, shots), shots)
