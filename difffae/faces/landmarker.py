"""Faces in pictures: detector, landmark network and blendshape network in one object.

The order of work and its constants are those of MediaPipe's Face Landmarker in its image mode (detector -> square around the detection,
turned upright by the eyes and enlarged by 1.5 -> landmarks -> scores), except that pictures are reduced without aliasing and that small
faces are searched for in ever smaller overlapping tiles.

Shapes: B pictures, N regions or faces, L = 478 landmarks. Pixels: x right, y down, pixel centres at +0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..common.checkpoint import asset_path, channels_last, filled, load_checkpoint
from ..common.errors import ImageError
from . import detector as detection
from . import mesh as meshing
from .blendshapes import BlendshapeNetwork
from .detector import FaceDetector, box_iou
from .mesh import FaceMesh
from .orientation import QUARTERS, Detections, angle_between, checked, merged_detections, turned_each
from .rois import OVAL, face_roi
from .tiles import Pyramid, from_roi

# In parts of its tile: from this width of a face on, the detector misses none (measured on portraits; 0.15: one of seven, 0.12: one of
# three)
VISIBLE = 0.2
# and a face this wide ends the search for smaller ones
COMFORTABLE = 0.3
TILE_OVERLAP = 1 / 3
# A detection less sure than this does not end the search, and must give the same landmarks again from their own ROI, up to a part of the
# ROI's side on average: a strict one beside a sure face, a lenient one where there is nothing better. Measured: 0.016 at most on 99.8 % of
# the portraits, 0.01 to 0.12 on smooth noise that looks like a face to the networks
SURE = 0.75
STRICT, LENIENT = 0.016, 0.03
CHUNK = 64  # tiles or crops per pass, which bounds the memory


@dataclass(frozen=True)
class Face:
    """One face of one picture.

    box          (4,) x0, y0, x1, y1 of the landmarks without irises, pixels
    landmarks    (478,3) x, y in pixels and z in the same unit, smaller is nearer, zero near the head's middle
    blendshapes  (52,) 0..1 in the order of BLENDSHAPE_NAMES
    score        0..1, how sure the networks are
    """

    box: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    score: float

    @property
    def area(self) -> float:
        """Area of the box in pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


class FaceLandmarker(nn.Module):
    """Finds faces and their landmarks. Built by `FaceLandmarker.load()`; gradients do not flow through it."""

    def __init__(self, threshold: float = 0.5) -> None:
        """threshold: least probability of a detection, and of a face being present in its crop."""
        super().__init__()
        self.threshold = threshold
        self.detector = FaceDetector()
        self.mesh = FaceMesh()
        self.blendshapes = BlendshapeNetwork()

    @classmethod
    def load(cls, path: str | Path | None = None) -> FaceLandmarker:
        """The networks with their weights, frozen, in evaluation mode.

        Args:
            path: a file of kind `landmarks`; None is the bundled one.

        Raises:
            CheckpointError: the file cannot be read, or holds something else.
        """
        path = asset_path("landmarks.safetensors") if path is None else path
        checkpoint = load_checkpoint(path, "landmarks")
        landmarker = filled(lambda: cls(**checkpoint.config), checkpoint.tensors, path)
        # depthwise convolutions are a third faster on a CPU in this layout
        channels_last(landmarker)
        return landmarker

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.detector.anchors.device

    @torch.no_grad()
    def detect(self, image: Tensor, *, smallest: float | None = None) -> list[list[Face]]:
        """All faces of each picture, the largest first.

        The whole picture is searched first; smaller tiles follow only while nothing is found, or while what is
        found is so small in its tile that its neighbours may have been missed.

        Args:
            image: (3,H,W) or (B,3,H,W), RGB 0..1.
            smallest: a width in pixels; faces down to it are searched for even where larger ones were found.

        Returns:
            a list of faces per picture.

        Raises:
            ImageError: a tensor of another shape.
        """
        images = self._images(image)
        pictures = [_Picture(Pyramid(picture)) for picture in images]
        exhaustive = smallest is not None
        sides = search_sides(max(images.shape[2:]), smallest)
        for before, side in zip([math.inf, *sides], sides, strict=False):
            self._look([p for p in pictures if exhaustive or p.goes_on(before)], side, (0.0,))
            if exhaustive or side == sides[0]:
                # a large face of any roll is seen here, which costs little where the search has to go on anyway
                self._look([p for p in pictures if exhaustive or p.goes_on(side)], side, QUARTERS[1:])
        for side in [] if exhaustive else sides[1:]:
            self._look([p for p in pictures if not p.found and not p.doubtful], side, QUARTERS[1:])
        return [merge_faces(p.found + self._confirmed(p.pyramid, p.doubtful, STRICT if p.found else LENIENT)) for p in pictures]

    @torch.no_grad()
    def landmarks_in(self, image: Tensor, rois: Tensor | Sequence[Tensor]) -> list[list[Face]]:
        """Landmarks where faces are known to be, without the detector: for the frames of a video, from the previous frame's `face_roi`.

        Args:
            image: (3,H,W) or (B,3,H,W), RGB 0..1.
            rois: (N,4) for one picture, or B such tensors; see `tiles` for their numbers.

        Returns:
            per picture one Face per ROI in the given order. Its score is the probability that there is a
            face at all; below `threshold` the landmarks mean nothing.

        Raises:
            ImageError: another shape, or another number of lists than of pictures.
        """
        images = self._images(image)
        per_image = [rois] if isinstance(rois, Tensor) else list(rois)
        if len(per_image) != len(images):
            raise ImageError(f"{len(per_image)} lists of face regions for {len(images)} pictures; give one per picture")
        return self._landmarks([Pyramid(picture) for picture in images], [_with_prior(r.detach().to(images)) for r in per_image])

    def landmarks_at(self, pyramid: Pyramid, rois: Tensor) -> list[Face]:
        """As `landmarks_in`, of one picture that was prepared."""
        return self._landmarks([pyramid], [_with_prior(rois)])[0]

    def _images(self, image: Tensor) -> Tensor:
        images = image[None] if image.dim() == 3 else image
        if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 1:
            raise ImageError(f"picture of shape {tuple(image.shape)}; (3,H,W) or (B,3,H,W) is needed")
        return images.detach().to(self.device, torch.float32)

    def _confirmed(self, pyramid: Pyramid, faces: list[Face], tolerance: float) -> list[Face]:
        """The faces whose landmarks stay where they are, up to this part of the ROI's side, when looked at again from their own ROI."""
        if not faces:
            return []
        landmarks = torch.stack([face.landmarks for face in faces])
        rois = face_roi(landmarks)
        again = self.landmarks_at(pyramid, rois)
        moved = (torch.stack([face.landmarks for face in again]) - landmarks)[..., :2].norm(dim=-1).mean(dim=1)
        steady = (moved <= tolerance * rois[:, 2]).tolist()
        return [face for face, second, ok in zip(faces, again, steady, strict=True) if ok and second.score >= self.threshold]

    def _look(self, pictures: list[_Picture], side: float, angles: Sequence[float]) -> None:
        """Look into the tiles of this side, turned by each of the angles, and note the faces that stand up to a second look."""
        if not pictures:
            return
        height, width = pictures[0].pyramid.levels[0].shape[1:]
        detections = [self._detect_tiles(p, tiles(height, width, side), angles) for p in pictures]
        looked_at = self._landmarks([p.pyramid for p in pictures], [d.rois for d in detections])
        for picture, some, faces in zip(pictures, detections, looked_at, strict=True):
            for face in checked(self, picture.pyramid, some, faces):
                if face.score >= self.threshold:
                    (picture.found if face.score >= SURE else picture.doubtful).append(face)
            picture.found = merge_faces(picture.found)

    def detections_in(self, pyramid: Pyramid, rois: Tensor) -> tuple[Tensor, Tensor]:
        """The detector's boxes and keypoints (T,896,16), as fractions of regions (T,4), and their probabilities (T,896)."""
        found = []
        for part in rois.to(self.device).split(CHUNK):
            # MediaPipe lays the first samples of tile and picture on each other, not their corners, and does not smooth; the
            # detector's boxes, and with them the landmarks, come out closest to MediaPipe's if the tile is sampled so, as long as the
            # reduction is moderate
            shift = (1 - part[:, 2:3] / detection.INPUT_SIZE) / 2
            sampled = torch.cat([part[:, :2] + turned_each(shift.expand(-1, 2), part[:, 3]), part[:, 2:]], dim=1)
            tile = pyramid.crop(sampled, detection.INPUT_SIZE, "zeros", step=4.0)
            found.append(self.detector.decode(*self.detector((tile * 2 - 1).contiguous(memory_format=torch.channels_last))))
        return torch.cat([boxes for boxes, _ in found]), torch.cat([scores for _, scores in found])

    def _detect_tiles(self, picture: _Picture, places: Tensor, angles: Sequence[float]) -> Detections:
        """The detections in tiles (T,4) of one picture that are turned by these angles, but for those inside faces that are known."""
        kept = []
        for angle in angles:
            rois = torch.cat([places[:, :3], torch.full_like(places[:, 3:], angle)], dim=1).to(self.device)
            boxes, scores = self.detections_in(picture.pyramid, rois)
            which, anchor = (scores >= self.threshold).nonzero(as_tuple=True)
            points = from_roi(boxes[which, anchor].unflatten(-1, (-1, 2)), rois[which])
            kept.append(merged_detections(points, scores[which, anchor], angle))
        found = Detections.cat(kept)
        return found.outside([face.box for face in picture.found]) if angles != (0.0,) else found

    def _landmarks(self, pyramids: list[Pyramid], rois: list[Tensor]) -> list[list[Face]]:
        """Per picture ROIs with a prior probability (N,5) -> faces, in that order."""
        crops = torch.cat([p.crop(r[:, :4], meshing.INPUT_SIZE, "border") for p, r in zip(pyramids, rois, strict=True)])
        if not len(crops):
            return [[] for _ in rois]
        regions = torch.cat(rois)
        outputs = [self.mesh(part.contiguous(memory_format=torch.channels_last)) for part in crops.split(CHUNK)]
        points = torch.cat([o[0] for o in outputs]) / meshing.INPUT_SIZE
        scores = torch.minimum(torch.cat([o[1] for o in outputs]).sigmoid(), regions[:, 4])
        landmarks = torch.cat([from_roi(points[..., :2], regions[:, :4]), points[..., 2:] * regions[:, None, 2:3]], dim=-1)
        # the scores depend on the roll: a face that lies or stands on its head is measured upright
        tilt = torch.where(angle_between(regions[:, 3], torch.zeros(())) > math.pi / 4, -regions[:, 3], 0.0)
        level = torch.cat([turned_each(landmarks[..., :2], tilt), landmarks[..., 2:]], dim=-1)
        blendshapes = self.blendshapes(level)
        corners = landmarks[:, :OVAL, :2]
        boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
        faces = [Face(*fields) for fields in zip(boxes, landmarks, blendshapes, scores.tolist(), strict=True)]
        ends = torch.tensor([len(r) for r in rois]).cumsum(0).tolist()
        return [faces[end - len(r) : end] for end, r in zip(ends, rois, strict=True)]


@dataclass
class _Picture:
    """What is known of one picture while it is searched."""

    pyramid: Pyramid
    found: list[Face] = field(default_factory=list)
    doubtful: list[Face] = field(default_factory=list)

    def goes_on(self, side: float) -> bool:
        """Whether to look into smaller tiles, after those of this side and larger."""
        return not self.found or max(float((face.box[2:] - face.box[:2]).max()) for face in self.found) < COMFORTABLE * side


def _with_prior(rois: Tensor) -> Tensor:
    """ROIs (N,4) -> (N,5) with probability 1."""
    return torch.cat([rois, torch.ones_like(rois[:, :1])], dim=1)


def search_sides(extent: int, smallest: float | None = None) -> list[float]:
    """Sides of the square tiles to look into, in the order of the search.

    Args:
        extent: the picture's longer side in pixels.
        smallest: width of the smallest face to find; None is 1 % of the picture and at least 32 pixels.

    Returns:
        first the whole picture, last the tiles in which the smallest face is visible.
    """
    last = (max(32.0, extent / 100) if smallest is None else max(float(smallest), 8.0)) / VISIBLE
    steps = max(0, math.ceil(math.log2(extent / last)))
    return [extent * (last / extent) ** (step / steps) if step else float(extent) for step in range(steps + 1)]


def tiles(height: int, width: int, side: float) -> Tensor:
    """Overlapping square tiles that cover a picture: ROIs (T,4). A side that the tile exceeds gets one tile, centred."""

    def centres(length: int) -> Tensor:
        if length <= side:
            return torch.tensor([length / 2])
        count = math.ceil((length - side) / (side * (1 - TILE_OVERLAP))) + 1
        return torch.linspace(side / 2, length - side / 2, count)

    y, x = torch.meshgrid(centres(height), centres(width), indexing="ij")
    return torch.stack([x, y, torch.full_like(x, side), torch.zeros_like(x)], dim=-1).reshape(-1, 4)


def merge_faces(faces: list[Face], overlap: float = 0.4) -> list[Face]:
    """One face per place (neighbouring tiles see the same one), the surest kept; sorted by area, largest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: f.score, reverse=True):
        if not kept or float(box_iou(face.box, torch.stack([k.box for k in kept])).max()) <= overlap:
            kept.append(face)
    return sorted(kept, key=lambda f: f.area, reverse=True)
