"""Numbers of a clip's frames without their noise, and without a lag.

Every value is fitted by a parabola over its neighbours, as many of them as agree with each other: half a second over a face at rest, a
single frame within a blink. (Local polynomials of the widest window that the intersection of confidence intervals allows: Katkovnik, "A
new method for varying adaptive bandwidth selection", 1999.) Windows are symmetric, so nothing comes late. On made signals in noise it left
less noise over rest and slow motion than the 1 euro filter run both ways, at the same height of blinks.

Shape letters: B frames, C channels, E expression coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..head.attributes import FaceAttributes

WIDTHS = (1.0, 1.5, 2.25, 3.4, 5.0)  # standard deviations of the windows in frames
CONFIDENCE = 1.0  # standard deviations of noise within which fits of two windows agree
# least noise that is assumed: that of a still face in a compressed clip comes in steps and cannot be seen in most frames
ANGLE, EXPRESSION, LIGHT = 0.002, 0.004, 0.004  # radians; shares of an expression; of the light
PLACE = 0.0005  # of the face's size
FOURTH = (1.0, -4.0, 6.0, -4.0, 1.0)
SPREAD = (35, 0.4538)  # that share, in percent, of normal values lies within so many standard deviations


def smooth(values: Tensor, floor: float = 0.0) -> Tensor:
    """Values (B,C) without their noise.

    Args:
        values: one row a frame.
        floor: least standard deviation of noise to assume.
    """
    if len(values) < 3:
        return values
    signal = values.double()
    noise = noise_of(signal).clamp_min(max(floor, 1e-12))
    low, high, best = signal - CONFIDENCE * noise, signal + CONFIDENCE * noise, signal
    agree = torch.ones_like(signal, dtype=torch.bool)
    for width in WIDTHS:
        window = parabola_window(width).to(signal)
        radius = len(window) // 2
        if radius >= len(signal):
            break
        fitted = _filtered(signal, window)
        error = CONFIDENCE * noise * window.square().sum().sqrt()
        low, high = low.maximum(fitted - error), high.minimum(fitted + error)
        agree = agree & (low <= high)
        best = torch.where(agree, fitted, best)
    return best.to(values)


def noise_of(values: Tensor) -> Tensor:
    """(C,) the standard deviation of the noise in (B,C), from fourth differences, which motion hardly has. The quieter frames decide."""
    if len(values) < len(FOURTH):
        return torch.zeros_like(values[0])
    taps = torch.tensor(FOURTH).to(values)
    differences = torch.stack([tap * values[i : len(values) - len(FOURTH) + 1 + i] for i, tap in enumerate(FOURTH)]).sum(0)
    percent, deviations = SPREAD
    return differences.abs().quantile(percent / 100, 0) / deviations / taps.square().sum().sqrt()


def parabola_window(width: float) -> Tensor:
    """(2 R + 1,) what gives the middle of the parabola through values weighted by a Gaussian; sums to 1."""
    radius = int(3 * width) + 1
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (place / width) ** 2)
    second, fourth = (weight * place**2).sum(), (weight * place**4).sum()
    window = weight * (fourth - second * place**2)
    return window / window.sum()


def _filtered(signal: Tensor, window: Tensor) -> Tensor:
    """(B,C) by a symmetric window; beyond its ends a signal goes on as its own reflection in the end, which keeps slopes."""
    radius = len(window) // 2
    before = 2 * signal[:1] - signal[1 : radius + 1].flip(0)
    after = 2 * signal[-1:] - signal[-radius - 1 : -1].flip(0)
    padded = torch.cat([before, signal, after])
    result = torch.zeros_like(signal)
    for index, weight in enumerate(window.tolist()):
        result += weight * padded[index : index + len(signal)]
    return result


def steadied(numbers: FaceAttributes, shots: Sequence[slice]) -> FaceAttributes:
    """Numbers of one person's B frames without noise: shape and skin are the person's, all else is smoothed within every shot.

    Args:
        numbers: one row a frame, with the camera of one square for all.
        shots: runs of frames between cuts and gaps.
    """
    parts = [_steady_shot(numbers[shot]) for shot in shots]
    joined = FaceAttributes.cat(parts)

    def own(values: Tensor) -> Tensor:
        return values.mean(0, keepdim=True).expand_as(values)

    detail = None if joined.detail is None else own(joined.detail)
    return replace(joined, shape=own(joined.shape), albedo=own(joined.albedo), detail=detail)


def _steady_shot(numbers: FaceAttributes) -> FaceAttributes:
    scale, place = numbers.camera[:, :1], numbers.camera[:, :1] * numbers.camera[:, 1:]
    unit = float(scale.median())
    scale = smooth(scale.clamp_min(1e-6).log(), PLACE).exp()
    place = smooth(place, PLACE * unit)
    return replace(
        numbers,
        pose=_rotations(numbers.pose),
        camera=torch.cat([scale, place / scale], 1),
        expression=smooth(numbers.expression, EXPRESSION),
        light=smooth(numbers.light.flatten(1), LIGHT).reshape(numbers.light.shape),
    )


def _rotations(pose: Tensor) -> Tensor:
    """Axis-angle (B,R,3), smoothed as turns away from the middle frame's, where they add."""
    matrices = axis_angle_to_matrix(pose.double())
    middle = matrices[len(matrices) // 2]
    turns = matrix_to_axis_angle(middle.transpose(-1, -2) @ matrices)
    turns = smooth(turns.flatten(1), ANGLE).reshape(turns.shape)
    return matrix_to_axis_angle(middle @ axis_angle_to_matrix(turns)).to(pose)
