"""A budget of time, divided among the parts of a training, and the file that lets it go on after a kill."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...common.files import atomic_write

LEAST = 60.0  # seconds of a budget: below it no part could do anything


@dataclass(frozen=True)
class Part:
    """A part of the training, the share of the budget that it gets, and what is counted in it."""

    name: str
    share: float
    unit: str


# In their order. What one item costs on one core (Intel Xeon, float32, 2026-11-29, its own time beside other jobs): a portrait 0.21 s (with
# landmarks; 0.3 s without), a crop of the first stage 0.12 s, of the decoder 0.15 s, a picture of the slots 0.05 s, a pair 2.8 s with
# its latents, a sample of the denoiser 0.14 s. So an hour of it makes 6,000 and 2,400 crops, 5,500 pictures, 350 pairs, 6,200 samples,
# of which each pair is seen 18 times, as in the longer runs of docs/training-log.md.
PARTS = (
    Part("portraits", 0.06, "portraits"),
    Part("first stage", 0.20, "crops"),
    Part("decoder", 0.10, "crops"),
    Part("slots", 0.08, "pictures"),
    Part("pairs", 0.27, "pairs"),
    Part("denoiser", 0.24, "samples"),
    Part("card", 0.05, "pairs"),
)
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds_of(text: str) -> float:
    """A time such as 3h, 14m, 1h30m or 120s, in seconds. Raises ConfigError for other texts, and for less than a minute.

    >>> from difffae.lab.retrain.budget import seconds_of
    >>> seconds_of("1h30m")
    5400.0
    """
    if not re.fullmatch(r"(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?", text) or not text:
        raise ConfigError(f"--budget {text}: not a time; write for example 3h, 14m or 1h30m")
    total = sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
    if total < LEAST:
        raise ConfigError(f"--budget {text}: too short for any part to do something; give at least 1m")
    return total


class Budget:
    """Which parts are done, how long they took, and what is left for the others: `progress.json` of a run's folder.

    What counts is time whose work was kept: of a run that was killed, that up to the last checkpoint or shard.
    """

    def __init__(self, folder: Path, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        """total: seconds; another one than that of an interrupted run is shared out among the parts that it has not begun. Raises
        ConfigError for a file that is damaged."""
        self.path, self.total, self.clock = folder / "progress.json", total, clock
        self.parts: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            try:
                self.parts = json.loads(self.path.read_text(encoding="utf-8"))["parts"]
            except (OSError, ValueError, KeyError) as error:
                raise ConfigError(f"{self.path}: cannot be read ({error}); give another output folder") from error
        self.current, self.start = "", clock()

    def done(self, name: str) -> bool:
        return bool(self.parts.get(name, {}).get("done"))

    @property
    def spent(self) -> float:
        """Seconds whose work was kept, and those since the current part began."""
        running = 0.0 if not self.current else self.clock() - self.start
        return sum(part["seconds"] for part in self.parts.values()) + running

    @property
    def left(self) -> float:
        return max(0.0, self.total - self.spent)

    def begin(self, name: str, kept: float | None = None) -> float:
        """Begin a part, or go on with it; returns the seconds that it has in all, those before a kill among them.

        Args:
            name: Of PARTS.
            kept: Seconds of it that an interrupted run did, if its own files know better than this one.
        """
        known = self.parts.setdefault(name, {"seconds": 0.0})
        if kept is not None:
            known["seconds"] = kept
        if "allowance" not in known:
            share = {part.name: part.share for part in PARTS if not self.done(part.name)}
            known["allowance"] = round(self.left * share[name] / sum(share.values()), 1)
        self.current, self.start = name, self.clock()
        self._write()
        return known["allowance"]

    def keep(self) -> None:
        """Note that all work of the current part up to now lies on the disk."""
        now = self.clock()
        self.parts[self.current]["seconds"] += now - self.start
        self.start = now
        self._write()

    def end(self, note: dict[str, Any]) -> None:
        """The current part is done; note: what is to be told of it."""
        self.parts[self.current] |= {"done": True, "note": note}
        self.keep()
        self.current = ""

    def over(self) -> bool:
        """Whether the current part has had its time."""
        part = self.parts[self.current]
        return part["seconds"] + self.clock() - self.start >= part["allowance"]

    def _write(self) -> None:
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps({"total": self.total, "parts": self.parts}, indent=1) + "\n", encoding="utf-8")
