"""The loop that all stages share: resume, learning rate, averaged weights, log, checkpoints; in one process or several."""

from __future__ import annotations

import copy
import logging
import math
import time
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ...common.checkpoint import channels_last
from ...common.errors import ConfigError, DiffFAEError
from ...common.files import remove_leftovers
from ..prepare.shards import Shards
from .common import autocast, load_state, save_state
from .journal import Journal
from .processes import Processes
from .progress import Progress, rehearse

log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=nn.Module)
Parts = dict[str, Tensor]  # numbers for the log by name, detached scalars


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
    keep_data: bool = False  # all samples are read once and kept on `device`: for small sets, and devices that would wait for the disk
    dry_run: bool = False  # a few steps, then say what the run would take; nothing is written

    @property
    def data_device(self) -> str | None:
        """Where samples are kept; None reads them when they are needed."""
        return self.device if self.keep_data else None

    @property
    def checkpoint(self) -> Path:
        """Where the run's state is saved, and found again."""
        return Path(self.folder) / "last.pt"


class Stage(Generic[Model]):
    """What a training stage tells `run_loop`. The methods with a body are optional."""

    shards: Shards | None = None  # looked through for new ones at every checkpoint of a single process

    def data(self) -> str:
        """What the stage learns from, in words."""
        return "" if self.shards is None else self.shards.describe()

    def read(self, generator: torch.Generator, rows: list[slice]) -> list[Any]:
        """Draw the random numbers of the whole batch, then read the samples of these rows: one item for each slice."""
        raise NotImplementedError

    def loss(self, model: Model, item: Any) -> tuple[Tensor, Parts]:
        """Loss of one item, a scalar, and its parts; moves the item to the model's device."""
        raise NotImplementedError

    def around(self, model: Model) -> AbstractContextManager:
        """Held during forward and backward."""
        return nullcontext()

    def before_step(self, step: int) -> None:
        """Called before the samples of a step, counted from 0, are read."""

    def after_step(self, processes: Processes) -> Parts:
        """Called after the model's step: other networks of the stage learn here."""
        return {}

    def state(self) -> dict[str, Any]:
        """What else an exact resume needs; saved in the checkpoint as `stage`."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave; not called for checkpoints without it."""

    def evaluate(self, average: Model) -> dict[str, float]:
        """Numbers for the log at every checkpoint."""
        return {}

    def pictures(self, average: Model) -> dict[str, Tensor]:
        """Sample grids (3,H,W) for TensorBoard at every checkpoint."""
        return {}


class _Step(nn.Module):
    """A loss as the forward of a module, which is what gradients are averaged over processes for."""

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model = model
        self.stage = stage

    def forward(self, item: Any) -> tuple[Tensor, Parts]:
        return self.stage.loss(self.model, item)


def learning_rate(options: LoopOptions, step: int, spent: float) -> float:
    """Learning rate of a step, counted from 0, after `spent` minutes of training."""
    progress = step / options.steps if options.steps else spent / options.minutes
    warm = min(1.0, (step + 1) / max(1, options.warmup))
    fall = 1.0 if options.constant_rate else 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return options.learning_rate * warm * fall


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of the weights, in place; the decay grows with the step, so that a short run is no mix of the start."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


class _Meter:
    """Means of a step's numbers, and its speed, over the steps since the last line of the log."""

    def __init__(self) -> None:
        self.sums: Parts = {}
        self.steps, self.waited, self.start = 0, 0.0, time.perf_counter()

    def add(self, parts: Parts, of: int = 1) -> None:
        """The numbers of one of so many parts of a step."""
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value / of

    def line(self, processes: Processes, batch: int) -> dict[str, float]:
        means = {name: round(float(value) / self.steps, 5) for name, value in processes.mean(self.sums).items()}
        speed = self.steps * batch / (time.perf_counter() - self.start)
        return means | {"samples_per_second": round(speed, 3), "data_seconds": round(self.waited / self.steps, 5)}


class _Run(Generic[Model]):
    """A training between two steps: everything that `last.pt` holds, and what changes it."""

    def __init__(self, options: LoopOptions, model: Model, config: dict, stage: Stage[Model]) -> None:
        self.options, self.model, self.config, self.stage = options, model, config, stage
        self.processes = Processes(options.device)
        if options.accumulation < 1:
            raise ConfigError(f"accumulation={options.accumulation}: must be 1 or more")
        self.rows = self.processes.rows(options.batch, options.accumulation)
        channels_last(model.to(self.processes.device))
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=options.learning_rate, betas=(0.9, options.beta2), weight_decay=options.weight_decay
        )
        self.average = copy.deepcopy(model).eval().requires_grad_(False) if self.processes.main else model
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step, self.spent = 0, 0.0  # steps and minutes
        if state := load_state(options.checkpoint):
            self._resume(state)
        self.bfloat16 = True if options.autocast is None and self.processes.bfloat16 else options.autocast
        self.loss_of = self.processes.wrap(_Step(model, stage))

    def _resume(self, state: dict[str, Any]) -> None:
        self.step, self.spent = state["step"], state["spent"]
        self.model.load_state_dict(state["model"])
        if self.processes.main:
            self.average.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:  # the options of this run hold, not those of the one before
            group["betas"], group["weight_decay"] = (0.9, self.options.beta2), self.options.weight_decay
        self.generator.set_state(state["generator"])
        if "stage" in state:
            self.stage.load_state(state["stage"])
        log.info("resumed at step %d, %.1f minutes", self.step, self.spent)

    @property
    def finished(self) -> bool:
        return self.step >= self.options.steps if self.options.steps else self.spent >= self.options.minutes

    def learn(self, meter: _Meter, progress: Progress | None = None) -> float:
        """One step of the model and of its average; returns its learning rate. Raises DiffFAEError for a loss that is not finite."""
        rate = learning_rate(self.options, self.step, self.spent)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.stage.before_step(self.step)
        before = time.perf_counter()
        items = self.stage.read(self.generator, self.rows)
        meter.waited += time.perf_counter() - before
        self.optimizer.zero_grad(set_to_none=True)
        whole = torch.zeros((), device=self.processes.device)
        for place, item in enumerate(items, start=1):
            exchange = self.processes.accumulating(self.loss_of) if place < len(items) else nullcontext()
            with exchange, self.stage.around(self.model):
                with autocast(self.options.device, self.bfloat16):
                    loss, parts = self.loss_of(item)
                (loss / len(items)).backward()
            meter.add({"loss": loss.detach(), **parts}, of=len(items))
            whole += loss.detach() / len(items)
            if not torch.isfinite(loss):
                raise DiffFAEError(f"{self.options.folder}: the loss is not finite at step {self.step}; lower the learning rate and resume")
        torch.nn.utils.clip_grad_norm_(self.trained, self.options.clip)
        self.optimizer.step()
        meter.add(self.stage.after_step(self.processes))
        if self.processes.main:
            update_average(self.average, self.model, self.step, self.options.ema)
        self.step += 1
        meter.steps += 1
        if progress is not None:
            progress.step(whole)
        return rate

    def rehearse(self) -> list[str]:
        """What the run would take, in lines; changes the model."""
        o, meter = self.options, _Meter()
        precision = "float32" if self.bfloat16 is False else "bfloat16 where that is faster"
        batch = f"batch {o.batch} in {o.accumulation} part(s), {precision}"
        length = max(0, o.steps - self.step), max(0.0, o.minutes - self.spent)
        return rehearse(lambda: self.learn(meter), self.model, self.stage.data(), batch, self.processes.device, length, o.batch)

    def save(self, journal: Journal) -> None:
        """Evaluate the average and write `last.pt`."""
        if self.processes.main:
            if numbers := self.stage.evaluate(self.average):
                journal.numbers(self.step, {"minutes": round(self.spent, 2), **numbers})
            if journal.shows_pictures:
                journal.pictures(self.step, self.stage.pictures(self.average))
            weights = {"model": self.model.state_dict(), "ema": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
            place = {"generator": self.generator.get_state(), "step": self.step, "spent": self.spent}
            more = {"stage": state} if (state := self.stage.state()) else {}
            save_state(self.options.checkpoint, {"config": self.config, **weights, **more, **place})
        if self.stage.shards is not None and self.processes.count == 1:  # several would have to find the same
            self.stage.shards.refresh()


def run_loop(options: LoopOptions, model: Model, config: dict, stage: Stage[Model], stop_step: int | None = None) -> Model:
    """Train a model in place, writing `last.pt` and `log.jsonl` into the folder of the options.

    Progress goes to the log, the first line after seconds. Resumes from `last.pt`, whatever the number of processes was. A resumed run
    with `steps` set does what an uninterrupted one does, bit for bit in one process on one CPU thread, because every random number comes
    from the one generator that is saved. A dry run writes nothing and says what a real one would take.

    Args:
        options: Options of the stage; `steps` or `minutes` say when it ends.
        model: What is trained: the parameters that require a gradient.
        config: Of the model, saved in the checkpoint; plain values.
        stage: Its data and losses.
        stop_step: End here and save, although the schedule goes on.

    Returns:
        The averaged copy in the main process; the model itself in the others.

    Raises:
        ConfigError: If the batch cannot be shared out, or for a launcher's options that cannot work.
        DiffFAEError: If the loss is not finite.
    """
    run = _Run(options, model, config, stage)
    if options.dry_run:
        for text in run.rehearse():
            log.info("%s", text)
        return run.average
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder={folder}: cannot be made ({error.strerror}); choose another place") from error
    if run.processes.main:
        remove_leftovers(folder)
        log.info("%s; %.2f M parameters; to %s", stage.data(), sum(p.numel() for p in run.trained) / 1e6, options.checkpoint)
    since_saved, last = 0.0, time.monotonic()
    progress = Progress(options.batch, options.steps)
    with closing(Journal(folder if run.processes.main else None, options.tensorboard, run.step + 1)) as journal:
        meter = _Meter()
        while not run.finished and (stop_step is None or run.step < stop_step):
            rate = run.learn(meter, progress)
            now = time.monotonic()
            passed = run.processes.agree((now - last) / 60)
            last = now
            run.spent += passed
            since_saved += passed
            ends = run.finished or run.step == stop_step
            if run.processes.main and (progress.wanted or ends):
                log.info("%s", progress.line(run.step, options.minutes - run.spent))
            if run.step % options.log_every == 0 or ends:
                line = meter.line(run.processes, options.batch)
                journal.numbers(run.step, {"minutes": round(run.spent, 2), "lr": rate, **line})
                meter = _Meter()
            if since_saved > options.checkpoint_minutes or ends:
                since_saved, held = 0.0, time.perf_counter()
                run.save(journal)
                pause = time.perf_counter() - held  # the speed is that of training alone
                meter.start += pause
                progress.paused(pause)
    run.processes.wait()
    return run.average
