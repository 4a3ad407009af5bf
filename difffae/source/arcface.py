"""ArcFace identity tokens (paper section 4.2): insightface's iresnet.

Its weights are licensed for non-commercial research; the user brings them (`python -m difffae convert arcface`; ONNX files: onnx_identity).
Shape letters: B faces, S = 112 side of the aligned chip in pixels, D = 512 dimensions. Pixels: x right, y down, pixel centres at +0.5.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .identity import IdentityEncoder, sample_chips, similarity

CHIP = 112
DIMENSIONS = 512
DEPTHS = {"r18": (2, 2, 2, 2), "r34": (3, 4, 6, 3), "r50": (3, 4, 14, 3), "r100": (3, 13, 30, 3), "r200": (6, 26, 60, 6)}
WIDTHS = (64, 64, 128, 256, 512)
# Eye at image left, eye at image right, tip of the nose, corners of the mouth; insightface counts pixel centres from 0
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
# The same points of 478, as means of two. Eyes by their corners and not by the irises: looking aside must not turn the chip. Of the
# points of the nose, 4 leaves the smallest residual to the template over 1,418 frontal portraits (3.2 pixels RMS, mouth corners most)
FIVE = ((33, 133), (362, 263), (4, 4), (61, 61), (291, 291))


class AlignedIdentity(IdentityEncoder):
    """What all ArcFace networks share: the alignment by five points, tokens of length one, the cosine distance.

    `forward` takes aligned chips (B,3,112,112), RGB 0..1, to features (B,512) of any length.
    """

    dimensions = DIMENSIONS
    same_person = 0.65  # a cosine of 0.35; the published networks' own thresholds are 0.3 to 0.4
    template: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("template", torch.tensor(TEMPLATE) + 0.5, persistent=False)

    def align(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Upright chips of faces, as insightface's norm_crop cuts them: one bilinear sample per pixel, however large the face is. That
        aliases, and the networks were trained on it.

        Args:
            image: (B,3,H,W) RGB 0..1.
            landmarks: (B,478,2 or 3) in its pixels.

        Returns:
            (B,3,112,112).
        """
        points = landmarks[:, FIVE, :2].mean(dim=2).to(image)
        # fitted to the template and then inverted, as insightface does: fitting the template to the face gives another scale
        turn, offset = similarity(points, self.template.to(image).expand(len(points), -1, -1))
        back = torch.linalg.inv(turn)
        return sample_chips(image, back, -(back @ offset[..., None])[..., 0], CHIP, dense=False)

    def embed(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """As IdentityEncoder: (B,512) of length one."""
        return F.normalize(self(self.align(image, landmarks)).float(), dim=1)

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """1 - cosine of tokens (...,512): 0 to 2."""
        return 1 - F.cosine_similarity(a, b, dim=-1)


class Block(nn.Module):
    """BN, conv, BN, PReLU, conv (with the stride), BN, added to the input; nothing after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(h)) + (x if self.downsample is None else self.downsample(x))


class ArcFace(AlignedIdentity):
    """arcface_torch's iresnet, tensor by tensor. Differentiable in the picture.

    Parameters: r18 24,025,600; r50 43,590,848; r100 65,156,160.
    """

    def __init__(self, depth: str = "r50") -> None:
        super().__init__(f"arcface-{depth}")
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(Block(inputs, outputs, 2), *(Block(outputs, outputs, 1) for _ in range(count - 1)))
            for inputs, outputs, count in zip(WIDTHS, WIDTHS[1:], DEPTHS[depth], strict=False)
        )
        self.bn2 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1] * (CHIP // 16) ** 2, DIMENSIONS)
        self.features = nn.BatchNorm1d(DIMENSIONS)

    def forward(self, chips: Tensor) -> Tensor:
        h = self.prelu(self.bn1(self.conv1((chips - 0.5) / 0.5)))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.features(self.fc(self.bn2(h).flatten(1)))


def depth_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Which of DEPTHS these tensors belong to, by how many blocks each layer has; None if none."""
    counts = tuple(sum(f"layer{layer}.{block}.conv1.weight" in tensors for block in range(100)) for layer in range(1, 5))
    return next((depth for depth, blocks in DEPTHS.items() if blocks == counts), None)
