"""Which estimator and head model belong together: the landmark fit or our network with the open head, the user's DECA with FLAME."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ..common.errors import CheckpointError, ConfigError
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..vocabulary import ESTIMATORS
from .deca import Deca, DecaFit
from .fit import LandmarkFit
from .hair_finder import HairFinder
from .network import EncoderFit
from .offsets import LandmarkOffsets

Estimator = LandmarkFit | EncoderFit | DecaFit
SIDE = 256  # of the pictures that the estimators were tuned at, in pixels


def landmark_fit(head: HeadModel, hair: HairFinder | None = None) -> LandmarkFit:
    """The fit of the open head, with the bundled landmark offsets and networks that find hair, unless `hair` is given."""
    return LandmarkFit(head, offsets=LandmarkOffsets.load(), hair=hair or HairFinder.load())


def load_head(file: str | Path | None = None, name: str | None = None) -> HeadModel:
    """A head model.

    Args:
        file: a file of `convert flame` or `convert gnm`; None is the bundled open head.
        name: the head whose renders a model was trained with, checked if given.

    Raises:
        CheckpointError: the file cannot be read or is another head's.
    """
    head = HeadModel.load(file)
    if name is not None and head.name != name:
        given = "the bundled head" if file is None else str(file)
        raise CheckpointError(
            f"{given}: is '{head.name}', but this model was trained with renders of '{name}'; give that head's file with --head"
        )
    return head


def build_estimator(
    head: HeadModel, deca: str | Path | None = None, kind: str = ESTIMATORS[0], hair: Callable[[], HairFinder] = HairFinder.load
) -> Estimator:
    """An estimator of a head model's numbers.

    Args:
        head: the head, which the estimator keeps.
        deca: a file of `convert deca`, which FLAME needs.
        kind: one of vocabulary.ESTIMATORS, the landmark fit or the bundled network, where there is no DECA.
        hair: makes what finds hair, called if the estimator needs it.

    Raises:
        CheckpointError, HeadModelMismatchError: files that cannot be read or do not belong together.
        ConfigError: an unknown kind, or the network and DECA together.
    """
    if kind not in ESTIMATORS:
        raise ConfigError(f"estimator: '{kind}' is none; choose {' or '.join(ESTIMATORS)}")
    if deca is not None:
        if kind != ESTIMATORS[0]:
            raise ConfigError(f"estimator: '{kind}' is the open head's, and DECA was given too; choose one of them")
        return DecaFit(Deca.load(deca), head)
    if kind == "network":
        return EncoderFit.load(head)
    if not len(head.landmark_faces):
        raise CheckpointError(f"head model '{head.name}': has no places for MediaPipe's landmarks to fit; give DECA's weights with --deca")
    return landmark_fit(head, hair())


def load_estimator(
    head: str | Path | None = None, deca: str | Path | None = None, name: str | None = None, kind: str = ESTIMATORS[0]
) -> Estimator:
    """An estimator with its head model: `build_estimator` of `load_head`, whose arguments these are."""
    return build_estimator(load_head(head, name), deca, kind)


def estimate(estimator: Estimator, pictures: Tensor, landmarks: Tensor, blendshapes: Tensor, known: Tensor | None = None) -> FaceAttributes:
    """The numbers of faces in square crops of any size, which they do not depend on: the estimator always sees 256x256.

    Args:
        estimator: which reads them.
        pictures: (B,3,S,S) RGB 0..1.
        landmarks: (B,478,3) in their pixels.
        blendshapes: (B,52) scores of the landmark network.
        known: (B,1,S,S), 0 where a crop left its picture; None for all known.

    Returns:
        B faces; their camera is the crop's.
    """
    side = pictures.shape[-1]
    if side != SIDE:
        pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        known = None if known is None else F.interpolate(known, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        landmarks = landmarks * (SIDE / side)
    return estimator(pictures, landmarks, blendshapes, known)
