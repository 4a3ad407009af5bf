"""Whole pieces of work: a portrait that a clip drives, a portrait along keyframes, a clip that is edited.

All of them stream, so that memory does not grow with a clip's length, and keep what is finished beside the output (`Work`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..edit.analysing import with_slots
from ..edit.description import Faces, Portrait, RegionSwap, Sampling
from ..edit.recipe import Recipe, file_sha256
from ..head.adjust import TURNS, Adjustments, adjust
from ..head.attributes import FaceAttributes, compose_each
from .analysing import KIND, Track, follow, seen_in, squares_of, whole_square
from .driving import Motion
from .keyframes import Keyframes
from .pipeline import one_core
from .reading import Clip
from .rendering import Followed, Painter, Targets, driven_pictures, edited_frames, write_pictures
from .work import Work
from .writing import Encoding, join_pieces

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # frames that are done, of how many
FORMAT = 2  # of what is kept beside an output
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

    @property
    def turns(self) -> bool:
        """Whether heads are turned."""
        named = [*({} if self.numbers is None else self.numbers.numbers), *({} if self.keyframes is None else self.keyframes.curves)]
        return any(name in TURNS for name in named)

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        numbers = None if self.numbers is None else self.numbers.record()
        return {"numbers": numbers, "keyframes": None if self.keyframes is None else self.keyframes.record()}


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


@dataclass(frozen=True, eq=False)
class Driven:
    """A face of a picture, and what drives it.

    portrait  the face
    driving   the clip of its driver
    motion    what is taken
    change    numbers on top
    face      which face of the clip's first frame that shows one
    rest      the frame from which relative motion is counted; None is the first one with the face
    """

    portrait: Portrait
    driving: str | Path
    motion: Motion = field(default_factory=Motion)
    change: Change = field(default_factory=Change)
    face: int = 0
    rest: int | None = None

    def record(self) -> dict[str, Any]:
        """What the result depends on, as plain JSON values."""
        told = {"driving": file_sha256(self.driving), "face": self.face, "rest": self.rest, "source": _hash(self.portrait)}
        return told | {"motion": repr(self.motion), **self.change.record()}

    def targets(self, model: Painter, track: Track, moments: Sequence[float], shown: Sequence[float]) -> Targets:
        """The portrait's numbers in every frame.

        Args:
            model: whose head they are of.
            track: the driver.
            moments: seconds of the clip; its last frame stays after its end.
            shown: seconds of the result, for keyframes.
        """
        rest = _rest(track, self.rest)
        frames = track.frames_at(moments)
        # the driver's head as the square around it in the resting frame shows it
        driver = seen_in(track.numbers, [whole_square(track.clip)], [squares_of(track, model.image_size)[rest]])

        def targets(rows: slice) -> FaceAttributes:
            names = model.head.expression_names
            wanted = self.motion.targets(self.portrait.attributes.to("cpu"), driver[frames[rows]], driver[rest], names)
            return self.change.apply(wanted, shown[rows], names)

        return targets


def animate(
    model: Painter,
    cast: Sequence[Driven],
    output: str | Path,
    *,
    sampling: Sampling | None = None,
    order: Order | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> None:
    """Drive faces of one picture by the faces in clips, and write a video of the picture's size with the times and the sound of the first
    clip.

    Args:
        model: moves and paints.
        cast: the faces; others in the picture stay as they are.
        output: the video.
        sampling: how the model paints.
        order: in which the frames are shown; sound is copied only where that is the clip's own.
        recipe: kept in the video.
        progress: told how far the work is.

    Raises:
        NoFaceError, FaceChoiceError: a clip does not show the face. VideoError: it is broken. ConfigError: something that cannot be.
    """
    order, how = order or Order(), model.sampling(sampling or Sampling())
    size, driving = _size([one.portrait for one in cast]), cast[0].driving
    drivers = list(dict.fromkeys((str(one.driving), one.face) for one in cast))  # one may drive several
    clips = [Clip.read(path) for path, _ in drivers]
    encoding = replace(Encoding.of(output, clips[0], *size), depth=8, colours=SCREEN)
    work = _work(output, recipe, {"driven": [one.record() for one in cast], "order": repr(order)}, how)
    advance = _Advance(progress, sum(clip.frames for clip in clips) + clips[0].frames)
    tracks = [
        follow(model, clip, work, number, _kind(index), advance)
        for index, (clip, (_, number)) in enumerate(zip(clips, drivers, strict=True))
    ]
    frames, pts = order.of(tracks[0].pts)
    advance.total = sum(map(len, tracks)) + len(frames)
    moments = [tracks[0].seconds(frame) for frame in frames]
    shown = [float((time - pts[0]) * clips[0].time_base) for time in pts]
    by_driver = dict(zip(drivers, tracks, strict=True))
    people = [(one.portrait, one.targets(model, by_driver[str(one.driving), one.face], moments, shown)) for one in cast]
    pieces = write_pictures(work, encoding, pts, lambda which: driven_pictures(model, people, which, how), advance)
    if not order.plain:
        log.warning("%s: has no sound, since its frames are not in the order of %s", output, driving)
    join_pieces(output, encoding, pieces, driving if order.plain else None, None if recipe is None else recipe.to_json())
    work.remove()


def along_keyframes(
    model: Painter,
    cast: Sequence[tuple[Portrait, Change]],
    output: str | Path,
    *,
    rate: Fraction = RATE,
    sampling: Sampling | None = None,
    order: Order | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> None:
    """Move faces of one picture along keyframes alone, to the last of all.

    Args:
        cast: the faces and what changes them; others in the picture stay as they are.
        rate: frames a second.

    The remaining arguments, and Raises, as `animate`.
    """
    how, order = model.sampling(sampling or Sampling()), order or Order()
    lasting = [change.keyframes.duration for _, change in cast if change.keyframes is not None]
    if not lasting:
        raise ConfigError("keyframes: nothing moves the portrait; give at least one face keyframes")
    encoding = Encoding(Path(output).suffix.lower(), *_size([face for face, _ in cast]), rate, 1 / rate, 8, SCREEN)
    told = [{"source": _hash(face), **change.record()} for face, change in cast]
    work = _work(output, recipe, {"rate": str(rate), "moved": told, "order": repr(order)}, how)
    frames, pts = order.of(range(int(max(lasting) * rate) + 1))
    advance = _Advance(progress, len(frames))

    def targets_of(face: Portrait, change: Change) -> Targets:
        def targets(rows: slice) -> FaceAttributes:
            moments = [float(frame / rate) for frame in frames[rows]]
            return change.apply(face.attributes.to("cpu").expand(len(moments)), moments, model.head.expression_names)

        return targets

    people = [(face, targets_of(face, change)) for face, change in cast]
    pieces = write_pictures(work, encoding, pts, lambda which: driven_pictures(model, people, which, how), advance)
    join_pieces(output, encoding, pieces, None, None if recipe is None else recipe.to_json())
    work.remove()


def edit_clip(
    model: Painter,
    source: str | Path,
    output: str | Path,
    *,
    changes: Mapping[int, Change],
    givers: Mapping[str, tuple[FaceAttributes | None, float]] | None = None,
    swaps: Sequence[RegionSwap] = (),
    sampling: Sampling | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> None:
    """Edit one person in a clip, or several, and write a video of the clip's size with its times, depth and sound. Frames that show none of
    them stay as they are.

    Args:
        source: the clip.
        changes: face -> what is changed of it, after givers; faces are counted in the first frame that shows one, the largest first.
        givers: group -> whose it shall be, and the strength, as in `head.attributes.compose_each`; of all these faces.
        swaps: regions of all these faces that come from other portraits.

    The remaining arguments, and Raises, as `animate`.
    """
    how = model.sampling(sampling or Sampling())
    clip = Clip.read(source)
    encoding = Encoding.of(output, clip)
    taken = {name: [giver.to_json(), share] for name, (giver, share) in (givers or {}).items() if giver is not None}
    with one_core(model.device):
        ready = tuple(replace(one, reference=with_slots(model, one.reference)) for one in swaps)
    lent = [[_hash(one.reference), one.regions, one.strength, one.photo] for one in ready]
    told = {"source": file_sha256(source), "faces": [[number, one.record()] for number, one in changes.items()]}
    work = _work(output, recipe, told | {"givers": taken, "swaps": lent}, how)
    advance = _Advance(progress, (len(changes) + 1) * clip.frames)
    tracks = [follow(model, clip, work, one, _kind(number), advance) for number, one in enumerate(changes)]
    advance.total = (len(changes) + 1) * len(tracks[0])

    def targets_of(track: Track, wish: Change) -> Targets:
        def targets(rows: slice) -> FaceAttributes:
            wanted = compose_each(track.numbers[rows], givers or {})
            seconds = [track.seconds(index) for index in range(*rows.indices(len(track)))]
            return wish.apply(wanted, seconds, model.head.expression_names)

        return targets

    posed = "pose" in taken
    people = [Followed(track, targets_of(track, wish), posed or wish.turns) for track, wish in zip(tracks, changes.values(), strict=True)]
    pieces = write_pictures(work, encoding, list(tracks[0].pts), lambda which: edited_frames(model, people, which, how, ready), advance)
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


def _work(output: str | Path, recipe: Recipe | None, inputs: dict[str, Any], how: Sampling) -> Work:
    """The folder of work that depends on all of this."""
    return Work(output, {"format": FORMAT, "recipe": None if recipe is None else recipe.to_json(), "sampling": repr(how)} | inputs)


def _kind(number: int) -> str:
    """What the pieces about one of several people are called."""
    return f"{KIND}{number or ''}"


def _hash(source: Faces) -> str:
    """Of a portrait's picture and numbers."""
    text = "" if source.attributes is None else source.attributes.to_json()
    return hashlib.sha256(source.picture_around(0).cpu().contiguous().numpy().tobytes() + text.encode()).hexdigest()


def _size(faces: Sequence[Portrait]) -> tuple[int, int]:
    """Width and height of the faces' picture as it was given. Raises ConfigError for pictures of different sizes."""
    sizes = set()
    for face in faces:
        height, width = face.image.shape[-2:]
        sizes.add((height, width) if face.turns % 2 else (width, height))
    if len(sizes) > 1:
        raise ConfigError("animate: the faces are of pictures of different sizes; give faces of one picture")
    return sizes.pop()


def _rest(track: Track, rest: int | None) -> int:
    """The resting frame. Raises ConfigError for one that does not show the driver."""
    if rest is None:
        return track.first
    if not 0 <= rest < len(track) or not bool(track.present[rest]):
        raise ConfigError(f"{track.clip.path}: frame {rest} of {len(track)} does not show the face; choose another reference frame")
    return rest
