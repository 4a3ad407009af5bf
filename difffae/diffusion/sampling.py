"""Sampling of the conditioned latent diffusion model, as a pure function (paper 5.1, appendix E).

Shape letters: B batch, Z latent channels, h and w latent height and width, N evaluations of the denoiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.errors import ConfigError
from ..vocabulary import SAMPLERS, STEPS
from .conditions import Conditions
from .schedule import ScheduleConfig, alphas_cumprod, clipped

Predictor = Callable[[Tensor, Tensor, Conditions], Tensor]
LEAST_ALPHA = 4.8973451890853435e-08  # stands for the zero at the end of a zero-terminal-SNR schedule, in ComfyUI, too


def starting_noise(shape: tuple[int, ...] | torch.Size, seed: int, device: torch.device | str = "cpu", shared: bool = False) -> Tensor:
    """Standard normal noise, drawn on the CPU so that a seed means the same on every device.

    Args:
        shape: (B,Z,h,w).
        seed: of the generator.
        device: where the noise shall be.
        shared: give every row the noise of the first: frames of a video then differ only by their conditions.
    """
    generator = torch.Generator().manual_seed(seed)
    if shared:
        return torch.randn((1, *shape[1:]), generator=generator).expand(shape).clone().to(device)
    return torch.randn(tuple(shape), generator=generator).to(device)


def sampling_levels(schedule: ScheduleConfig, sampler: str, steps: int, denoise: float = 1.0) -> Tensor:
    """The noise levels at which the denoiser is asked, highest first: (N,) float64 out of `train_steps`.

    With a `finish` the levels lie evenly between pure noise and that share of the schedule, and the predicted clean latents at the
    last one are the result: a briefly trained model knows the mean better than the detail. These are the levels of ComfyUI's
    scheduler "normal". Without one they are those of latent diffusion ("leading") or end in pure noise ("trailing").

    Args:
        steps: N, at least 1.
        denoise: share of the levels to go through, the lowest: the last N of N / denoise. 1 is all of them.

    Raises:
        ConfigError: an unknown sampler, or a number outside its range.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(f"sampling: unknown sampler '{sampler}'; choose from {', '.join(SAMPLERS)}")
    if steps < 1:
        raise ConfigError(f"sampling: {steps} steps; at least 1 is needed")
    if not 0 < denoise <= 1:
        raise ConfigError(f"sampling: denoise {denoise} is outside 0..1, or 0, which leaves nothing to do")
    count, whole = int(steps / denoise), schedule.train_steps
    if schedule.finish > 0:
        last = min(round(schedule.finish * whole), whole - 1)
        levels = torch.linspace(whole - 1, last, count, dtype=torch.float64)
    elif schedule.spacing == "trailing":
        levels = (whole - torch.arange(count, dtype=torch.float64) * (whole / count)).round() - 1
    elif sampler == "ddim":
        levels = torch.arange(count, dtype=torch.float64).flip(0) * (whole // count) + 1
    else:
        levels = torch.arange(1, count + 1, dtype=torch.float64).flip(0) * (whole // (count + 1)) + 1
    return levels[count - steps :]


@dataclass(frozen=True)
class Level:
    """One noise level: `step` as the denoiser is told, alpha and sigma of noisy = alpha clean + sigma noise."""

    step: int
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """log(alpha / sigma), half the log of the signal-to-noise ratio."""
        return float(torch.tensor(self.alpha / self.sigma, dtype=torch.float64).log())


def levels_of(schedule: ScheduleConfig, places: Tensor) -> list[Level]:
    """Levels at real places (N,) of the schedule: log(sigma / alpha) is linear between two steps, and the denoiser is told the nearest."""
    shares = alphas_cumprod(schedule).clamp_min(LEAST_ALPHA)
    ratios = 0.5 * ((1 - shares) / shares).log()
    low = places.floor().long()
    ratio = torch.lerp(ratios[low], ratios[places.ceil().long()], places - low)
    nearest = (ratio[:, None] - ratios[None]).abs().argmin(1)
    alpha = (1 / (1 + (2 * ratio).exp())).sqrt()
    sigma = (2 * ratio).exp().sqrt() * alpha
    return [Level(int(n), float(a), float(s)) for n, a, s in zip(nearest, alpha, sigma, strict=True)]


@torch.no_grad()
def sample(
    denoiser: Predictor,
    conditions: Conditions,
    steps: int = STEPS,
    sampler: str = SAMPLERS[0],
    seed: int = 0,
    *,
    noise: Tensor | None = None,
    start: Tensor | None = None,
    denoise: float = 1.0,
    schedule: ScheduleConfig | None = None,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """Latents (B,Z,h,w) float32 from conditions. Deterministic: equal arguments give equal latents on one device.

    Args:
        denoiser: a Denoiser, or any function (noisy, steps (B,), conditions) -> prediction.
        steps: evaluations of the denoiser.
        sampler: "ddim" (the paper's, eta 0; Song et al. 2021) or "dpmpp_2m" (DPM-Solver++ 2M, Lu et al. 2022).
        seed, noise: the noise, by a seed or given (B,Z,h,w).
        start: latents to start from, such as the moved photograph's.
        denoise: 0..1, how much of the start is painted anew: 1 forgets it, 0 returns it unchanged. Needs a start below 1.
        schedule: needed only if the denoiser has no `config.schedule`.
        callback: called as (done, total, latents) after every step; whatever it raises ends the sampling.

    Raises:
        ConfigError: impossible options.
    """
    if schedule is None:
        schedule = getattr(getattr(denoiser, "config", None), "schedule", None)
    if not isinstance(schedule, ScheduleConfig):
        raise ConfigError("sampling: this denoiser has no schedule in its config; give one")
    if start is None and denoise < 1:
        raise ConfigError(f"sampling: denoise {denoise} needs latents to start from; give start, or leave denoise at 1")
    if start is not None and denoise == 0:
        return start.float().clone()
    render = conditions.render
    if noise is None:
        noise = starting_noise(render.shape, seed, render.device)
    elif noise.shape != render.shape:
        raise ConfigError(f"sampling: noise {tuple(noise.shape)} must have the shape of the render, {tuple(render.shape)}")
    noise = noise.to(render.device, torch.float32)
    levels = levels_of(schedule, sampling_levels(schedule, sampler, steps, denoise))
    first = levels[0]
    latents = noise if start is None or denoise == 1 else first.alpha * start.float() + first.sigma * noise
    end = _last_level(schedule, sampler)
    before: tuple[Tensor, float] | None = None  # the last clean estimate, and the step in log SNR that led from it
    for done, (level, target) in enumerate(zip(levels, [*levels[1:], end], strict=True), start=1):
        prediction = denoiser(latents, torch.full((len(conditions),), level.step, device=render.device), conditions).float()
        clean = _clean(latents, prediction, level, schedule)
        if target is None:
            latents = clean
        elif sampler == "ddim":
            latents = target.alpha * clean + target.sigma * (latents - level.alpha * clean) / level.sigma
        else:
            width = target.log_snr - level.log_snr
            estimate = clean if before is None else torch.lerp(before[0], clean, 1 + width / (2 * before[1]))
            latents = target.sigma / level.sigma * latents - target.alpha * torch.expm1(torch.tensor(-width)).item() * estimate
            before = (clean, width)
        if callback is not None:
            callback(done, len(levels), latents)
    return latents


def _clean(noisy: Tensor, prediction: Tensor, level: Level, schedule: ScheduleConfig) -> Tensor:
    """The clean latents that a prediction implies, within what the schedule lets through."""
    if schedule.prediction_type == "epsilon":
        clean = (noisy - level.sigma * prediction) / level.alpha
    else:
        clean = level.alpha * noisy - level.sigma * prediction
    return clipped(clean, schedule)


def _last_level(schedule: ScheduleConfig, sampler: str) -> Level | None:
    """Where the last step ends: None is the clean latents; latent diffusion's DDIM ends at the first step's noise."""
    if schedule.finish > 0 or schedule.spacing == "trailing" or sampler != "ddim":
        return None
    share = float(alphas_cumprod(schedule)[0])
    return Level(0, share**0.5, (1 - share) ** 0.5)
