"""Schedules against latent diffusion's numbers, and the sampler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from places import SHARED
from torch import Tensor

from difffae.common.errors import ConfigError
from difffae.diffusion.conditions import Conditions
from difffae.diffusion.sampling import levels_of, sample, sampling_levels, starting_noise
from difffae.diffusion.schedule import (
    ScheduleConfig,
    add_noise,
    alphas_cumprod,
    predicted_clean,
    prediction_target,
    snr_weights,
)

GOLDEN = SHARED / "golden" / "schedule.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="golden numbers are not here")
V = replace(ScheduleConfig.open_256(), finish=0.0)


def conditions(batch: int = 1) -> Conditions:
    return Conditions(torch.zeros(batch, 4, 3), torch.zeros(batch, 2), torch.zeros(batch, 4, 8, 8))


@needs_golden
@pytest.mark.parametrize(
    ("name", "start", "end"), [("ldm_0015_0195", 0.0015, 0.0195), ("sd_00085_012", 0.00085, 0.012), ("churches_0015_0155", 0.0015, 0.0155)]
)
@pytest.mark.parametrize("kind", ["scaled_linear", "linear"])
def test_alphas_match_latent_diffusion(name: str, start: float, end: float, kind: str) -> None:
    golden = np.load(GOLDEN)["acp_" + ("plainlinear_" if kind == "linear" else "") + name]
    ours = alphas_cumprod(ScheduleConfig(start, end, kind))
    np.testing.assert_allclose(ours.numpy(), golden, atol=1e-9)


@needs_golden
@pytest.mark.parametrize("steps", [10, 20, 50, 100, 200])
def test_ddim_steps_match_latent_diffusion(steps: int) -> None:
    levels = sampling_levels(ScheduleConfig(), "ddim", steps)
    assert levels.tolist() == np.load(GOLDEN)[f"ldm_ddim_t_{steps}"][::-1].tolist()
    assert [level.step for level in levels_of(ScheduleConfig(), levels)] == levels.tolist()


@needs_golden
def test_ddim_trajectory_matches_latent_diffusion() -> None:
    """The toy model of the golden run is known by its clean estimates; fed with the noise they imply, every step must agree."""
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    alphas = golden["ddim20_alphas"]
    seen: list[Tensor] = []

    def toy(noisy: Tensor, steps: Tensor, _: Conditions) -> Tensor:
        done = len(seen)
        seen.append(noisy)
        a = alphas[19 - done]
        return ((noisy - a.sqrt() * golden["ddim20_pred_x0"][done + 1]) / (1 - a).sqrt()).float()

    out = sample(toy, conditions(), 20, "ddim", noise=golden["ddim20_x_T"], schedule=ScheduleConfig())
    torch.testing.assert_close(out, golden["ddim20_final"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(seen), golden["ddim20_traj"][:20], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [ScheduleConfig(), V])
def test_target_and_clean_are_inverse(config: ScheduleConfig) -> None:
    torch.manual_seed(0)
    clean, noise, steps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 400, 990])
    alphas = alphas_cumprod(config)
    noisy = add_noise(clean, noise, steps, alphas)
    target = prediction_target(clean, noise, steps, alphas, config.prediction_type)
    torch.testing.assert_close(predicted_clean(noisy, target, steps, alphas, config.prediction_type), clean, atol=1e-3, rtol=1e-3)


def test_zero_terminal_snr_ends_in_pure_noise() -> None:
    alphas = alphas_cumprod(V)
    assert alphas[-1].abs() < 1e-12
    assert sampling_levels(V, "ddim", 20)[0] == 999
    assert sampling_levels(V, "dpmpp_2m", 20)[0] == 999


def test_snr_weights() -> None:
    alphas = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    steps = torch.arange(3)
    torch.testing.assert_close(snr_weights(steps, alphas, "v_prediction", 5.0), torch.tensor([0.5, 1.0, 1.0]))
    torch.testing.assert_close(snr_weights(steps[:2], alphas, "epsilon", 5.0), torch.tensor([5 / 9, 1.0]))
    assert torch.equal(snr_weights(steps, alphas, "epsilon", 0.0), torch.ones(3))


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
@pytest.mark.parametrize("config", [ScheduleConfig(), V])
def test_perfect_predictor_finds_its_target(sampler: str, config: ScheduleConfig) -> None:
    """A model that knows the clean latents leads to them, whatever the noise."""
    torch.manual_seed(0)
    clean, alphas = torch.randn(2, 4, 8, 8), alphas_cumprod(config)

    def oracle(noisy: Tensor, steps: Tensor, _: Conditions) -> Tensor:
        a = alphas[steps].reshape(-1, 1, 1, 1)
        noise = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
        return prediction_target(clean, noise, steps, alphas, config.prediction_type).float()

    out = sample(oracle, conditions(2), 8, sampler, seed=3, schedule=config)
    assert (out - clean).abs().mean() < 0.05
    late = sample(oracle, conditions(2), 8, sampler, seed=3, schedule=config, start=torch.zeros(2, 4, 8, 8), denoise=0.5)
    assert (late - clean).abs().mean() < 0.05


def half(noisy: Tensor, steps: Tensor, _: Conditions) -> Tensor:
    return noisy * 0.5 + torch.sin(steps.float()).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_same_seed_same_latents(sampler: str) -> None:
    a, b, c = (sample(half, conditions(2), 5, sampler, seed=seed, schedule=V) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_start_and_callback(sampler: str) -> None:
    start = torch.full((1, 4, 8, 8), 2.0)
    assert torch.equal(sample(half, conditions(), 10, sampler, schedule=V, start=start, denoise=0.0), start)
    calls: list[tuple[int, int]] = []
    sample(half, conditions(), 3, sampler, schedule=V, start=start, denoise=0.3, callback=lambda i, n, x: calls.append((i, n)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_shared_noise() -> None:
    noise = starting_noise((3, 4, 8, 8), 0, shared=True)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(starting_noise((2, 4, 8, 8), 0)[0], starting_noise((2, 4, 8, 8), 0)[1])


def test_errors() -> None:
    with pytest.raises(ConfigError, match="clip_sample_range -1 is below 0"):
        ScheduleConfig(clip_sample_range=-1)
    with pytest.raises(ConfigError, match="at least 1"):
        sample(half, conditions(), 0, schedule=V)
    with pytest.raises(ConfigError, match="unknown sampler"):
        sample(half, conditions(), 2, "euler", schedule=V)
    with pytest.raises(ConfigError, match="no schedule"):
        sample(half, conditions(), 2)
    with pytest.raises(ConfigError, match="outside"):
        sample(half, conditions(), 2, schedule=V, start=torch.zeros(1, 4, 8, 8), denoise=2.0)
    with pytest.raises(ConfigError, match="needs latents to start from"):
        sample(half, conditions(), 2, schedule=V, denoise=0.5)
    with pytest.raises(ConfigError, match="shape of the render"):
        sample(half, conditions(), 2, schedule=V, noise=torch.zeros(1, 4, 4, 4))


def test_finish_takes_the_predicted_clean_latents() -> None:
    """A denoiser that knows the answer: wherever the schedule is cut, the answer comes out after as many evaluations."""
    answer = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    alphas = alphas_cumprod(V)
    calls = []

    def oracle(noisy, steps, conditions):
        calls.append(int(steps[0]))
        alpha, sigma = alphas[calls[-1]].sqrt().float(), (1 - alphas[calls[-1]]).sqrt().float()
        noise = (noisy - alpha * answer) / sigma
        return alpha * noise - sigma * answer

    conditions = Conditions(torch.zeros(1, 4, 192), torch.zeros(1, 8), torch.zeros(1, 4, 8, 8))
    for finish, last in ((0.0, 49), (0.5, 500), (0.999, 999)):
        calls.clear()
        result = sample(oracle, conditions, 20, "ddim", 0, schedule=replace(V, finish=finish))
        assert (len(calls), calls[0], calls[-1]) == (20, 999, last)
        assert torch.allclose(result, answer, atol=2e-3)


def test_denoise_goes_through_the_lowest_levels() -> None:
    """The levels of ComfyUI's KSampler: 10 steps at denoise 0.2 are the last 10 of 50."""
    schedule = replace(V, finish=0.4)
    whole = sampling_levels(schedule, "dpmpp_2m", 50)
    assert (whole[0].item(), whole[-1].item()) == (999, 400)
    assert torch.equal(sampling_levels(schedule, "dpmpp_2m", 10, 0.2), whole[40:])
    # between two steps the logarithm of the noise is linear
    between, low, high = levels_of(schedule, torch.tensor([500.25, 500.0, 501.0], dtype=torch.float64))
    assert between.log_snr == pytest.approx(0.75 * low.log_snr + 0.25 * high.log_snr)
    assert between.alpha**2 + between.sigma**2 == pytest.approx(1)


@pytest.mark.parametrize("config", [ScheduleConfig(), V])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_samplers_are_those_of_diffusers(config: ScheduleConfig, sampler: str) -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    common = {
        "num_train_timesteps": config.train_steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction_type,
        "timestep_spacing": config.spacing,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "steps_offset": 1 if config.spacing == "leading" else 0,
    }
    if sampler == "ddim":
        scheduler = DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=config.spacing == "trailing")
    else:
        more = {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
        scheduler = DPMSolverMultistepScheduler(**common, **more, euler_at_final=config.zero_terminal_snr)
    scheduler.set_timesteps(20)
    torch.manual_seed(0)
    noise = torch.randn(1, 4, 8, 8)

    def network(noisy: Tensor, steps: Tensor, _: Conditions) -> Tensor:
        return torch.sin(noisy * 2 + steps.reshape(-1, 1, 1, 1) / 300)

    latents = noise.clone()
    for level in scheduler.timesteps:
        latents = scheduler.step(network(latents, level.expand(1), conditions()), level, latents).prev_sample
    ours = sample(network, conditions(), 20, sampler, noise=noise, schedule=config)
    # diffusers' DDIM starts zero terminal SNR from exactly no signal, its DPM-Solver and ours from nearly none
    tolerance = 5e-3 if config.zero_terminal_snr and sampler == "ddim" else 2e-4
    torch.testing.assert_close(ours, latents, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_clean_latents_are_clipped_as_in_diffusers(sampler: str) -> None:
    from diffusers import DDIMScheduler

    config = ScheduleConfig(clip_sample_range=0.8)
    noise = starting_noise((1, 4, 8, 8), 0)

    def network(noisy: Tensor, steps: Tensor, _: Conditions) -> Tensor:
        return torch.sin(noisy * 2 + steps.reshape(-1, 1, 1, 1) / 300)

    ours = sample(network, conditions(), 20, sampler, noise=noise, schedule=config)
    free = sample(network, conditions(), 20, sampler, noise=noise, schedule=replace(config, clip_sample_range=0.0))
    assert free.abs().max() > 2
    # what is left is the noise of LDM's last level, sqrt(1 - alpha-bar) = 0.04, and DPM-Solver's extrapolation
    assert ours.abs().max() < 1
    far = replace(config, clip_sample_range=1e3)
    assert torch.equal(sample(network, conditions(), 20, sampler, noise=noise, schedule=far), free)
    if sampler == "ddim":
        common = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "steps_offset": 1}
        scheduler = DDIMScheduler(**common, clip_sample=True, clip_sample_range=0.8, set_alpha_to_one=False)
        scheduler.set_timesteps(20)
        latents = noise.clone()
        for level in scheduler.timesteps:
            prediction = network(latents, level.expand(1), conditions())
            latents = scheduler.step(prediction, level, latents, use_clipped_model_output=True).prev_sample
        torch.testing.assert_close(ours, latents, atol=2e-4, rtol=2e-4)
