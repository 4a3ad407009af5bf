"""The denoiser as a standard ComfyUI MODEL, so that KSampler, any scheduler, previews, interrupt and offloading work.

Shape letters: B batch, Z latent channels, S slots, D token size, I identity size, h and w latent height and width.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ..difffae.common.errors import ConfigError
from ..difffae.diffusion.conditions import Conditions
from ..difffae.diffusion.denoiser import Denoiser
from ..difffae.diffusion.schedule import ScheduleConfig, alphas_cumprod, clipped
from ..difffae.edit.model import EditModel

log = logging.getLogger(__name__)
# entries of a CONDITIONING's dictionary: identity (B,I), the others (B,Z or 1,h,w)
IDENTITY, RENDER, CARRIED, VALIDITY = "difffae_identity", "difffae_render", "difffae_carried", "difffae_validity"
COMPUTED = (torch.bfloat16, torch.float32)
LEAST_ALPHA = 4.8973451890853435e-08  # ComfyUI's stand-in for the zero at the end of a zero-terminal-SNR schedule


class Network(nn.Module):
    """The denoiser with the arguments that ComfyUI calls a diffusion model by."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    @property
    def dtype(self) -> torch.dtype:
        return next(self.denoiser.parameters()).dtype

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, transformer_options: dict | None = None, **extra
    ) -> Tensor:
        """x (B,Z,h,w), timesteps (B,), context the slot tokens (B,S,D) -> prediction (B,Z,h,w). Raises ConfigError for conditions that
        DiffFAE Conditioning did not make."""
        config = self.denoiser.config
        render = extra.get(RENDER)
        if render is None or context is None or context.shape[-1] != config.token_size:
            raise ConfigError("conditioning: was not made for this model; wire the outputs of DiffFAE Conditioning into the sampler")
        if x.dim() != 4:
            have = "x".join(map(str, x.shape[1:]))
            raise ConfigError(f"latent_image: has {have} numbers, as another model's have; use the LATENT of DiffFAE Conditioning")
        if config.adain != "none" and extra[IDENTITY].shape[-1] != config.identity_size:
            have = f"has {extra[IDENTITY].shape[-1]} numbers, but this model takes {config.identity_size}"
            raise ConfigError(f"identity: {have}; take model and identity from one Load DiffFAE")
        if not x.shape[1] == render.shape[1] == config.latent_channels:
            have = f"the latents have {x.shape[1]} channels and the conditioning {render.shape[1]}, but this model has {config.latent_channels}"
            raise ConfigError(f"latent_image: {have}; take model, vae and conditioning from one Load DiffFAE")
        if render.shape[-2:] != x.shape[-2:]:
            have, need = ("x".join(str(8 * side) for side in reversed(t.shape[-2:])) for t in (x, render))
            raise ConfigError(f"latent_image: is for {have} pixels, the conditioning for {need}; use the LATENT of DiffFAE Conditioning")
        return self.denoiser(x, timesteps, Conditions(context, extra[IDENTITY], render, extra.get(CARRIED), extra.get(VALIDITY)))


class Sampling(comfy.model_sampling.ModelSamplingDiscrete):
    """Our noise schedule. It ends where the model's `finish` says: from there samplers take the predicted clean latents in one step."""

    def __init__(self, model_config: Any, schedule: ScheduleConfig) -> None:
        super().__init__(model_config)
        self.schedule = schedule
        alphas = alphas_cumprod(schedule).clamp_min(LEAST_ALPHA)
        self.first = min(round(schedule.finish * schedule.train_steps), schedule.train_steps - 1)
        self.num_timesteps = schedule.train_steps - self.first
        self.set_sigmas(((1 - alphas) / alphas).sqrt()[self.first :])

    def timestep(self, sigma: Tensor) -> Tensor:
        return super().timestep(sigma) + self.first

    def sigma(self, timestep: Tensor) -> Tensor:
        return super().sigma(timestep - self.first)

    def percent_to_sigma(self, percent: float) -> float:
        """The noise level after a share of the sampling, for nodes that act on a part of it."""
        if percent <= 0:
            return 999999999.9  # ComfyUI's own word for before the start
        if percent >= 1:
            return 0.0
        return self.sigma(torch.tensor(self.first + (1 - percent) * (self.num_timesteps - 1))).item()


class EpsilonSampling(Sampling, comfy.model_sampling.EPS):
    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return clipped(super().calculate_denoised(sigma, model_output, model_input), self.schedule)


class VelocitySampling(Sampling, comfy.model_sampling.V_PREDICTION):
    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return clipped(super().calculate_denoised(sigma, model_output, model_input), self.schedule)


class DiffFAEModel(comfy.model_base.BaseModel):
    def __init__(self, model_config: Any, denoiser: Denoiser, device: torch.device) -> None:
        super().__init__(model_config, model_type=comfy.model_base.ModelType.EPS, device=device)
        self.diffusion_model = Network(denoiser).eval()
        mm.archive_model_dtypes(self.diffusion_model)
        schedule = denoiser.config.schedule
        kind = EpsilonSampling if schedule.prediction_type == "epsilon" else VelocitySampling
        self.model_sampling = kind(model_config, schedule)

    def extra_conds(self, **kwargs) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        if kwargs.get(IDENTITY) is not None:
            out[IDENTITY] = comfy.conds.CONDRegular(kwargs[IDENTITY])
        for name in (RENDER, CARRIED, VALIDITY):
            if kwargs.get(name) is not None:
                out[name] = comfy.conds.CONDNoiseShape(kwargs[name])
        return out


def _precision(device: torch.device, parameters: int) -> torch.dtype:
    """What the denoiser computes in. Numbers of 8 bits only store weights, which saves nothing in a network of this size."""
    dtype = mm.unet_dtype(device, model_params=parameters, supported_dtypes=list(COMPUTED))
    if dtype.itemsize > 1:
        return dtype
    computed = mm.unet_manual_cast(dtype, device, list(COMPUTED)) or torch.float32
    log.warning(
        "model: %s stores weights and computes in another precision, which is not worth it for %d MB; DiffFAE runs in %s",
        str(dtype).removeprefix("torch."),
        round(parameters * computed.itemsize / 1e6),
        str(computed).removeprefix("torch."),
    )
    return computed


def native_model(model: EditModel) -> Any:
    """The MODEL of an edit model: a ModelPatcher over its denoiser."""

    class Latents(comfy.latent_formats.LatentFormat):
        latent_channels = model.denoiser.config.latent_channels
        spacial_downscale_ratio = model.autoencoder.factor

    factors, offset = model.autoencoder.rgb_factors()
    Latents.latent_rgb_factors = (factors * 2).tolist()  # previews want -1..1
    Latents.latent_rgb_factors_bias = (offset * 2 - 1).tolist()

    class Config(comfy.supported_models_base.BASE):
        unet_config: ClassVar[dict] = {}
        unet_extra_config: ClassVar[dict] = {}
        latent_format = Latents
        memory_usage_factor = 1.0
        supported_inference_dtypes = COMPUTED

    device = mm.get_torch_device()
    dtype = _precision(device, sum(p.numel() for p in model.denoiser.parameters()))
    config = Config({"disable_unet_model_creation": True})
    config.set_inference_dtype(dtype, None)
    denoiser = model.denoiser.to(dtype)
    native = DiffFAEModel(config, denoiser, mm.unet_offload_device())
    return comfy.model_patcher.CoreModelPatcher(native, load_device=device, offload_device=mm.unet_offload_device())
