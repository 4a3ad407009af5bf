"""What one edit did, measured anew on the edited crop: how near it is to the query, and how far it went from the source.

Shape letters: S crop side, E expression coefficients. Angles are degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ...edit.editor import DiffFAE, Portrait
from ...edit.measures import away_from_head, expression_distance, laplacian_variance, light_direction, psnr
from ...estimation.choose import estimate
from ...head.attributes import FaceAttributes

LEAST_AREA = 0.02  # of the crop: smaller masks say nothing
FACE_FACTOR = 1.0  # of `away_from_head`: the ellipse around the face alone, hair and neck outside
ATTRIBUTES = ("pose", "expression", "light", "light codes")


@dataclass(frozen=True, eq=False)
class Look:
    """What the networks see in a crop (1,3,S,S): landmarks (1,478,3), scores (1,52), the fitted attributes, the identity embedding."""

    picture: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    attributes: FaceAttributes
    identity: Tensor

    @classmethod
    def at(cls, model: DiffFAE, picture: Tensor) -> Look | None:
        """Of a finished crop; None where no face is found."""
        faces = model.landmarker.detect(picture)[0]
        if not faces:
            return None
        points, scores = faces[0].landmarks[None].to(picture), faces[0].blendshapes[None].to(picture)
        return cls(
            picture, points, scores, estimate(model.estimator, picture, points, scores), model.identity.embed(picture, points[..., :2])
        )

    @classmethod
    def of(cls, model: DiffFAE, portrait: Portrait) -> Look:
        """Of a portrait, as it was analysed."""
        identity = model.identity.embed(portrait.picture, portrait.landmarks[..., :2])
        return cls(portrait.picture, portrait.landmarks, portrait.blendshapes, portrait.attributes, identity)

    @property
    def turn(self) -> Tensor:
        """The head's rotation (3,3), global and neck together: DECA's turn is the first, the open head's the second."""
        first, second = axis_angle_to_matrix(self.attributes.pose[0, :2])
        return first @ second

    def distances(self, other: Look) -> dict[str, float]:
        """Of ATTRIBUTES: angle between the heads (degrees), mean difference of the expression scores, distance of the light's log-ratios on
        the face's halves, and of its codes relative to their mean light."""
        angle = matrix_to_axis_angle(self.turn @ other.turn.transpose(0, 1)).norm().rad2deg()
        own, others = (light_direction(look.picture, look.landmarks) for look in (self, other))
        codes = [look.attributes.light / look.attributes.light[:, :1].mean().clamp_min(1e-3) for look in (self, other)]
        return {
            "pose": angle.item(),
            "expression": expression_distance(self.blendshapes, other.blendshapes).item(),
            "light": (own - others).norm().item(),
            "light codes": (codes[0] - codes[1]).norm().item(),
        }


@dataclass(frozen=True)
class EditNumbers:
    """yaw and pitch: errors against the query. to_query, to_source and before: `Look.distances` of the result to both, and of the source to
    the query. identity: distance to the source. still, outside: PSNR in dB against the source on clothes and background away from the head,
    and on everything outside the face; None where there is too little of it. sharpness: of the head, result / source."""

    yaw: float
    pitch: float
    to_query: dict[str, float]
    to_source: dict[str, float]
    before: dict[str, float]
    identity: float
    still: float | None
    outside: float | None
    sharpness: float


def cloth_and_background(model: DiffFAE, picture: Tensor) -> Tensor:
    """(1,1,S,S): 1 where the slots see clothes or background in a crop (1,3,S,S); everywhere for a model without slots."""
    if not model.model.has_slots:
        return torch.ones_like(picture[:, :1])
    masks = model.model.slots(picture)[1]
    wanted = [name in ("clothes", "background") for name in model.model.slots.config.order]
    share = F.interpolate(masks[:, wanted].sum(1, keepdim=True), picture.shape[-2:], mode="bilinear", align_corners=False)
    return (share > 0.7).to(picture.dtype)


@torch.no_grad()
def edit_numbers(model: DiffFAE, source: Portrait, query: Portrait, crop: Tensor) -> EditNumbers | None:
    """Of an edited crop (1,3,S,S) of the source; None where no face is found in it."""
    new = Look.at(model, crop)
    if new is None:
        return None
    own, wanted = Look.of(model, source), Look.of(model, query)
    angles = to_yaw_pitch_roll(torch.stack([matrix_to_axis_angle(look.turn) for look in (new, wanted)]))
    error = (angles[0] - angles[1]).abs()
    size = crop.shape[-1]

    def away(factor: float) -> Tensor:
        return away_from_head(own.landmarks, size, size, factor) * away_from_head(new.landmarks, size, size, factor)

    def kept(mask: Tensor) -> float | None:
        mask = mask * (source.inside_picture > 0.99)
        return psnr(crop, source.picture, mask).item() if mask.sum() > LEAST_AREA * size * size else None

    still = away(1.35) * cloth_and_background(model, source.picture) * cloth_and_background(model, crop)
    heads = [1 - away_from_head(look.landmarks, size, size, 0.9) for look in (new, own)]
    sharp = laplacian_variance(crop, heads[0]) / laplacian_variance(source.picture, heads[1]).clamp_min(1e-9)
    return EditNumbers(
        yaw=error[0].item(),
        pitch=error[1].item(),
        to_query=new.distances(wanted),
        to_source=new.distances(own),
        before=own.distances(wanted),
        identity=model.identity.distance(own.identity, new.identity).item(),
        still=kept(still),
        outside=kept(away(FACE_FACTOR)),
        sharpness=sharp.item(),
    )
