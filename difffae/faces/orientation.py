"""Which way up a face is: the detector asked at quarter turns, and its keypoints held against the landmarks.

The detector answers to a face that lies or stands on its head, too, but less surely than to the upright one, and the landmark network
then draws an upright face over it, often with full confidence. What tells a right face from a wrong one, measured on 40 portraits at
three rolls each: upright, the detector is surest or nearly so, and its keypoints lie within 0.05 of the ROI's side of the landmarks
(0.02 usually; 0.04 to 0.45 on wrong ones).

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
# The tile that the detector looks into again: its side over the ROI's, and the least in pixels, below which it sees but a blur
TILE_PER_ROI, LEAST_TILE = 4 / 3, 64
CENTRAL = 0.27  # part of the ROI's side from its centre within which a detection is the one that was asked for
# Landmarks where the detector has its first four keypoints: both eyes, nose tip, mouth
KEYPOINT_LANDMARKS = ((33, 133), (362, 263), (1, 1), (13, 14))
# Mean distance of keypoints and landmarks up to which they tell of one face: over the ROI's side, and in pixels for tiny faces
AGREE, AGREE_PIXELS = 0.05, 1.2
# A face this sure, whose networks agree so far, needs no second look: nine of ten upright portraits, and none of 120 wrong faces
CLEAR, CLEAR_AGREE = 0.85, 0.04
LOOSE = 2.0  # times that much for upright faces where the detector is surest of them so, and no other way up convinces
RIVAL = 0.12  # ways up of which the detector is less sure than of the best by more than this are not looked at
TILTED = math.radians(35)  # from here on the detector's angle is rough, and faces are looked at anew


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
    rois = detections.rois[:, :4]
    differ = disagreement(torch.stack([face.landmarks for face in faces]), detections.keypoints, rois[:, 2])
    scores = differ.new_tensor([face.score for face in faces])
    level = angle_between(rois[:, 3], torch.zeros(())) < TILTED
    clear = (scores >= CLEAR) & (differ <= CLEAR_AGREE) & level
    result = [face for face, enough in zip(faces, clear.tolist(), strict=True) if enough]
    doubtful = (~clear).nonzero()[:, 0]
    if len(doubtful):
        some = [faces[k] for k in doubtful.tolist()]
        result += _upright(landmarker, pyramid, rois[doubtful], some, level[doubtful], differ[doubtful])
    return result


def _upright(
    landmarker: FaceLandmarker, pyramid: Pyramid, rois: Tensor, faces: Sequence[Face], level: Tensor, differ: Tensor
) -> list[Face]:
    """For each face that was looked at from a region (N,4) the most convincing way up, if there is one.

    level, differ (N,): whether the face may be upright as it is, and the disagreement of the networks about it. Other ways are looked at
    anew, from where the detector sees a face that way up.
    """
    scores, points = _detections_at(landmarker, pyramid, rois, QUARTERS)
    rival = (scores >= landmarker.threshold) & (scores >= scores.amax(1, keepdim=True) - RIVAL)
    row, quarter = rival.nonzero(as_tuple=True)
    turned = detection_roi(points[row, quarter], rois[row, 3] + rois.new_tensor(QUARTERS)[quarter])
    sure = scores[row, quarter]
    seen: list[Face] = [faces[k] for k in row.tolist()]
    kept = level & (differ <= _agreement(rois))
    # if no way up convinces, an upright face may: landmarks of shaded or wrinkled ones lie farther from the keypoints
    plain = level & (differ <= LOOSE * _agreement(rois)) & (scores.argmax(1) == 0)
    plain &= scores.new_tensor([face.score for face in faces]) >= landmarker.threshold
    anew = ((quarter > 0) | ~kept[row]).nonzero()[:, 0]
    if len(anew):
        sure[anew], again = _looked_at_anew(landmarker, pyramid, turned[anew])
        for place, face in zip(anew.tolist(), again, strict=True):
            angle = face_roi(face.landmarks[None])[0, 3]
            # what was seen at first stays if it proves right
            if not bool(level[row[place]]) or float(angle_between(angle, rois[row[place], 3])) > TILTED:
                seen[place] = face
    result = []
    for index in range(len(faces)):
        ways = (row == index).nonzero()[:, 0]
        best = ways[sure[ways].argmax()] if len(ways) else None
        if best is not None and float(sure[best]) > 0:
            result.append(seen[int(best)])
        elif plain[index]:
            result.append(faces[index])
    return result


def _looked_at_anew(landmarker: FaceLandmarker, pyramid: Pyramid, rois: Tensor) -> tuple[Tensor, list[Face]]:
    """Faces in regions (N,4) whose angle is rough. Returns how sure the detector is of them as they stand, (N,), 0 where the networks do
    not agree; and the faces, no surer than that."""
    _, points = _detections_at(landmarker, pyramid, rois)
    for _ in range(2):  # the nearer to upright, the better the angle that the detector gives
        faces = landmarker.landmarks_at(pyramid, detection_roi(points[:, 0], rois[:, 3]))
        landmarks = torch.stack([face.landmarks for face in faces])
        rois = face_roi(landmarks)
        scores, points = _detections_at(landmarker, pyramid, rois)
    right = disagreement(landmarks, points[:, 0, 2:], rois[:, 2]) <= _agreement(rois)
    right &= scores.new_tensor([face.score for face in faces]) >= landmarker.threshold
    sure = scores[:, 0] * right
    return sure, [replace(face, score=min(face.score, score)) for face, score in zip(faces, sure.tolist(), strict=True)]


def _detections_at(
    landmarker: FaceLandmarker, pyramid: Pyramid, rois: Tensor, turns: Sequence[float] = QUARTERS[:1]
) -> tuple[Tensor, Tensor]:
    """The detector's word on regions (N,4), turned by each of T angles.

    Returns:
        scores (N,T) and the detections' points (N,T,8,2), corners of the box and keypoints, in pixels. A score is 0 where no detection
        lies in the region's middle.
    """
    each = rois.repeat_interleave(len(turns), dim=0)
    angles = each[:, 3] + each.new_tensor(turns).repeat(len(rois))
    sides = (each[:, 2] * TILE_PER_ROI).clamp_min(LEAST_TILE)
    central = CENTRAL * each[:, 2] / sides
    each = torch.cat([each[:, :2], sides[:, None], angles[:, None]], dim=1)
    boxes, scores = landmarker.detections_in(pyramid, each)
    middles = (boxes[..., :2] + boxes[..., 2:4]) / 2
    best, anchor = (scores * ((middles - 0.5).norm(dim=-1) < central[:, None])).max(dim=1)
    rows = torch.arange(len(boxes), device=boxes.device)
    points = from_roi(boxes[rows, anchor].unflatten(-1, (-1, 2)), each)
    return best.unflatten(0, (-1, len(turns))), points.unflatten(0, (-1, len(turns)))


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


def _agreement(rois: Tensor) -> Tensor:
    """Up to where the networks agree on faces in regions (N,4): (N,), in the regions' sides."""
    return (AGREE_PIXELS / rois[:, 2].clamp_min(1e-6)).clamp_min(AGREE)


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """The smaller angle between directions in radians, 0 to pi."""
    return (torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi).abs()
