"""What the stages with a discriminator share: its options, when its verdict counts, and its place in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...common.errors import ConfigError
from ..losses.adversarial import Adversary
from .loop import LoopOptions, Model, Parts, Stage
from .processes import Processes


@dataclass(frozen=True)
class AdversarialOptions(LoopOptions):
    """Options of a stage whose results a discriminator may judge."""

    adversarial_weight: float = 0.0  # of its verdict; 0: there is none
    adversarial_start: int = 0  # step from which the discriminator learns
    adversarial_alone: int = 0  # steps that it learns before its verdict counts
    adversarial_warmup: int = 200  # steps after these over which the weight rises from 0
    discriminator_width: int = 32
    discriminator_layers: int = 3
    discriminator_detail: float = 0.0  # above 0 it judges only what a blur of this standard deviation, in pixels or cells, takes away
    discriminator_rate: float = 2e-4


class AdversarialStage(Stage[Model]):
    """A stage that may have a discriminator, and does what a plain one does without."""

    rival: AdversarialOptions
    adversary: Adversary | None = None
    step = 0

    def oppose(self, options: AdversarialOptions, side: int, channels: int = 3) -> None:
        """Set up the discriminator that the options ask for, if they do.

        Args:
            options: Of the stage.
            side: Of what is judged, cells or pixels.
            channels: What is judged and what is known of it have together.

        Raises:
            ConfigError: For options that cannot work.
        """
        self.rival = o = options
        if o.adversarial_weight == 0:
            return
        check_adversarial(o, side)
        sizes = (o.discriminator_width, o.discriminator_layers, o.discriminator_detail)
        self.adversary = Adversary(*sizes, o.discriminator_rate, o.device, o.seed, channels)

    def opponent(self) -> tuple[Adversary | None, float]:
        """Of this step: the discriminator, once it learns, and the weight of its verdict. Its own steps count, so that it begins alone in a
        run, too, that had none before it was resumed."""
        o = self.rival
        if self.adversary is None or self.step < o.adversarial_start:
            return None, 0.0
        since = self.adversary.learnt - o.adversarial_alone
        share = max(0.0, min(1.0, since / o.adversarial_warmup)) if o.adversarial_warmup else float(since >= 0)
        return self.adversary, o.adversarial_weight * share

    def before_step(self, step: int) -> None:
        self.step = step

    def after_step(self, processes: Processes) -> Parts:
        return {} if self.adversary is None else self.adversary.learn(processes.average)

    def state(self) -> dict[str, Any]:
        return {} if self.adversary is None else self.adversary.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises ConfigError for a discriminator of other sizes."""
        if self.adversary is None:
            return
        try:
            self.adversary.load_state(state)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{self.rival.checkpoint}: its discriminator has other sizes than discriminator_width={self.rival.discriminator_width} and "
                f"discriminator_layers={self.rival.discriminator_layers}; give those that the run began with"
            ) from error


def check_adversarial(options: AdversarialOptions, side: int) -> None:
    """Raise ConfigError for options of a discriminator (adversarial_weight, ...) that cannot work on things of this side."""
    o = options
    if not o.adversarial_weight >= 0:
        raise ConfigError(f"adversarial_weight={o.adversarial_weight}: must be 0, which leaves the discriminator out, or more")
    for name in ("adversarial_start", "adversarial_alone", "adversarial_warmup"):
        if getattr(o, name) < 0:
            raise ConfigError(f"{name}={getattr(o, name)}: is a number of steps, 0 or more")
    if not o.discriminator_rate > 0:
        raise ConfigError(f"discriminator_rate={o.discriminator_rate}: must be above 0; adversarial_weight=0 leaves the discriminator out")
    if o.discriminator_width < 1 or o.discriminator_layers < 1:
        sizes = f"discriminator_width={o.discriminator_width}, discriminator_layers={o.discriminator_layers}"
        raise ConfigError(f"{sizes}: must both be 1 or more")
    if not o.discriminator_detail >= 0:
        raise ConfigError(f"discriminator_detail={o.discriminator_detail}: is a blur's standard deviation, 0 or more")
    if side < 2**o.discriminator_layers:
        raise ConfigError(
            f"discriminator_layers={o.discriminator_layers}: halve {side} cells to less than one; {side.bit_length() - 1} are the most"
        )
