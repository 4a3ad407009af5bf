"""Second pass: every frame painted, a few at a time, and written in pieces.

Shape letters: B frames of one step, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..edit.analysing import with_slots
from ..edit.description import Edit, Faces, Parts, RegionSwap, Sampling
from ..edit.moved_photo import MovedPhoto
from ..edit.moving import PreparedFaces, move, prepare
from ..edit.native import resize, steady
from ..edit.pasting import paste
from ..faces.crop import FaceCrop, extract
from ..faces.quarter_turns import turned
from ..head.attributes import FaceAttributes
from .analysing import Advance, Track, at_once, seen_in, squares_of, whole_square
from .pipeline import Workers, ahead
from .reading import Frame, read_frames
from .work import PIECE, Work
from .writing import Encoding, write_piece

STEP = 4  # frames that are moved together; PIECE is a multiple
KIND = "pictures"
NEAR, NOBODY = 9, 1e-3  # pixels around a person, and the share of one that is none
CHANGED = 0.5  # grey levels: what an edit changes by so much shows it alone, whatever others did there
Targets = Callable[[slice], FaceAttributes]  # some frames of a clip -> the numbers of the face there


class Painter(Parts, Protocol):
    """A model that moves photographs and paints over them: `DiffFAE`."""

    def sampling(self, asked: Sampling) -> Sampling:
        """How the model can paint what was asked for. Raises ConfigError."""

    def painted(self, edit: Edit, moved: MovedPhoto) -> Tensor:
        """(B,3,S,S) what the model paints over moved photographs."""


def edited(model: Painter, edit: Edit, prepared: PreparedFaces | None = None) -> Tensor:
    """(B,3,H,W): the whole pictures after an edit of 1 or B faces with slots."""
    moved = move(model, edit, prepared)
    drawn = model.painted(edit, moved)
    if edit.denoise > 0 and model.carry_options is not None:
        drawn = with_own_background(drawn, moved)
    return paste(edit.faces, drawn, moved)[0]


def with_own_background(drawn: Tensor, moved: MovedPhoto) -> Tensor:
    """What was painted (B,3,S,S), with the photograph's own pixels where no person is near: what is painted there differs a little from
    frame to frame."""
    size, around = drawn.shape[-1], (moved.person_alpha.shape[-1] - moved.size) // 2
    inner = slice(around, around + moved.size)
    person = F.max_pool2d(resize(moved.person_alpha[..., inner, inner], size, "bilinear"), NEAR, 1, NEAR // 2)
    photo, validity = resize(moved.square(moved.image), size).clamp(0, 1), resize(moved.square(moved.validity), size, "bilinear")
    return torch.where((person < NOBODY) & (validity > 1 - NOBODY), photo.to(drawn), drawn)


@torch.no_grad()
def driven_pictures(model: Painter, people: Sequence[tuple[Faces, Targets]], frames: range, how: Sampling) -> Iterator[Tensor]:
    """The people of a picture in every frame, each of them prepared once.

    Args:
        model: moves and paints.
        people: one face each, with attributes, and its numbers.
        frames: which.
        how: the sampling.

    Yields:
        (3,H,W)
    """
    with Workers(model.device) as workers:
        cast = []
        for face, targets in people:
            source = workers.submit(with_slots, model, face).result()
            ready = workers.submit(prepare, steady(model), source).result() if model.carry_options is not None else None
            cast.append((source, ready, targets))

        def step(first: int) -> Tensor:
            rows = slice(first, min(first + STEP, frames.stop))
            shown: Tensor | None = None
            for source, ready, targets in cast:
                alone = edited(model, Edit(source, targets(rows).to(model.device), sampling=how), ready)
                shown = alone if shown is None else laid_over(shown, alone, turned(source.picture_around(0), -source.turns))
            assert shown is not None
            return shown.cpu()

        for pictures in workers.map(step, range(frames.start, frames.stop, STEP)):
            yield from pictures


def laid_over(shown: Tensor, alone: Tensor, before: Tensor) -> Tensor:
    """Pictures (B,3,H,W) with what another edit of the same picture (1,3,H,W) changed."""
    changed = ((alone - before).abs().amax(1, keepdim=True) * (255 / CHANGED)).clamp(max=1)
    untouched = (shown == before).all(1, keepdim=True)
    return torch.where(untouched, alone, torch.lerp(shown, alone, changed))


@dataclass(frozen=True, eq=False)
class Followed:
    """A person in a clip.

    track    where they are
    targets  the numbers they shall have, with the camera of the whole frame
    turned   whether the head is moved in any frame, which uncovers what was behind it
    """

    track: Track
    targets: Targets
    turned: bool = True


@torch.no_grad()
def edited_frames(
    model: Painter, people: Sequence[Followed], frames: range, how: Sampling, swaps: tuple[RegionSwap, ...] = ()
) -> Iterator[Tensor | Frame]:
    """The frames of a clip with other numbers for the followed people.

    Args:
        model: moves and paints.
        people: of one clip, edited one after another.
        frames: which.
        how: the sampling.
        swaps: regions that come from others, whose slots are known.

    Yields:
        (3,H,W), or the frame itself where it shows none of them.
    """
    clip = people[0].track.clip
    places = [_Places(one.track, squares_of(one.track, model.image_size)) for one in people]
    every = islice(ahead(read_frames(clip.path), 2 * STEP), frames.start, frames.stop)
    size = min(STEP, at_once(clip.height, clip.width))
    movers = [steady(model, bool(one.turned or swaps)) for one in people]

    def step(some: list[Frame]) -> list[Tensor | Frame]:
        result: list[Tensor | Frame] = list(some)
        for number, one in enumerate(people):
            rows = [row for row, frame in enumerate(some) if bool(one.track.present[frame.index])]
            if not rows:
                continue
            pictures = torch.stack([shown.picture() if isinstance(shown := result[row], Frame) else shown for row in rows])
            indices = [some[row].index for row in rows]
            faces = with_slots(model, places[number].faces(pictures.to(model.device), indices, [*places[:number], *places[number + 1 :]]))
            wanted = FaceAttributes.cat([one.targets(slice(index, index + 1)) for index in indices])
            wanted = seen_in(wanted, [whole_square(clip)], faces.squares).to(model.device)
            for row, picture in zip(rows, edited(movers[number], Edit(faces, wanted, swaps, how)).cpu(), strict=True):
                result[row] = picture
        return result

    with Workers(model.device) as workers:
        for pictures in workers.map(step, iter(lambda: list(islice(every, size)), [])):
            yield from pictures


class _Places:
    """Where a track's person is, with the landmarks of a few pieces in memory."""

    def __init__(self, track: Track, squares: list[FaceCrop]) -> None:
        self.track, self.squares = track, squares
        self._points = lru_cache(maxsize=2)(track.landmarks)

    def faces(self, pictures: Tensor, indices: list[int], others: Sequence[_Places]) -> Faces:
        """The person in frames (B,3,H,W) that show them; others: further people of the clip."""
        squares = [self.squares[index] for index in indices]
        crops, inside = extract(pictures, squares)
        points = torch.stack([square.to_crop(self.landmarks(index)) for square, index in zip(squares, indices, strict=True)])
        numbers = seen_in(self.track.numbers[indices], [whole_square(self.track.clip)], squares).to(pictures.device)
        beside = []
        for square, index in zip(squares, indices, strict=True):
            there = [square.to_crop(one.landmarks(index)) for one in others if bool(one.track.present[index])]
            beside.append(torch.stack(there) if there else torch.zeros(0, *points.shape[1:]))
        return Faces(
            crops,
            inside,
            tuple(squares),
            pictures,
            points.to(pictures.device),
            attributes=numbers,
            others=tuple(beside) if others else (),
            name=self.track.clip.path,
        )

    def landmarks(self, index: int) -> Tensor:
        """(478,3) in pixels, of a frame that shows the person."""
        piece, row = divmod(index, PIECE)
        return self._points(piece)[int(self.track.present[piece * PIECE : piece * PIECE + row].sum())]


def write_pictures(
    work: Work, encoding: Encoding, pts: list[int], pictures: Callable[[range], Iterator[Tensor | Frame]], advance: Advance
) -> list[Path]:
    """Encode all pictures, from the first piece on that is not there yet.

    Args:
        work: keeps the pieces.
        encoding: how.
        pts: when each is shown.
        pictures: a range of frames -> them.
        advance: told of every finished frame.

    Returns:
        the pieces.
    """
    done = work.pieces(KIND)
    start = min(len(done) * PIECE, len(pts))
    advance(start)
    if start == len(pts):
        return done
    painted = enumerate(ahead(pictures(range(start, len(pts))), STEP), start)

    def told() -> Iterator[tuple[int, Tensor | Frame]]:
        for index, picture in islice(painted, PIECE):
            yield pts[index], picture
            advance(1)

    while start < len(pts):
        write_piece(work.piece(KIND, len(done)), encoding, told())
        done.append(work.piece(KIND, len(done)))
        start += PIECE
    return done
