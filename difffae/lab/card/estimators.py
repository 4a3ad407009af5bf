"""Numbers that compare estimators of the open head: the landmark fit and networks (docs/evaluation.md, "Estimators").

Shape letters: B batch, N landmarks (478), G skin tones, M lights, P normals that a front view shows. Angles are degrees.

Every portrait goes the whole way of an edit: landmark network, crop, estimator. What an estimator says is held against what the landmark
network saw (the fit minimises just that, so this row is its own judge), against the photograph's skin, and against exact codes of
rendered people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.rotations import axis_angle_to_matrix, to_yaw_pitch_roll
from ...estimation.choose import SIDE, estimate
from ...estimation.fit import LandmarkFit, inter_ocular
from ...estimation.network import EncoderFit
from ...faces.crop import FaceCrop, crop_square, extract
from ...faces.landmarker import Face, FaceLandmarker, face_roi
from ...head.adjust import visible_normals
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...head.render import render
from ...head.shading import sh_basis
from ...person.prepared import carry
from ...report.measures import expression_distance, light_direction
from ..studio.lens import as_jpeg

Reader = LandmarkFit | EncoderFit
POINTS = 468  # of the face mesh, without the irises
PASSES = 5  # of a measured time


@dataclass(frozen=True, eq=False)
class Seen:
    """A face in its square crop: picture (1,3,S,S), known (1,1,S,S), landmarks (1,N,3) in its pixels, scores (1,52)."""

    picture: Tensor
    known: Tensor
    landmarks: Tensor
    scores: Tensor

    @staticmethod
    def of(image: Tensor, face: Face, crop: FaceCrop | None = None) -> Seen:
        """A face of a picture (3,H,W), in its own crop or in a given one."""
        crop = crop or crop_square(face.landmarks, image.shape[-2:])
        return Seen(*extract(image[None], crop), crop.to_crop(face.landmarks)[None], face.blendshapes[None])

    def read(self, reader: Reader) -> FaceAttributes:
        return estimate(reader, self.picture, self.landmarks, self.scores, self.known)


def angles(face: FaceAttributes) -> Tensor:
    """Yaw, pitch and roll (B,3) in degrees, positive to image right, chin up, clockwise."""
    return to_yaw_pitch_roll(face.pose[:, 1])


def shading(light: Tensor) -> Tensor:
    """Light (B,9,3) -> shading (B,P,3) of the normals that a front view shows."""
    return sh_basis(visible_normals(light, 6, 16)) @ light


@torch.no_grad()
def portrait_numbers(reader: Reader, landmarker: FaceLandmarker, seen: Seen, pose: Tensor | None = None) -> dict[str, float]:
    """One portrait. pose (3,): yaw, pitch, roll that somebody else measured, degrees, our signs.

    landmarks: mean distance over the inter-ocular distance; scores: distance of the person-independent blendshape scores of the estimated
    face's own landmarks from those of the picture's; skin: root mean square difference of render and photograph on the skin, sRGB 0..1;
    light: mean difference of the log-ratios left/right and upper/lower of skin luminance, render against photograph."""
    face = seen.read(reader)
    points = reader.landmarks(face, SIDE)
    distance = (points - seen.landmarks[..., :2])[:, :POINTS].norm(dim=-1).mean() / inter_ocular(seen.landmarks)[0]
    own, there = landmarker.blendshapes(points), landmarker.blendshapes(seen.landmarks)
    drawn = render(reader.head, face, SIDE)
    skin = reader.head.skin_mask(drawn.raster)[:, None] * seen.known
    error = ((drawn.image - seen.picture).square().mean(1, keepdim=True) * skin).sum() / skin.sum().clamp_min(1)
    filled = torch.where(drawn.mask > 0.5, drawn.image.clamp(0, 1), seen.picture)
    light = light_direction(filled, seen.landmarks) - light_direction(seen.picture, seen.landmarks)
    numbers = {
        "landmarks": float(distance),
        "scores": float(expression_distance(own, there)),
        "skin": float(error.sqrt()),
        "light": float(light.abs().mean()),
    }
    if pose is not None:
        numbers |= dict(zip(("yaw", "pitch", "roll"), (angles(face)[0] - pose).tolist(), strict=True))
    return numbers


def disturbed(image: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """A picture (3,H,W), `count` times: shifted by up to 2 pixels, with noise of 1 %, and as JPEG of quality 60 to 95."""
    result = []
    height, width = image.shape[-2:]
    for r in torch.rand(count, 3, generator=generator):
        theta = torch.tensor([[[1.0, 0, float(r[0] * 2 - 1) * 4 / width], [0, 1.0, float(r[1] * 2 - 1) * 4 / height]]])
        grid = F.affine_grid(theta, [1, 3, height, width], align_corners=False)
        shifted = F.grid_sample(image[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
        noisy = (shifted + 0.01 * torch.randn(shifted.shape, generator=generator)).clamp(0, 1)
        result.append(as_jpeg(noisy, 60 + int(35 * r[2])))
    return result


def spread_numbers(faces: FaceAttributes) -> dict[str, float]:
    """Standard deviation over a batch of one face: mean of the three angles, over the expression coefficients, over the shading."""
    values = {"angles": angles(faces), "expression": faces.expression, "shading": shading(faces.light)}
    return {name: float(value.std(0).mean()) for name, value in values.items()}


def jitter_numbers(faces: FaceAttributes, truth: FaceAttributes) -> dict[str, float]:
    """Root mean square second difference over the frames of what was estimated less what was true: the trembling that a viewer sees.
    faces, truth (B): one face; units as above."""
    errors = {
        "angles": angles(faces) - angles(truth),
        "expression": faces.expression - truth.expression,
        "shading": shading(faces.light) - shading(truth.light),
    }
    return {name: float((x[2:] - 2 * x[1:-1] + x[:-2]).square().mean().sqrt()) for name, x in errors.items()}


@torch.no_grad()
def moving(
    seen: Seen, face: FaceAttributes, head: HeadModel, frames: int, generator: torch.Generator
) -> tuple[list[Tensor], FaceAttributes]:
    """A short video of a portrait, carried: its head turns to and fro by 10 degrees of yaw and 5 of pitch while it opens its mouth, each
    frame with noise of 1 % and JPEG compression. Frames (3,S,S), and the numbers that moved them."""
    jaw = head.expression_names.index("jawOpen")
    result, truth = [], []
    for phase in torch.linspace(0, 2 * math.pi, frames + 1)[:-1]:
        turn = torch.deg2rad(torch.tensor([-5.0 * math.sin(2 * phase), 10.0 * math.sin(phase), 0.0]))
        pose, expression = face.pose.clone(), face.expression.clone()
        pose[:, 1] = pose[:, 1] + turn
        expression[:, jaw] = (expression[:, jaw] + 0.15 * (1 - math.cos(phase))).clamp(0, 1)
        truth.append(replace(face, pose=pose, expression=expression))
        picture = carry(seen.picture, face, truth[-1], head).image[0]
        noisy = (picture + 0.01 * torch.randn(picture.shape, generator=generator)).clamp(0, 1)
        result.append(as_jpeg(noisy, 85))
    return result, FaceAttributes.cat(truth)


def look(landmarker: FaceLandmarker, image: Tensor, landmarks: Tensor | None = None) -> Face | None:
    """The largest face of a picture (3,H,W), or the one near known landmarks (N,>=2); None if there is none."""
    if landmarks is None:
        faces = landmarker.detect(image)[0]
        return faces[0] if faces else None
    face = landmarker.landmarks_in(image, face_roi(landmarks[None]))[0][0]
    return face if face.score >= landmarker.threshold else None


@torch.no_grad()
def exact_numbers(head: HeadModel, found: FaceAttributes, truth: FaceAttributes) -> dict[str, float]:
    """Errors of estimates of rendered people (B): turn in degrees; expression; shading as root mean square, and again after the levels
    of the two lights were made equal; skin: root mean square of albedo on the face, sRGB 0..1; shape: mean distance of the vertices of
    the unposed, neutral face in millimetres, without their mean."""
    relative = axis_angle_to_matrix(found.pose[:, 1]).transpose(1, 2) @ axis_angle_to_matrix(truth.pose[:, 1])
    cosine = ((relative.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1)
    here, there = shading(found.light), shading(truth.light)
    level = (there.mean((1, 2)) / here.mean((1, 2)).clamp_min(1e-3))[:, None, None]
    strong = head.albedo_basis[0].abs().mean(0)
    texels = head.albedo_basis[:, :, strong > 0.5 * strong.max()].flatten(1)
    face = head.labels == 0
    none = truth.expression[:, :0]
    gap = (head.unposed(found.shape, none) - head.unposed(truth.shape, none))[:, face]
    return {
        "turn": float(torch.rad2deg(torch.acos(cosine)).mean()),
        "expression": float((found.expression - truth.expression).abs().mean()),
        "shading": float((here - there).square().mean((1, 2)).sqrt().mean()),
        "relative shading": float((here * level - there).square().mean((1, 2)).sqrt().mean()),
        "skin": float(((found.albedo - truth.albedo) @ texels).square().mean(1).sqrt().mean()),
        "shape": float(1000 * (gap - gap.mean(1, keepdim=True)).norm(dim=-1).mean()),
    }


def tone_numbers(light: Tensor) -> dict[str, float]:
    """How much of an estimated light is the skin's: light (G,M,9,3) of one person with every skin tone under every light.

    tones, lights: standard deviation of the shading over the tones (at each light) and over the lights (at each tone), root mean square
    over the normals; ratio: the first over the second."""
    seen = shading(light.flatten(0, 1)).unflatten(0, light.shape[:2])
    tones, lights = (seen.var(axis, unbiased=False).mean().sqrt() for axis in (0, 1))
    return {"tones": float(tones), "lights": float(lights), "ratio": float(tones / lights)}


def milliseconds(run: Callable[[], object]) -> float:
    """Median CPU time of a call in milliseconds, after one that warms up; on one thread that is how long it takes on an idle core."""
    run()
    times = []
    for _ in range(PASSES):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1000 * sorted(times)[len(times) // 2]


def means(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of each number over rows of the same names."""
    rows = list(rows)
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
