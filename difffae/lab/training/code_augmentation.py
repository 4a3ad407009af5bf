"""Augmentation of portraits whose codes are known: pictures, landmarks and codes change together.

Shape letters: B batch, N landmarks (478), Q side of the stored pictures, R of their surfaces.
Axes: x right in the image, y up, z to the viewer; landmarks in pixels of 256x256, y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.pixels import gaussian_blur
from ...common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ...estimation.choose import SIDE
from ...estimation.fit import inter_ocular
from ...faces.blendshapes import BLENDSHAPE_NAMES
from ...head.attributes import FaceAttributes
from ...head.morphable import HeadModel
from ...head.shading import sh_shading
from ..prepare.augmentation import Still, where_rows
from ..prepare.augmentation import flipped as mirrored
from ..prepare.pairs import attributes_of

DRAWS = 24  # random numbers that one sample needs
RETONED, RELIT, COVERED = 0.5, 0.5, 0.25  # how often
STRENGTHS = (0.06, 4.0)  # of a pixel's change
MIRRORED_SCORES = tuple(
    BLENDSHAPE_NAMES.index(n.replace("Left", "#").replace("Right", "Left").replace("#", "Right")) for n in BLENDSHAPE_NAMES
)


@dataclass(frozen=True, eq=False)
class Sample:
    """Some samples."""

    pictures: Tensor  # (B,3,Q,Q) in 0..1
    known: Tensor  # (B,1,Q,Q) in 0..1
    normals: Tensor  # (B,3,R,R), zero outside the head
    uv: Tensor  # (B,2,R,R), grid of the albedo map
    skin: Tensor  # (B,1,R,R) in 0..1
    landmarks: Tensor  # (B,N,3)
    scores: Tensor  # (B,52)
    face: FaceAttributes  # the codes

    @staticmethod
    def of(tensors: dict[str, Tensor], head: HeadModel) -> Sample:
        """From tensors of a file of `prepare codes`."""
        return Sample(
            tensors["pictures"].float() / 255,
            tensors["known"].float() / 255,
            tensors["normals"].float() / 127,
            tensors["uv"].float(),
            tensors["skin"].float() / 255,
            tensors["landmarks"].float(),
            tensors["blendshapes"].float(),
            attributes_of(tensors, head),
        )

    def resized(self, side: int) -> Sample:
        """With pictures of the network's side, nothing else changed."""
        pictures, known = (
            F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False) for x in (self.pictures, self.known)
        )
        return replace(self, pictures=pictures, known=known)


def augment(sample: Sample, head: HeadModel, albedo: Tensor, light: Tensor, r: Tensor, seeds: Tensor, side: int) -> Sample:
    """Other skin, other light, mirrored, turned, scaled, shifted, tinted, blurred, covered, noisy.

    Args:
        sample: As `prepare codes` stores it.
        head: Of its codes.
        albedo, light: Codes of other people, (B,A) and (B,9,3).
        r: Random numbers, (B,DRAWS) in 0..1.
        seeds: Of the noise, (B,).
        side: Of the result's pictures.
    """
    sample = recoloured(sample, head, albedo, light, r[:, 0] < RETONED, r[:, 1] < RELIT)
    sample = flipped(sample, head, r[:, 2] < 0.5)
    spread = (r[:, 3:7] * 2 - 1) * r.new_tensor([math.radians(12), 0.09, 0.05, 0.05])
    sample = moved(sample, head, spread[:, 0], spread[:, 1].exp(), spread[:, 2:], side)
    gain = torch.exp((r[:, 7:8] - 0.5) * 0.3 + (r[:, 8:11] - 0.5) * 0.12)
    pictures, face = sample.pictures * gain[:, :, None, None], replace(sample.face, light=sample.face.light * gain[:, None])
    soft = F.interpolate(F.avg_pool2d(pictures, 2), pictures.shape[-2:], mode="bilinear", align_corners=False)
    pictures = torch.lerp(pictures, soft, (r[:, 11] * 1.5 - 0.5).clamp(0, 1)[:, None, None, None])
    pictures = covered(pictures, r[:, 12:19])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
    grain, shake = (
        torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators]) for x in (pictures, sample.landmarks)
    )
    pictures = (pictures + grain * (0.03 * r[:, 19] ** 2)[:, None, None, None]).clamp(0, 1)
    tremble = shake * (0.008 * r[:, 20] * inter_ocular(sample.landmarks))[:, None, None]
    return replace(sample, pictures=pictures, landmarks=sample.landmarks + tremble, face=face)


def recoloured(sample: Sample, head: HeadModel, albedo: Tensor, light: Tensor, tone: Tensor, lit: Tensor) -> Sample:
    """Skin of another colour, other light: each pixel is scaled by the ratio of what the head model says before and after.

    Hair keeps its colour; what lies outside the head keeps its light.

    Args:
        sample: What is changed.
        head: Of its codes.
        albedo, light: The new codes, (B,A) and (B,9,3).
        tone, lit: Which rows get them, (B,) bool each.
    """
    face = sample.face
    new = replace(
        face,
        albedo=torch.where(tone[:, None], albedo, face.albedo),
        light=torch.where(lit[:, None, None], light, face.light),
    )
    grid = sample.uv.permute(0, 2, 3, 1)
    before, after = (
        F.grid_sample(_albedo(head, codes), grid, padding_mode="border", align_corners=False).clamp_min(0.02)
        for codes in (face.albedo, new.albedo)
    )
    skin = gaussian_blur(sample.skin, 0.7)
    ratio = 1 + skin * (after / before - 1)
    normals = sample.normals.permute(0, 2, 3, 1)
    on = gaussian_blur((normals.square().sum(-1) > 0.25).float()[:, None], 0.7)
    dark, bright = (sh_shading(normals, x.light).permute(0, 3, 1, 2).clamp_min(0.05) for x in (face, new))
    ratio = ratio * (1 + on * (bright / dark - 1))
    ratio = F.interpolate(ratio.clamp(*STRENGTHS), sample.pictures.shape[-2:], mode="bilinear", align_corners=False)
    pictures = (sample.pictures * ratio).clamp(0, 1)
    return replace(sample, pictures=pictures, face=new)


def _albedo(head: HeadModel, codes: Tensor) -> Tensor:
    """Coarse albedo maps (B,3,r,r) at the basis's own size, unlike `head.albedo`."""
    side = head.albedo_basis.shape[-2:]
    mean = F.interpolate(head.albedo_mean[None], side, mode="bilinear", antialias=True, align_corners=False)
    return mean + torch.einsum("ba,achw->bchw", codes, head.albedo_basis)


def flipped(sample: Sample, head: HeadModel, chosen: Tensor) -> Sample:
    """Mirrored left to right where chosen (B,) is set. Normals and uv are not needed after this and stay."""
    still = mirrored(Still(sample.pictures, sample.known, sample.landmarks, sample.face), head, chosen, SIDE)
    scores = where_rows(chosen, sample.scores[:, list(MIRRORED_SCORES)], sample.scores)
    return replace(sample, pictures=still.picture, known=still.known, landmarks=still.landmarks, scores=scores, face=still.face)


def moved(sample: Sample, head: HeadModel, turn: Tensor, scale: Tensor, shift: Tensor, side: int) -> Sample:
    """Turned and scaled about the middle, then shifted; the head's turn about its neck, the camera and the light follow exactly.

    Args:
        sample: What is moved.
        head: Of its codes.
        turn: Counter-clockwise, radians, (B,).
        scale: Factors, (B,).
        shift: (B,2) in units of half the side, y up.
        side: Of the result's pictures.
    """
    c, s = turn.cos(), turn.sin()
    spin = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], 1)  # (B,2,2), y up
    # affine_grid wants the place in the old picture of each new pixel, y down
    down = spin.transpose(1, 2) * spin.new_tensor([[1.0, -1.0], [-1.0, 1.0]]) / scale[:, None, None]
    flip = shift * shift.new_tensor([1.0, -1.0])
    theta = torch.cat([down, -(down @ flip[..., None])], 2)
    grid = F.affine_grid(theta, [len(turn), 3, side, side], align_corners=False)
    pictures = F.grid_sample(sample.pictures, grid, padding_mode="border", align_corners=False)
    known = F.grid_sample(sample.known, grid, padding_mode="zeros", align_corners=False)
    half = SIDE / 2
    plane = (sample.landmarks[..., :2] / half - 1) * shift.new_tensor([1.0, -1.0])
    plane = scale[:, None, None] * plane @ spin.transpose(1, 2) + shift[:, None]
    plane = (plane * shift.new_tensor([1.0, -1.0]) + 1) * half
    landmarks = torch.cat([plane, sample.landmarks[..., 2:] * scale[:, None, None]], -1)
    face = _moved_face(sample.face, head, turn, spin, scale, shift)
    return replace(sample, pictures=pictures, known=known, landmarks=landmarks, face=face)


def _moved_face(face: FaceAttributes, head: HeadModel, turn: Tensor, spin: Tensor, scale: Tensor, shift: Tensor) -> FaceAttributes:
    axis = torch.stack([torch.zeros_like(turn), torch.zeros_like(turn), turn], -1)
    pose = face.pose.clone()
    pose[:, 1] = matrix_to_axis_angle(axis_angle_to_matrix(axis) @ axis_angle_to_matrix(pose[:, 1]))
    # p' = a Z p + b with p = s (R (x - n) + n + t) is the camera s' = a s, t' = Z (n + t) - n + b / s' of the turn Z R about the neck n
    neck = head.joints(face.shape)[:, 1, :2]
    size = face.camera[:, :1] * scale[:, None]
    place = (spin @ (neck + face.camera[:, 1:])[..., None])[..., 0] - neck + shift / size
    return replace(face, pose=pose, camera=torch.cat([size, place], 1), light=turned_light(face.light, turn))


def turned_light(light: Tensor, turn: Tensor) -> Tensor:
    """Light (B,9,3) turned counter-clockwise in the image by turn (B,) radians."""
    c, s = turn.cos()[:, None], turn.sin()[:, None]
    c2, s2 = (2 * turn).cos()[:, None], (2 * turn).sin()[:, None]
    flat, x, y, z, xy, xz, yz, square, deep = light.unbind(1)
    bands = [flat, c * x - s * y, s * x + c * y, z, s2 * square + c2 * xy, c * xz - s * yz, s * xz + c * yz, c2 * square - s2 * xy, deep]
    return torch.stack(bands, 1)


def covered(pictures: Tensor, r: Tensor) -> Tensor:
    """A rectangle of one colour over some of the pictures, as of a hand or a cup: r (B,7) in 0..1."""
    b, _, height, width = pictures.shape
    ys, xs = torch.linspace(0, 1, height, device=r.device), torch.linspace(0, 1, width, device=r.device)
    half = 0.05 + 0.15 * r[:, 1:3]
    inside_x = (xs - r[:, 3:4]).abs() < half[:, :1]
    inside_y = (ys - r[:, 4:5]).abs() < half[:, 1:]
    mask = inside_y[:, None, :, None] & inside_x[:, None, None, :] & (r[:, 0] < COVERED).view(b, 1, 1, 1)
    colour = torch.stack([r[:, 5], 0.8 * r[:, 5] + 0.1 * r[:, 6], 0.7 * r[:, 5] + 0.2 * r[:, 6]], -1)[:, :, None, None]
    return torch.where(mask, colour, pictures)
