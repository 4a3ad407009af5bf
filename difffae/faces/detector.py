"""Face detector: BlazeFace, short range, and the decoding of its boxes.

Source: Bazarevsky et al. 2019, "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", arXiv:1907.05047; weights and constants
are those of Google's MediaPipe Face Landmarker (see docs/notices/mediapipe-face-landmarker.txt).

Shapes: N inputs (pictures or tiles), A = 896 anchors, K detections. Coordinates here are fractions of the square input, x right, y down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 128
KEYPOINTS = 6
# keypoint order of the regressor: eye at image left, eye at image right, nose tip, mouth, ear at image left, ear at image right
EYE_LEFT, EYE_RIGHT = 0, 1


class BlazeBlock(nn.Module):
    """Depthwise 3x3, pointwise 1x1, zero-padded skip, ReLU; a stride of 2 pools the skip."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.extra = outputs - inputs
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1 if stride == 1 else 0, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = x
        if self.stride == 2:
            # TensorFlow's SAME padding of an even size at stride 2: nothing before, one after
            x = F.pad(x, (0, 1, 0, 1))
            skip = F.max_pool2d(skip, 2)
        if self.extra:
            skip = F.pad(skip, (0, 0, 0, 0, 0, self.extra))
        return F.relu(skip + self.pointwise(self.depthwise(x)))


class FaceDetector(nn.Module):
    """BlazeFace: (N,3,128,128) in -1..1 -> raw boxes (N,896,16) and raw scores (N,896)."""

    FINE = (
        (24, 24, 1),
        (24, 28, 1),
        (28, 32, 2),
        (32, 36, 1),
        (36, 42, 1),
        (42, 48, 2),
        (48, 56, 1),
        (56, 64, 1),
        (64, 72, 1),
        (72, 80, 1),
        (80, 88, 1),
    )
    COARSE = ((88, 96, 2), (96, 96, 1), (96, 96, 1), (96, 96, 1), (96, 96, 1))

    anchors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        self.fine = nn.Sequential(*[BlazeBlock(*size) for size in self.FINE])
        self.coarse = nn.Sequential(*[BlazeBlock(*size) for size in self.COARSE])
        self.score_fine = nn.Conv2d(88, 2, 1)
        self.score_coarse = nn.Conv2d(96, 6, 1)
        self.box_fine = nn.Conv2d(88, 2 * 16, 1)
        self.box_coarse = nn.Conv2d(96, 6 * 16, 1)
        self.register_buffer("anchors", make_anchors(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.stem(F.pad(image, (1, 2, 1, 2))))
        fine = self.fine(x)
        coarse = self.coarse(fine)
        boxes = torch.cat([_per_anchor(self.box_fine(fine), 16), _per_anchor(self.box_coarse(coarse), 16)], dim=1)
        scores = torch.cat([_per_anchor(self.score_fine(fine), 1), _per_anchor(self.score_coarse(coarse), 1)], dim=1)
        return boxes, scores[..., 0]

    def decode(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs -> (N,896,16) fractions [x0, y0, x1, y1, 6 x (x, y)] and (N,896) probabilities."""
        points = boxes.unflatten(-1, (8, 2)) / INPUT_SIZE
        size = points[..., 1, :]
        points = points + self.anchors[:, None]
        centre = points[..., 0, :]
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
        return torch.cat([corners, points[..., 2:, :].flatten(-2)], dim=-1), scores.clamp(-100, 100).sigmoid()


def _per_anchor(x: Tensor, values: int) -> Tensor:
    """(N, anchors per cell * values, H, W) -> (N, H*W*anchors per cell, values), cells row by row."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def make_anchors() -> Tensor:
    """Anchor centres (896,2) as fractions of the input: 2 per cell of 16x16, then 6 per cell of 8x8, all of unit size."""
    centres = []
    for cells, repeats in ((16, 2), (8, 6)):
        axis = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        centres.append(torch.stack([x, y], dim=-1).reshape(-1, 1, 2).expand(-1, repeats, -1).reshape(-1, 2))
    return torch.cat(centres)


def box_iou(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of one box (4,) with boxes (K,4), corners x0, y0, x1, y1."""
    overlap = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp_min(0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(-1)
    area = (box[2:] - box[:2]).clamp_min(0).prod()
    return overlap / (area + areas - overlap).clamp_min(1e-12)


def weighted_nms(detections: Tensor, scores: Tensor, overlap: float = 0.3) -> tuple[Tensor, Tensor]:
    """BlazeFace's suppression: overlapping detections are averaged by score instead of dropped (arXiv:1907.05047, section 4.3).

    Args:
        detections: (K,16) of one picture, in any order.
        scores: (K,).
        overlap: intersection over union from which two are one face.

    Returns:
        the same, merged, best first.
    """
    order = scores.argsort(descending=True)
    detections, scores = detections[order], scores[order]
    merged, kept = [], []
    while len(scores):
        near = box_iou(detections[0, :4], detections[:, :4]) > overlap
        near[0] = True  # a degenerate box has no overlap with itself, and the loop must end
        weights = scores[near, None]
        merged.append((detections[near] * weights).sum(0) / weights.sum())
        kept.append(scores[0])
        detections, scores = detections[~near], scores[~near]
    if not merged:
        return detections, scores
    return torch.stack(merged), torch.stack(kept)
