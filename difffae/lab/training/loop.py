"""The loop that all stages share: resume, learning rate, averaged weights, log, checkpoints; in one process or several."""

from __future__ import annotations

import copy
import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...common.checkpoint import channels_last
from ...common.errors import ConfigError, DiffFAEError
from .common import autocast, load_state, save_state
from .journal import Journal
from .processes import Processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopOptions:
    """Options of every stage. The learning rate warms up linearly, then falls to zero as a cosine over `minutes` (or `steps`, if set)."""

    folder: str = "runs/stage"
    batch: int = 16  # of all processes and accumulated parts together
    accumulation: int = 1  # parts that the batch is worked on in, one after the other
    learning_rate: float = 4e-4
    constant_rate: bool = False  # no cosine: the paper names one learning rate
    warmup: int = 200
    minutes: float = 60.0
    steps: int = 0  # 0: train for `minutes`; else for that many steps, however long they take
    ema: float = 0.999
    weight_decay: float = 1e-3  # 0 makes AdamW the paper's Adam
    beta2: float = 0.99
    clip: float = 1.0
    checkpoint_minutes: float = 3.0
    log_every: int = 50
    tensorboard: bool = False  # scalars, and sample grids at every checkpoint, in `folder`/tensorboard
    seed: int = 0
    device: str = "cpu"
    autocast: bool | None = None  # bfloat16; None: where it is faster, or as the launcher's --mixed_precision says
    gradient_checkpointing: bool = False  # less memory for about a third more time


class Stage:
    """What a training stage tells `run_loop`. The methods with a body are optional."""

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Any]:
        """Draw the random numbers of the whole batch, then read the samples of these rows: one item for each slice."""
        raise NotImplementedError

    def loss(self, model: nn.Module, item: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one item and its detached parts for the log; moves the item to the model's device."""
        raise NotImplementedError

    def around(self, model: nn.Module) -> AbstractContextManager:
        """Held during forward and backward."""
        return nullcontext()

    def before_step(self, step: int) -> None:
        """Called before the samples of a step, counted from 0, are read."""

    def after_step(self, processes: Processes) -> dict[str, Tensor]:
        """Called after the model's step: other networks of the stage learn here. Returns numbers for the log."""
        return {}

    def state(self) -> dict[str, Any]:
        """What else an exact resume needs; saved in the checkpoint as `stage`."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; not called for checkpoints without it."""

    def evaluate(self, average: nn.Module) -> dict[str, float]:
        """Numbers for the log at every checkpoint."""
        return {}

    def pictures(self, average: nn.Module) -> dict[str, Tensor]:
        """Sample grids (3,H,W) for TensorBoard at every checkpoint."""
        return {}

    def refresh(self) -> None:
        """Called at every checkpoint of a single process, such as a look for new data."""


class _Step(nn.Module):
    """A loss as the forward of a module, which is what gradients are averaged over processes for."""

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model = model
        self.stage = stage

    def forward(self, item: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self.stage.loss(self.model, item)


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


def run_loop(options: LoopOptions, model: nn.Module, config: dict, stage: Stage, stop_step: int | None = None) -> nn.Module:
    """Train `model` in place and return the averaged copy (in the main process; the others return the model itself).

    Resumes from `folder/last.pt`, whatever the number of processes was; a resumed run with `steps` set does what an uninterrupted one
    does, bit for bit in one process on one CPU thread, because every random number comes from the one generator that is saved. The main
    process writes `last.pt` and `log.jsonl`. stop_step: end here and save, although the schedule goes on.
    """
    processes = Processes(options.device)
    if options.accumulation < 1:
        raise ConfigError(f"accumulation={options.accumulation}: must be 1 or more")
    rows = processes.rows(options.batch, options.accumulation)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    channels_last(model.to(processes.device))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, betas=(0.9, options.beta2), weight_decay=options.weight_decay)
    average = copy.deepcopy(model).eval().requires_grad_(False) if processes.main else model
    generator = torch.Generator().manual_seed(options.seed)
    step, spent = 0, 0.0
    state = load_state(folder / "last.pt")
    if state:
        step, spent = state["step"], state["spent"]
        model.load_state_dict(state["model"])
        if processes.main:
            average.load_state_dict(plain_average(state["ema"]))
        optimizer.load_state_dict(state["optimizer"])
        for group in optimizer.param_groups:  # the options of this run hold, not those of the one before
            group["betas"], group["weight_decay"] = (0.9, options.beta2), options.weight_decay
        if "generator" in state:
            generator.set_state(state["generator"])
        else:  # the first version of the first stage did not save it
            generator.manual_seed(options.seed + step)
        if "stage" in state:
            stage.load_state(state["stage"])
        log.info("resumed at step %d, %.1f minutes", step, spent)
    bfloat16 = True if options.autocast is None and processes.bfloat16 else options.autocast
    loss_of = processes.wrap(_Step(model, stage))

    def finished() -> bool:
        return step >= options.steps if options.steps else spent >= options.minutes

    def checkpoint() -> None:
        if processes.main:
            if numbers := stage.evaluate(average):
                journal.numbers(step, {"minutes": round(spent, 2), **numbers})
            if journal.shows_pictures:
                journal.pictures(step, stage.pictures(average))
            values = {"config": config, "model": model.state_dict(), "ema": average.state_dict(), "optimizer": optimizer.state_dict()}
            if more := stage.state():
                values["stage"] = more
            save_state(folder / "last.pt", {**values, "generator": generator.get_state(), "step": step, "spent": spent})
        if processes.count == 1:  # several would have to find the same
            stage.refresh()

    sums: dict[str, Tensor] = {}
    window, waited, since_saved = 0, 0.0, 0.0
    last = time.monotonic()
    with Journal(folder if processes.main else None, options.tensorboard, step + 1) as journal:
        window_start = time.perf_counter()
        while not finished() and (stop_step is None or step < stop_step):
            rate = learning_rate(options, step, spent)
            for group in optimizer.param_groups:
                group["lr"] = rate
            stage.before_step(step)
            before = time.perf_counter()
            items = stage.read(generator, rows)
            waited += time.perf_counter() - before
            optimizer.zero_grad(set_to_none=True)
            for place, item in enumerate(items, start=1):
                with processes.accumulating(loss_of) if place < len(items) else nullcontext(), stage.around(model):
                    with autocast(options.device, bfloat16):
                        loss, parts = loss_of(item)
                    (loss / len(items)).backward()
                for name, value in {"loss": loss.detach(), **parts}.items():
                    sums[name] = sums.get(name, 0.0) + value / len(items)
                if not torch.isfinite(loss):
                    raise DiffFAEError(f"{folder}: the loss is not finite at step {step}; lower the learning rate and resume")
            torch.nn.utils.clip_grad_norm_(trained, options.clip)
            optimizer.step()
            for name, value in stage.after_step(processes).items():
                sums[name] = sums.get(name, 0.0) + value
            if processes.main:
                update_average(average, model, step, options.ema)
            step += 1
            window += 1
            now = time.monotonic()
            passed = processes.agree((now - last) / 60)
            last = now
            spent += passed
            since_saved += passed
            if step % options.log_every == 0:
                means = {name: round(float(value) / window, 5) for name, value in processes.mean(sums).items()}
                seconds = time.perf_counter() - window_start
                speed = {"samples_per_second": round(window * options.batch / seconds, 3), "data_seconds": round(waited / window, 5)}
                journal.numbers(step, {"minutes": round(spent, 2), "lr": rate, **means, **speed})
                sums, window, waited = {}, 0, 0.0
                window_start = time.perf_counter()
            if since_saved > options.checkpoint_minutes or finished() or step == stop_step:
                since_saved = 0.0
                held = time.perf_counter()
                checkpoint()
                window_start += time.perf_counter() - held  # the speed is that of training alone
    processes.wait()
    return average


def plain_average(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Averaged weights by the model's names: checkpoints of the first version named them as torch's AveragedModel does."""
    if "n_averaged" not in weights:
        return weights
    return {name.removeprefix("module."): value for name, value in weights.items() if name != "n_averaged"}
