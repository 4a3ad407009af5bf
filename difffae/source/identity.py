"""The identity token: who is in the picture, as numbers that hardly change with pose, expression and light (paper section 4.2).

The network is dlib's face recognition ResNet (Davis King 2017, "High Quality Face Recognition with Deep Metric Learning"; 29
convolutions), 128 numbers: the `open` profile's identity token. Two pictures of one person lie closer than about 0.45, other people
farther apart.

Shapes: B faces, S = 150 side of the aligned chip in pixels. Pixels: x right, y down, pixel centres at +0.5.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, filled, load_checkpoint
from ..common.errors import CheckpointError

CHIP = 150
PADDING = 0.25  # of the mean face's size, on each side of it
MEAN_RGB = (122.782, 117.001, 104.298)
# Five points of 478: outer and inner corner of the eye at image right, of the eye at image left, base of the nose
FIVE = (263, 362, 33, 133, 2)
# dlib's mean face (get_face_chip_details for five points), fractions of the face
MEAN_FACE = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
# channels of each block's output, halving or not; the first stage is 32 wide
BLOCKS = (
    *((32, False),) * 3,
    *((64, True), *((64, False),) * 3),
    *((128, True), *((128, False),) * 2),
    *((256, True), *((256, False),) * 2),
    (256, True),
)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip; halving, the skip is averaged and padded with zero channels (dlib's `residual_down`)."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.first = nn.Conv2d(inputs, outputs, 3, 2 if halve else 1, padding=0 if halve else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.halve:
            x = F.avg_pool2d(x, 2)
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            # a convolution without padding can end one pixel short of the pooled skip
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return F.relu(x + y)


class IdentityEncoder(nn.Module):
    """What the rest of the package knows of an identity network. `name` stands in checkpoints, `dimensions` is the token's size I,
    `same_person` the distance up to which two pictures usually show one person."""

    name: str
    dimensions: int
    same_person: float

    def embed(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Identity tokens, f_id of the paper.

        Args:
            image: (B,3,H,W) RGB 0..1.
            landmarks: (B,478,2 or 3) in its pixels.

        Returns:
            (B,I).
        """
        raise NotImplementedError

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """How far tokens (...,I) are from each other, in the measure that the network was trained for: (...)."""
        raise NotImplementedError


def distance_note(network: str, distance: float) -> str:
    """What a distance of a network of this name means, in words: thresholds belong to the network that they were found with."""
    if network != IdentityNetwork.name:
        return f"of {network}; 0 is the same face, its threshold is not known here"
    shown = round(distance, 3)  # as it is printed
    if shown <= IdentityNetwork.same_person:
        return f"the same person, up to {IdentityNetwork.same_person:g}"
    scale = f"the same person up to {IdentityNetwork.same_person:g}, others from {IdentityNetwork.other_person:g}"
    if shown < IdentityNetwork.other_person:
        return f"in doubt; {scale}"
    return f"not measured; {scale}" if math.isnan(distance) else f"as of another person; {scale}"


class IdentityNetwork(IdentityEncoder):
    """dlib's ResNet."""

    name = "dlib-resnet-v1"
    dimensions = 128
    same_person = 0.43
    other_person = 0.45  # from here on two pictures usually show two
    mean: Tensor
    template: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        widths = [32, *[width for width, _ in BLOCKS]]
        self.blocks = nn.Sequential(*[ResidualBlock(i, o, halve) for i, (o, halve) in zip(widths, BLOCKS, strict=False)])
        self.head = nn.Linear(256, self.dimensions, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).reshape(3, 1, 1), persistent=False)
        template = (torch.tensor(MEAN_FACE) + PADDING) / (2 * PADDING + 1) * CHIP
        self.register_buffer("template", template, persistent=False)

    @classmethod
    def load(cls, path: str | Path | None = None) -> IdentityNetwork:
        """Weights from `path`, or the bundled ones; raises CheckpointError for another network's file."""
        path = asset_path("identity.safetensors") if path is None else path
        checkpoint = load_checkpoint(path, "identity")
        found = checkpoint.config.get("network")
        if found != cls.name:
            raise CheckpointError(f"{path}: identity network '{found}', but only '{cls.name}' is known; choose another file")
        return filled(cls, checkpoint.tensors, path)

    def forward(self, chip: Tensor) -> Tensor:
        """Aligned chips (B,3,150,150), RGB 0..1 -> (B,128), not normalised (their length is about 1.5)."""
        x = (chip * 255 - self.mean) / 256  # dlib's input_rgb_image; face-api.js divides by 255, which changes no distance by 0.002
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        return self.head(self.blocks(x).mean(dim=(2, 3)))

    def align(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Pictures (B,3,H,W) and landmarks (B,478,2 or 3) in their pixels -> upright chips (B,3,150,150); gradients reach the picture."""
        points = landmarks[:, FIVE, :2].to(image)
        turn, offset = similarity(self.template.to(image).expand(len(points), -1, -1), points)
        return sample_chips(image, turn, offset, CHIP)

    def embed(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """As IdentityEncoder: (B,128), differentiable in the picture."""
        return self(self.align(image, landmarks))

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Euclidean distance of tokens (...,128) -> (...)."""
        return (a - b).norm(dim=-1)


def similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares rotation with scale and shift.

    Umeyama 1991, in two dimensions: with points as complex numbers the matrix is the multiplication by sum(target * conj(source)) / sum
    |source|^2 of the centred points.

    Args:
        source, target: points (B,P,2).

    Returns:
        matrix (B,2,2) and offset (B,2) of target = matrix @ source + offset.
    """
    source_mean, target_mean = source.mean(dim=1), target.mean(dim=1)
    s, t = source - source_mean[:, None], target - target_mean[:, None]
    scale = s.square().sum(dim=(1, 2))
    real = (t * s).sum(dim=(1, 2)) / scale
    imaginary = (t[..., 1] * s[..., 0] - t[..., 0] * s[..., 1]).sum(dim=1) / scale
    matrix = torch.stack([torch.stack([real, -imaginary], dim=-1), torch.stack([imaginary, real], dim=-1)], dim=-2)
    return matrix, target_mean - (matrix @ source_mean[..., None])[..., 0]


def sample_chips(image: Tensor, matrix: Tensor, offset: Tensor, size: int, dense: bool = True) -> Tensor:
    """Bilinear chips of pictures; beyond the frame they are black.

    Args:
        image: (B,C,H,W).
        matrix, offset: (B,2,2) and (B,2); a chip's point p shows the picture's point matrix @ p + offset.
        size: side of the chips in pixels.
        dense: faces larger than the chip are sampled more densely and averaged (up to 8x8 samples per pixel), so that reducing them does
            not alias, as dlib does by a pyramid; else every pixel is one sample (OpenCV's warpAffine).

    Returns:
        (B,C,size,size).
    """
    step = float(matrix.detach().square().sum(dim=(1, 2)).div(2).sqrt().amax()) if dense and len(matrix) else 1.0
    times = min(max(round(step), 1), 8)
    axis = (torch.arange(size * times, device=image.device, dtype=image.dtype) + 0.5) / times
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], dim=-1).reshape(1, -1, 2) @ matrix.transpose(1, 2) + offset[:, None]
    extent = points.new_tensor([image.shape[3], image.shape[2]])
    grid = (points / extent * 2 - 1).reshape(len(matrix), size * times, size * times, 2)
    chips = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(chips, times) if times > 1 else chips
