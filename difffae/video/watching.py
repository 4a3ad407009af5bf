"""One person from frame to frame, without looking for them anew in every frame.

Shape letters: H and W frame height and width, L = 478 landmarks, I identity size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..faces.following import Follower
from ..faces.landmarker import SURE, Face, FaceLandmarker
from ..faces.rois import face_roi
from .pipeline import Workers

# The landmark network looks at one and the same region until the face has moved, in parts of the region's side, by so much, has grown or
# shrunk by this factor, or turned by so many radians: a region that follows its own landmarks makes still faces tremble
MOVED, GREW, TURNED = 0.06, 1.06, 0.08
Seen = tuple[Face, list[Tensor]]  # a face and who it is, if that was asked for


@dataclass
class Watcher(Follower):
    """A follower that looks at frames itself.

    roi     (4,) where the person's face was looked for last
    change  how much the last frame differs from the one before it (mean difference of the thumbnails)
    """

    roi: Tensor | None = None
    change: float = 0.0

    def watch(self, landmarker: FaceLandmarker, pictures: Tensor, workers: Workers, anew: bool = False) -> list[tuple[Face | None, float]]:
        """The person's face in the next frames, and how much each differs from the one before it.

        Args:
            landmarker: the networks.
            pictures: (B,3,H,W) RGB 0..1.
            workers: look at several frames at once.
            anew: look at all faces of the first one even if the person is where they were, which costs several times as much.

        Raises:
            FaceChoiceError: as `step`.
        """
        found: list[tuple[Face | None, float]] = []
        while len(found) < len(pictures):
            roi, left = self.roi, pictures[len(found) :]
            if roi is None or self.missed or (anew and not found):
                found.append((self._look(landmarker, left[0]), self.change))
                continue
            # a face hardly moves: the next frames are looked at where it is now, until it is elsewhere, and that is for nothing then
            looks = workers.map(partial(self._seen, landmarker, roi), left, spare=0)
            for picture, look in zip(left, looks, strict=True):
                found.append((self._look(landmarker, picture, look), self.change))
                if self.roi is not roi or self.missed:
                    looks.close()
                    break
        return found

    def _look(self, landmarker: FaceLandmarker, picture: Tensor, here: Seen | None = None) -> Face | None:
        """The person's face in the next frame; here: what is to be seen where they were, if somebody looked."""
        before = self.thumbnail
        face = None if here is None else self._known(*here, picture)
        if face is None and (face := self.step(landmarker.detect(picture)[0], picture)) is not None:
            # in the region that other frames are looked at in: landmarks lie a little elsewhere in another one
            self._aim()
            assert self.roi is not None
            again = landmarker.landmarks_in(picture, self.roi[None])[0][0]
            self.last = face = again if again.score >= SURE else face
        now = self.thumbnail
        self.change = 0.0 if before is None or now is None else float((now - before).abs().mean())
        self._aim()
        return face

    def _seen(self, landmarker: FaceLandmarker, roi: Tensor, picture: Tensor) -> Seen:
        """What shows in a region of a frame, and who it is."""
        face = landmarker.landmarks_in(picture, roi[None])[0][0]
        return face, [self.token_of(face, picture)] if face.score >= SURE and self.identity is not None else []

    def _known(self, here: Face, tokens: list[Tensor], picture: Tensor) -> Face | None:
        """The face where it was, if it is surely there and the person's."""
        after = copy(self)
        if here.score < SURE or (face := after.step([here], picture, tokens)) is None:
            return None
        vars(self).update(vars(after))
        return face

    def _aim(self) -> None:
        """Look elsewhere once the face has left the middle of the region."""
        if self.last is None or self.missed:
            return
        roi = face_roi(self.last.landmarks[None])[0]
        if self.roi is not None:
            x, y, side, angle = (roi - self.roi).tolist()
            size = float(self.roi[2])
            turned = abs(math.remainder(angle, 2 * math.pi))
            if math.hypot(x, y) < MOVED * size and abs(math.log(1 + side / size)) < math.log(GREW) and turned < TURNED:
                return
        self.roi = roi

    def tensors(self) -> dict[str, Tensor]:
        """All of its state."""
        state = {"counts": torch.tensor([self.frames, self.missed, int(self.cut)])}
        state |= {name: values for name in ("thumbnail", "roi") if (values := getattr(self, name)) is not None}
        if (face := self.last) is not None:
            score = torch.tensor([face.score], dtype=torch.float64)
            state |= {"box": face.box, "landmarks": face.landmarks, "blendshapes": face.blendshapes, "score": score}
        if self.views:
            state["views"] = torch.stack(self.views)
        return {name: values.cpu() for name, values in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.frames, self.missed, cut = state["counts"].tolist()
        self.cut, self.thumbnail, self.roi = bool(cut), state.get("thumbnail"), state.get("roi")
        if "box" in state:
            self.last = Face(state["box"], state["landmarks"], state["blendshapes"], float(state["score"]))
        self.views = list(state.get("views", ()))
