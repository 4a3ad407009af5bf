"""Stage 3: train the denoiser, Eq. 8, from cached latents, with frozen slots (`open-256`) or jointly with the encoder (paper 4.3).

Shape letters: B batch, Z latent channels, S slots, D token size, h and w latent sides.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import load_checkpoint, save_checkpoint
from ..conditions import Conditions
from ..denoiser import KIND, Denoiser, DenoiserConfig
from ..errors import CheckpointError, ConfigError
from ..losses import attention_consistency, diffusion_loss, hole_weights, total_loss
from ..schedule import add_noise, alphas_cumprod, prediction_target, snr_weights
from ..slots import SlotEncoder
from .common import autocast, load_state
from .loop import LoopOptions, run_loop
from .shards import Shards, stacked


@dataclass(frozen=True)
class DenoiserTraining(LoopOptions):
    shards: str = "shards/denoiser"
    dev_shards: str = ""  # a fixed loss on these is logged at every checkpoint
    folder: str = "runs/denoiser"
    delta: float = 0.1  # weight of the attention consistency, Eq. 8; 0 switches it off
    min_snr: float = 5.0  # gamma of the loss weights; 0 = the paper's plain loss
    hole_weight: float = 2.0  # extra loss weight where the carried picture is not valid
    carry_dropout: float = 0.1  # nothing carried at all
    region_dropout: float = 0.1  # one slot's region not carried, as in a swap
    token_dropout: float = 0.1  # every token on its own
    identity_dropout: float = 0.05
    render_dropout: float = 0.0
    joint: bool = False  # train the slot encoder too; shards then hold the pictures `source` and `query`
    slots: str = ""  # joint: the pre-trained `slots` checkpoint
    start: str = (
        ""  # a new run begins with the denoiser of this file, such as difffae/assets/open-256.safetensors, instead of random weights
    )

    @classmethod
    def paper(cls) -> DenoiserTraining:
        """Section 5.1: learning rate 1e-4, batch 16, 100k steps, everything trained jointly."""
        return cls(
            learning_rate=1e-4,
            constant_rate=True,
            steps=100_000,
            weight_decay=0.0,
            min_snr=0.0,
            hole_weight=0.0,
            token_dropout=0.0,
            identity_dropout=0.0,
            ema=0.9999,
            joint=True,
        )


@dataclass(frozen=True)
class Batch:
    """What one step needs. target (B,Z,h,w); masks (B,S,h',w') of the query; seen (B,1,h,w): validity before any dropout, or None."""

    target: Tensor
    conditions: Conditions
    masks: Tensor
    seen: Tensor | None


def read_batch(samples: list[dict[str, Tensor]], model: nn.ModuleDict, options: DenoiserTraining) -> Batch:
    """Samples of shards -> Batch; runs the slot encoder if it is trained too."""
    device = options.device
    denoiser = model["denoiser"]
    assert isinstance(denoiser, Denoiser)
    if options.joint:
        tokens = model["slots"](stacked(samples, "source", device))[0]
        with torch.no_grad():  # Eq. 7 holds the maps to the masks, not the masks to the maps
            masks = model["slots"](stacked(samples, "query", device))[1]
    else:
        tokens, masks = stacked(samples, "tokens", device), stacked(samples, "masks", device)
    carried = validity = None
    if denoiser.config.carry:
        carried, validity = stacked(samples, "carried", device), stacked(samples, "validity", device)
    conditions = Conditions(tokens, stacked(samples, "identity", device), stacked(samples, "render", device), carried, validity)
    return Batch(stacked(samples, "target", device), conditions, masks, validity)


def drop_conditions(batch: Batch, options: DenoiserTraining, generator: torch.Generator) -> Conditions:
    """Conditions with some of them withheld at random, so that the others stay alive. A dropped one is all zeros."""
    c, masks = batch.conditions, batch.masks
    size, slots = c.tokens.shape[:2]
    device = c.render.device

    def kept(probability: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) >= probability).float().to(device)

    tokens = c.tokens * kept(options.token_dropout, size, slots, 1)
    identity = c.identity * kept(options.identity_dropout, size, 1)
    render = c.render * kept(options.render_dropout, size, 1, 1, 1)
    carried, validity = c.carried, c.validity
    whole = kept(options.carry_dropout, size, 1, 1, 1)
    region = kept(options.region_dropout, size, 1, 1, 1)
    chosen = torch.randint(slots, (size,), generator=generator).to(device)
    if carried is not None and validity is not None:
        keep = whole
        if options.region_dropout > 0:
            area = masks[torch.arange(size, device=device), chosen][:, None]
            if area.shape[2:] != validity.shape[2:]:
                area = nn.functional.interpolate(area, validity.shape[2:], mode="bilinear")
            keep = whole * torch.maximum(region, (area < 0.5).float())
        carried, validity = carried * keep, validity * keep
    return Conditions(tokens, identity, render, carried, validity)


def denoiser_loss(
    denoiser: Denoiser, batch: Batch, conditions: Conditions, steps: Tensor, noise: Tensor, alphas: Tensor, options: DenoiserTraining
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 8 at given steps (B,) and noise (B,Z,h,w) -> loss and its detached parts."""
    kind = denoiser.config.schedule.prediction_type
    noisy = add_noise(batch.target, noise, steps, alphas)
    with denoiser.record_attention() if options.delta > 0 else nullcontext() as maps:
        prediction = denoiser(noisy, steps, conditions)
    wanted = prediction_target(batch.target, noise, steps, alphas, kind)
    pixels = None if batch.seen is None or not options.hole_weight else hole_weights(batch.seen, options.hole_weight)
    diffusion = diffusion_loss(prediction, wanted, snr_weights(steps, alphas, kind, options.min_snr), pixels)
    parts = {"diffusion": diffusion.detach()}
    if maps is None:
        return diffusion, parts
    consistency = attention_consistency(maps.values(), batch.masks)
    parts["consistency"] = consistency.detach()
    return total_loss(diffusion, consistency, options.delta), parts


def train_denoiser(options: DenoiserTraining, config: DenoiserConfig | None = None, stop_step: int | None = None) -> nn.ModuleDict:
    """Train, resuming from `folder/last.pt` with its configuration; returns the averaged {"denoiser"} or {"denoiser", "slots"}."""
    torch.manual_seed(options.seed)
    state = load_state(Path(options.folder) / "last.pt")
    if options.start and state is None:
        given = load_checkpoint(options.start)
        denoiser = Denoiser.from_checkpoint(given, options.start, None if given.kind == KIND else "denoiser").requires_grad_(True).train()
        config = denoiser.config
    else:
        config = DenoiserConfig(**state["config"]["denoiser"]) if state else (config or DenoiserConfig.open_256())
        denoiser = Denoiser(config)
    model = nn.ModuleDict({"denoiser": denoiser})
    settings: dict = {"denoiser": config.to_dict()}
    needed: tuple[str, ...] = ("target", "render", "identity")
    if options.joint:
        if not options.slots:
            raise ConfigError("denoiser training: joint training starts from pre-trained slots; name their checkpoint in `slots`")
        slots = SlotEncoder.load(options.slots).requires_grad_(True).train()
        model["slots"] = slots
        settings["slots"] = slots.config.to_dict()
        needed += ("source", "query")
    else:
        needed += ("tokens", "masks")
    if config.carry:
        needed += ("carried", "validity")
    shards = Shards(options.shards, needed)
    alphas = alphas_cumprod(config.schedule).to(options.device)

    def loss(module: nn.Module, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(module, nn.ModuleDict)
        batch = read_batch(shards.batch(options.batch, generator), module, options)
        conditions = drop_conditions(batch, options, generator)
        steps = torch.randint(config.schedule.train_steps, (options.batch,), generator=generator).to(options.device)
        noise = torch.randn(batch.target.shape, generator=generator).to(options.device)
        return denoiser_loss(_denoiser(module), batch, conditions, steps, noise, alphas, options)

    evaluate = None
    if options.dev_shards:
        dev = Shards(options.dev_shards, needed)

        def evaluate(module: nn.Module) -> dict[str, float]:
            assert isinstance(module, nn.ModuleDict)
            return dev_loss(module, dev, alphas, options)

    average = run_loop(options, model, settings, loss, evaluate=evaluate, refresh=shards.refresh, stop_step=stop_step)
    assert isinstance(average, nn.ModuleDict)
    return average


def _denoiser(model: nn.ModuleDict) -> Denoiser:
    denoiser = model["denoiser"]
    assert isinstance(denoiser, Denoiser)
    return denoiser


@torch.no_grad()
def dev_loss(model: nn.ModuleDict, shards: Shards, alphas: Tensor, options: DenoiserTraining, samples: int = 64) -> dict[str, float]:
    """Losses on the first samples of a folder at evenly spaced steps, always with the same noise and nothing dropped."""
    generator = torch.Generator().manual_seed(0)
    options = replace(options, delta=max(options.delta, 1e-9))
    total: dict[str, float] = {}
    count = min(samples, len(shards))
    chunks = [range(first, min(first + options.batch, count)) for first in range(0, count, options.batch)]
    for chunk in chunks:
        batch = read_batch([shards.sample(index) for index in chunk], model, options)
        steps = torch.tensor([(index * 2 + 1) * len(alphas) // (2 * count) for index in chunk], device=options.device)
        noise = torch.randn(batch.target.shape, generator=generator).to(options.device)
        with autocast(options.device, options.autocast):
            _, parts = denoiser_loss(_denoiser(model), batch, batch.conditions, steps, noise, alphas, options)
        for name, value in parts.items():
            total["dev_" + name] = total.get("dev_" + name, 0.0) + float(value) * len(chunk) / count
    return {name: round(value, 5) for name, value in total.items()}


def export_denoiser(state_path: str | Path, path: str | Path, *, license: str, source: str, eight_bit: bool = True) -> None:
    """Averaged denoiser of a training checkpoint -> a `denoiser` checkpoint (8-bit, or float16). Raises CheckpointError."""
    state = load_state(Path(state_path))
    if state is None:
        raise CheckpointError(f"{state_path}: no such training checkpoint; train the denoiser first")
    config = DenoiserConfig(**state["config"]["denoiser"])
    tensors = {name.removeprefix("denoiser."): tensor for name, tensor in state["ema"].items() if name.startswith("denoiser.")}
    save_checkpoint(path, tensors, kind=KIND, config=config.to_dict(), license=license, source=source, eight_bit=eight_bit, half=True)
