"""The measurements: single stages, denoising steps, generated batches, whole edits and clips.

Pictures are the two that ship, so that every machine measures the same. Weights may be random: speed does not depend on their values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...common.checkpoint import asset_path, channels_last
from ...common.images import read_image
from ...diffusion.acceleration import FastDenoiser, Function, accelerate
from ...diffusion.autoencoder import FirstStage
from ...diffusion.conditions import Conditions
from ...diffusion.first_stages import describe
from ...diffusion.sampling import sample
from ...edit.analysing import with_slots
from ...edit.description import Edit, Sampling
from ...edit.editor import DiffFAE, Portrait
from ...edit.model import DEFAULT_IDENTITY
from ...edit.moved_photo import MovedPhoto
from ...edit.moving import move
from ...edit.native import resize
from ...edit.pasting import paste
from ...edit.profiles import Profile
from ...estimation.choose import estimate
from ...faces.landmarker import FaceLandmarker
from ...head.morphable import HeadModel
from ...source.identity_networks import NETWORKS, build_identity, load_identity
from .clips import measure_clips
from .counts import Cost
from .machine import Peaks
from .timing import Timing, measure

Note = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    modes: Sequence[str]  # of `acceleration`
    batches: Sequence[int]  # sizes
    steps: Sequence[int]  # of denoising
    sampler: str
    warm_up: int  # calls before the measured ones
    runs: int


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    timing: Timing
    mode: str = "eager"
    batch: int = 1
    steps: int | None = None
    floors: tuple[float, float] | None = None  # milliseconds that reading its weights and its arithmetic take at least, where known

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch / self.timing.median

    def to_dict(self) -> dict[str, Any]:
        row = {"what": self.what, "mode": self.mode, "batch": self.batch, "steps": self.steps, **self.timing.to_dict()}
        memory, arithmetic = self.floors or (None, None)
        return row | {"images_per_second": self.images_per_second, "memory_floor_ms": memory, "arithmetic_floor_ms": arithmetic}


def profile_of(model: DiffFAE) -> Profile:
    """The sizes of a loaded model."""
    m = model.model
    identity = m.identity if m.identity in NETWORKS else DEFAULT_IDENTITY
    return Profile(m.name, describe(m.autoencoder), m.slots.config, m.denoiser.config, identity)


def random_model(profile: Profile, device: torch.device) -> DiffFAE:
    """The whole pipeline with random weights for the trained parts and the profile's identity network."""
    with torch.device(device):
        edit_model = profile.build(device, seed=0).requires_grad_(False)
        identity = load_identity() if profile.identity == DEFAULT_IDENTITY else build_identity(profile.identity).requires_grad_(False)
    return DiffFAE(edit_model, HeadModel.load(), FaceLandmarker.load(), identity, device)


def prepare(model: DiffFAE, dtype: torch.dtype) -> None:
    """The large networks in the wanted type, convolutions laid out as their kernels like them. The small ones stay float32."""
    first: FirstStage = model.model.autoencoder
    large: list[nn.Module] = [model.model.denoiser] if first.kind == "open" else [model.model.denoiser, first]
    for module in large:
        module.to(dtype)
        channels_last(module)


def portraits(model: DiffFAE) -> list[Portrait]:
    """The two pictures that ship, analysed; on the model's device."""
    return [model.analyse(read_image(asset_path(name))[0].to(model.device), name=name) for name in ("source.png", "query.png")]


class Bench:
    """The measurements of one model. note is called with what comes next."""

    def __init__(self, model: DiffFAE, plan: Plan, costs: dict[str, Cost], peaks: Peaks, note: Note) -> None:
        self.model = model
        self.plan = plan
        self.costs = costs
        self.peaks = peaks
        self.note = note
        m = model.model
        parts = {"slots": m.slots, "identity": model.identity, "encode": m.autoencoder, "denoise": m.denoiser, "decode": m.autoencoder}
        self.widths = {name: next((p.element_size() for p in part.parameters()), 4) for name, part in parts.items()}

    @torch.no_grad()
    def stages(self) -> list[Row]:
        """Every stage of one edit by itself, batch 1, eager."""
        model, m = self.model, self.model.model
        source, query = portraits(model)
        wanted = model.target(source, pose=query, expression=query, light=query)
        size = source.picture.shape[-1]
        source = with_slots(model, source)
        assert source.slots is not None
        tokens = source.slots.tokens
        edit = Edit(source, wanted)

        def move_once() -> MovedPhoto:
            return move(model, edit)

        def name_person() -> Tensor:
            return model.identity.embed(source.picture, source.landmarks[..., :2])

        shown, carried = model.render(wanted, size).image, move_once()
        moved, valid = resize(carried.square(carried.image), size).clamp(0, 1), resize(carried.square(carried.validity), size, "bilinear")
        conditions = m.conditions(tokens, name_person(), shown, moved, valid)
        latents, step = torch.randn_like(conditions.render), torch.full((1,), 500, device=model.device)

        def finish() -> Tensor:
            return paste(source, shown, carried)[0]

        stages = {
            "landmarks": lambda: model.landmarker.detect(source.image),
            "fit": lambda: estimate(model.estimator, source.picture, source.landmarks, source.blendshapes, source.inside_picture),
            "render": lambda: model.render(wanted, size),
            "carry": move_once,
            "slots": lambda: m.slots(source.picture),
            "identity": name_person,
            "encode": lambda: m.autoencoder.encode(source.picture),
            "denoise": lambda: m.denoiser(latents, step, conditions),
            "decode": lambda: m.autoencoder.decode(latents),
            "paste": finish,
        }
        return [self._row(name, call, {name: 1}) for name, call in stages.items()]

    @torch.no_grad()
    def generation(self) -> list[Row]:
        """One denoising step, and whole batches: renders encoded, denoised and decoded. Tokens and identity are given, as within a
        video; every step is one evaluation."""
        m, device = self.model.model, self.model.device
        rows = []
        for mode in self.plan.modes:
            predict = FastDenoiser(m.denoiser, mode, device)
            encode, decode = (accelerate(function, mode, device) for function in (m.autoencoder.encode, m.autoencoder.decode))
            for batch in self.plan.batches:
                renders, conditions = self._inputs(batch)
                noisy, step = torch.randn_like(conditions.render), torch.full((batch,), 500, device=device)
                rows.append(self._row("denoise", partial(predict, noisy, step, conditions), {"denoise": 1}, mode, batch))
                for steps in self.plan.steps:
                    call = partial(self._generate, predict, encode, decode, renders, conditions, steps)
                    rows.append(self._row("generate", call, {"encode": 1, "denoise": steps, "decode": 1}, mode, batch, steps))
        return rows

    @torch.no_grad()
    def edits(self) -> list[Row]:
        """Whole edits as a user calls them: "edit" of two portraits that are analysed already, "edit, new pictures" with all analysis."""
        model, plan = self.model, self.plan
        source, query = portraits(model)
        rows = []
        for mode in plan.modes:
            model.accelerate(mode)
            for steps in plan.steps:
                call = partial(model.edit, source, query, sampling=Sampling(steps=steps, sampler=plan.sampler))
                rows.append(self._row("edit", call, None, mode, steps=steps))
            call = partial(model.edit, source.image, query.image, sampling=Sampling(steps=plan.steps[0], sampler=plan.sampler))
            rows.append(self._row("edit, new pictures", call, None, mode, steps=plan.steps[0]))
        model.accelerate("eager")
        return rows

    def clips(self) -> list[Row]:
        """A frame of a clip, from file to file."""
        steps = self.plan.steps[0]
        found = measure_clips(self.model, steps, self.plan.runs, self.note)
        return [Row(name, timing, steps=steps if "painted" in name else None) for name, timing in found.items()]

    def _inputs(self, batch: int) -> tuple[Tensor, Conditions]:
        """Pictures (B,3,H,W) in the place of renders, and random conditions."""
        m, device = self.model.model, self.model.device
        c = m.denoiser.config
        latents = torch.randn(batch, c.latent_channels, c.sample_size, c.sample_size, device=device)
        extra = (latents, torch.ones_like(latents[:, :1])) if c.carry else ()
        tokens = torch.randn(batch, m.slots.config.slot_count, c.token_size, device=device)
        conditions = Conditions(tokens, torch.randn(batch, c.identity_size, device=device), latents, *extra)
        return torch.rand(batch, 3, m.image_size, m.image_size, device=device), conditions

    def _generate(
        self, predict: FastDenoiser, encode: Function, decode: Function, renders: Tensor, conditions: Conditions, steps: int
    ) -> Tensor:
        given = replace(conditions, render=encode(renders))
        return decode(sample(predict, given, steps, self.plan.sampler))

    def _row(
        self,
        what: str,
        call: Callable[[], object],
        calls: dict[str, int] | None,
        mode: str = "eager",
        batch: int = 1,
        steps: int | None = None,
    ) -> Row:
        """Measure; calls says how often each network runs, for the floors."""
        self.note(f"{what}, {mode}, batch {batch}" + (f", {steps} steps" if steps else ""))
        timing = measure(call, self.model.device, self.plan.warm_up, self.plan.runs)
        return Row(what, timing, mode, batch, steps, self._floors(calls or {}, batch))

    def _floors(self, calls: dict[str, int], batch: int) -> tuple[float, float] | None:
        """Weights read once per call, and the arithmetic of the whole batch."""
        known = [(self.costs[name], self.widths[name], times) for name, times in calls.items() if name in self.costs]
        if not known:
            return None
        weights = sum(times * width * cost.parameters for cost, width, times in known)
        return self.peaks.floor_ms(weights, sum(times * batch * cost.operations for cost, _, times in known))
