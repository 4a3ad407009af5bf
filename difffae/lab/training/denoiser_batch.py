"""What one step of the denoiser's training reads: samples of shards with their random numbers, and the conditions that are withheld.

Shape letters: B batch, Z latent channels, S slots, D token size, h and w latent sides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...diffusion.conditions import Conditions
from ...diffusion.denoiser import Denoiser
from ..losses.identity_loss import NEEDED
from ..prepare.shards import stacked

if TYPE_CHECKING:
    from .denoiser import DenoiserTraining


@dataclass(frozen=True)
class Batch:
    """What one step needs. target (B,Z,h,w); masks (B,S,h',w') of the query, or None with a source encoder that has none; seen
    (B,1,h,w): validity before any dropout, or None; landmarks (B,N,2) and who (B,I), identity, of the target: for the identity loss."""

    target: Tensor
    conditions: Conditions
    masks: Tensor | None
    seen: Tensor | None
    landmarks: Tensor | None = None
    who: Tensor | None = None


@dataclass(frozen=True)
class Dropout:
    """Which conditions of a batch are kept: 1, or 0. tokens (B,S,1), identity (B,1); render, carried, region (B,1,1,1): the carried
    picture, and its part of one slot; chosen (B,): that slot."""

    tokens: Tensor
    identity: Tensor
    render: Tensor
    carried: Tensor
    region: Tensor
    chosen: Tensor

    @classmethod
    def draw(cls, options: DenoiserTraining, size: int, slots: int, generator: torch.Generator) -> Dropout:
        def kept(probability: float, *shape: int) -> Tensor:
            return (torch.rand(shape, generator=generator) >= probability).float()

        return cls(
            kept(options.token_dropout, size, slots, 1),
            kept(options.identity_dropout, size, 1),
            kept(options.render_dropout, size, 1, 1, 1),
            kept(options.carry_dropout, size, 1, 1, 1),
            kept(options.region_dropout, size, 1, 1, 1),
            torch.randint(slots, (size,), generator=generator),
        )

    def rows(self, part: slice) -> Dropout:
        return Dropout(*(getattr(self, field.name)[part] for field in fields(self)))


def read_batch(samples: list[dict[str, Tensor]], model: nn.ModuleDict, options: DenoiserTraining, starts: Tensor | None = None) -> Batch:
    """Samples of shards -> Batch; runs the slot encoder if it is trained too. starts (B,S,D): the noise of its random starts, the same
    for source and query, so that slot i of both is the same region."""
    device = options.device
    denoiser = model["denoiser"]
    assert isinstance(denoiser, Denoiser)
    masks: Tensor | None
    if options.source_encoder:
        tokens, masks = model["source_encoder"](stacked(samples, "source", device))
    elif options.joint:
        noise = None if starts is None else starts.to(device)
        tokens = model["slots"](stacked(samples, "source", device), noise)[0]
        with torch.no_grad():  # Eq. 7 holds the maps to the masks, not the masks to the maps
            masks = model["slots"](stacked(samples, "query", device), noise)[1]
    else:
        tokens, masks = stacked(samples, "tokens", device), stacked(samples, "masks", device)
    carried = validity = None
    if denoiser.config.carry:
        carried, validity = stacked(samples, "carried", device), stacked(samples, "validity", device)
    conditions = Conditions(tokens, stacked(samples, "identity", device), stacked(samples, "render", device), carried, validity)
    of_target = [stacked(samples, name, device) for name in NEEDED] if options.identity_weight else []
    return Batch(stacked(samples, "target", device), conditions, masks, validity, *of_target)


def drop_conditions(batch: Batch, dropout: Dropout) -> Conditions:
    """Conditions with some of them withheld, so that the others stay alive. A dropped one is all zeros."""
    c, masks = batch.conditions, batch.masks
    device = c.render.device
    carried, validity = c.carried, c.validity
    if carried is not None and validity is not None:
        keep = dropout.carried.to(device)
        if masks is not None:
            area = masks[torch.arange(len(masks), device=device), dropout.chosen.to(device)][:, None]
            if area.shape[2:] != validity.shape[2:]:
                area = nn.functional.interpolate(area, validity.shape[2:], mode="bilinear")
            keep = keep * torch.maximum(dropout.region.to(device), (area < 0.5).float())
        carried, validity = carried * keep, validity * keep
    tokens, identity, render = c.tokens * dropout.tokens.to(device), c.identity * dropout.identity.to(device), c.render
    return Conditions(tokens, identity, render * dropout.render.to(device), carried, validity)


@dataclass(frozen=True)
class Item:
    """Rows of a batch with their random numbers, on the CPU. steps (B,), noise (B,Z,h,w), judged (B,) bool: by the identity loss;
    starts (B,S,D): noise of random slots, or None; shares (B,) of the discriminator's verdict, or None: see `verdict_shares`."""

    samples: list[dict[str, Tensor]]
    dropout: Dropout
    steps: Tensor
    noise: Tensor
    judged: Tensor
    starts: Tensor | None = None
    shares: Tensor | None = None
