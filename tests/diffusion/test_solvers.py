"""Our two samplers against diffusers' schedulers: levels, and every step of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from difffae.common.errors import ConfigError
from difffae.diffusion.schedule import SAMPLERS, ScheduleConfig, alphas_cumprod
from difffae.diffusion.solvers import make_solver

SCHEDULES = {
    "latent diffusion": ScheduleConfig(),
    "linear": ScheduleConfig(beta_schedule="linear"),
    "open-256": ScheduleConfig.open_256(),
    "trailing epsilon": ScheduleConfig(spacing="trailing"),
    "leading velocity": ScheduleConfig(prediction_type="v_prediction"),
    "few": replace(ScheduleConfig.open_256(), train_steps=60),
}


def their_scheduler(name: str, config: ScheduleConfig) -> Any:
    common: dict[str, Any] = {
        "num_train_timesteps": config.train_steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction_type,
        "timestep_spacing": config.spacing,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "steps_offset": 1 if config.spacing == "leading" else 0,
    }
    if name == "ddim":
        return DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=config.spacing == "trailing")
    final = {"final_sigmas_type": "zero", "euler_at_final": config.zero_terminal_snr}
    return DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2, **final)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 14, 15, 20, 48, 50])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_every_step_is_diffusers(sampler: str, name: str, steps: int, share: float) -> None:
    config = SCHEDULES[name]
    solver, scheduler = make_solver(sampler, config, steps), their_scheduler(sampler, config)
    scheduler.set_timesteps(steps)
    assert solver.levels == scheduler.timesteps.tolist()
    begin = steps - max(1, round(steps * share))
    if sampler == "dpmpp_2m":
        scheduler.set_begin_index(begin)
    g = torch.Generator().manual_seed(steps)
    ours = theirs = torch.randn(2, 4, 8, 8, generator=g)
    for index in range(begin, steps):
        prediction = torch.randn(2, 4, 8, 8, generator=g)
        ours = solver.step(prediction, index, ours)
        theirs = scheduler.step(prediction, scheduler.timesteps[index], theirs).prev_sample
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert torch.isfinite(ours).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_shares_of_signal_are_diffusers(name: str) -> None:
    theirs = their_scheduler("ddim", SCHEDULES[name]).alphas_cumprod
    torch.testing.assert_close(alphas_cumprod(SCHEDULES[name], torch.float32), theirs, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(alphas_cumprod(SCHEDULES[name]).float(), theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trailing_levels_are_as_many_as_asked_for(sampler: str) -> None:
    """diffusers 0.42 gives 62 for 61, the last of them -1."""
    for steps in (61, 103, 1000):
        levels = make_solver(sampler, ScheduleConfig.open_256(), steps).levels
        assert len(levels) == steps
        assert levels[0] == 999
        assert levels[-1] >= 0
        assert levels == sorted(set(levels), reverse=True)


def test_impossible_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown sampler 'euler'; choose from ddim, dpmpp_2m"):
        make_solver("euler", ScheduleConfig(), 20)
    with pytest.raises(ConfigError, match="1001 steps; 1 to 1000 are possible"):
        make_solver("ddim", ScheduleConfig(), 1001)
    with pytest.raises(ConfigError, match="1000 steps are too many for 1000 noise levels"):
        make_solver("dpmpp_2m", ScheduleConfig(), 1000)
    with pytest.raises(ConfigError, match="unknown spacing 'linspace'; choose from leading, trailing"):
        ScheduleConfig(spacing="linspace")
