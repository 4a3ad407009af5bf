"""Which estimator and head model belong together: the landmark fit or our network with the open head, the user's DECA with FLAME."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ..common.errors import CheckpointError, ConfigError
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from .deca import Deca, DecaFit
from .fit import LandmarkFit
from .hair_finder import HairFinder
from .network import EncoderFit
from .offsets import LandmarkOffsets

Estimator = LandmarkFit | EncoderFit | DecaFit
KINDS = ("fit", "network")  # of the open head; the first is the default
SIDE = 256  # of the pictures that the estimators were tuned at, in pixels


def landmark_fit(head: HeadModel) -> LandmarkFit:
    """The fit of the open head, with the bundled landmark offsets and networks that find hair."""
    return LandmarkFit(head, offsets=LandmarkOffsets.load(), hair=HairFinder.load())


def load_estimator(
    head: str | Path | None = None, deca: str | Path | None = None, name: str | None = None, kind: str = KINDS[0]
) -> Estimator:
    """An estimator with its head model.

    head: a file of `convert flame`, or None for the bundled open head; deca: a file of `convert deca`, which FLAME needs; name: the head
    whose renders a model was trained with, checked if given; kind: one of KINDS, the landmark fit or the bundled network, where there is
    no DECA. Raises CheckpointError, HeadModelMismatchError, ConfigError.
    """
    if kind not in KINDS:
        raise ConfigError(f"estimator: '{kind}' is none; choose {' or '.join(KINDS)}")
    model = HeadModel.load(head)
    given = "the bundled head" if head is None else str(head)
    if name is not None and model.name != name:
        raise CheckpointError(
            f"{given}: is '{model.name}', but this model was trained with renders of '{name}'; give that head's file with --head"
        )
    if deca is not None:
        if kind != KINDS[0]:
            raise ConfigError(f"estimator: '{kind}' is the open head's, and DECA was given too; choose one of them")
        return DecaFit(Deca.load(deca), model)
    if kind == "network":
        return EncoderFit.load(model)
    if not len(model.landmark_faces):
        raise CheckpointError(f"{given}: has no places for MediaPipe's landmarks to fit; give DECA's weights with --deca")
    return landmark_fit(model)


def estimate(estimator: Estimator, pictures: Tensor, landmarks: Tensor, blendshapes: Tensor, known: Tensor | None = None) -> FaceAttributes:
    """The numbers of faces in square crops of any size, which they do not depend on: the estimator always sees 256x256.

    pictures (B,3,S,S) RGB 0..1; landmarks (B,478,3) in their pixels; blendshapes (B,52) scores; known (B,1,S,S), 0 where a crop left its
    picture, or None.
    """
    side = pictures.shape[-1]
    if side != SIDE:
        pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        known = None if known is None else F.interpolate(known, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        landmarks = landmarks * (SIDE / side)
    return estimator(pictures, landmarks, blendshapes, known)
