"""Joining the carried photograph and what the model painted.

Shape letters: B batch, H and W picture sides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .carry import gaussian_blur


def composite(drawn: Tensor, carried: Tensor, validity: Tensor, low: float = 0.016, tolerance: float = 0.12) -> Tensor:
    """The carried photograph's sharp pixels where it is valid and agrees with the sample at low frequencies, else the sample's.

    drawn, carried (B,3,H,W) RGB 0..1; validity (B,1,H,W). low: standard deviation of the low-pass as a fraction of the side;
    tolerance: difference of the low-passed pictures at which the weight has fallen to 1/e. (Design decision 11.)
    """
    sigma = low * drawn.shape[-1]
    trusted = ((validity - 0.05) / 0.45).clamp(0, 1)
    # low-pass the carried picture over its valid pixels only: a hole must not spoil its neighbourhood's agreement
    weight = gaussian_blur(trusted, sigma).clamp_min(1e-4)
    difference = gaussian_blur((drawn - carried) * trusted, sigma) / weight
    agreement = torch.exp(-((difference.abs().amax(1, keepdim=True) / tolerance) ** 2))
    soft = gaussian_blur(trusted, 1.0).minimum(trusted) * agreement
    return drawn + soft * (carried - drawn)
