"""Noise schedule, prediction types and the conversions between them (paper section 3, Table 5).

Shape letters: B batch, Z latent channels, h and w latent height and width. Every step count is out of `train_steps`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..common.errors import ConfigError

PREDICTIONS = ("epsilon", "v_prediction")
SAMPLERS = ("ddim", "dpmpp_2m")
SPACINGS = ("leading", "trailing")
LDM_BETAS = {"latent-diffusion": (0.0015, 0.0195), "stable-diffusion": (0.00085, 0.012)}


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule. `scaled_linear` is linear in sqrt(beta): what latent diffusion calls "linear" (Table 5).

    LDM's VQ models use 0.0015..0.0195, Stable Diffusion 0.00085..0.012. With zero_terminal_snr the last step is pure noise, so that
    sampling starts where training ended; it needs v_prediction and goes with "trailing" spacing.
    """

    beta_start: float = 0.0015
    beta_end: float = 0.0195
    beta_schedule: str = "scaled_linear"
    train_steps: int = 1000
    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False
    finish: float = 0.0  # share of the schedule that a sampler does in one last step; see sampling.sample
    start: float = 1.0  # share of the schedule that an edit with carry goes through from the carried photograph; 1 is from noise alone
    spacing: str = "leading"  # LDM's steps 1, 51, ..., 951 for 20 steps; "trailing" ends at 999

    def __post_init__(self) -> None:
        if not 0 <= self.finish <= 1:
            raise ConfigError(f"schedule: finish {self.finish} is outside 0..1")
        if not 0 < self.start <= 1:
            raise ConfigError(f"schedule: start {self.start} is outside 0..1 or 0")
        if self.prediction_type not in PREDICTIONS:
            raise ConfigError(f"schedule: unknown prediction type '{self.prediction_type}'; choose from {', '.join(PREDICTIONS)}")
        if self.spacing not in SPACINGS:
            raise ConfigError(f"schedule: unknown spacing '{self.spacing}'; choose from {', '.join(SPACINGS)}")
        if self.zero_terminal_snr and self.prediction_type == "epsilon":
            raise ConfigError(
                "schedule: zero_terminal_snr needs prediction_type 'v_prediction', because pure noise says nothing of epsilon"
            )

    @classmethod
    def open_256(cls) -> ScheduleConfig:
        return cls(0.00085, 0.012, prediction_type="v_prediction", zero_terminal_snr=True, spacing="trailing", finish=0.4)

    @classmethod
    def latent_diffusion(cls, name: str = "latent-diffusion") -> ScheduleConfig:
        """The noise of the models that the paper builds on: "latent-diffusion" (with VQ-f8) or "stable-diffusion" (with KL-f8)."""
        if name not in LDM_BETAS:
            raise ConfigError(f"schedule: unknown '{name}'; choose from {', '.join(LDM_BETAS)}")
        return cls(*LDM_BETAS[name])

    def to_dict(self) -> dict:
        return asdict(self)


def alphas_cumprod(config: ScheduleConfig, dtype: torch.dtype = torch.float64) -> Tensor:
    """Share of signal variance that is left at every step: (train_steps,), falling."""
    if config.beta_schedule == "scaled_linear":
        betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.train_steps, dtype=dtype) ** 2
    elif config.beta_schedule == "linear":
        betas = torch.linspace(config.beta_start, config.beta_end, config.train_steps, dtype=dtype)
    else:
        raise ConfigError(f"schedule: unknown beta schedule '{config.beta_schedule}'; choose scaled_linear or linear")
    if config.zero_terminal_snr:
        betas = _zero_terminal_snr(betas)
    return torch.cumprod(1 - betas, dim=0)


def _zero_terminal_snr(betas: Tensor) -> Tensor:
    """Betas after which nothing of the signal is left: its amplitude is shifted to 0 at the last step and stretched to what it was at the
    first (Lin et al. 2024, arXiv:2305.08891, algorithm 1)."""
    amplitude = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = amplitude[0].clone(), amplitude[-1].clone()
    left = ((amplitude - last) * (first / (first - last))) ** 2
    return 1 - torch.cat([left[:1], left[1:] / left[:-1]])


def _alpha_sigma(alphas: Tensor, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    a = alphas.to(like.device)[steps].reshape(-1, *[1] * (like.dim() - 1))
    return a.sqrt().to(like.dtype), (1 - a).sqrt().to(like.dtype)


def add_noise(clean: Tensor, noise: Tensor, steps: Tensor, alphas: Tensor) -> Tensor:
    """z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) noise; clean and noise (B,Z,h,w), steps (B,) integers, alphas of alphas_cumprod."""
    alpha, sigma = _alpha_sigma(alphas, steps, clean)
    return alpha * clean + sigma * noise


def prediction_target(clean: Tensor, noise: Tensor, steps: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """What the network must answer: the noise, or v = sqrt(a_t) noise - sqrt(1 - a_t) z_0."""
    if prediction_type == "epsilon":
        return noise
    alpha, sigma = _alpha_sigma(alphas, steps, clean)
    return alpha * noise - sigma * clean


def predicted_clean(noisy: Tensor, prediction: Tensor, steps: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """The clean latents that a prediction implies; (B,Z,h,w)."""
    alpha, sigma = _alpha_sigma(alphas, steps, noisy)
    if prediction_type == "epsilon":
        return (noisy - sigma * prediction) / alpha
    return alpha * noisy - sigma * prediction


def snr_weights(steps: Tensor, alphas: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Min-SNR loss weights (Hang et al. 2023) for steps (B,) -> (B,); gamma 0 means all ones.

    epsilon: min(SNR, gamma)/SNR. v_prediction: min(SNR + 1, gamma)/(SNR + 1), that is, the error of the clean latents weighs
    min(SNR + 1, gamma). The paper of min-SNR has SNR instead of SNR + 1 there, which would leave the steps close to pure noise untrained;
    a strongly conditioned model decides most at just these.
    """
    if gamma <= 0:
        return torch.ones(steps.shape, device=steps.device)
    a = alphas.to(steps.device)[steps]
    snr = a / (1 - a)
    value = snr if prediction_type == "epsilon" else snr + 1
    return (value.clamp_max(gamma) / value).float()
