"""Stage 3: train the denoiser, Eq. 8, from cached latents, with frozen slots (`open-256`) or jointly with the encoder (paper 4.3).

Shape letters: B batch, Z latent channels, S slots, D token size, h and w latent sides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...common.errors import ConfigError
from ...diffusion.denoiser import Denoiser, DenoiserConfig
from ...diffusion.initialisation import init_from
from ...diffusion.sampling import sample, starting_noise
from ...diffusion.schedule import add_noise, alphas_cumprod, predicted_clean, prediction_target, snr_weights
from ...source.other_encoders import load_source_encoder
from ...source.slots import SlotEncoder
from ..losses.adversarial import Adversary
from ..losses.identity_loss import NEEDED, IdentityLoss, check_identity, judged_rows, load_identity_loss
from ..losses.losses import attention_consistency, diffusion_loss, hole_weights, total_loss
from ..prepare.shards import Shards, stacked
from .adversarial_stage import AdversarialOptions, AdversarialStage
from .common import autocast, check_latents, check_pictures, load_state, made_with
from .denoiser_batch import Batch, Dropout, Item, drop_conditions, read_batch
from .journal import grid
from .loop import run_loop
from .parts import read_denoiser, read_first_stage, read_slots

log = logging.getLogger(__name__)
SHOWN = 4  # samples in a grid of pictures
SHOWN_STEPS = 20  # and of their sampling


@dataclass(frozen=True)
class DenoiserTraining(AdversarialOptions):
    """Options of `train denoiser`."""

    shards: str = "shards/denoiser"
    dev_shards: str = ""  # a fixed loss on these is logged at every checkpoint
    folder: str = "runs/denoiser"
    delta: float = 0.1  # weight of the attention consistency, Eq. 8; 0 switches it off
    min_snr: float = 5.0  # gamma of the loss weights; 0 = the paper's plain loss
    hole_weight: float = 2.0  # extra loss weight where the carried picture is not valid
    focus: float = 0.0  # share of the samples whose noise is of the levels that edits go through; the others' is of any level
    focus_from: float = 0.25  # these levels, as shares of the schedule: a little more than ScheduleConfig.finish to start
    focus_to: float = 0.55
    carry_dropout: float = 0.1  # nothing carried at all
    region_dropout: float = 0.1  # one slot's region not carried, as in a swap
    token_dropout: float = 0.1  # every token on its own
    identity_dropout: float = 0.05
    render_dropout: float = 0.0
    joint: bool = False  # train the slot encoder too; shards then hold the pictures `source` and `query`
    slots: str = ""  # joint: the pre-trained slots, such as runs/slots/last.pt
    source_encoder: str = ""  # "vae", "mae" or "clip" in place of the slots (paper 5.3); shards then hold `source`
    source_encoder_path: str = ""  # its weights: a folder of transformers or diffusers, or a converted first stage
    start: str = ""  # a new run begins with the denoiser of this checkpoint or file, such as difffae/assets/open-256.safetensors
    init: str = ""  # a new run begins with what fits of this file from `convert unet`; sizes are the run's own
    first_stage: str = ""  # file that decodes the sample grids and for the identity loss: a converted first stage, or a whole model
    adversarial_alone: int = 300
    discriminator_width: int = 64
    discriminator_layers: int = 2  # patches of 26 x 26 latent cells
    discriminator_detail: float = 1.0  # colour and shading are Eq. 1's
    adversarial_from: float = 0.25  # noise levels whose clean estimates are judged, as shares of the schedule: those that edits go through,
    adversarial_to: float = 0.55  # as with `focus`
    identity_weight: float = 0.0  # of the identity loss: distance of the decoded prediction from the target's identity; 0: the paper
    identity_until: float = 0.55  # share of the schedule up to which noise levels are judged by it
    identity_samples: int = 2  # how many of a batch are: decoder and identity network take as long as the denoiser
    identity_network: str = ""  # file of its network, the one that the shards were made with, if it is not the bundled one

    @classmethod
    def paper(cls) -> DenoiserTraining:
        """Section 5.1: learning rate 1e-4, batch 16, 100k steps, everything trained jointly."""
        return cls(
            learning_rate=1e-4,
            constant_rate=True,
            steps=100_000,
            weight_decay=0.0,
            beta2=0.999,
            min_snr=0.0,
            hole_weight=0.0,
            token_dropout=0.0,
            identity_dropout=0.0,
            ema=0.9999,
            joint=True,
        )


@dataclass(frozen=True)
class Judges:
    """What judges clean estimates, on the rows of one part of a step; None leaves a term out.

    identity            the loss on who is to be seen, times `identity_weight`
    seen                (B,) bool: the rows that it judges
    adversary           a discriminator, times `adversarial_weight` of these judges, which a warm-up raises
    shares              (B,) of the discriminator's verdict on each row, see `verdict_shares`
    """

    identity: IdentityLoss | None = None
    seen: Tensor | None = None
    adversary: Adversary | None = None
    adversarial_weight: float = 0.0
    shares: Tensor | None = None


def denoiser_loss(
    denoiser: Denoiser,
    batch: Batch,
    steps: Tensor,
    noise: Tensor,
    alphas: Tensor,
    options: DenoiserTraining,
    judges: Judges | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 8, and the terms of the judges that there are.

    With delta above 0 call it, and backward of the loss, within `denoiser.record_attention()`.

    Args:
        denoiser: What is trained.
        batch: Latents and conditions, some of them dropped.
        steps: Noise levels, (B,).
        noise: (B,Z,h,w).
        alphas: Cumulative alphas of the schedule, (train_steps,).
        options: The weights of the terms.
        judges: Of the clean estimates.

    Returns:
        The loss, a scalar, and its detached parts before weighting.

    Raises:
        ConfigError: If delta is above 0 and no attention was recorded.
    """
    judges = judges or Judges()
    kind = denoiser.config.schedule.prediction_type
    noisy = add_noise(batch.target, noise, steps, alphas)
    prediction = denoiser(noisy, steps, batch.conditions)
    wanted = prediction_target(batch.target, noise, steps, alphas, kind)
    pixels = None if batch.seen is None or not options.hole_weight else hole_weights(batch.seen, options.hole_weight)
    # Eq. 1
    loss = diffusion_loss(prediction, wanted, snr_weights(steps, alphas, kind, options.min_snr), pixels)
    parts = {"diffusion": loss.detach()}
    if options.delta > 0 and batch.masks is not None:
        # Eq. 7, and Eq. 8 of both
        consistency = attention_consistency((denoiser.tap.maps or {}).values(), batch.masks)
        parts["consistency"] = consistency.detach()
        loss = total_loss(loss, consistency, options.delta)
    if judges.identity is None and judges.adversary is None:
        return loss, parts
    clean = predicted_clean(noisy, prediction, steps, alphas, kind)
    if judges.identity is not None and judges.seen is not None:
        distance = _distance(judges.identity, batch, clean, judges.seen, options)
        parts["identity"] = distance.detach()
        loss = loss + options.identity_weight * distance
    if judges.adversary is not None and judges.shares is not None:
        verdict = _verdict(judges.adversary, batch, clean, judges.shares)
        parts["adversarial"] = verdict.detach()
        loss = loss + judges.adversarial_weight * verdict
    return loss, parts


def _distance(identity: IdentityLoss, batch: Batch, clean: Tensor, seen: Tensor, options: DenoiserTraining) -> Tensor:
    """How far the faces of clean estimates (B,Z,h,w) are from the targets' identities, in the rows that are judged, (B,) bool; a scalar."""
    if not seen.any():
        return clean.new_zeros(())
    assert batch.landmarks is not None
    assert batch.who is not None
    # the mean over the whole batch's judged rows, of which these may be a part
    share = options.identity_samples * len(seen) / options.batch
    return identity(clean[seen], batch.landmarks[seen], batch.who[seen]).sum() / share


def _verdict(adversary: Adversary, batch: Batch, clean: Tensor, shares: Tensor) -> Tensor:
    """What clean estimates (B,Z,h,w) pay for being told from the targets by whoever knows the same maps as the denoiser; a scalar."""
    rows = shares > 0
    rows[0] |= not rows.any()  # a part without such rows gives one for nothing, since all processes must do the same
    c = batch.conditions
    known = torch.cat([each for each in (c.render, c.carried, c.validity) if each is not None], dim=1)
    return adversary.generator_loss(batch.target[rows], clean[rows], known[rows], shares.mean())


def verdict_levels(options: DenoiserTraining, count: int) -> tuple[int, int]:
    """The noise levels, of so many, from which and below which clean estimates are judged. Raises ConfigError if there are none."""
    low, high = options.adversarial_from, options.adversarial_to
    first, end = (round(share * count) if 0 <= share <= 1 else -1 for share in (low, high))
    if not 0 <= first < end:
        raise ConfigError(
            f"adversarial_from={low}, adversarial_to={high}: shares of the schedule's {count} noise levels, 0..1, with at least one of "
            "them between; raise the second or lower the first"
        )
    return first, end


def verdict_shares(steps: Tensor, low: int, high: int) -> Tensor | None:
    """Of the noise levels (B,) of a batch those from low, and below high: shares (B,) of one size there, 0 elsewhere, 1 on average; None if
    there are none."""
    inside = ((steps >= low) & (steps < high)).float()
    return inside / inside.mean() if inside.any() else None


class DenoiserStage(AdversarialStage):
    """Data, loss and pictures of the denoiser's training."""

    def __init__(self, options: DenoiserTraining, model: nn.ModuleDict, needed: tuple[str, ...]) -> None:
        self.options = options
        self.schedule = _denoiser(model).config.schedule
        self.alphas = alphas_cumprod(self.schedule).to(options.device)
        self.shards: Shards = Shards(options.shards, needed, options.data_device)
        # the dev loss has no identity in it
        self.dev = Shards(options.dev_shards, tuple(name for name in needed if name not in NEEDED)) if options.dev_shards else None
        self.draw_starts: Callable[[int, torch.Generator], Tensor | None] = lambda count, generator: None
        first = check_latents(self.shards, _denoiser(model).config)
        self.shape = first["target"].shape
        if options.source_encoder:
            with torch.no_grad():
                self.slots = model["source_encoder"](stacked([first], "source"))[0].shape[1]
        elif options.joint:
            slots = model["slots"]
            assert isinstance(slots, SlotEncoder)
            check_pictures(self.shards, ("source", "query"), slots.config.image_size)
            self.slots = slots.config.slot_count
            self.draw_starts = slots.draw
        else:
            self.slots = first["tokens"].shape[0]
        self.first_stage = read_first_stage(options.first_stage).to(options.device) if options.first_stage else None
        self.identity: IdentityLoss | None = None
        if options.identity_weight:
            assert self.first_stage is not None  # build() asks for it
            self.identity = load_identity_loss(self.first_stage, options.identity_network, first).to(options.device)
        self.oppose(options, self.shape[-1], _denoiser(model).config.in_channels)  # the denoiser's input, with clean latents for noisy ones
        self.levels = verdict_levels(options, self.schedule.train_steps) if self.adversary is not None else (0, 0)

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Item]:
        size = self.options.batch
        chosen = self.shards.draw(size, generator)
        dropout = Dropout.draw(self.options, size, self.slots, generator)
        steps = self.draw_steps(size, generator)
        noise = torch.randn((size, *self.shape), generator=generator)
        judged = judged_rows(steps, self.options.identity_until * self.schedule.train_steps, self.options.identity_samples)
        shares = verdict_shares(steps, *self.levels)
        maybe = self.draw_starts(size, generator), shares
        return [
            Item(
                [self.shards.sample(index) for index in chosen[part]],
                dropout.rows(part),
                *(values[part] for values in (steps, noise, judged)),
                *(None if values is None else values[part] for values in maybe),
            )
            for part in rows
        ]

    def draw_steps(self, size: int, generator: torch.Generator) -> Tensor:
        """Noise levels (size,) of a batch."""
        o, count = self.options, self.schedule.train_steps
        steps = torch.randint(count, (size,), generator=generator)
        if not o.focus:
            return steps
        chosen = torch.rand(size, generator=generator) < o.focus
        low, high = round(o.focus_from * count), round(o.focus_to * count)
        return torch.where(chosen, low + steps * (high - low) // count, steps)

    def loss(self, model: nn.Module, item: Item) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(model, nn.ModuleDict)
        batch = read_batch(item.samples, model, self.options, item.starts)
        steps, noise = item.steps.to(self.options.device), item.noise.to(self.options.device)
        batch = replace(batch, conditions=drop_conditions(batch, item.dropout))
        shares = None if item.shares is None else item.shares.to(self.options.device)
        judges = Judges(self.identity, item.judged.to(self.options.device), *self.opponent(), shares)
        return denoiser_loss(_denoiser(model), batch, steps, noise, self.alphas, self.options, judges)

    def around(self, model: nn.Module) -> AbstractContextManager:
        return _denoiser(model).record_attention() if self.options.delta > 0 else nullcontext()

    def evaluate(self, average: nn.Module) -> dict[str, float]:
        assert isinstance(average, nn.ModuleDict)
        return dev_loss(average, self.dev, self.alphas, self.options) if self.dev else {}

    @torch.no_grad()
    def pictures(self, average: nn.Module) -> dict[str, Tensor]:
        """Per row: source if the shards hold it, render, carried picture if the model has it, target, sample; always the same rows."""
        assert isinstance(average, nn.ModuleDict)
        if self.first_stage is None:
            return {}
        shards = self.dev or self.shards
        samples = [shards.sample(index) for index in range(min(SHOWN, len(shards)))]
        batch = read_batch(samples, average, replace(self.options, identity_weight=0.0))
        noise = starting_noise(batch.target.shape, 0, batch.target.device)
        made = sample(_denoiser(average), batch.conditions, steps=SHOWN_STEPS, noise=noise)
        latents = [batch.conditions.render, batch.conditions.carried, batch.target, made]
        columns = [self.first_stage.decode(each).cpu() for each in latents if each is not None]
        return {"samples": grid([stacked(samples, "source"), *columns] if "source" in samples[0] else columns)}


def train_denoiser(options: DenoiserTraining, config: DenoiserConfig | None = None, stop_step: int | None = None) -> nn.ModuleDict:
    """Train, resuming from `folder/last.pt` with its configuration; returns the averaged {"denoiser"}, or that and the encoder that was
    trained with it, "slots" or "source_encoder". Raises ConfigError and CheckpointError."""
    torch.manual_seed(options.seed)
    model, settings, needed = build(options, config, load_state(options.checkpoint, "denoiser"))
    if options.gradient_checkpointing:
        _denoiser(model).unet.enable_gradient_checkpointing()
        if "slots" in model:
            slots = model["slots"]
            assert isinstance(slots, SlotEncoder)
            slots.encoder.save_memory()
    return run_loop(options, model, settings, DenoiserStage(options, model, needed), stop_step)


def build(options: DenoiserTraining, config: DenoiserConfig | None, state: dict | None) -> tuple[nn.ModuleDict, dict, tuple[str, ...]]:
    """The model of a run, its configuration for the checkpoint, and what its shards must hold. state: the checkpoint to go on from."""
    if options.start and options.init:
        raise ConfigError("denoiser training: start and init both give the first weights; leave one out")
    if options.start and state is None:
        denoiser = read_denoiser(options.start)[0].requires_grad_(True).train()
        config = denoiser.config
    else:
        config = DenoiserConfig(**state["config"]["denoiser"]) if state else (config or DenoiserConfig.open_256())
        denoiser = Denoiser(config)
        if options.init and state is None:
            log.info("%s: %s", options.init, init_from(denoiser, options.init))
    model = nn.ModuleDict({"denoiser": denoiser})
    settings: dict = {"denoiser": config.to_dict(), "fingerprints": made_with(options, state)}
    needed: tuple[str, ...] = ("target", "render", "identity")
    if options.source_encoder:
        if options.joint or options.delta > 0:
            raise ConfigError("denoiser training: a source encoder takes the slots' place and has no masks; set joint=false and delta=0")
        side = Shards(options.shards, ("source",)).sample(0)["source"].shape[-1]
        encoder = load_source_encoder(options.source_encoder, options.source_encoder_path, config.token_size, side)
        model["source_encoder"] = encoder
        settings["source_encoder"] = encoder.to_dict()
        needed += ("source",)
    elif options.joint:
        if not options.slots:
            raise ConfigError("denoiser training: joint training starts from pre-trained slots; name their checkpoint in `slots`")
        model["slots"] = slots = read_slots(options.slots).requires_grad_(True).train()
        settings["slots"] = slots.config.to_dict()
        needed += ("source", "query")
    else:
        needed += ("tokens", "masks")
    if config.carry:
        needed += ("carried", "validity")
    if options.identity_weight:
        check_identity(options.identity_weight, options.identity_until, options.identity_samples, options.first_stage)
        needed += NEEDED
    return model, settings, needed


def _denoiser(model: nn.Module) -> Denoiser:
    assert isinstance(model, nn.ModuleDict)
    denoiser = model["denoiser"]
    assert isinstance(denoiser, Denoiser)
    return denoiser


@torch.no_grad()
def dev_loss(model: nn.ModuleDict, shards: Shards, alphas: Tensor, options: DenoiserTraining, samples: int = 64) -> dict[str, float]:
    """Losses on the first samples of a folder at evenly spaced steps, always with the same noise and nothing dropped."""
    generator = torch.Generator().manual_seed(0)
    options = replace(options, delta=max(options.delta, 1e-9), identity_weight=0.0)
    total: dict[str, float] = {}
    count = min(samples, len(shards))
    chunks = [range(first, min(first + options.batch, count)) for first in range(0, count, options.batch)]
    for chunk in chunks:
        batch = read_batch([shards.sample(index) for index in chunk], model, options)
        steps = torch.tensor([(index * 2 + 1) * len(alphas) // (2 * count) for index in chunk], device=options.device)
        noise = torch.randn(batch.target.shape, generator=generator).to(options.device)
        with autocast(options.device, options.autocast), _denoiser(model).record_attention():
            _, parts = denoiser_loss(_denoiser(model), batch, steps, noise, alphas, options)
        for name, value in parts.items():
            total["dev_" + name] = total.get("dev_" + name, 0.0) + float(value) * len(chunk) / count
    return {name: round(value, 5) for name, value in total.items()}
