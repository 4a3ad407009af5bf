"""The loop that the slot and the denoiser stage share: resume, learning rate, averaged weights, log, checkpoints."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import channels_last
from ..errors import DiffFAEError
from .common import autocast, load_state, save_state

log = logging.getLogger(__name__)

LossFunction = Callable[[nn.Module, torch.Generator], tuple[Tensor, dict[str, Tensor]]]
Evaluation = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class LoopOptions:
    """Options of every stage. The learning rate warms up linearly, then falls to zero as a cosine over `minutes` (or `steps`, if set)."""

    folder: str = "runs/stage"
    batch: int = 16
    learning_rate: float = 4e-4
    constant_rate: bool = False  # no cosine: the paper names one learning rate
    warmup: int = 200
    minutes: float = 60.0
    steps: int = 0  # 0: train for `minutes`; else for that many steps, however long they take
    ema: float = 0.999
    weight_decay: float = 1e-3
    clip: float = 1.0
    checkpoint_minutes: float = 3.0
    log_every: int = 50
    seed: int = 0
    device: str = "cpu"
    autocast: bool | None = None  # bfloat16; None: where it is faster


def learning_rate(options: LoopOptions, step: int, spent: float) -> float:
    """Learning rate of a step; spent in minutes."""
    progress = step / options.steps if options.steps else spent / options.minutes
    warm = min(1.0, (step + 1) / max(1, options.warmup))
    fall = 1.0 if options.constant_rate else 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return options.learning_rate * warm * fall


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of the weights, in place; the decay grows with the step, so that a short run is no mix of the start."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def run_loop(
    options: LoopOptions,
    model: nn.Module,
    config: dict,
    loss_function: LossFunction,
    *,
    evaluate: Evaluation | None = None,
    refresh: Callable[[], None] | None = None,
    stop_step: int | None = None,
) -> nn.Module:
    """Train `model` in place and return the averaged copy.

    Resumes from `folder/last.pt`; a resumed run with `steps` set does what an uninterrupted one does, bit for bit on one CPU thread,
    because every random number comes from the one generator that is saved. Writes `last.pt` and `log.jsonl`.

    loss_function  (model, generator) -> loss and detached parts for the log
    evaluate       (averaged model) -> numbers for the log, called at every checkpoint
    refresh        called at every checkpoint, such as a look for new data
    stop_step      end here and save, although the schedule goes on
    """
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    channels_last(model.to(options.device))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=options.weight_decay)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(options.seed)
    step, spent = 0, 0.0
    state = load_state(folder / "last.pt")
    if state:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step, spent = state["step"], state["spent"]
        log.info("resumed at step %d, %.1f minutes", step, spent)

    def finished() -> bool:
        return step >= options.steps if options.steps else spent >= options.minutes

    def save() -> None:
        values = {"config": config, "model": model.state_dict(), "ema": average.state_dict(), "optimizer": optimizer.state_dict()}
        save_state(folder / "last.pt", {**values, "generator": generator.get_state(), "step": step, "spent": spent})

    sums: dict[str, Tensor] = {}
    window = 0
    saved = last = time.monotonic()
    with open(folder / "log.jsonl", "a", buffering=1) as logs:
        while not finished() and (stop_step is None or step < stop_step):
            rate = learning_rate(options, step, spent)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(options.device, options.autocast):
                loss, parts = loss_function(model, generator)
            if not torch.isfinite(loss):
                raise DiffFAEError(f"{folder}: the loss is not finite at step {step}; lower the learning rate and resume")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, options.clip)
            optimizer.step()
            update_average(average, model, step, options.ema)
            step += 1
            window += 1
            for name, value in {"loss": loss.detach(), **parts}.items():
                sums[name] = sums[name] + value if name in sums else value
            now = time.monotonic()
            spent += (now - last) / 60
            last = now
            if step % options.log_every == 0:
                means = {name: round(float(value) / window, 5) for name, value in sums.items()}
                logs.write(json.dumps({"step": step, "minutes": round(spent, 2), "lr": rate, **means}) + "\n")
                sums, window = {}, 0
            if now - saved > options.checkpoint_minutes * 60 or finished() or step == stop_step:
                saved = now
                if evaluate is not None:
                    logs.write(json.dumps({"step": step, "minutes": round(spent, 2), **evaluate(average)}) + "\n")
                if refresh is not None:
                    refresh()
                save()
    return average
