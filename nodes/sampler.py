"""Sample and decode in one node: what KSampler and VAE Decode do."""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import REPAIR, SAMPLERS, STEPS

# they end at the lowest noise of the model's schedule, which is far from none where the schedule ends in one last step
STOP_SHORT = ("dpm_fast", "dpm_adaptive")


class DiffFAESampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAESampler",
            display_name="DiffFAE Sampler",
            category="DiffFAE",
            description="Paints the edited square. The same as KSampler followed by VAE Decode, with settings that suit the model.",
            search_aliases=["face sampler", "edit face", "relight", "expression editor", "ksampler"],
            inputs=[
                io.Model.Input("model", tooltip="From Load DiffFAE."),
                io.Vae.Input("vae", tooltip="From Load DiffFAE."),
                io.Conditioning.Input("positive", tooltip="From DiffFAE Conditioning."),
                io.Latent.Input("latent", tooltip="From DiffFAE Conditioning."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed gives the same picture. It decides only what the photograph did not show.",
                ),
                io.Int.Input("steps", default=STEPS, min=1, max=1000, tooltip="More steps take longer; beyond about 10 little changes."),
                io.Combo.Input(
                    "sampler_name",
                    options=[name for name in comfy.samplers.SAMPLER_NAMES if name not in STOP_SHORT],
                    default=SAMPLERS[0],
                    advanced=True,
                    tooltip="As in KSampler, but for dpm_fast and dpm_adaptive, which stop before the noise is gone.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.SCHEDULER_NAMES, default="normal", advanced=True, tooltip="As in KSampler."
                ),
                io.Float.Input(
                    "denoise",
                    default=REPAIR,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="How much is painted anew: 0 keeps the carried photograph, 1 paints everything from noise alone. 0.2 repairs what the photograph could not show; swaps by tokens alone need 1.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    advanced=True,
                    tooltip="1 is what the model was trained for. More follows tokens and identity harder and takes twice the time; needs negative.",
                ),
                io.Conditioning.Input("negative", optional=True, tooltip="From DiffFAE Conditioning; only used if cfg is not 1."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The edited squares, for Paste Back."),
                io.Latent.Output("samples", display_name="latent", tooltip="The same as latents."),
            ],
        )

    @classmethod
    def execute(cls, model, vae, positive, latent, seed, steps, sampler_name, scheduler, denoise, cfg, negative=None) -> io.NodeOutput:
        from nodes import common_ksampler

        from ..difffae.common.errors import ConfigError
        from .conditions import check_sampling

        check_sampling(model, vae, positive)
        if negative is None and cfg != 1:
            raise ConfigError(f"cfg: is {cfg:g}, which needs negative; wire DiffFAE Conditioning's negative output, or set cfg to 1")
        negative = positive if negative is None else negative
        (sampled,) = common_ksampler(model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise=denoise)
        return io.NodeOutput(vae.decode(sampled["samples"]), sampled)
