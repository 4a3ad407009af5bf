"""What a camera does to a synthetic portrait: blur, noise, JPEG. The labels stay those of the sharp picture.

Shape letters: B pictures, H and W their sides.
"""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...common.images import from_picture, to_picture
from ..people.randomness import generator

CLEAN = 0.3  # share of seeds without any loss


def photograph(images: Tensor, seed: int) -> Tensor:
    """(B,3,H,W) 0..1 as one camera records them: the same softness, noise level and JPEG quality for all, noise of its own for each."""
    rng = generator(seed, 11)
    clean = rng.random() < CLEAN
    sigma = float(rng.uniform(0.3, 0.9)) if rng.random() < 0.4 else 0.0
    grain, shot = float(rng.uniform(0, 0.008)), float(rng.uniform(0, 0.012))
    quality = int(rng.integers(78, 98)) if rng.random() < 0.6 else 0
    if clean:
        return images
    if sigma:
        taps = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
        taps = (taps / taps.sum()).expand(3, 1, 5)
        images = F.conv2d(F.pad(images, (2, 2, 0, 0), mode="replicate"), taps[:, :, None], groups=3)
        images = F.conv2d(F.pad(images, (0, 0, 2, 2), mode="replicate"), taps[..., None], groups=3)
    noise = torch.from_numpy(rng.normal(0, 1, images.shape)).float()
    images = (images + noise * (grain**2 + shot**2 * images).sqrt()).clamp(0, 1)
    subsampling = 0 if quality > 90 else 2
    return torch.stack([as_jpeg(image, quality, subsampling) for image in images]) if quality else images


def as_jpeg(image: Tensor, quality: int, subsampling: int = 2) -> Tensor:
    """(3,H,W) in 0..1 after JPEG. subsampling of the colours: 0 none, 2 by half both ways."""
    buffer = io.BytesIO()
    to_picture(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return from_picture(Image.open(buffer))
