"""Who measures: one estimator of 3DMM codes and one identity network, looking at finished pictures (paper 5.1; docs/evaluation.md).

Codes of two estimators are different numbers, so a table has exactly one judge, and names it.

Shape letters: E expression coefficients, I identity size. Angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.errors import ConfigError, NoFaceError
from ...common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ...estimation.choose import Estimator, load_estimator
from ...estimation.fit import LandmarkFit
from ...faces.crop import crop_square, extract
from ...faces.landmarker import FaceLandmarker
from ...source.identity import IdentityEncoder
from ...source.identity_networks import load_identity

METRICS = ("APD", "AED", "ALD", "CSIM")
TAKEN_BY = {"APD": "pose", "AED": "expression", "ALD": "light"}  # CSIM counts for every edit


@dataclass(frozen=True, eq=False)
class Codes:
    """What the judge sees in a picture: pose (3,), expression (E,), light (27,), identity (I,), float64 on the CPU."""

    pose: Tensor
    expression: Tensor
    light: Tensor
    identity: Tensor

    def distances(self, query: Codes, source: Codes) -> dict[str, float]:
        """APD, AED and ALD of this result to its query (mean absolute differences) and CSIM to its source (cosine)."""
        return {
            "APD": (self.pose - query.pose).abs().mean().item(),
            "AED": (self.expression - query.expression).abs().mean().item(),
            "ALD": (self.light - query.light).abs().mean().item(),
            "CSIM": F.cosine_similarity(self.identity, source.identity, dim=0).item(),
        }


class Judge:
    """Looks at the largest face of a picture. The landmark network serves all judges; they differ in estimator and identity network."""

    def __init__(
        self, landmarker: FaceLandmarker, estimator: Estimator, identity: IdentityEncoder, device: str | torch.device = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.landmarker = landmarker.to(self.device).eval()
        self.estimator = estimator.to(self.device).eval()
        self.identity = identity.to(self.device).eval()

    @classmethod
    def load(
        cls,
        head: str | Path | None = None,
        deca: str | Path | None = None,
        identity: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> Judge:
        """The bundled networks or others.

        Args:
            head: FLAME, a file of `convert`; goes with `deca`.
            deca: DECA's networks, a file of `convert`.
            identity: File or name of an identity network; None is the bundled one.
            device: Where the networks run.

        Raises:
            CheckpointError: If a file cannot be read or does not fit.
            ConfigError: If head or deca is given without the other.
        """
        if (head is None) != (deca is None):
            raise ConfigError("judge: DECA's networks and FLAME belong together; give both files or neither")
        return cls(FaceLandmarker.load(), load_estimator(head, deca), load_identity(identity), device)

    @property
    def open(self) -> bool:
        return isinstance(self.estimator, LandmarkFit)

    @property
    def names(self) -> dict[str, str]:
        """What the table says of its judge."""
        head = self.estimator.head
        if self.open:
            codes = f"yaw, pitch and roll in radians; {head.expression_count} expression coefficients; 27 spherical harmonics"
            return {"estimator": f"DiffFAE landmark fit, head '{head.name}'", "codes": codes, "identity": self.identity.name}
        codes = "global rotation (3 numbers, radians); 50 expression coefficients; 27 spherical harmonics"
        return {"estimator": f"DECA, head '{head.name}'", "codes": codes, "identity": self.identity.name}

    @torch.no_grad()
    def look(self, image: Tensor, name: str) -> Codes:
        """Codes of a picture (3,H,W), RGB 0..1. Raises NoFaceError."""
        faces = self.landmarker.detect(image.to(self.device))[0]
        if not faces:
            raise NoFaceError(f"{name}: no face found")
        image, landmarks = image.to(self.device), faces[0].landmarks.to(self.device)
        crop = crop_square(landmarks, image.shape[-2:])
        picture, known = extract(image[None], crop)
        inside = crop.to_crop(landmarks)[None]
        face = self.estimator(picture, inside, faces[0].blendshapes[None].to(self.device), known)
        if self.open:
            turn = axis_angle_to_matrix(face.pose[0, 0]) @ axis_angle_to_matrix(face.pose[0, 1])
            pose = torch.deg2rad(to_yaw_pitch_roll(matrix_to_axis_angle(turn)))
            expression = face.expression[0]
        else:
            pose, expression = face.pose[0, 0], face.expression[0, :50]
        identity = self.identity.embed(picture, inside[..., :2])[0]
        return Codes(*(value.double().cpu() for value in (pose, expression, face.light[0].flatten(), identity)))
