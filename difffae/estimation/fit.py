"""Image -> FaceAttributes by regularised least squares: the estimator of the `open` profile.

Shape letters: B batch, N landmarks (478), S shape, E expression, A albedo coefficients, P skin pixels.
Axes: x right in the image, y up, z to the viewer; landmarks arrive in pixels, y down.

Geometry: Gauss-Newton on all landmarks for the head's turn (neck joint), camera, shape and expression. Priors: shape
coefficients are unit normal, expression stays near the blendshape network's scores. Light: alternating ridge regression of
9x3 spherical harmonics and albedo coefficients on the skin's pixels, outliers (hair, glasses, beards) down-weighted.
The tone components of the albedo have a loose prior and the light's mean a tight one, so that dark skin is not dim light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.errors import HeadModelMismatchError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..faces.blendshapes import BLENDSHAPE_NAMES
from ..head.attributes import FaceAttributes
from ..head.morphable import HeadModel
from ..head.rasterizer import interpolate, rasterize
from ..head.shading import project, sh_basis, vertex_normals
from .offsets import LandmarkOffsets

if TYPE_CHECKING:
    from ..head.detail import DetailSurface

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# fmt: off
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324)
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375)
LIDS = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
        263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
# fmt: on
EYE_CORNERS = ((33, 133), (263, 362))  # outer and inner corner of the eye at image left, at image right


@dataclass(frozen=True)
class FitOptions:
    """Strengths of the fit: standard deviations (sigma) of measurements and priors, and how it goes on. Smaller sigmas hold firmer."""

    iterations: int = 7
    landmark_sigma: float = 0.025  # of the inter-ocular distance
    depth_sigma: float = 0.15  # landmark z is only a hint
    oval_sigma: float = 2.0  # the face oval is this many times less certain
    # lips and lids are more certain: what lies between them must come apart in the photograph as on the head, else closed lips keep teeth
    inner_lips_sigma: float = 0.2
    outer_lips_sigma: float = 0.4
    lids_sigma: float = 0.4
    expression_sigma: float = 0.12
    shape_sigma: float = 1.0
    light_size: int = 96  # light is fitted at this resolution
    light_rounds: int = 5
    ambient_sigma: float = 0.12  # of the light's mean, per channel
    band_sigma: float = 0.15  # of the other eight coefficients, in units of shading
    tint_sigma: float = 0.04  # of every channel's mean around the grey light's: ruddy skin is no red light
    chroma_sigma: float = 0.01  # of every channel's bands around the grey light's: colour casts are weaker than shadows
    albedo_sigma: float = 1.0  # of the tone components
    tone_count: int = 2  # how many there are; the others describe beards, freckles, make-up ...
    detail_sigma: float = 0.3  # ... and must not explain light away
    pixel_sigma: float = 0.05
    outlier_sigma: float = 0.4  # errors of the pixels' mean colour beyond this lose weight; with 0.15 the dark side of a face lost it, too
    # Texture and missed shadows are shares of the skin's colour, so both sigmas grow with the face's own albedo, from this one; None: one
    # for all, which reads the same light weaker off dark skin
    typical_albedo: float | None = 0.35
    white: float = 0.98  # colours from here on are clipped: what is brighter still agrees with them
    ears: bool = True  # whether they count as skin: hair often covers them
    edge: float = 0.4  # normals whose z is below this count less
    core: float = 0.0  # power of the normals' z in the first round's weights: what looks ahead says first what the skin is like
    pixel_count: float = 20.0  # effective number of independent skin pixels

    @classmethod
    def wary_of_hair(cls) -> FitOptions:
        """For hair that hangs over the face: bright hair beside dark skin is else taken for light from the side."""
        return cls(ears=False, edge=0.8, core=6.0, outlier_sigma=0.15)


def inter_ocular(landmarks: Tensor) -> Tensor:
    """Distance of the eye centres: landmarks (B,N,>=2) -> (B,)."""
    left = landmarks[:, list(EYE_CORNERS[0]), :2].mean(1)
    right = landmarks[:, list(EYE_CORNERS[1]), :2].mean(1)
    return (left - right).norm(dim=-1)


class LandmarkFit(nn.Module):
    """Fits a head model to photographs. Holds only constants that derive from the head model."""

    base: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    neck0: Tensor
    neck_basis: Tensor
    neck_weight: Tensor
    sigma: Tensor
    score_order: Tensor
    surface: DetailSurface | None = None  # no wrinkles

    def __init__(
        self,
        head: HeadModel,
        options: FitOptions | None = None,
        offsets: LandmarkOffsets | None = None,
        hair: nn.Module | None = None,
    ) -> None:
        """Prepare for one head.

        Args:
            head: the head model.
            options: strengths of the priors and the like.
            offsets: correct the landmark network's points by yaw; None takes landmarks for exact points of
                the mesh.
            hair: pictures (B,3,H,W) -> share of hair (B,1,H,W), which light is not read off (HairFinder);
                None: all that the head's skin covers is skin.

        Raises:
            HeadModelMismatchError: offsets of another head.
        """
        super().__init__()
        if offsets is not None and offsets.head != head.name:
            raise HeadModelMismatchError(f"landmark offsets: made for head '{offsets.head}', not '{head.name}'; load the ones of that head")
        self.options = options or FitOptions()
        self.head = head
        self.offsets = offsets
        self.hair = hair
        base, shape_basis, expression_basis, neck0, neck_basis, neck_weight = landmark_bases(head)
        for name, value in (
            ("base", base), ("shape_basis", shape_basis), ("expression_basis", expression_basis),
            ("neck0", neck0), ("neck_basis", neck_basis), ("neck_weight", neck_weight),
        ):  # fmt: skip
            self.register_buffer(name, value, persistent=False)
        sigma = torch.ones(base.shape[0])
        o = self.options
        parts = ((FACE_OVAL, o.oval_sigma), (INNER_LIPS, o.inner_lips_sigma), (OUTER_LIPS, o.outer_lips_sigma), (LIDS, o.lids_sigma))
        for points, share in parts:
            sigma[list(points)] = share
        self.register_buffer("sigma", sigma, persistent=False)
        order = [BLENDSHAPE_NAMES.index(name) if name in BLENDSHAPE_NAMES else -1 for name in head.expression_names]
        self.register_buffer("score_order", torch.tensor(order), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor, landmarks: Tensor, blendshapes: Tensor, known: Tensor | None = None) -> FaceAttributes:
        """The numbers of faces.

        Args:
            images: (B,3,H,W) RGB 0..1.
            landmarks: (B,478,3) in their pixels.
            blendshapes: (B,52) scores of the landmark network.
            known: (B,1,H,W), 0 where a crop left its picture; None for all known.

        Returns:
            B faces; their camera is that of the images.
        """
        height, width = images.shape[-2:]
        face = self.fit_geometry(landmarks, blendshapes, height, width)
        if self.hair is not None:
            bare = 1 - self.hair(images)
            known = bare if known is None else known * bare
        return self.fit_light(images, face, known)

    def fit_geometry(self, landmarks: Tensor, blendshapes: Tensor, height: int, width: int) -> FaceAttributes:
        """Shape, expression, neck rotation and camera; light is neutral. Arguments as `forward`."""
        o, device = self.options, landmarks.device
        b = landmarks.shape[0]
        s_count, e_count = self.shape_basis.shape[0], self.expression_basis.shape[0]
        # to -1..1 with y up; z in the same unit as x, towards the viewer
        target = torch.stack(
            [landmarks[..., 0] * 2 / width - 1, 1 - landmarks[..., 1] * 2 / height, -landmarks[..., 2] * 2 / width], -1
        ).float()
        scale = inter_ocular(torch.stack([target[..., 0], target[..., 1]], -1))
        scores = torch.where(self.score_order >= 0, blendshapes[:, self.score_order.clamp_min(0)].float(), torch.zeros((), device=device))

        rotation, camera = procrustes(self.base - self.neck0, target)
        camera[:, 1:] -= self.neck0[:2]  # the turn is about the neck joint, not the origin
        seen = target
        shape = torch.zeros(b, s_count, device=device)
        expression = scores.clone()
        weight = 1 / (o.landmark_sigma * self.sigma[None] * scale[:, None])  # (B,N)
        depth_weight = 1 / (o.depth_sigma * self.sigma[None] * scale[:, None])
        # correlated residuals: 3N equations carry the information of about 100
        strength = (100 / (3 * weight.shape[1])) ** 0.5
        weights = strength * torch.stack([weight, weight, depth_weight], -1)  # (B,N,3)
        prior = torch.cat(
            [
                torch.full((7,), 1e-6, device=device),
                torch.full((s_count,), 1 / o.shape_sigma**2, device=device),
                torch.full((e_count,), 1 / o.expression_sigma**2, device=device),
            ]
        )
        depth_shift = torch.zeros(b, device=device)
        clamped = torch.zeros(b, e_count, dtype=torch.bool, device=device)
        for _ in range(o.iterations):
            target = self._without_offsets(seen, rotation, scale)
            model, jacobian = self._linearise(rotation, camera, depth_shift, shape, expression)
            residual = ((target - model) * weights).flatten(1)
            j = (jacobian * weights[..., None]).flatten(1, 2)  # (B,3N,7+S+E)
            pull = torch.cat([torch.zeros(b, 7, device=device), -shape, scores - expression], 1)
            lam = prior.repeat(b, 1)
            # coefficients that left 0..1 are pushed back by a stiff prior
            lam[:, 7 + s_count :] = torch.where(clamped, lam[:, 7 + s_count :] * 100, lam[:, 7 + s_count :])
            bound = expression.clamp(0, 1)
            pull[:, 7 + s_count :] = torch.where(clamped, bound - expression, pull[:, 7 + s_count :])
            normal = j.transpose(1, 2) @ j + torch.diag_embed(lam)
            right = (j.transpose(1, 2) @ residual[..., None])[..., 0] + lam * pull
            step = torch.linalg.solve(normal, right)
            rotation = axis_angle_to_matrix(step[:, :3]) @ rotation
            camera = camera + step[:, 3:6]
            depth_shift = depth_shift + step[:, 6]
            shape = shape + step[:, 7 : 7 + s_count]
            expression = expression + step[:, 7 + s_count :]
            clamped = (expression < 0) | (expression > 1)
        pose = torch.zeros(b, 5, 3, device=device)
        pose[:, 1] = matrix_to_axis_angle(rotation)
        light = torch.zeros(b, 9, 3, device=device)
        light[:, 0] = 1 / sh_basis(torch.zeros(1, 3, device=device))[0, 0]
        albedo = torch.zeros(b, self.head.albedo_count, device=device)
        return FaceAttributes(self.head.name, shape, albedo, pose, camera, expression.clamp(0, 1), light)

    def _without_offsets(self, points: Tensor, rotation: Tensor, scale: Tensor) -> Tensor:
        """Landmarks (B,N,3) in -1..1, y up, moved to where the mesh's own points should lie, given the head's turn."""
        if self.offsets is None:
            return points
        yaw, _, roll = to_yaw_pitch_roll(matrix_to_axis_angle(rotation)).unbind(-1)
        x, y = (self.offsets(yaw, roll) * scale[:, None, None]).unbind(-1)
        return points - torch.stack([x, -y, torch.zeros_like(x)], -1)

    def landmarks(self, face: FaceAttributes, size: int) -> Tensor:
        """Where the landmark network would see a face's landmarks, in pixels of a square of that size: (B,N,2)."""
        points = self.head.landmarks(project(self.head(face.shape, face.expression, face.pose), face.camera))
        pixels = (points[..., :2] + 1) * size / 2
        if self.offsets is None:
            return pixels
        yaw, _, roll = to_yaw_pitch_roll(face.pose[:, 1]).unbind(-1)
        return pixels + self.offsets(yaw, roll) * inter_ocular(pixels)[:, None, None]

    def _linearise(self, rotation: Tensor, camera: Tensor, shift: Tensor, shape: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Projected landmarks (B,N,3) and their Jacobian (B,N,3,7+S+E); unknowns: rotation 3, camera 3, depth shift, S, E."""
        b, n = shape.shape[0], self.base.shape[0]
        points = (
            self.base
            + torch.einsum("bs,snk->bnk", shape, self.shape_basis)
            + torch.einsum("be,enk->bnk", expression, self.expression_basis)
        )
        neck = self.neck0 + shape @ self.neck_basis  # (B,3)
        w = self.neck_weight[None, :, None]
        arm = (points - neck[:, None]) @ rotation.transpose(1, 2)  # turned, relative to the neck joint
        posed = w * (arm + neck[:, None]) + (1 - w) * points
        s = camera[:, None, :1]
        moved = torch.stack([posed[..., 0] + camera[:, None, 1], posed[..., 1] + camera[:, None, 2], posed[..., 2]], -1)
        model = s * moved
        model[..., 2] = model[..., 2] + shift[:, None]
        columns = torch.zeros(b, n, 3, 7, device=shape.device)
        arm_w = s * w * arm
        x, y, z = arm_w.unbind(-1)
        columns[..., 1, 0], columns[..., 2, 0] = -z, y  # d/d(rotation about x) = e_x cross arm
        columns[..., 0, 1], columns[..., 2, 1] = z, -x
        columns[..., 0, 2], columns[..., 1, 2] = -y, x
        columns[..., 3] = moved
        columns[..., 0, 4] = s[..., 0]
        columns[..., 1, 5] = s[..., 0]
        columns[..., 2, 6] = 1
        basis = torch.cat([self.shape_basis, self.expression_basis])  # (S+E,N,3)
        neck_all = torch.cat([self.neck_basis, torch.zeros(self.expression_basis.shape[0], 3, device=shape.device)])
        turn = w[..., None] * rotation[:, None] + (1 - w[..., None]) * torch.eye(3, device=shape.device)  # (B,N,3,3)
        linear = torch.einsum("bnij,knj->bnik", turn, basis)
        still = neck_all.T[None] - rotation @ neck_all.T[None]  # (B,3,S+E): (1 - R) d(neck)
        linear = linear + w[..., None] * still[:, None]
        return model, torch.cat([columns, s[..., None] * linear], -1)

    def fit_light(self, images: Tensor, face: FaceAttributes, known: Tensor | None = None) -> FaceAttributes:
        """SH light (B,9,3) and albedo coefficients from the skin's pixels; geometry is kept."""
        o, head, size = self.options, self.head, self.options.light_size
        b = images.shape[0]
        small = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
        vertices = head(face.shape, face.expression, face.pose)
        normals_v = vertex_normals(vertices, head.faces)
        raster = rasterize(project(vertices, face.camera), head.faces, size, size)
        normals = F.normalize(interpolate(raster, head.faces, normals_v), dim=1)
        mean, basis = head.albedo_samples(raster)  # (B,3,h,w), (B,A,3,h,w)
        skin = (head.skin_mask(raster) if o.ears else head.part_mask(raster, "face"))[:, None].to(images.dtype)  # (B,1,h,w)
        weight = skin * (normals[:, 2:3] / o.edge).clamp(0, 1)
        if known is not None:
            weight = weight * F.interpolate(known, (size, size), mode="area")
        # pixels as rows
        pixels = small.flatten(2).transpose(1, 2)  # (B,P,3)
        sh = sh_basis(normals.flatten(2).transpose(1, 2))  # (B,P,9)
        mean, basis = mean.flatten(2).transpose(1, 2), basis.flatten(3).permute(0, 3, 2, 1)  # (B,P,3), (B,P,3,A)
        weight = weight.flatten(2).transpose(1, 2)  # (B,P,1)
        base_weight = weight * (o.pixel_count / weight.sum(1, keepdim=True).clamp_min(1)) / o.pixel_sigma**2
        k0 = sh_basis(torch.zeros(1, 3, device=images.device))[0, 0]
        light0 = torch.zeros(9, device=images.device)
        light0[0] = 1 / k0
        light = light0[None, :, None].repeat(b, 1, 3)
        norms = sh.square().mean((0, 1)).sqrt().clamp_min(0.05)
        sigma = o.band_sigma / norms
        sigma[0] = o.ambient_sigma / k0
        grey_prior = torch.diag(1 / sigma**2)
        tint = o.chroma_sigma / norms
        tint[0] = o.tint_sigma / k0
        tint_prior = torch.diag(1 / tint**2)
        alpha = torch.zeros(b, basis.shape[-1], device=images.device)
        robust = normals[:, 2:3].flatten(2).transpose(1, 2).clamp(0, 1) ** o.core
        spread = torch.full((basis.shape[-1],), o.detail_sigma, device=images.device)
        spread[: o.tone_count] = o.albedo_sigma
        albedo_prior = torch.diag(1 / spread**2)
        brightness = torch.ones(b, 1, 1, device=images.device)  # of the face's albedo, 1 for the typical one
        albedo = mean
        for _ in range(o.light_rounds):
            shading = sh @ light  # (B,P,3)
            y = torch.where(pixels < o.white, pixels, pixels.maximum(albedo * shading))
            wgt = base_weight * robust / brightness**2
            j = (basis * shading[..., None]).flatten(1, 2)  # (B,3P,A)
            r = (y - mean * shading).flatten(1)[..., None]
            wj = j * wgt.expand(-1, -1, 3).reshape(b, -1, 1)
            alpha = torch.linalg.solve(wj.transpose(1, 2) @ j + albedo_prior, wj.transpose(1, 2) @ r)[..., 0]
            albedo = (mean + (basis @ alpha[:, None, :, None])[..., 0]).clamp(0.02, 1.0)
            if o.typical_albedo is not None:
                level = (albedo.mean(-1, keepdim=True) * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
                brightness = (level / o.typical_albedo).clamp_min(0.1)
                wgt = base_weight * robust / brightness**2
            grey = _ridge(sh, albedo.mean(-1, keepdim=True), y.mean(-1, keepdim=True), wgt, light0.expand(b, 9), grey_prior)
            columns = [_ridge(sh, albedo[..., c : c + 1], y[..., c : c + 1], wgt, grey, tint_prior) for c in range(3)]
            light = torch.stack(columns, -1)
            error = (albedo * (sh @ light) - y).mean(-1, keepdim=True).abs() / brightness
            robust = 1 / (1 + (error / o.outlier_sigma) ** 2)
        return replace(face, albedo=alpha, light=light)


def _ridge(sh: Tensor, albedo: Tensor, colour: Tensor, weight: Tensor, centre: Tensor, prior: Tensor) -> Tensor:
    """Light (B,9) of one channel that explains colour = albedo * sh @ light, (B,P,1) each with sh (B,P,9), pulled towards centre (B,9)."""
    columns = sh * albedo
    weighted = (columns * weight).transpose(1, 2)
    return torch.linalg.solve(weighted @ columns + prior, weighted @ colour + (prior @ centre[..., None]))[..., 0]


def procrustes(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled rigid motion of points onto others by least squares.

    Args:
        points: (N,3).
        target: (B,N,3).

    Returns:
        rotation (B,3,3) and camera (B,3) of p = s (R x + t).
    """
    centre, goal = points.mean(0), target.mean(1)
    x, y = points - centre, target - goal[:, None]
    u, singular, vt = torch.linalg.svd(torch.einsum("bni,nj->bij", y, x))
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.det(u @ vt).sign()
    rotation = u @ torch.diag_embed(sign) @ vt
    scale = (singular * sign).sum(-1) / x.square().sum()
    t = goal / scale[:, None] - (rotation @ centre)
    return rotation, torch.stack([scale, t[:, 0], t[:, 1]], -1)


def landmark_bases(head: HeadModel) -> tuple[Tensor, ...]:
    """Landmarks and neck joint as linear functions of shape and expression, from the unposed head.

    Args:
        head: a head with landmarks.

    Returns:
        base (N,3), shape (S,N,3), expression (E,N,3), neck0 (3,), neck (S,3), neck_weight (N,): how far
        each landmark follows the neck, 0..1.
    """
    with torch.no_grad():
        s_count, e_count = head.shape_count, head.expression_count
        shape = torch.cat([torch.zeros(1, s_count), torch.eye(s_count), torch.zeros(e_count, s_count)])
        expression = torch.cat([torch.zeros(1 + s_count, e_count), torch.eye(e_count)])
        still = torch.zeros(shape.shape[0], 5, 3)
        vertices = head(shape, expression, still)
        points = head.landmarks(vertices)
        joints = head.joints(shape)[:, 1]
        turned = torch.zeros(1, 5, 3)
        turned[0, 1, 1] = 1e-2
        moved = head.landmarks(head(shape[:1], expression[:1], turned))
        full = (points[:1] - joints[:1]) @ axis_angle_to_matrix(turned[0, 1]).T + joints[:1]
        reach = (full - points[:1]).norm(dim=-1).clamp_min(1e-9)
        weight = ((moved - points[:1]).norm(dim=-1) / reach)[0].clamp(0, 1)
    s = slice(1, 1 + s_count)
    e = slice(1 + s_count, None)
    return points[0], points[s] - points[:1], points[e] - points[:1], joints[0], joints[s] - joints[:1], weight
