"""Which way up a face is: the detector asked at quarter turns, and its keypoints held against the landmarks.

The detector answers to a face that lies or stands on its head, too, but less surely than to the upright one, and the landmark network
then draws an upright face over it, often with full confidence. What tells a right face from a wrong one, measured on 40 portraits at three
rolls each: upright, the detector is surest, and its keypoints lie within 0.05 of the ROI's side of the landmarks (0.02 usually; 0.04 to
0.45 on wrong ones).

Shapes: N faces of one picture, D detections. Pixels: x right, y down; ROIs as in `tiles`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .detector import weighted_nms
from .rois import detection_roi, face_roi
from .tiles import Pyramid, from_roi

if TYPE_CHECKING:
    from .landmarker import Face, FaceLandmarker

QUARTERS = tuple(k * math.pi / 2 for k in range(4))
TILE_PER_ROI = 4 / 3  # side of the tile that the detector looks into again, over the ROI's
CENTRAL = 0.2  # part of the tile's side from its centre within which the detection is the one that was asked for
# Landmarks where the detector has its first four keypoints: both eyes, nose tip, mouth
KEYPOINT_LANDMARKS = ((33, 133), (362, 263), (1, 1), (13, 14))
AGREE = 0.05  # mean distance of keypoints and landmarks over the ROI's side, up to which they tell of one face
# A face this sure, whose networks agree so far, needs no second look: nine of ten upright portraits, and none of 120 wrong faces
CLEAR, CLEAR_AGREE = 0.85, 0.04
TURNS = 3  # times that a face is turned upright by the detector before the landmark network looks at it
LEVEL = math.radians(15)  # a face that is turned by less counts as turned rightly from the start
TILTED = math.radians(30)  # from here on the detector's angle is rough, and the landmarks are looked up again from their own


@dataclass(frozen=True, eq=False)
class Detections:
    """What the detector saw in one picture.

    rois       (D,5) regions for the landmark network, and the detections' probabilities
    keypoints  (D,6,2) in pixels
    """

    rois: Tensor
    keypoints: Tensor

    @staticmethod
    def cat(some: Sequence[Detections]) -> Detections:
        """Those of several looks at one picture."""
        return Detections(torch.cat([d.rois for d in some]), torch.cat([d.keypoints for d in some]))

    def outside(self, boxes: Sequence[Tensor]) -> Detections:
        """Those whose centre lies in none of these boxes (4,)."""
        if not boxes:
            return self
        corners, centres = torch.stack(list(boxes)), self.rois[:, None, :2]
        inside = ((centres > corners[:, :2]) & (centres < corners[:, 2:])).all(-1).any(1)
        return Detections(self.rois[~inside], self.keypoints[~inside])


def turned_each(vectors: Tensor, angles: Tensor) -> Tensor:
    """Vectors (N,...,2) turned by angles (N,) in radians, from x towards y."""
    cos, sin = (values.reshape(-1, *[1] * (vectors.dim() - 2)) for values in (angles.cos(), angles.sin()))
    x, y = vectors.unbind(-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)


def merged_detections(points: Tensor, scores: Tensor, angle: float) -> Detections:
    """Detections of tiles that are all turned by one angle, averaged where they overlap.

    Args:
        points: (D,8,2) corners of the boxes and keypoints, in pixels of the picture.
        scores: (D,).
        angle: of the tiles, in radians. The boxes have their edges along the tiles', so they are compared turned back.
    """
    back = points.new_full((len(points),), -angle)
    merged, kept = weighted_nms((turned_each(points, back) if angle else points).flatten(1), scores)
    angles = merged.new_full((len(merged),), angle)
    found = merged.unflatten(1, (-1, 2))
    found = turned_each(found, angles) if angle else found
    return Detections(torch.cat([detection_roi(found, angles), kept[:, None]], dim=1), found[:, 2:])


def checked(landmarker: FaceLandmarker, pyramid: Pyramid, detections: Detections, faces: Sequence[Face]) -> list[Face]:
    """The faces (one per detection) that are the right way up; the others turned, or left out where no turn is convincing."""
    if not faces:
        return []
    landmarks = torch.stack([face.landmarks for face in faces])
    rois = detections.rois[:, :4]
    differ = disagreement(landmarks, detections.keypoints, rois[:, 2])
    upright = angle_between(rois[:, 3], torch.zeros(())) < TILTED
    scores = landmarks.new_tensor([face.score for face in faces])
    clear = (scores >= CLEAR) & (differ <= CLEAR_AGREE) & upright
    result = [face for face, enough in zip(faces, clear.tolist(), strict=True) if enough]
    doubtful = (~clear).nonzero()[:, 0]
    if len(doubtful):
        result += _upright(landmarker, pyramid, rois[doubtful], [faces[k] for k in doubtful.tolist()])
    return result


def _upright(landmarker: FaceLandmarker, pyramid: Pyramid, rois: Tensor, faces: Sequence[Face]) -> list[Face]:
    """Faces that were looked at from these regions (N,4): as they are, turned, or left out."""
    best = _turned_upright(landmarker, pyramid, rois)
    kept = (angle_between(best[:, 3], rois[:, 3]) < LEVEL) & (angle_between(rois[:, 3], torch.zeros(())) < TILTED)
    again = list(faces)
    changed = (~kept).nonzero()[:, 0].tolist()
    if changed:
        first = landmarker.landmarks_at(pyramid, best[changed])
        second = landmarker.landmarks_at(pyramid, face_roi(torch.stack([face.landmarks for face in first])))
        for row, face in zip(changed, second, strict=True):
            again[row] = face
    scores = _scores_as_they_stand(landmarker, pyramid, torch.stack([face.landmarks for face in again])).tolist()
    return [
        face if same else replace(face, score=min(face.score, score))
        for face, same, score in zip(again, kept.tolist(), scores, strict=True)
        if score > 0
    ]


def _turned_upright(landmarker: FaceLandmarker, pyramid: Pyramid, rois: Tensor) -> Tensor:
    """Regions (N,4) turned, by quarters and then by the eyes, until the detector is surest of them as they are."""
    for _ in range(TURNS):
        scores, points = _quarter_detections(landmarker, pyramid, rois)
        best = scores.argmax(dim=1)
        rows = torch.arange(len(rois), device=rois.device)
        found = detection_roi(points[rows, best], rois[:, 3] + rois.new_tensor(QUARTERS)[best])
        seen = scores[rows, best] > 0
        settled = ~seen | ((best == 0) & (angle_between(found[:, 3], rois[:, 3]) < LEVEL))
        rois = torch.where(seen[:, None], found, rois)
        if bool(settled.all()):
            break
    return rois


def _quarter_detections(landmarker: FaceLandmarker, pyramid: Pyramid, rois: Tensor) -> tuple[Tensor, Tensor]:
    """The detector's word on regions (N,4), as they are and at three quarter turns.

    Returns:
        scores (N,4) and the detections' points (N,4,8,2), corners of the box and keypoints, in pixels. A score is 0 where no detection
        lies in the region's middle.
    """
    each = rois.repeat_interleave(len(QUARTERS), dim=0)
    angles = each[:, 3] + each.new_tensor(QUARTERS).repeat(len(rois))
    each = torch.cat([each[:, :2], each[:, 2:3] * TILE_PER_ROI, angles[:, None]], dim=1)
    boxes, scores = landmarker.detections_in(pyramid, each)
    middles = (boxes[..., :2] + boxes[..., 2:4]) / 2
    best, anchor = (scores * ((middles - 0.5).norm(dim=-1) < CENTRAL)).max(dim=1)
    rows = torch.arange(len(boxes), device=boxes.device)
    points = from_roi(boxes[rows, anchor].unflatten(-1, (-1, 2)), each)
    return best.unflatten(0, (-1, len(QUARTERS))), points.unflatten(0, (-1, len(QUARTERS)))


def _scores_as_they_stand(landmarker: FaceLandmarker, pyramid: Pyramid, landmarks: Tensor) -> Tensor:
    """How sure the detector is of faces (N,478,3): (N,), 0 for those that it sees elsewhere or another way up."""
    rois = face_roi(landmarks)
    scores, points = _quarter_detections(landmarker, pyramid, rois)
    right = (scores.argmax(dim=1) == 0) & (disagreement(landmarks, points[:, 0, 2:], rois[:, 2]) <= AGREE)
    return scores[:, 0] * right


def disagreement(landmarks: Tensor, keypoints: Tensor, sides: Tensor) -> Tensor:
    """How far eyes, nose and mouth of the two networks lie apart.

    Args:
        landmarks: (N,478,3) in pixels.
        keypoints: (N,6,2) of the detector, in pixels.
        sides: (N,) of the ROIs, in pixels.

    Returns:
        (N,) mean distances over the sides.
    """
    places = torch.stack([landmarks[:, pair, :2].mean(1) for pair in KEYPOINT_LANDMARKS], dim=1)
    return (places - keypoints[:, : len(KEYPOINT_LANDMARKS)]).norm(dim=-1).mean(1) / sides.clamp_min(1e-6)


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """The smaller angle between directions in radians, 0 to pi."""
    return (torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi).abs()
