"""The two deterministic samplers: DDIM (Song et al. 2021, arXiv:2010.02502, eta 0) and DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095).

Levels, formulas and rounding are those of diffusers' DDIMScheduler and DPMSolverMultistepScheduler (tests/diffusion/test_solvers.py holds
them to each other). They are written anew because importing diffusers takes longer than an edit.

Shape letters: B batch, Z latent channels, h and w latent height and width.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..common.errors import ConfigError
from .schedule import SAMPLERS, ScheduleConfig, alphas_cumprod

LEAST_ALPHA = 2**-24  # for the pure noise at the end of a zero-terminal-SNR schedule, where logarithms need more than 0


class Solver(Protocol):
    """One run through the noise. levels: the steps that a full run visits, out of the schedule's, highest first."""

    levels: list[int]

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        """From levels[index] to the next, or to no noise after the last. Called with rising indices, from any first one on.

        prediction and latents (B,Z,h,w) float32 -> (B,Z,h,w).
        """


class DDIM:
    """The paper's sampler."""

    def __init__(self, config: ScheduleConfig, steps: int) -> None:
        self._stride = config.train_steps // steps
        self.levels = _levels(config, steps, self._stride, 0)
        self._velocity = config.prediction_type == "v_prediction"
        self._alphas = alphas_cumprod(config, torch.float32)
        self._last = torch.tensor(1.0) if config.spacing == "trailing" else self._alphas[0]

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        level = self.levels[index]
        alpha, following = self._alphas[level], level - self._stride
        after = self._alphas[following] if following >= 0 else self._last
        if self._velocity:
            clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * prediction
            noise = alpha.sqrt() * prediction + (1 - alpha).sqrt() * latents
        else:
            clean = (latents - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
            noise = prediction
        return after.sqrt() * clean + (1 - after).sqrt() * noise


class DPMSolverPP:
    """DPM-Solver++ of second order by the clean latents of two steps, midpoint form; first order at the first and at the last step."""

    def __init__(self, config: ScheduleConfig, steps: int) -> None:
        self.levels = _levels(config, steps, config.train_steps // (steps + 1), 1)
        self._velocity = config.prediction_type == "v_prediction"
        alphas = alphas_cumprod(config, torch.float32)
        if config.zero_terminal_snr:
            alphas[-1] = LEAST_ALPHA
        sigmas = ((1 - alphas) / alphas).sqrt()
        self._sigmas = torch.cat([sigmas[self.levels], torch.zeros(1)])  # noise over signal
        self._before: Tensor | None = None  # clean latents of the step before

    def step(self, prediction: Tensor, index: int, latents: Tensor) -> Tensor:
        alpha, sigma, log_snr = self._at(index)
        next_alpha, next_sigma, next_log_snr = self._at(index + 1)
        clean = alpha * latents - sigma * prediction if self._velocity else (latents - sigma * prediction) / alpha
        before, self._before = self._before, clean
        step = next_log_snr - log_snr
        factor = next_alpha * (torch.exp(-step) - 1.0)
        moved = (next_sigma / sigma) * latents - factor * clean
        if before is None or index == len(self.levels) - 1:
            return moved
        ratio = (log_snr - self._at(index - 1)[2]) / step
        return moved - 0.5 * factor * ((1.0 / ratio) * (clean - before))

    def _at(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Share of signal, share of noise, and the logarithm of their ratio."""
        ratio = self._sigmas[index]
        alpha = 1 / (ratio**2 + 1).sqrt()
        sigma = ratio * alpha
        return alpha, sigma, torch.log(alpha) - torch.log(sigma)


def make_solver(name: str, config: ScheduleConfig, steps: int) -> Solver:
    """A fresh "ddim" (paper) or "dpmpp_2m". Raises ConfigError for another name, or for more steps than the schedule has."""
    if name not in SAMPLERS:
        raise ConfigError(f"unknown sampler '{name}'; choose from {', '.join(SAMPLERS)}")
    if not 1 <= steps <= config.train_steps:
        raise ConfigError(f"sampling: {steps} steps; 1 to {config.train_steps} are possible")
    return DDIM(config, steps) if name == "ddim" else DPMSolverPP(config, steps)


def _levels(config: ScheduleConfig, steps: int, stride: int, first: int) -> list[int]:
    """Evenly spaced, highest first. "trailing" ends where the schedule does; "leading" has one level every `stride`, from `first` on."""
    if config.spacing == "trailing":
        spread = np.arange(config.train_steps, 0, -config.train_steps / steps)[:steps]  # rounding may give one too many
        return [int(level) - 1 for level in spread.round()]
    if stride < 1:
        raise ConfigError(f"sampling: {steps} steps are too many for {config.train_steps} noise levels; ask for fewer")
    return [min(1 + stride * place, config.train_steps - 1) for place in range(first + steps - 1, first - 1, -1)]
