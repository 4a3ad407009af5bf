"""Face detection, 478 landmarks and 52 blendshape scores, in torch and batched."""

from __future__ import annotations

from .blendshapes import BLENDSHAPE_NAMES
from .pipeline import Face, FaceLandmarker, face_roi

__all__ = ["BLENDSHAPE_NAMES", "Face", "FaceLandmarker", "face_roi"]
