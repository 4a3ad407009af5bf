"""Noise schedule, prediction types and the conversions between them (paper section 3, Table 5).

Shape letters: B batch, Z latent channels, h and w latent height and width. Every step count is out of `train_steps`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..common.errors import ConfigError

PREDICTIONS = ("epsilon", "v_prediction")
LDM_BETAS = {"latent-diffusion": (0.0015, 0.0195), "stable-diffusion": (0.00085, 0.012)}


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule. `scaled_linear` is linear in sqrt(beta): what latent diffusion calls "linear" (Table 5).

    LDM's VQ models use 0.0015..0.0195, Stable Diffusion 0.00085..0.012. With zero_terminal_snr the last step is pure noise, so that
    sampling starts where training ended; it needs v_prediction and goes with "trailing" spacing. From pure noise an error of a predicted
    epsilon weighs 1 / sqrt(alpha-bar) in the clean latents, 15 times at LDM's last step, and stays; `clip_sample_range` holds it back
    (diffusers' option of that name; DDPM's authors clip pixels the same way).

    Raises:
        ConfigError: options that cannot work together.
    """

    beta_start: float = 0.0015
    beta_end: float = 0.0195
    beta_schedule: str = "scaled_linear"
    train_steps: int = 1000
    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False
    finish: float = 0.0  # share of the schedule that a sampler does in one last step; see sampling.sampling_levels
    spacing: str = "leading"  # LDM's steps 1, 51, ..., 951 for 20 steps; "trailing" ends at 999
    clip_sample_range: float = 0.0  # largest predicted clean latent, of either sign, at every step of a sampler; 0 holds nothing back

    def __post_init__(self) -> None:
        if not 0 <= self.finish <= 1:
            raise ConfigError(f"schedule: finish {self.finish} is outside 0..1")
        if not self.clip_sample_range >= 0:
            raise ConfigError(f"schedule: clip_sample_range {self.clip_sample_range} is below 0")
        if self.prediction_type not in PREDICTIONS:
            raise ConfigError(f"schedule: unknown prediction type '{self.prediction_type}'; choose from {', '.join(PREDICTIONS)}")
        if self.zero_terminal_snr and self.prediction_type == "epsilon":
            raise ConfigError(
                "schedule: zero_terminal_snr needs prediction_type 'v_prediction', because pure noise says nothing of epsilon"
            )

    @classmethod
    def open_256(cls) -> ScheduleConfig:
        return cls(0.00085, 0.012, prediction_type="v_prediction", zero_terminal_snr=True, spacing="trailing", finish=0.4)

    @classmethod
    def latent_diffusion(cls, name: str = "latent-diffusion") -> ScheduleConfig:
        """The noise of the models that the paper builds on.

        Args:
            name: "latent-diffusion" (with VQ-f8) or "stable-diffusion" (with KL-f8).

        Raises:
            ConfigError: another name.
        """
        if name not in LDM_BETAS:
            raise ConfigError(f"schedule: unknown '{name}'; choose from {', '.join(LDM_BETAS)}")
        return cls(*LDM_BETAS[name])

    def to_dict(self) -> dict:
        return asdict(self)


def alphas_cumprod(config: ScheduleConfig) -> Tensor:
    """Share of signal variance that is left at every step: (train_steps,) float64, falling. Raises ConfigError for an unknown schedule."""
    if config.beta_schedule == "scaled_linear":
        betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.train_steps, dtype=torch.float64) ** 2
    elif config.beta_schedule == "linear":
        betas = torch.linspace(config.beta_start, config.beta_end, config.train_steps, dtype=torch.float64)
    else:
        raise ConfigError(f"schedule: unknown beta schedule '{config.beta_schedule}'; choose scaled_linear or linear")
    if config.zero_terminal_snr:
        betas = _zero_terminal_snr(betas)
    return torch.cumprod(1 - betas, dim=0)


def _zero_terminal_snr(betas: Tensor) -> Tensor:
    """Betas whose last step is pure noise and whose first stays (Lin et al. 2023, "Common diffusion noise schedules and sample steps
    are flawed", algorithm 1)."""
    signal = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = signal[0].clone(), signal[-1].clone()
    signal = (signal - last) * (first / (first - last))
    share = signal**2
    return 1 - torch.cat([share[:1], share[1:] / share[:-1]])


def clipped(clean: Tensor, config: ScheduleConfig) -> Tensor:
    """Predicted clean latents, of any shape, within the range that samplers keep them in."""
    largest = config.clip_sample_range
    return clean.clamp(-largest, largest) if largest > 0 else clean


def _alpha_sigma(alphas: Tensor, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    a = alphas.to(like.device)[steps].reshape(-1, *[1] * (like.dim() - 1))
    return a.sqrt().to(like.dtype), (1 - a).sqrt().to(like.dtype)


def add_noise(clean: Tensor, noise: Tensor, steps: Tensor, alphas: Tensor) -> Tensor:
    """z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) noise (z_t of Eq. 1).

    Args:
        clean, noise: (B,Z,h,w).
        steps: (B,) integers t.
        alphas: of `alphas_cumprod`.

    Returns:
        (B,Z,h,w).
    """
    alpha, sigma = _alpha_sigma(alphas, steps, clean)
    return alpha * clean + sigma * noise


def prediction_target(clean: Tensor, noise: Tensor, steps: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """What the network must answer: the noise, as in Eq. 1, or v = sqrt(a_t) noise - sqrt(1 - a_t) z_0.

    Args:
        clean, noise: (B,Z,h,w).
        steps: (B,) integers t.
        alphas: of `alphas_cumprod`.
        prediction_type: one of PREDICTIONS.

    Returns:
        (B,Z,h,w).
    """
    if prediction_type == "epsilon":
        return noise  # the epsilon of Eq. 1
    alpha, sigma = _alpha_sigma(alphas, steps, clean)
    return alpha * noise - sigma * clean


def predicted_clean(noisy: Tensor, prediction: Tensor, steps: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """The clean latents that a prediction implies; arguments as `prediction_target`, noisy (B,Z,h,w) in place of clean and noise."""
    alpha, sigma = _alpha_sigma(alphas, steps, noisy)
    if prediction_type == "epsilon":
        return (noisy - sigma * prediction) / alpha
    return alpha * noisy - sigma * prediction


def snr_weights(steps: Tensor, alphas: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Min-SNR loss weights (Hang et al. 2023).

    For "epsilon": min(SNR, gamma) / SNR. For "v_prediction": min(SNR + 1, gamma) / (SNR + 1), that is, the
    error of the clean latents weighs min(SNR + 1, gamma). The paper of min-SNR has SNR instead of SNR + 1
    there, which would leave the steps close to pure noise untrained; a strongly conditioned model decides
    most at just these.

    Args:
        steps: (B,) integers.
        alphas: of `alphas_cumprod`.
        prediction_type: one of PREDICTIONS.
        gamma: 0 makes all weights one.

    Returns:
        (B,).
    """
    if gamma <= 0:
        return torch.ones(steps.shape, device=steps.device)
    a = alphas.to(steps.device)[steps]
    snr = a / (1 - a)
    value = snr if prediction_type == "epsilon" else snr + 1
    return (value.clamp_max(gamma) / value).float()
