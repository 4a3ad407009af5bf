"""Which estimator and head model belong together: the landmark fit with the open head, or the user's DECA with FLAME."""

from __future__ import annotations

from pathlib import Path

from .deca import Deca, DecaFit
from .errors import CheckpointError
from .estimate import LandmarkFit
from .head import HeadModel
from .landmark_offsets import LandmarkOffsets

Estimator = LandmarkFit | DecaFit


def landmark_fit(head: HeadModel) -> LandmarkFit:
    """The fit of the open head, with the bundled landmark offsets."""
    return LandmarkFit(head, offsets=LandmarkOffsets.load())


def load_estimator(head: str | Path | None = None, deca: str | Path | None = None, name: str | None = None) -> Estimator:
    """An estimator with its head model.

    head: a file of `convert flame`, or None for the bundled open head; deca: a file of `convert deca`, which FLAME needs; name: the head
    whose renders a model was trained with, checked if given. Raises CheckpointError, HeadModelMismatchError.
    """
    model = HeadModel.load(head)
    given = "the bundled head" if head is None else str(head)
    if name is not None and model.name != name:
        raise CheckpointError(
            f"{given}: is '{model.name}', but this model was trained with renders of '{name}'; give that head's file with --head"
        )
    if deca is not None:
        return DecaFit(Deca.load(deca), model)
    if not len(model.landmark_faces):
        raise CheckpointError(f"{given}: has no places for MediaPipe's landmarks to fit; give DECA's weights with --deca")
    return landmark_fit(model)
