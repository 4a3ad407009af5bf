"""One person through the frames of a video, frame by frame: by place, size and, where a network for it is at hand, identity.

Shape letters: L = 478 landmarks, I identity size. Pixels: x right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from ..common.errors import FaceChoiceError
from .detector import box_iou
from .landmarker import Face

# Between two frames a face moves by this part of its size at most, and grows or shrinks by this factor; every frame in which it was not
# seen adds as much, up to WAIT frames. What is farther away, as after a cut, is somebody else unless identity says otherwise.
REACH, GROWTH, WAIT = 0.6, 1.35, 8
# A face that lies this far over the last one (intersection over union), with no cut between, is the same person's, even if it is blurred,
# turned or half hidden: it may differ from what was seen of them by SLACK times as much as two pictures of one person usually do.
OVERLAP, SLACK = 0.5, 1.1
# Mean difference of two frames in THUMBNAIL x THUMBNAIL pixels from which there is a cut between them; people who talk make 0.01, a
# camera that moves 0.03
CUT, THUMBNAIL = 0.06, 24
# So many different views of the person are remembered, each at least this part of the threshold away from the others
VIEWS, VIEW_APART = 8, 0.4


class Identity(Protocol):
    """What tells persons apart, such as `difffae.source.identity.IdentityEncoder`."""

    same_person: float  # distance up to which two pictures usually show one person

    def embed(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Pictures (B,3,H,W) and landmarks (B,478,2 or 3) in their pixels -> tokens (B,I)."""

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """How far tokens (...,I) are from each other: (...)."""


@dataclass
class Follower:
    """Follows one person; give it the faces of each frame in turn.

    index     which face of the first frame that has one, largest first
    identity  tells persons apart; None goes by place and size alone
    name      what messages call the pictures

    >>> from difffae.faces.following import Follower
    >>> follower = Follower()
    >>> print(follower.step([]))
    None
    """

    index: int = 0
    identity: Identity | None = None
    name: str = "image"
    frames: int = 0
    missed: int = 0  # frames since the person was last seen
    last: Face | None = None
    views: list[Tensor] = field(default_factory=list)
    tokens: dict[int, Tensor] = field(default_factory=dict)  # of the present frame's faces, by object
    thumbnail: Tensor | None = None  # of the present frame
    cut: bool = False  # whether the shot is another than when the person was last seen

    def step(self, faces: Sequence[Face], picture: Tensor | None = None, tokens: Sequence[Tensor] = ()) -> Face | None:
        """The followed person's face in the next frame.

        Args:
            faces: all faces of the frame, largest first.
            picture: (3,H,W) RGB 0..1, the frame; needed to tell persons apart.
            tokens: (I,) of the first faces, where they are known (`token_of`).

        Returns:
            one of the faces; None where the person is not to be seen, even if others are.

        Raises:
            FaceChoiceError: the first frame that shows faces has fewer than `index` asks for.
        """
        self.tokens = {id(face): token for face, token in zip(faces, tokens, strict=False)}
        self._look_for_cut(picture)
        chosen = self._first(faces) if self.last is None else self._again(faces, picture)
        self.frames += 1
        if chosen is None:
            self.missed += 1
            return None
        self.last, self.missed, self.cut = chosen, 0, False
        if self.identity is not None and picture is not None:
            self._remember(self._token(chosen, picture))
        return chosen

    def _first(self, faces: Sequence[Face]) -> Face | None:
        if not faces:
            return None
        if not 0 <= self.index < len(faces):
            what = "it" if self.frames == 0 else f"frame {self.frames}"
            raise FaceChoiceError(
                f"{self.name}: face {self.index} was asked for, but {what} shows {len(faces)}; choose 0 to {len(faces) - 1}, largest first"
            )
        return faces[self.index]

    def _again(self, faces: Sequence[Face], picture: Tensor | None) -> Face | None:
        """The person's face among those of a later frame."""
        assert self.last is not None
        near = sorted((face for face in faces if self._distance(face) <= 1), key=self._distance)
        if self.identity is None or picture is None or not self.views:
            return near[0] if near and not self.cut else None
        steady = [] if self.missed or self.cut else [face for face in near if self._overlap(face) >= OVERLAP]
        for candidates, most in ((steady, SLACK), (near, 1.0), (faces, 1.0)):
            unlike, face = min(((self._unlikeness(face, picture), face) for face in candidates), key=_first_of, default=(math.inf, None))
            if unlike <= most * self.identity.same_person:
                return face
        return None

    def _look_for_cut(self, picture: Tensor | None) -> None:
        if picture is None:
            return
        before, self.thumbnail = self.thumbnail, F.interpolate(picture[None], (THUMBNAIL, THUMBNAIL), mode="area")[0]
        self.cut |= before is not None and float((self.thumbnail - before).abs().mean()) > CUT

    def _overlap(self, face: Face) -> float:
        assert self.last is not None
        return float(box_iou(face.box, self.last.box[None])[0])

    def _distance(self, face: Face) -> float:
        """How far a face is from where and how large the person is expected to be: 1 is the farthest that can be."""
        assert self.last is not None
        patience = 1 + min(self.missed, WAIT)
        size, before = (math.sqrt(max(one.area, 1e-6)) for one in (face, self.last))
        moved = float(((face.box[:2] + face.box[2:]) / 2 - (self.last.box[:2] + self.last.box[2:]) / 2).norm())
        return max(moved / (REACH * before), abs(math.log(size / before)) / math.log(GROWTH)) / patience

    def token_of(self, face: Face, picture: Tensor) -> Tensor:
        """Who a face in a picture (3,H,W) is: (I,)."""
        assert self.identity is not None
        return self.identity.embed(picture[None], face.landmarks[None].to(picture.device))[0]

    def _token(self, face: Face, picture: Tensor) -> Tensor:
        if id(face) not in self.tokens:
            self.tokens[id(face)] = self.token_of(face, picture)
        return self.tokens[id(face)]

    def _unlikeness(self, face: Face, picture: Tensor) -> float:
        """Distance to the most similar view of the person."""
        assert self.identity is not None
        token = self._token(face, picture)
        return min(float(self.identity.distance(token, view)) for view in self.views)

    def _remember(self, token: Tensor) -> None:
        """Keep another view of the person, if it is one and differs from those that are known."""
        assert self.identity is not None
        apart = min((float(self.identity.distance(token, view)) for view in self.views), default=0.0)
        if not self.views or (len(self.views) < VIEWS and VIEW_APART <= apart / self.identity.same_person <= 1):
            self.views.append(token)


def _first_of(pair: tuple[float, object]) -> float:
    return pair[0]
