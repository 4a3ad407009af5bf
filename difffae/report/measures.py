"""Numbers that say how good an edit is, measured again on pictures.

Shape letters: B batch, N landmarks (478), H and W image height and width.

All measures look at finished pictures with networks that know nothing of how the pictures were made: the landmarker's
points and blendshape scores, and the identity network. Quotients divide the error that is left by the error that was there:
0 is a perfect transfer, 1 is doing nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.pixels import gaussian_blur, pixel_grid
from ..faces.blendshapes import BLENDSHAPE_NAMES
from .skin_points import LEFT, LOWER, RIGHT, UPPER

# Scores that hardly depend on the person: jaw, smile, blink, mouth, gaze; brows, shrugs and presses say as much of who it is.
EXPRESSION_SCORES = (
    "jawOpen", "jawLeft", "jawRight", "mouthSmileLeft", "mouthSmileRight", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft",
    "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
)  # fmt: skip


def expression_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the person-independent scores: (B,52), (B,52) -> (B,)."""
    index = [BLENDSHAPE_NAMES.index(name) for name in EXPRESSION_SCORES]
    return (a[:, index] - b[:, index]).abs().mean(-1)


def luminance(image: Tensor) -> Tensor:
    """Linear luminance of sRGB pixels: (B,3,H,W) in 0..1 -> (B,1,H,W) (IEC 61966-2-1, Rec. 709 weights)."""
    linear = torch.where(image <= 0.04045, image / 12.92, ((image.clamp_min(0) + 0.055) / 1.055) ** 2.4)
    return (linear * image.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1, keepdim=True)


def light_direction(image: Tensor, landmarks: Tensor) -> Tensor:
    """Log-ratios of the skin's mean linear luminance, (left / right, upper / lower) half of the face: (B,2).

    image (B,3,H,W) in 0..1, landmarks (B,N,>=2) in its pixels. The skin is sampled at the landmarks that lie on it, after a blur of
    2 % of the face's height.
    """
    height, width = image.shape[-2:]
    face = (landmarks[:, 10, :2] - landmarks[:, 152, :2]).norm(dim=-1).mean().item()
    smooth = gaussian_blur(luminance(image), max(0.5, 0.02 * face))
    grid = landmarks[:, :, :2] / landmarks.new_tensor([width, height]) * 2 - 1
    values = F.grid_sample(smooth, grid[:, None].to(smooth.dtype), padding_mode="border", align_corners=False)[:, 0, 0]
    left, right, upper, lower = (values[:, list(points)].mean(-1).clamp_min(1e-3).log() for points in (LEFT, RIGHT, UPPER, LOWER))
    return torch.stack([left - right, upper - lower], -1)


def laplacian_variance(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sharpness: variance of the 4-neighbour Laplacian of the grey picture, (B,3,H,W) -> (B,), optionally inside a mask (B,1,H,W)."""
    grey = image.mean(1, keepdim=True)
    edges = 4 * grey[..., 1:-1, 1:-1] - grey[..., :-2, 1:-1] - grey[..., 2:, 1:-1] - grey[..., 1:-1, :-2] - grey[..., 1:-1, 2:]
    if mask is None:
        return edges.flatten(1).var(dim=1)
    weight = (mask[..., 1:-1, 1:-1] > 0.5).to(edges.dtype)
    count = weight.flatten(1).sum(1).clamp_min(1)
    mean = (edges * weight).flatten(1).sum(1) / count
    return ((edges - mean[:, None, None, None]).square() * weight).flatten(1).sum(1) / count


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB: (B,C,H,W) twice -> (B,); mask (B,1,H,W) selects pixels. Capped at 100 dB."""
    error = (a - b).square().mean(1, keepdim=True)
    mse = error.flatten(1).mean(1) if mask is None else (error * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1e-6)
    return -10 * torch.log10(mse.clamp_min(1e-10))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11x11, sigma 1.5, on grey pictures, (B,3,H,W) twice -> (B,)."""
    from kornia.metrics import ssim as ssim_map

    return ssim_map(a.mean(1, keepdim=True), b.mean(1, keepdim=True), window_size=11).flatten(1).mean(1)


def away_from_head(landmarks: Tensor, height: int, width: int, factor: float = 1.35) -> Tensor:
    """Mask (B,1,H,W) of background and clothes: 1 outside an ellipse around the head with its hair.

    The ellipse is centred above the middle of the face oval; its half axes are `factor` times the oval's height (down and up)
    and 0.85 times that (sideways), which leaves hair and neck inside.
    """
    top, chin = landmarks[:, 10, :2], landmarks[:, 152, :2]
    centre = (top + chin) / 2 + (top - chin) * 0.15
    radius = (top - chin).norm(dim=-1) * factor * 0.75
    grid = (pixel_grid(height, width, landmarks) + 1) / 2 * landmarks.new_tensor([width, height])
    offset = grid[None] - centre[:, None, None]
    distance = (offset[..., 0] / 0.85).square() + offset[..., 1].square()
    return (distance > radius[:, None, None].square())[:, None].to(landmarks.dtype)
