"""DECA (Feng et al. 2021): picture -> FLAME codes, camera, light and a detail code, as an estimator beside `estimate.LandmarkFit`.

Shape letters: B batch, H and W picture height and width, N landmarks (478), S = 224 side of DECA's crop.
The weights are the user's (`python -m difffae convert deca`); FLAME too (`convert flame`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..common.checkpoint import filled, load_checkpoint
from ..common.errors import ConfigError, HeadModelMismatchError
from ..head.attributes import FaceAttributes
from ..head.detail import CODE, DetailDecoder, DetailSurface
from ..head.morphable import HeadModel
from .deca_crop import IBUG_OF_MEDIAPIPE, SIZE, camera_in_frame, crop, crop_matrix, square_of_points
from .resnet import ResNet50

KIND = "deca"
# the encoder's numbers in their order; light is 9 bands of RGB, pose the axis-angles of head and jaw
PARTS = {"shape": 100, "albedo": 50, "expression": 50, "pose": 6, "camera": 3, "light": 27}


class Encoder(nn.Module):
    """ResNet-50 and two linear layers; DECA's E_flame (236 numbers) and E_detail (128), with DECA's names."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.encoder = ResNet50()
        self.layers = nn.Sequential(nn.Linear(ResNet50.features, 1024), nn.ReLU(), nn.Linear(1024, outputs))

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (B,3,S,S), RGB 0..1, not normalised any further -> (B,outputs)."""
        return self.layers(self.encoder(crops))


class Deca(nn.Module):
    """The three networks of deca_model.tar: coarse encoder, detail encoder, detail decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = Encoder(sum(PARTS.values()))
        self.detail = Encoder(CODE)
        self.decoder = DetailDecoder()

    @staticmethod
    def load(path: str | Path) -> Deca:
        """Weights of a file that `convert deca` wrote. Raises CheckpointError."""
        checkpoint = load_checkpoint(path, KIND)
        return filled(Deca, checkpoint.tensors, path)

    def forward(self, crops: Tensor, head: str) -> FaceAttributes:
        """Attributes for a FLAME head.

        Args:
            crops: (B,3,224,224), RGB 0..1.
            head: the head model's name.

        Returns:
            B faces, whose camera is the crop's.

        Raises:
            ConfigError: crops of another size.
        """
        if crops.dim() != 4 or tuple(crops.shape[1:]) != (3, SIZE, SIZE):
            raise ConfigError(f"DECA: crops are {tuple(crops.shape)}, not Bx3x{SIZE}x{SIZE}; cut them with deca_crop.crop")
        return attributes_of(self.coarse(crops), head, self.detail(crops))


def attributes_of(code: Tensor, head: str, detail: Tensor | None = None) -> FaceAttributes:
    """DECA's 236 numbers (B,236), and a detail code (B,128), as attributes."""
    part = dict(zip(PARTS, code.split(list(PARTS.values()), 1), strict=True))
    pose = code.new_zeros(len(code), 5, 3)
    pose[:, 0], pose[:, 2] = part["pose"][:, :3], part["pose"][:, 3:]
    light = part["light"].reshape(-1, 9, 3)
    return FaceAttributes(head, part["shape"], part["albedo"], pose, part["camera"], part["expression"], light, detail)


class DecaFit(nn.Module):
    """The estimator: the same call as `estimate.LandmarkFit`. The camera belongs to the pictures given, not to DECA's inner crop."""

    def __init__(self, deca: Deca, head: HeadModel) -> None:
        """Raises HeadModelMismatchError for a head that has not FLAME's coefficients."""
        super().__init__()
        if head.shape_count < PARTS["shape"] or head.expression_count < PARTS["expression"] or not head.has_pose_basis:
            raise HeadModelMismatchError(
                f"head model '{head.name}': {head.shape_count} shape and {head.expression_count} expression coefficients, but DECA "
                f"estimates FLAME's {PARTS['shape']} and {PARTS['expression']}; give a head that `convert flame` wrote"
            )
        self.deca, self.head = deca, head
        self.surface = DetailSurface(head, deca.decoder) if head.has_detail_maps else None

    @torch.no_grad()
    def forward(self, images: Tensor, landmarks: Tensor, blendshapes: Tensor | None = None, known: Tensor | None = None) -> FaceAttributes:
        """The numbers of faces. Only pictures and landmarks are looked at.

        Args:
            images: (B,3,H,H) RGB 0..1, square.
            landmarks: (B,478,2 or 3) in their pixels, centres at +0.5.

        Returns:
            B faces; the camera is that of the pictures.

        Raises:
            ConfigError: pictures that are not square, whose projection no camera of three numbers can state.
        """
        height, width = images.shape[-2:]
        if height != width:
            raise ConfigError(f"DECA: pictures are {width}x{height}, but must be square; cut out the face's square first")
        points = landmarks[:, list(IBUG_OF_MEDIAPIPE), :2].to(images) - 0.5
        matrix = crop_matrix(*square_of_points(points))
        face = self.fit_crops(crop(images, matrix))
        return replace(face, camera=camera_in_frame(face.camera, matrix, height))

    def fit_crops(self, crops: Tensor) -> FaceAttributes:
        """Attributes of DECA's own crops (B,3,224,224), camera in the crop; numbers that the head has no components for are left out."""
        face = self.deca(crops, self.head.name)
        return replace(face, albedo=face.albedo[:, : self.head.albedo_count])
