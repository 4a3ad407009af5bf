"""The processes that train together: one, or those that `accelerate launch` started.

Every process draws the random numbers of the whole batch from its own generator, which stands at the same place in all of them, and
works on its rows only. So the number of processes, like that of accumulated parts, changes no random number and no checkpoint.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import ConfigError
from ...common.needs import missing

SHARED_OPTIONS = "WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"  # in the environment under accelerate's launcher


class Processes:
    """Which process this is, and what several do together.

    device        "cpu", or "cuda": each process then has its own
    index, count  number of this process, 0..count-1; main is the first, which alone writes files
    bfloat16      the launcher asked for it (`--mixed_precision bf16`)

    Raises ConfigError if several processes were launched without accelerate, or for float16, which this training has no loss scaling for.
    """

    def __init__(self, device: str) -> None:
        self.index, self.count, self.device, self.bfloat16 = 0, 1, torch.device(device), False
        self._accelerator: Any = None
        if not any(name in os.environ for name in SHARED_OPTIONS):
            return
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise missing("training in several processes", error, "start one process without a launcher") from error
        self._accelerator = a = Accelerator(cpu=torch.device(device).type == "cpu")
        if a.mixed_precision not in ("no", "bf16"):
            raise ConfigError(f"--mixed_precision {a.mixed_precision}: training runs in float32 or bf16; launch it with one of these")
        self.index, self.count, self.device, self.bfloat16 = a.process_index, a.num_processes, a.device, a.mixed_precision == "bf16"

    @property
    def main(self) -> bool:
        return self.index == 0

    def rows(self, batch: int, parts: int) -> list[slice]:
        """Rows of the batch that this process does, one slice for each of the accumulated parts. Raises ConfigError for a rest."""
        size, rest = divmod(batch, parts * self.count)
        if rest or size == 0:
            raise ConfigError(f"batch={batch}: cannot be shared evenly by {self.count} processes and {parts} accumulated parts; change one")
        return [slice((part * self.count + self.index) * size, (part * self.count + self.index + 1) * size) for part in range(parts)]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes; its parameters are made equal to the main process's."""
        return module if self.count == 1 else self._accelerator.prepare_model(module)

    def accumulating(self, module: nn.Module) -> AbstractContextManager:
        """Within it, backward of a wrapped module leaves the exchange of gradients to a later one."""
        return nullcontext() if self.count == 1 else self._accelerator.no_sync(module)

    def agree(self, value: float) -> float:
        """The main process's value, in all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=self.device)))

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Means over the processes of scalars that all of them have."""
        if self.count == 1:
            return values
        names = sorted(values)
        packed = torch.stack([values[name].detach().float().to(self.device) for name in names])
        return dict(zip(names, self._accelerator.reduce(packed, "mean").unbind(), strict=True))

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces tensors that all processes have, such as gradients of a module that is not wrapped, by their means; in place."""
        if self.count == 1 or not tensors:
            return
        packed = self._accelerator.reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), "mean")
        for tensor, mean in zip(tensors, packed.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()
