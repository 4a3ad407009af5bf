"""What a run says on the console while it works, and what it would take (`train --dry-run`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

FIRST_LINE, LONGEST_WAIT = 3.0, 60.0  # seconds
DRY_STEPS = 3  # measured after one that warms up


class Progress:
    """Lines of a running training: the first after seconds, then ever fewer, up to one a minute.

    Raises nothing; `wanted` is asked after every step, `line` only then, since it waits for the device.
    """

    def __init__(self, batch: int, of: int) -> None:
        """batch: samples of a step; of: steps of the whole run, 0 where minutes count."""
        self.batch, self.of = batch, of
        self.wait = FIRST_LINE
        self.start, self.steps = time.perf_counter(), 0
        self.loss: Tensor | None = None

    def step(self, loss: Tensor) -> None:
        """Take in the detached loss of a step."""
        self.steps += 1
        self.loss = loss if self.loss is None else self.loss + loss

    @property
    def wanted(self) -> bool:
        return time.perf_counter() - self.start >= self.wait

    def paused(self, seconds: float) -> None:
        """Time that was no training, such as a checkpoint's."""
        self.start += seconds

    def line(self, step: int, minutes_left: float) -> str:
        """What to say after a step. minutes_left: where minutes count."""
        assert self.loss is not None
        each = (time.perf_counter() - self.start) / self.steps
        left = (self.of - step) * each if self.of else 60 * minutes_left
        done = f"step {step:,} of {self.of:,}" if self.of else f"step {step:,}"
        text = f"{done}, loss {float(self.loss) / self.steps:.4g}, {self.batch / each:.3g} samples/s, {duration(left)} left"
        self.start, self.steps, self.loss = time.perf_counter(), 0, None
        self.wait = min(LONGEST_WAIT, 1.5 * self.wait)
        return text


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> from difffae.lab.training.progress import duration
    >>> duration(42.4), duration(600), duration(9000), duration(300_000)
    ('42 s', '10 min', '2 h 30 min', '3 d 11 h')
    """
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(amount: float) -> str:
    """Bytes in words.

    >>> from difffae.lab.training.progress import size
    >>> size(1_500_000), size(23_400_000_000)
    ('1.5 MB', '23.4 GB')
    """
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def peak_memory(device: torch.device) -> int | None:
    """Bytes that the device held at most, on a CPU the whole process; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def rehearse(
    learn: Callable[[], object], model: nn.Module, data: str, batch: str, device: torch.device, length: tuple[int, float], samples: int
) -> list[str]:
    """Do a few steps and say what a run takes.

    Args:
        learn: Does one step.
        model: What is trained; changed by the steps.
        data: What the samples are, in words.
        batch: How they are worked on, in words.
        device: Where.
        length: Steps of the run, or 0, and minutes in that case.
        samples: Of a step.

    Returns:
        Lines of text.
    """
    learn()
    start = time.perf_counter()
    for _ in range(DRY_STEPS):
        learn()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    each = (time.perf_counter() - start) / DRY_STEPS
    trained, whole = _bytes([p for p in model.parameters() if p.requires_grad]), _bytes([*model.parameters(), *model.buffers()])
    count = sum(parameter.numel() for parameter in model.parameters())
    peak = peak_memory(device)
    steps, minutes = length
    end = f"{steps:,} steps take {duration(steps * each)}" if steps else f"{minutes:g} minutes are {round(60 * minutes / each):,} steps"
    # beside the weights: their average, their gradients and Adam's two moments; a checkpoint has no gradients
    held = f"{size(2 * whole + 3 * trained)} for weights, average, gradients and Adam"
    return [
        f"data    {data}",
        f"sizes   {count / 1e6:.2f} M parameters, {size(whole)}; checkpoints {size(2 * whole + 2 * trained)}; {batch}",
        f"memory  {held}" + ("" if peak is None else f"; {size(peak)} at the peak of {DRY_STEPS + 1} steps on {device}"),
        f"time    {each:.3g} s a step, {samples / each:.3g} samples/s: {end}, without checkpoints",
    ]


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
