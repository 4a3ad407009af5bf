"""One person through the frames of a video, frame by frame: by place, size and, where a network for it is at hand, identity.

Shape letters: L = 478 landmarks, I identity size. Pixels: x right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..common.errors import FaceChoiceError
from .landmarker import Face

# Between two frames a face moves by this part of its size at most, and grows or shrinks by this factor; every frame in which it was not
# seen adds as much, up to WAIT frames. What is farther away, as after a cut, is somebody else unless identity says otherwise.
REACH, GROWTH, WAIT = 0.6, 1.35, 8
# A face where the person is expected may differ from what was seen of them by this much more than two pictures of one person usually do
# (it may be blurred, turned or half hidden); a face elsewhere may not.
EXPECTED_SLACK = 1.3
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

    def step(self, faces: Sequence[Face], picture: Tensor | None = None) -> Face | None:
        """The followed person's face in the next frame.

        Args:
            faces: all faces of the frame, largest first.
            picture: (3,H,W) RGB 0..1, the frame; needed to tell persons apart.

        Returns:
            one of the faces; None where the person is not to be seen, even if others are.

        Raises:
            FaceChoiceError: the first frame that shows faces has fewer than `index` asks for.
        """
        self.tokens = {}
        chosen = self._first(faces) if self.last is None else self._again(faces, picture)
        self.frames += 1
        if chosen is None:
            self.missed += 1
            return None
        self.last, self.missed = chosen, 0
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
        """The face that is nearest among those that can be the person's."""
        expected = sorted((face for face in faces if self._distance(face) <= 1), key=self._distance)
        if self.identity is None or picture is None or not self.views:
            return expected[0] if expected else None
        slack = EXPECTED_SLACK * self.identity.same_person
        alike = [(self._unlikeness(face, picture), face) for face in expected]
        near = [(unlike, face) for unlike, face in alike if unlike <= slack]
        if near:
            # of two people side by side the one who looks like the person; of equals, the nearer one
            return min(near, key=lambda pair: pair[0] + 0.5 * slack * self._distance(pair[1]))[1]
        elsewhere = [face for face in faces if not any(face is other for other in expected)]
        far = [(self._unlikeness(face, picture), face) for face in elsewhere]
        unlike, face = min(far, key=lambda pair: pair[0], default=(math.inf, None))
        return face if unlike <= self.identity.same_person else None

    def _distance(self, face: Face) -> float:
        """How far a face is from where and how large the person is expected to be: 1 is the farthest that can be."""
        assert self.last is not None
        patience = 1 + min(self.missed, WAIT)
        size, before = (math.sqrt(max(one.area, 1e-6)) for one in (face, self.last))
        moved = float(((face.box[:2] + face.box[2:]) / 2 - (self.last.box[:2] + self.last.box[2:]) / 2).norm())
        return max(moved / (REACH * before), abs(math.log(size / before)) / math.log(GROWTH)) / patience

    def _token(self, face: Face, picture: Tensor) -> Tensor:
        assert self.identity is not None
        if id(face) not in self.tokens:
            self.tokens[id(face)] = self.identity.embed(picture[None], face.landmarks[None].to(picture.device))[0]
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
