"""Faces over the frames of a video: choosing one face, filling gaps, smoothing.

Shape letters: B frames, L = 478 landmarks. Pixels: x right, y down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import ConfigError, NoFaceError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..head.attributes import FaceAttributes
from ..vocabulary import MISSING_FACE
from .blendshapes import BLENDSHAPE_NAMES
from .crop import FaceCrop
from .following import Follower, Identity
from .landmarker import Face, FaceLandmarker, face_roi

POINTS = 478
BOX_HINT = "boxes with x, y, width and height in pixels are needed"
BOX_ENLARGE = 1.5  # side of the landmark network's first crop over the longer side of a box that somebody else found


@dataclass(frozen=True, eq=False)
class Track:
    """One face in every frame.

    landmarks    (B,478,3) in picture pixels
    blendshapes  (B,52)
    gaps         where frames without the face took theirs from
    """

    landmarks: Tensor
    blendshapes: Tensor
    gaps: Gaps

    def __len__(self) -> int:
        return self.landmarks.shape[0]


@dataclass(frozen=True)
class Gaps:
    """Where each of B frames takes its values from: frames that show the face have their own, the others those around them.

    before  of every frame the one that shows the face, at or before it (or the first)
    after   the same, at or after it (or the last)
    share   0..1, how far from `before` to `after`
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    share: tuple[float, ...]

    @staticmethod
    def of(present: Sequence[bool], interpolate: bool = True) -> Gaps:
        """Of frames that show the face or do not; at least one does. Between two that do, values are interpolated or those of the
        earlier one repeated; before the first and after the last they are repeated."""
        known = [number for number, seen in enumerate(present) if seen]
        before = list(accumulate((k if seen else -1 for k, seen in enumerate(present)), max))
        later = list(accumulate((k if seen else len(present) for k, seen in reversed(list(enumerate(present)))), min))[::-1]
        before = [known[0] if b < 0 else b for b in before]
        after = [known[-1] if a == len(present) else a for a in later] if interpolate else before
        share = [(number - b) / (a - b) if a > b else 0.0 for number, (b, a) in enumerate(zip(before, after, strict=True))]
        return Gaps(tuple(before), tuple(after), tuple(share))

    @property
    def present(self) -> tuple[bool, ...]:
        """Which frames show the face."""
        return tuple(number == b == a for number, (b, a) in enumerate(zip(self.before, self.after, strict=True)))

    def fill(self, values: Tensor) -> Tensor:
        """(B,...) with the rows of frames without the face replaced; the others stay bit for bit."""
        share = torch.tensor(self.share, dtype=values.dtype, device=values.device)
        filled = torch.lerp(values[list(self.before)], values[list(self.after)], share.reshape(-1, *[1] * (values.dim() - 1)))
        seen = torch.tensor(self.present, device=values.device).reshape(-1, *[1] * (values.dim() - 1))
        return torch.where(seen, values, filled)

    def fill_attributes(self, attributes: FaceAttributes) -> FaceAttributes:
        """As `fill`; rotations between two are interpolated as matrices and projected back."""
        if all(self.present):
            return attributes
        matrices = self.fill(axis_angle_to_matrix(attributes.pose.double()))
        seen = torch.tensor(self.present, device=attributes.pose.device)[:, None, None]
        pose = torch.where(seen, attributes.pose, matrix_to_axis_angle(_nearest_rotation(matrices)).to(attributes.pose))
        return replace(attributes.map(self.fill), pose=pose)


def follow_face(
    frames: Sequence[Sequence[Face]],
    index: int = 0,
    name: str = "image",
    pictures: Tensor | None = None,
    identity: Identity | None = None,
) -> list[Face | None]:
    """One person's face per frame; see `following.Follower`, which does it frame by frame.

    Args:
        frames: the faces of every frame, largest first.
        index: which face of the first frame that has one.
        name: what messages call the pictures.
        pictures: (B,3,H,W), the frames, for `identity`.
        identity: tells persons apart; None goes by place and size alone.

    Returns:
        B faces, None for frames that do not show the person.

    Raises:
        FaceChoiceError: that first frame has fewer faces.
    """
    follower = Follower(index, identity, name)
    return [follower.step(faces, None if pictures is None else pictures[number]) for number, faces in enumerate(frames)]


def join_track(faces: Sequence[Face | None], missing: str = MISSING_FACE[0], name: str = "image") -> Track:
    """Faces of all frames as one Track.

    Args:
        faces: of B frames, None where there is none.
        missing: one of vocabulary.MISSING_FACE, how gaps are filled; at both ends the nearest face is repeated.
        name: what messages call the pictures.

    Raises:
        NoFaceError: no frame has a face, or one has none and gaps are not to be filled.
    """
    known = [face for face in faces if face is not None]
    lacking = [number for number, face in enumerate(faces) if face is None]
    if not known or (lacking and missing == MISSING_FACE[0]):
        where = f"{name}: no face found" if len(faces) == 1 else f"{name}: no face found in frame {lacking[0]} of {len(faces)}"
        hint = "use a picture in which a face is at least about 40 pixels high and not in profile"
        raise NoFaceError(f"{where}; {hint}" + ("" if len(faces) == 1 or not known else ", or let missing faces be interpolated"))
    gaps = Gaps.of([face is not None for face in faces], missing == "interpolate")
    own = [known[0] if face is None else face for face in faces]
    landmarks, scores = torch.stack([face.landmarks for face in own]), torch.stack([face.blendshapes for face in own])
    return Track(gaps.fill(landmarks), gaps.fill(scores), gaps)


def faces_from_mediapipe(frames: Sequence[Sequence[Mapping[str, Any]]], device: torch.device | str = "cpu") -> list[list[Face]]:
    """The faces of ComfyUI's FACE_LANDMARKS.

    Args:
        frames: per frame its faces, each with `landmarks_xy` (478,2) in picture pixels, `landmarks_3d` (478,3)
            in units of a 192-pixel crop, and `blendshapes` by name.
        device: of the result.

    Returns:
        per frame its faces, largest first. Their depth is brought to picture pixels by the ratio of the
        two spreads.

    Raises:
        ConfigError: faces of other points.
    """
    result = []
    for faces in frames:
        found = []
        for face in faces:
            plane = torch.as_tensor(face["landmarks_xy"], dtype=torch.float32, device=device)
            solid = torch.as_tensor(face["landmarks_3d"], dtype=torch.float32, device=device)
            if plane.shape != (POINTS, 2) or solid.shape != (POINTS, 3):
                raise ConfigError(f"face_landmarks: a face has {len(plane)} points; the {POINTS} of a MediaPipe face mesh are needed")
            spread = (plane - plane.mean(0)).norm() / (solid[:, :2] - solid[:, :2].mean(0)).norm().clamp_min(1e-6)
            landmarks = torch.cat([plane, solid[:, 2:] * spread], dim=1)
            scores = torch.tensor([float(face["blendshapes"].get(name, 0.0)) for name in BLENDSHAPE_NAMES], device=device)
            box = torch.cat([plane.amin(0), plane.amax(0)])
            found.append(Face(box, landmarks, scores, float(face.get("score", 1.0))))
        result.append(sorted(found, key=lambda face: face.area, reverse=True))
    return result


def faces_in_boxes(landmarker: FaceLandmarker, image: Tensor, boxes: Sequence[Mapping[str, float]]) -> list[Face]:
    """The faces in known boxes of one picture. The landmarks are looked up twice: in the box, then in the face's own region.

    Args:
        landmarker: the networks.
        image: (3,H,W) RGB 0..1.
        boxes: each with x, y, width and height in pixels.

    Returns:
        the faces in the boxes' order; boxes without a face are left out.

    Raises:
        ConfigError: boxes that are none.
    """
    if not boxes:
        return []
    try:
        corners = torch.tensor([[float(box[key]) for key in ("x", "y", "width", "height")] for box in boxes], device=image.device)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"bboxes: {BOX_HINT}, but one is {_shortened(boxes)}") from error
    if not bool(torch.isfinite(corners).all()):
        raise ConfigError(f"bboxes: {BOX_HINT}, but a number is not finite")
    side = corners[:, 2:].amax(1, keepdim=True) * BOX_ENLARGE
    rois = torch.cat([corners[:, :2] + corners[:, 2:] / 2, side, torch.zeros_like(side)], dim=1)
    first = landmarker.landmarks_in(image, rois)[0]
    second = landmarker.landmarks_in(image, face_roi(torch.stack([face.landmarks for face in first])))[0]
    return [face for face in second if face.score >= landmarker.threshold]


def _shortened(boxes: Sequence[Any]) -> str:
    """The first box that is none, for an error message."""
    broken = next((box for box in boxes if not isinstance(box, Mapping) or not {"x", "y", "width", "height"} <= set(box)), boxes[0])
    return repr(broken)[:80]


def _smooth(values: Tensor, sigma: float) -> Tensor:
    """(B,...) averaged over the frames by a Gaussian of `sigma` frames; the first and last frame are repeated outside."""
    if sigma <= 0 or len(values) < 2:
        return values
    radius = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=values.device, dtype=torch.float64) / sigma) ** 2)
    flat = values.double().reshape(len(values), -1).T[:, None]
    padded = F.pad(flat, (radius, radius), mode="replicate")
    return F.conv1d(padded, (taps / taps.sum())[None, None])[:, 0].T.reshape(values.shape).to(values.dtype)


def _nearest_rotation(matrices: Tensor) -> Tensor:
    """Averages of rotations (...,3,3) as rotations."""
    u, _, vt = torch.linalg.svd(matrices)
    flip = torch.ones_like(u[..., 0, :])
    flip[..., 2] = torch.det(u @ vt).sign()
    return u @ torch.diag_embed(flip) @ vt


def smooth_crops(crops: Sequence[FaceCrop], sigma: float) -> list[FaceCrop]:
    """Squares whose centre and side move smoothly over the frames; sigma in frames, 0 changes nothing."""
    if sigma <= 0 or len(crops) < 2:
        return list(crops)
    path = _smooth(torch.tensor([[*crop.centre, crop.side] for crop in crops], dtype=torch.float64), sigma)
    result = []
    for crop, (x, y, side) in zip(crops, path.tolist(), strict=True):
        whole = max(8, round(side))
        result.append(replace(crop, left=round(x - whole / 2), top=round(y - whole / 2), side=whole))
    return result


def smooth_attributes(attributes: FaceAttributes, sigma: float, steady_identity: bool = True) -> FaceAttributes:
    """Attributes of B frames, averaged over time by a Gaussian. Rotations are averaged as matrices and projected back.

    Args:
        attributes: one row per frame.
        sigma: standard deviation in frames; 0 returns the same object.
        steady_identity: give every frame the mean shape, skin colour and detail: they belong to the
            person, not to the frame.
    """
    if sigma <= 0 or len(attributes) < 2:
        return attributes
    matrices = _smooth(axis_angle_to_matrix(attributes.pose.double()), sigma)
    pose = matrix_to_axis_angle(_nearest_rotation(matrices)).to(attributes.pose)

    def own(values: Tensor) -> Tensor:
        return values.mean(0, keepdim=True).expand_as(values) if steady_identity else _smooth(values, sigma)

    return replace(
        attributes,
        pose=pose,
        shape=own(attributes.shape),
        albedo=own(attributes.albedo),
        detail=None if attributes.detail is None else own(attributes.detail),
        camera=_smooth(attributes.camera, sigma),
        expression=_smooth(attributes.expression, sigma),
        light=_smooth(attributes.light, sigma),
    )
