"""What a run tells of itself: `log.jsonl`, and TensorBoard's scalars and sample grids.

Shape letters: N pictures, H and W their height and width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...common.needs import missing


class Journal:
    """Opened by the main process; the others give it a folder of None and it writes nothing. Close it."""

    def __init__(self, folder: Path | None, tensorboard: bool, step: int) -> None:
        """step is the first one to be written: TensorBoard drops what an interrupted run wrote from there on. Raises ConfigError without
        tensorboard installed."""
        self._lines = self._board = None
        if folder is None:
            return
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise missing("tensorboard=true", error, "leave the option out") from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self._lines = open(folder / "log.jsonl", "a", buffering=1)  # noqa: SIM115

    def numbers(self, step: int, values: dict[str, Any]) -> None:
        """One line of the log, and a point of each curve."""
        if self._lines:
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    @property
    def shows_pictures(self) -> bool:
        return self._board is not None

    def pictures(self, step: int, grids: dict[str, Tensor]) -> None:
        """Grids (3,H,W) in 0..1 by name."""
        if self._board:
            for name, grid in grids.items():
                self._board.add_image(name, (grid.clamp(0, 1) * 255).round().byte().cpu(), step)
            self._board.flush()

    def close(self) -> None:
        if self._lines:
            self._lines.close()
        if self._board:
            self._board.close()


def grid(columns: list[Tensor]) -> Tensor:
    """Columns, each (N,3,H,W) or (N,1,H,W), side by side -> one picture (3, N times H, columns times W) of the largest H and W; smaller
    ones are enlarged by repeating pixels."""
    size = (max(column.shape[2] for column in columns), max(column.shape[3] for column in columns))
    same = [F.interpolate(column.detach().float().cpu(), size, mode="nearest").expand(-1, 3, -1, -1) for column in columns]
    return torch.cat([torch.cat(list(column), dim=1) for column in same], dim=2)
