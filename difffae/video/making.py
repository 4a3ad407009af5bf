"""Whole pieces of work: a portrait that a clip drives, a portrait along keyframes, a clip that is edited.

All of them stream, so that memory does not grow with a clip's length, and keep what is finished beside the output (`Work`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..edit.analysing import with_slots
from ..edit.description import Faces, Portrait, RegionSwap, Sampling
from ..edit.recipe import Recipe, file_sha256
from ..head.adjust import Adjustments, adjust
from ..head.attributes import FaceAttributes, compose_each
from .analysing import Track, follow, seen_in, squares_of, whole_square
from .driving import Motion
from .keyframes import Keyframes
from .reading import Clip
from .rendering import Painter, driven_pictures, edited_frames, write_pictures
from .work import Work
from .writing import Encoding, join_pieces

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # frames that are done, of how many
FORMAT = 1  # of what is kept beside an output
RATE = Fraction(25)  # frames a second along keyframes without a clip
SCREEN = (1, 1, 1, 1)  # the colours of pictures on screens, Rec. 709, as FFmpeg numbers them


@dataclass(frozen=True)
class Change:
    """What is changed in every frame, after everything else.

    numbers    the same in every frame, or None
    keyframes  along the clip, or None
    """

    numbers: Adjustments | None = None
    keyframes: Keyframes | None = None

    def apply(self, faces: FaceAttributes, seconds: Sequence[float], expression_names: Sequence[str]) -> FaceAttributes:
        """Faces of as many frames as there are moments."""
        if self.numbers is not None:
            faces = adjust(faces, self.numbers, expression_names)
        if self.keyframes is None:
            return faces
        rows = [adjust(faces[row], self.keyframes.at(time), expression_names) for row, time in enumerate(seconds)]
        return FaceAttributes.cat(rows)


@dataclass(frozen=True)
class Order:
    """In which order the frames of a clip are shown.

    times      how often all of it
    ping_pong  every time forwards and backwards
    """

    times: int = 1
    ping_pong: bool = False

    @property
    def plain(self) -> bool:
        """Whether the clip is shown once, forwards."""
        return self.times == 1 and not self.ping_pong

    def of(self, pts: Sequence[int]) -> tuple[list[int], list[int]]:
        """Frames in their order, and when each is shown: as long as in the clip."""
        count = len(pts)
        once = list(range(count)) + (list(range(count - 2, 0, -1)) if self.ping_pong else [])
        frames = once * self.times
        lengths = [after - before for before, after in pairwise(pts)]
        lengths.append(lengths[-1] if lengths else 1)
        shown, now = [], pts[0]
        for frame in frames:
            shown.append(now)
            now += lengths[frame]
        return frames, shown


def animate(
    model: Painter,
    source: Portrait,
    driving: str | Path,
    output: str | Path,
    *,
    motion: Motion | None = None,
    change: Change | None = None,
    sampling: Sampling | None = None,
    face: int = 0,
    rest: int | None = None,
    order: Order | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> None:
    """Drive a portrait by the face in a clip, and write a video of the portrait's size with the clip's times and sound.

    Args:
        model: moves and paints.
        source: the portrait.
        driving: the clip.
        output: the video.
        motion: what is taken.
        change: numbers on top.
        sampling: how the model paints.
        face: which face of the first frame of the clip that shows one.
        rest: the frame from which relative motion is counted; None is the first one with the face.
        order: in which the frames are shown; sound is copied only where that is the clip's own.
        recipe: kept in the video.
        progress: told how far the work is.

    Raises:
        NoFaceError, FaceChoiceError: the clip does not show the face. VideoError: it is broken. ConfigError: something that cannot be.
    """
    motion, order, how = motion or Motion(), order or Order(), model.sampling(sampling or Sampling())
    clip = Clip.read(driving)
    size = _size(source)
    encoding = replace(Encoding.of(output, clip, *size), depth=8, colours=SCREEN)
    inputs = {"driving": file_sha256(driving), "face": face, "rest": rest, "source": _hash(source), "order": repr(order)}
    work = _work(output, recipe, inputs, motion, change, how)
    advance = _Advance(progress, 2 * clip.frames)
    track = follow(model, clip, work, face, advance=advance)
    rest = _rest(track, rest)
    frames, pts = order.of(track.pts)
    advance.total = len(track) + len(frames)
    # the driver's head as the square around it in the resting frame shows it
    driver = seen_in(track.numbers, [whole_square(clip)], [squares_of(track, model.image_size)[rest]])
    seconds = [float((time - pts[0]) * clip.time_base) for time in pts]

    def targets(rows: slice) -> FaceAttributes:
        names = model.head.expression_names
        wanted = motion.targets(source.attributes.to("cpu"), driver[frames[rows]], driver[rest], names)
        return wanted if change is None else change.apply(wanted, seconds[rows], names)

    pieces = write_pictures(work, encoding, pts, lambda which: driven_pictures(model, source, targets, which, how), advance)
    if not order.plain:
        log.warning("%s: has no sound, since its frames are not in the order of %s", output, driving)
    join_pieces(output, encoding, pieces, driving if order.plain else None, None if recipe is None else recipe.to_json())
    work.remove()


def along_keyframes(
    model: Painter,
    source: Portrait,
    output: str | Path,
    keyframes: Keyframes,
    *,
    numbers: Adjustments | None = None,
    rate: Fraction = RATE,
    sampling: Sampling | None = None,
    order: Order | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> None:
    """Move a portrait along keyframes alone, to the last of them; arguments as `animate`."""
    how, order = model.sampling(sampling or Sampling()), order or Order()
    change = Change(numbers, keyframes)
    size = _size(source)
    encoding = Encoding(Path(output).suffix.lower(), *size, rate, 1 / rate, 8, SCREEN)
    work = _work(output, recipe, {"rate": str(rate), "source": _hash(source)}, Motion(), change, how)
    frames, pts = order.of(range(int(keyframes.duration * rate) + 1))
    advance = _Advance(progress, len(frames))

    def targets(rows: slice) -> FaceAttributes:
        moments = [float(frame / rate) for frame in frames[rows]]
        own = source.attributes.to("cpu").expand(len(moments))
        return change.apply(own, moments, model.head.expression_names)

    pieces = write_pictures(work, encoding, pts, lambda which: driven_pictures(model, source, targets, which, how), advance)
    join_pieces(output, encoding, pieces, None, None if recipe is None else recipe.to_json())
    work.remove()


def edit_clip(
    model: Painter,
    source: str | Path,
    output: str | Path,
    *,
    change: Change | None = None,
    givers: Mapping[str, tuple[FaceAttributes | None, float]] | None = None,
    swaps: Sequence[RegionSwap] = (),
    sampling: Sampling | None = None,
    face: int = 0,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> None:
    """Edit one person in a clip, and write a video of the clip's size with its times, depth and sound. Frames that do not show the person
    stay as they are.

    Args:
        source: the clip.
        givers: group -> whose it shall be, and the strength, as in `head.attributes.compose_each`.
        swaps: regions that come from other portraits.
        others: as `animate`.
    """
    how = model.sampling(sampling or Sampling())
    clip = Clip.read(source)
    encoding = Encoding.of(output, clip)
    taken = {name: [giver.to_json(), share] for name, (giver, share) in (givers or {}).items() if giver is not None}
    ready = tuple(replace(one, reference=with_slots(model, one.reference)) for one in swaps)
    lent = [[_hash(one.reference), one.regions, one.strength, one.photo] for one in ready]
    work = _work(output, recipe, {"source": file_sha256(source), "face": face, "givers": taken, "swaps": lent}, Motion(), change, how)
    advance = _Advance(progress, 2 * clip.frames)
    track = follow(model, clip, work, face, advance=advance)
    advance.total = 2 * len(track)

    def targets(rows: slice) -> FaceAttributes:
        wanted = compose_each(track.numbers[rows], givers or {})
        seconds = [track.seconds(index) for index in range(*rows.indices(len(track)))]
        return wanted if change is None else change.apply(wanted, seconds, model.head.expression_names)

    pieces = write_pictures(work, encoding, list(track.pts), lambda which: edited_frames(model, track, targets, which, how, ready), advance)
    join_pieces(output, encoding, pieces, source, None if recipe is None else recipe.to_json())
    work.remove()


@dataclass
class _Advance:
    """Counts frames and says how far the work is."""

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self, frames: int) -> None:
        self.done += frames
        if self.progress is not None:
            self.progress(self.done, max(self.total, self.done))


def _work(output: str | Path, recipe: Recipe | None, inputs: dict[str, Any], motion: Motion, change: Change | None, how: Sampling) -> Work:
    """The folder of work that depends on all of this."""
    change = change or Change()
    told = {
        "format": FORMAT,
        "recipe": None if recipe is None else recipe.to_json(),
        "motion": repr(motion),
        "numbers": None if change.numbers is None else change.numbers.record(),
        "keyframes": None if change.keyframes is None else change.keyframes.record(),
        "sampling": repr(how),
    }
    return Work(output, told | inputs)


def _hash(source: Faces) -> str:
    """Of a portrait's picture and numbers."""
    text = "" if source.attributes is None else source.attributes.to_json()
    return hashlib.sha256(source.picture_around(0).cpu().contiguous().numpy().tobytes() + text.encode()).hexdigest()


def _size(source: Portrait) -> tuple[int, int]:
    """Width and height of a portrait's picture as it was given."""
    height, width = source.image.shape[-2:]
    return (height, width) if source.turns % 2 else (width, height)


def _rest(track: Track, rest: int | None) -> int:
    """The resting frame. Raises ConfigError for one that does not show the driver."""
    if rest is None:
        return track.first
    if not 0 <= rest < len(track) or not bool(track.present[rest]):
        raise ConfigError(f"{track.clip.path}: frame {rest} of {len(track)} does not show the face; choose another reference frame")
    return rest
