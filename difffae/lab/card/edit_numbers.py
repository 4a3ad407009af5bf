"""What one edit did, measured anew on the edited crop: how near it is to the query, and how far it went from the source.

Shape letters: S crop side, E expression coefficients. Angles are degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ...edit.analysing import with_attributes
from ...edit.description import Faces, Portrait
from ...edit.editor import DiffFAE
from ...faces.crop import FaceCrop
from ...report.measures import away_from_head, expression_distance, laplacian_variance, light_direction, psnr
from ...report.results import head_angles

LEAST_AREA = 0.02  # of the crop: smaller masks say nothing
FACE_FACTOR = 1.0  # of `away_from_head`: the ellipse around the face alone, hair and neck outside


def whole_crop(model: DiffFAE, picture: Tensor, name: str = "crop") -> Portrait | None:
    """A finished square (3,S,S) as a portrait that is its own crop, with estimated attributes; None if no face is found in it."""
    picture = picture.to(model.device)
    faces = model.landmarker.detect(picture)[0]
    if not faces:
        return None
    size = picture.shape[-1]
    square, inside = FaceCrop(0, 0, size, size, size, size), torch.ones_like(picture[None, :1])
    points, scores = faces[0].landmarks[None].to(picture), faces[0].blendshapes[None].to(picture)
    found = Faces(picture[None], inside, (square,), picture[None], points, scores, name=name)
    return with_attributes(model, found).portrait(0)


def turn(portrait: Portrait) -> Tensor:
    """The head's rotation (3,3), global and neck together: DECA's turn is the first, the open head's the second."""
    first, second = axis_angle_to_matrix(portrait.attributes.pose[0, :2])
    return first @ second


def distances(a: Portrait, b: Portrait) -> dict[str, float]:
    """Angle between the heads (degrees), mean difference of the expression scores, distance of the light's log-ratios on the face's
    halves, and of its codes relative to their mean light."""
    own, other = (light_direction(p.picture, p.landmarks) for p in (a, b))
    codes = [p.attributes.light / p.attributes.light[:, :1].mean().clamp_min(1e-3) for p in (a, b)]
    return {
        "pose": matrix_to_axis_angle(turn(a) @ turn(b).transpose(0, 1)).norm().rad2deg().item(),
        "expression": expression_distance(a.blendshapes, b.blendshapes).item(),
        "light": (own - other).norm().item(),
        "light codes": (codes[0] - codes[1]).norm().item(),
    }


@dataclass(frozen=True)
class EditNumbers:
    """yaw and pitch: errors against the query. to_query, to_source and before: `distances` of the result to both, and of the source to
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
    """(1,1,S,S): 1 where the slots see clothes or background in a crop (1,3,S,S); everywhere for a model without slots, or of slots
    of which it is not known which is which."""
    if not model.model.has_slots or not model.model.slots.config.order:
        return torch.ones_like(picture[:, :1])
    masks = model.model.slots(picture)[1]
    wanted = [name in ("clothes", "background") for name in model.model.slots.config.order]
    share = F.interpolate(masks[:, wanted].sum(1, keepdim=True), picture.shape[-2:], mode="bilinear", align_corners=False)
    return (share > 0.7).to(picture.dtype)


@torch.no_grad()
def edit_numbers(model: DiffFAE, source: Portrait, query: Portrait, crop: Tensor) -> EditNumbers | None:
    """Of an edited crop (1,3,S,S) of the source; None where no face is found in it."""
    new = whole_crop(model, crop[0])
    if new is None:
        return None
    error = (head_angles(new) - head_angles(query)).abs()
    size = crop.shape[-1]

    def away(factor: float) -> Tensor:
        return away_from_head(source.landmarks, size, size, factor) * away_from_head(new.landmarks, size, size, factor)

    def kept(mask: Tensor) -> float | None:
        mask = mask * (source.inside_picture > 0.99)
        return psnr(crop, source.picture, mask).item() if mask.sum() > LEAST_AREA * size * size else None

    still = away(1.35) * cloth_and_background(model, source.picture) * cloth_and_background(model, crop)
    heads = [1 - away_from_head(p.landmarks, size, size, 0.9) for p in (new, source)]
    before, after = (model.identity.embed(p.picture, p.landmarks[..., :2]) for p in (source, new))
    sharp = laplacian_variance(crop, heads[0]) / laplacian_variance(source.picture, heads[1]).clamp_min(1e-9)
    return EditNumbers(
        yaw=error[0].item(),
        pitch=error[1].item(),
        to_query=distances(new, query),
        to_source=distances(new, source),
        before=distances(source, query),
        identity=model.identity.distance(before, after).item(),
        still=kept(still),
        outside=kept(away(FACE_FACTOR)),
        sharpness=sharp.item(),
    )
