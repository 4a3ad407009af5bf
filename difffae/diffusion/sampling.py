"""Sampling of the conditioned latent diffusion model, as a pure function (paper 5.1, appendix E).

Shape letters: B batch, Z latent channels, h and w latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from ..common.errors import ConfigError
from .conditions import Conditions
from .schedule import SAMPLERS, ScheduleConfig, alphas_cumprod, predicted_clean
from .solvers import make_solver

__all__ = ["SAMPLERS", "Conditions", "sample", "sampling_steps", "starting_noise"]

Predictor = Callable[[Tensor, Tensor, Conditions], Tensor]


def starting_noise(shape: tuple[int, ...] | torch.Size, seed: int, device: torch.device | str = "cpu", shared: bool = False) -> Tensor:
    """Standard normal noise (B,Z,h,w), drawn on the CPU so that a seed means the same on every device.

    shared gives every row the noise of the first: frames of a video then differ only by their conditions.
    """
    generator = torch.Generator().manual_seed(seed)
    if shared:
        return torch.randn((1, *shape[1:]), generator=generator).expand(shape).clone().to(device)
    return torch.randn(tuple(shape), generator=generator).to(device)


def sampling_steps(schedule: ScheduleConfig, sampler: str, steps: int) -> list[int]:
    """The noise levels that a full run visits, highest first."""
    return make_solver(sampler, schedule, steps).levels


@torch.no_grad()
def sample(
    denoiser: Predictor,
    conditions: Conditions,
    steps: int = 20,
    sampler: str = "dpmpp_2m",
    seed: int = 0,
    *,
    noise: Tensor | None = None,
    start: Tensor | None = None,
    start_strength: float = 1.0,
    finish: float | None = None,
    schedule: ScheduleConfig | None = None,
    callback: Callable[[int, int, Tensor], None] | None = None,
    progress: bool = False,
) -> Tensor:
    """Latents (B,Z,h,w) float32 from conditions.

    denoiser        a Denoiser, or any function (noisy, steps (B,), conditions) -> prediction
    steps           of a full run; with a start only round(steps * start_strength) of them are done, at least one
    sampler         "ddim" (paper, eta 0) or "dpmpp_2m"
    seed, noise     the noise, by a seed or given (B,Z,h,w)
    start           latents to start from instead of pure noise, such as the carried picture
    start_strength  0..1, how much of the noise schedule to go through: 1 forgets the start wherever the schedule ends in pure noise;
                    0 returns it unchanged
    finish          0..1, share of the noise schedule that is done in one step: the predicted clean latents at that level are the result.
                    A briefly trained model knows the mean better than the detail; 0 runs the schedule to its end; default: its config's
    schedule        needed only if the denoiser has no `config.schedule`
    callback        called as (done, total, latents) after every step; whatever it raises ends the sampling
    progress        show a progress bar on stderr

    Deterministic: equal arguments give equal latents on one device. Raises ConfigError for impossible options.
    """
    if steps < 1:
        raise ConfigError(f"sampling: {steps} steps; at least 1 is needed")
    if not 0 <= start_strength <= 1:
        raise ConfigError(f"sampling: start strength {start_strength} is outside 0..1")
    if schedule is None:
        schedule = getattr(getattr(denoiser, "config", None), "schedule", None)
    if not isinstance(schedule, ScheduleConfig):
        raise ConfigError("sampling: this denoiser has no schedule in its config; give one")
    finish = schedule.finish if finish is None else finish
    if not 0 <= finish <= 1:
        raise ConfigError(f"sampling: finish {finish} is outside 0..1")
    if start is not None and start_strength == 0:
        return start.float().clone()
    render = conditions.render
    if noise is None:
        noise = starting_noise(render.shape, seed, render.device)
    elif noise.shape != render.shape:
        raise ConfigError(f"sampling: noise {tuple(noise.shape)} must have the shape of the render, {tuple(render.shape)}")
    noise = noise.to(render.device, torch.float32)

    solver = make_solver(sampler, schedule, steps)
    alphas = alphas_cumprod(schedule)
    begin = 0 if start is None else len(solver.levels) - max(1, round(steps * start_strength))
    levels = solver.levels[begin:]
    latents = noise
    if start is not None:
        alpha = alphas[levels[0]]
        latents = (alpha.sqrt() * start.float() + (1 - alpha).sqrt() * noise).float()
    kind = schedule.prediction_type
    total = min(len(levels), 1 + sum(level >= finish * schedule.train_steps for level in levels)) if finish > 0 else len(levels)
    for done, level in enumerate(tqdm(levels[:total], disable=not progress, desc="sampling", leave=False), start=1):
        at = torch.full((len(conditions),), level, device=render.device)
        prediction = denoiser(latents, at, conditions).float()
        if done == total and finish > 0:
            latents = predicted_clean(latents, prediction, at, alphas.to(latents), kind)
        else:
            latents = solver.step(prediction, begin + done - 1, latents)
        if callback is not None:
            callback(done, total, latents)
    return latents
