"""Second pass: every frame painted, a few at a time, and written in pieces.

Shape letters: B frames of one step, H and W picture height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from ..edit.native import resize
from ..edit.pasting import paste
from ..faces.crop import FaceCrop, extract
from ..head.attributes import FaceAttributes
from .analysing import Advance, Track, at_once, seen_in, squares_of, whole_square
from .pipeline import ahead
from .reading import Frame, read_frames
from .work import PIECE, Work
from .writing import Encoding, write_piece

STEP = 4  # frames that are moved together; PIECE is a multiple
KIND = "pictures"
NEAR, NOBODY = 9, 1e-3  # pixels around a person, and the share of one that is none
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
def driven_pictures(model: Painter, source: Faces, targets: Targets, frames: range, how: Sampling) -> Iterator[Tensor]:
    """A portrait in every frame, prepared once.

    Args:
        model: moves and paints.
        source: one face, with attributes.
        targets: the portrait's numbers.
        frames: which.
        how: the sampling.

    Yields:
        (3,H,W)
    """
    source = with_slots(model, source)
    ready = prepare(model, source) if model.carry_options is not None else None
    for first in range(frames.start, frames.stop, STEP):
        wanted = targets(slice(first, min(first + STEP, frames.stop))).to(model.device)
        yield from edited(model, Edit(source, wanted, sampling=how), ready).cpu()


@torch.no_grad()
def edited_frames(
    model: Painter, track: Track, targets: Targets, frames: range, how: Sampling, swaps: tuple[RegionSwap, ...] = ()
) -> Iterator[Tensor | Frame]:
    """The frames of a clip with other numbers for the followed person.

    Args:
        model: moves and paints.
        track: the person.
        targets: the numbers they shall have, with the camera of the whole frame.
        frames: which.
        how: the sampling.
        swaps: regions that come from others, whose slots are known.

    Yields:
        (3,H,W), or the frame itself where it does not show the person.
    """
    places = _Places(track, squares_of(track, model.image_size))
    every = islice(ahead(read_frames(track.clip.path), 2 * STEP), frames.start, frames.stop)
    size = min(STEP, at_once(track.clip.height, track.clip.width))
    while some := list(islice(every, size)):
        rows = [row for row, frame in enumerate(some) if bool(track.present[frame.index])]
        result: list[Tensor | Frame] = list(some)
        if rows:
            faces = places.faces(model, [some[row] for row in rows])
            wanted = FaceAttributes.cat([targets(slice(some[row].index, some[row].index + 1)) for row in rows])
            wanted = seen_in(wanted, [whole_square(track.clip)], faces.squares).to(model.device)
            for row, picture in zip(rows, edited(model, Edit(faces, wanted, swaps, how)).cpu(), strict=True):
                result[row] = picture
        yield from result


@dataclass
class _Places:
    """Where a track's person is, with the landmarks of one piece in memory."""

    track: Track
    squares: list[FaceCrop]
    piece: int = -1
    points: Tensor | None = None

    def faces(self, model: Parts, frames: list[Frame]) -> Faces:
        """The person in frames that show them, with slots."""
        squares = [self.squares[frame.index] for frame in frames]
        pictures = torch.stack([frame.picture() for frame in frames]).to(model.device)
        crops, inside = extract(pictures, squares)
        points = torch.stack([square.to_crop(self._landmarks(frame.index)) for square, frame in zip(squares, frames, strict=True)])
        numbers = self.track.numbers[[frame.index for frame in frames]]
        numbers = seen_in(numbers, [whole_square(self.track.clip)], squares).to(model.device)
        faces = Faces(crops, inside, tuple(squares), pictures, points.to(model.device), None, numbers, name=self.track.clip.path)
        return with_slots(model, faces)

    def _landmarks(self, index: int) -> Tensor:
        """(478,3) of a frame that shows the person."""
        piece, row = divmod(index, PIECE)
        if piece != self.piece or self.points is None:
            self.piece, self.points = piece, self.track.landmarks(piece)
        return self.points[int(self.track.present[piece * PIECE : piece * PIECE + row].sum())]


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
