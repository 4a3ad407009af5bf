"""Image -> FaceAttributes by a small network: the second estimator of the `open` profile, beside the fit of `estimate`.

Shape letters: B batch, N landmarks (478), S shape, E expression, A albedo coefficients, Q picture side of the network, K numbers.
Axes: x right in the image, y up, z to the viewer; landmarks arrive in pixels, y down.

DECA's form: one pass of a convolutional encoder gives all codes, light included. The pipeline knows the landmarks anyway, so the network
may have them too (`EncoderConfig.points`): their rigid motion onto the mean face is the start of pose and camera, and what is left,
turned back to the front, is input beside the picture. The network then says how far the codes lie from there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, channels_last, filled, load_checkpoint
from ..common.errors import CheckpointError, HeadModelMismatchError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..faces.blendshapes import BLENDSHAPE_NAMES
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from .fit import inter_ocular, landmark_bases, procrustes
from .offsets import LandmarkOffsets

if TYPE_CHECKING:
    from ..head.detail import DetailSurface

KIND = "estimator"
BUNDLED = "estimator.safetensors"
CENTIMETRES = 100.0  # the head is in metres; inputs of a network should be near 1
TURN, SCALE, PLACE = 0.1, 0.05, 0.02  # what an output of 1 means: radians, logarithm of the camera's scale, -1..1 over the crop


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the network. points: landmarks and blendshape scores are inputs beside the picture; without, it is DECA's form."""

    head: str = "open"
    size: int = 128  # side of the picture it sees
    widths: tuple[int, ...] = (32, 64, 128, 192)
    squeezed: int = 24  # channels of the last map, which keeps its places
    hidden: int = 256
    points: bool = True
    landmark_count: int = 478
    score_count: int = 52
    shape_count: int = 75
    expression_count: int = 52
    albedo_count: int = 6

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))

    def to_dict(self) -> dict:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def of_head(cls, head: HeadModel, **changes: Any) -> EncoderConfig:
        """The sizes that a head model needs."""
        config = cls(
            head=head.name,
            landmark_count=len(head.landmark_faces),
            shape_count=head.shape_count,
            expression_count=head.expression_count,
            albedo_count=head.albedo_count,
        )
        return replace(config, **changes)

    @property
    def parts(self) -> dict[str, int]:
        """The network's numbers in their order."""
        return {
            "turn": 3, "scale": 1, "place": 2, "shape": self.shape_count, "expression": self.expression_count,
            "albedo": self.albedo_count, "light": 27,
        }  # fmt: skip


class Block(nn.Module):
    """Two 3x3 convolutions beside a skip; starts as the identity, which stands in for normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class CodeNetwork(nn.Module):
    """Picture, and landmarks if the configuration says so -> numbers (B,K), in units of their spread."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        widths, outputs = config.widths, sum(config.parts.values())
        layers: list[nn.Module] = [nn.Conv2d(4, widths[0], 5, stride=4, padding=2)]
        for before, width in zip(widths, (*widths[1:], None), strict=True):
            layers.append(Block(before))
            layers += [] if width is None else [nn.SiLU(), nn.Conv2d(before, width, 3, stride=2, padding=1)]
        self.trunk = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(widths[-1], config.squeezed, 1))
        side = config.size // (4 * 2 ** (len(widths) - 1))
        seen = config.squeezed * side * side
        given = 3 * config.landmark_count + config.score_count + 6 if config.points else 0
        self.points = nn.Linear(given, config.hidden) if given else None
        self.straight = nn.Linear(given, outputs, bias=False) if given else None
        self.join = nn.Linear(seen + (config.hidden if given else 0), config.hidden)
        self.mix = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, outputs)
        for layer in (self.straight, self.out):  # starts at the means
            if layer is not None:
                nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.out.bias)

    def see(self, pictures: Tensor) -> Tensor:
        """Pictures (B,4,Q,Q), RGB and what is known, in -1..1 -> features."""
        return self.trunk(pictures.contiguous(memory_format=torch.channels_last)).flatten(1)

    def forward(self, x: Tensor, given: Tensor | None) -> Tensor:
        """Features of `see`, and numbers of the landmarks or None."""
        if self.points is not None and given is not None:
            x = torch.cat([x, F.silu(self.points(given))], 1)
        x = F.silu(self.join(x))
        x = self.out(x + F.silu(self.mix(x)))
        return x if self.straight is None else x + self.straight(given)


@dataclass(frozen=True, eq=False)
class Codes:
    """What the network says.

    rotation    (B,3,3) of the neck
    camera      (B,3)
    shape       (B,S)
    expression  (B,E), not yet limited to 0..1
    albedo      (B,A)
    light       (B,9,3)
    """

    rotation: Tensor
    camera: Tensor
    shape: Tensor
    expression: Tensor
    albedo: Tensor
    light: Tensor

    def attributes(self, head: str) -> FaceAttributes:
        """As attributes for the head model of that name; the expression is limited to 0..1."""
        pose = self.camera.new_zeros(len(self.camera), 5, 3)
        pose[:, 1] = matrix_to_axis_angle(self.rotation)
        return FaceAttributes(head, self.shape, self.albedo, pose, self.camera, self.expression.clamp(0, 1), self.light)


class Encoder(nn.Module):
    """The trained part: the network, the mean and spread of its training codes, and the head's landmarks as linear functions."""

    base: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    neck0: Tensor
    neck_basis: Tensor
    neck_weight: Tensor
    score_order: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, config: EncoderConfig, head: HeadModel) -> None:
        """Raises HeadModelMismatchError."""
        super().__init__()
        if head.name != config.head:
            raise HeadModelMismatchError(f"estimator network: trained for head '{config.head}', not '{head.name}'; load that head's file")
        self.config = config
        self.network = CodeNetwork(config)
        # statistics of the training codes: log scale 1, place 2, shape, expression, albedo, light
        count = sum(config.parts.values()) - 3
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        names = ("base", "shape_basis", "expression_basis", "neck0", "neck_basis", "neck_weight")
        for name, value in zip(names, landmark_bases(head), strict=True):
            self.register_buffer(name, value, persistent=False)
        order = [BLENDSHAPE_NAMES.index(name) if name in BLENDSHAPE_NAMES else -1 for name in head.expression_names]
        self.register_buffer("score_order", torch.tensor(order), persistent=False)

    def set_statistics(self, faces: FaceAttributes) -> None:
        """Centre and scale the outputs by the training codes."""
        numbers = torch.cat([faces.camera[:, :1].log(), self.middle(faces), *(getattr(faces, n).flatten(1) for n in
                             ("shape", "expression", "albedo", "light"))], 1)  # fmt: skip
        self.mean.copy_(numbers.mean(0))
        self.spread.copy_(numbers.std(0).clamp_min(1e-3))

    def middle(self, faces: FaceAttributes) -> Tensor:
        """Where the middle of the landmarks of the face without its expression lies, (B,2) in -1..1, y up."""
        return self._middle(axis_angle_to_matrix(faces.pose[:, 1]), faces.shape, faces.camera)

    def _middle(self, rotation: Tensor, shape: Tensor, camera: Tensor) -> Tensor:
        return camera[:, :1] * (self._arm(rotation, shape) + camera[:, 1:])

    def _arm(self, rotation: Tensor, shape: Tensor) -> Tensor:
        """The landmarks' middle (B,2) after the turn about the neck joint, in metres."""
        neck = self.neck0 + shape @ self.neck_basis
        middle = self.base.mean(0) + shape @ self.shape_basis.mean(1)
        return ((rotation @ (middle - neck)[..., None])[..., 0] + neck)[:, :2]

    def projected(self, codes: Codes) -> Tensor:
        """The head model's landmarks (B,N,3) in -1..1, y up, z in the same unit towards the viewer."""
        points = self.base + torch.einsum("bs,snk->bnk", codes.shape, self.shape_basis)
        points = points + torch.einsum("be,enk->bnk", codes.expression, self.expression_basis)
        neck = (self.neck0 + codes.shape @ self.neck_basis)[:, None]
        turned = (points - neck) @ codes.rotation.transpose(1, 2) + neck
        weight = self.neck_weight[None, :, None]
        posed = weight * turned + (1 - weight) * points
        shift = F.pad(codes.camera[:, 1:], (0, 1))[:, None]
        return codes.camera[:, None, :1] * (posed + shift)

    def start(self, landmarks: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The rigid motion of landmarks onto the mean face, and what is left.

        Args:
            landmarks: (B,N,3) in pixels of a square.
            side: of that square.

        Returns:
            rotation (B,3,3), scale (B,1), middle (B,2), and what is left, turned back to the front (B,N,3), in
            centimetres.
        """
        flipped = landmarks.float() * landmarks.new_tensor([2.0, -2.0, -2.0]) / side
        target = flipped + flipped.new_tensor([-1.0, 1.0, 0.0])
        rotation, camera = procrustes(self.base, target)
        middle = target.mean(1, keepdim=True)
        upright = (target - middle) @ rotation / camera[:, None, :1]
        left = upright - (self.base - self.base.mean(0))
        return rotation, camera[:, :1], middle[:, 0, :2], left * CENTIMETRES

    def forward(self, pictures: Tensor, known: Tensor, landmarks: Tensor, scores: Tensor, side: int) -> Codes:
        """Codes of faces.

        Args:
            pictures: (B,3,Q,Q) RGB 0..1.
            known: (B,1,Q,Q), 0 where a crop left its picture.
            landmarks: (B,N,3) in pixels of a square of that side.
            scores: (B,52) of the landmark network.
            side: of the square, in pixels.
        """
        return self.codes(self.see(pictures, known), landmarks, scores, side)

    def see(self, pictures: Tensor, known: Tensor) -> Tensor:
        """What the convolutions make of the pictures; may run in lower precision."""
        return self.network.see(torch.cat([(pictures - 0.5) * known * 2, known], 1))

    def codes(self, seen: Tensor, landmarks: Tensor, scores: Tensor, side: int) -> Codes:
        """Features of `see` and landmarks -> codes. Arguments as `forward`."""
        counts = list(self.config.parts.values())
        scale_mean, place_mean, shape_mean, expression_mean, albedo_mean, light_mean = self.mean.split(counts[1:])
        scale_spread, place_spread, shape_spread, expression_spread, albedo_spread, light_spread = self.spread.split(counts[1:])
        if self.config.points:
            rotation0, scale0, middle0, left = self.start(landmarks, side)
            log_scale0 = scale0.log()
            place = torch.cat([matrix_to_axis_angle(rotation0), (log_scale0 - scale_mean) / SCALE, middle0 / PLACE / 10], 1)
            given = torch.cat([left.flatten(1), scores.float() * 2 - 0.5, place], 1)
            order = self.score_order
            expression0 = torch.where(order >= 0, scores[:, order.clamp_min(0)].float(), expression_mean)
            numbers = self.network(seen, given)
            turn, scale, place, shape, expression, albedo, light = numbers.split(counts, 1)
            turn, scale, place = turn * TURN, log_scale0 + scale * SCALE, middle0 + place * PLACE
        else:
            turn, scale, place, shape, expression, albedo, light = self.network(seen, None).split(counts, 1)
            rotation0, expression0 = torch.eye(3, device=seen.device).expand(len(seen), 3, 3), expression_mean
            turn, scale, place = turn * 2 * TURN, scale_mean + scale * scale_spread, place_mean + place * place_spread
        rotation = axis_angle_to_matrix(turn) @ rotation0
        shape = shape_mean + shape * shape_spread
        size = scale.exp()
        camera = torch.cat([size, place / size - self._arm(rotation, shape)], 1)
        light = (light_mean + light * light_spread).unflatten(1, (9, 3))
        expression = expression0 + expression * expression_spread
        return Codes(rotation, camera, shape, expression, albedo_mean + albedo * albedo_spread, light)


class EncoderFit(nn.Module):
    """The estimator: the same call as `estimate.LandmarkFit`."""

    surface: DetailSurface | None = None  # no wrinkles

    def __init__(self, encoder: Encoder, head: HeadModel, offsets: LandmarkOffsets | None = None) -> None:
        super().__init__()
        self.encoder, self.head, self.offsets = encoder, head, offsets
        channels_last(self.encoder)

    @staticmethod
    def load(head: HeadModel, path: str | Path | None = None) -> EncoderFit:
        """A trained network with its head.

        Args:
            head: the head model.
            path: a file of kind `estimator`; None is the bundled one.

        Raises:
            CheckpointError: the file cannot be read, or is of another version.
            HeadModelMismatchError: the network was trained for another head.
        """
        path = asset_path(BUNDLED) if path is None else path
        checkpoint = load_checkpoint(path, KIND)
        try:
            config = EncoderConfig(**checkpoint.config)
        except TypeError as error:
            raise CheckpointError(f"{path}: its configuration is of another version ({error}); train it again") from error
        encoder = filled(lambda: Encoder(config, head), checkpoint.tensors, path)
        return EncoderFit(encoder, head, LandmarkOffsets.load())

    @torch.no_grad()
    def forward(self, images: Tensor, landmarks: Tensor, blendshapes: Tensor, known: Tensor | None = None) -> FaceAttributes:
        """The numbers of faces.

        Args:
            images: (B,3,H,H) RGB 0..1, square.
            landmarks: (B,478,3) in their pixels.
            blendshapes: (B,52) scores of the landmark network.
            known: (B,1,H,H), 0 where a crop left its picture; None for all known.

        Returns:
            B faces; their camera is that of the images.
        """
        side, goal = images.shape[-1], (self.encoder.config.size,) * 2
        small = F.interpolate(images, goal, mode="bilinear", antialias=True, align_corners=False)
        known = images.new_ones(len(images), 1, *goal) if known is None else F.interpolate(known.to(images), goal, mode="area")
        return self.encoder(small, known, landmarks, blendshapes, side).attributes(self.head.name)

    def landmarks(self, face: FaceAttributes, size: int) -> Tensor:
        """Where the landmark network would see a face's landmarks, in pixels of a square of that size: (B,N,2)."""
        codes = Codes(axis_angle_to_matrix(face.pose[:, 1]), face.camera, face.shape, face.expression, face.albedo, face.light)
        pixels = (self.encoder.projected(codes)[..., :2] * face.camera.new_tensor([1.0, -1.0]) + 1) * size / 2
        if self.offsets is None:
            return pixels
        yaw, _, roll = to_yaw_pitch_roll(face.pose[:, 1]).unbind(-1)
        return pixels + self.offsets(yaw, roll) * inter_ocular(pixels)[:, None, None]
