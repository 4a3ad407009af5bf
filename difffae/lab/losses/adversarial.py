"""An adversarial loss, as VQGAN and latent diffusion have it for first stages: texture that a mean would average away. The denoiser's clean
estimates are judged by the same, as latents beside what the denoiser is told of them.

Hinge loss (Lim and Ye 2017) against a small patch discriminator (Isola et al. 2017) whose convolutions are spectrally normalised (Miyato et
al. 2018): it needs neither batch statistics, which would differ between processes, nor a gradient penalty.
Shape letters: B batch, C channels of what is judged (3 of pictures, or those of latents) and H and W its sides, K channels of what is known
of it, h and w sides of the map of verdicts, one per patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ...common.checkpoint import channels_last
from ...common.pixels import gaussian_blur

DETAIL_GAIN = 8.0  # brings the detail of portraits, 0.08 in standard deviation, to the size of the pictures themselves


class PatchDiscriminator(nn.Module):
    """Convolutions that halve the picture `layers` times. Three of them see patches of 54 x 54 pixels, two of them 26 x 26, one 12 x 12.

    channels: C + K.
    detail: standard deviation in pixels, or latent cells, of a blur; only the difference from the blurred picture is judged. 0: the picture
    itself. A decoder that is only to win back texture needs no verdict on colour and shading, and the discriminator learns faster: on the
    shipped first stage's reconstructions its hinge loss was 0.25 after 60 batches with a blur of 2, and 0.98 without; on clean estimates of
    paper-mini's denoiser 0.38 after 250 batches with a blur of 1, and 0.74 without.
    """

    def __init__(self, width: int = 32, layers: int = 3, detail: float = 0.0, channels: int = 3) -> None:
        super().__init__()
        self.detail = detail
        widths = [channels, *(width * min(2**i, 4) for i in range(layers))]
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            parts += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
        parts += [spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, 1, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts, spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1)))

    def forward(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        """images (B,C,H,W), pictures in -1..1 or latents, beside what is known of them (B,K,H,W) -> verdicts (B,1,h,w), positive for real
        ones."""
        if self.detail:
            images = (images - gaussian_blur(images, self.detail)) * DETAIL_GAIN
        return self.layers(images if known is None else torch.cat([images, known], dim=1))


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's: verdicts on real ones above 1 and on made ones below -1 cost nothing. A scalar."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


@dataclass(frozen=True)
class Judged:
    """One part of a step: real and fake (B,C,H,W), known (B,K,H,W) or None, and how much the part counts; 1 on average over the parts of
    a step, in all processes together."""

    real: Tensor
    fake: Tensor
    known: Tensor | None
    share: Tensor | float


class Adversary:
    """A discriminator that learns beside what makes the pictures or latents that it judges.

    In a step `generator_loss` judges them without touching the discriminator's gradients, and keeps them; `learn` then trains
    the discriminator on what was kept. Every process of a run has the same weights, since `learn` averages the gradients over them.
    """

    def __init__(self, width: int, layers: int, detail: float, learning_rate: float, device: str, seed: int, channels: int = 3) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PatchDiscriminator(width, layers, detail, channels)
        channels_last(self.network.to(device))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate, betas=(0.5, 0.9))
        self.rate = learning_rate
        self.kept: list[Judged] = []

    @property
    def learnt(self) -> int:
        """Steps that it has learnt, those before a resume among them."""
        return max((int(moments["step"]) for moments in self.optimizer.state.values()), default=0)

    def generator_loss(self, real: Tensor, fake: Tensor, known: Tensor | None = None, share: Tensor | float = 1.0) -> Tensor:
        """What the fakes pay for being seen through, a scalar. Pictures are in -1..1; arguments are those of `Judged`."""
        self.kept.append(Judged(real.detach(), fake.detach(), known if known is None else known.detach(), share))
        self.network.requires_grad_(False).eval()  # evaluation: the power iteration stands still
        return -self.network(fake, known).float().mean() * share

    def learn(self, average: Callable[[list[Tensor]], None]) -> dict[str, Tensor]:
        """One step on what was kept; returns numbers for the log. average takes the mean of tensors over the processes, in place."""
        if not self.kept:
            return {}
        self.network.requires_grad_(True).train()
        self.optimizer.zero_grad(set_to_none=True)
        parts: dict[str, Tensor] = {}
        for one in self.kept:
            verdicts = self.network(torch.cat([one.real, one.fake]), None if one.known is None else torch.cat([one.known, one.known]))
            on_real, on_fake = verdicts.chunk(2)
            loss = hinge_loss(on_real, on_fake)
            (loss * one.share / len(self.kept)).backward()
            for name, value in (("discriminator", loss), ("verdict_real", on_real.mean()), ("verdict_fake", on_fake.mean())):
                parts[name] = parts.get(name, 0.0) + value.detach() * one.share / len(self.kept)
        self.kept = []
        average([parameter.grad for parameter in self.network.parameters() if parameter.grad is not None])
        self.optimizer.step()
        return parts

    def state(self) -> dict[str, Any]:
        return {"discriminator": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """The learning rate stays this run's."""
        self.network.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, output: Tensor, largest: float = 1e4) -> Tensor:
    """How many times larger the gradient of the reconstruction's loss is than that of the adversarial one, a scalar without gradient.

    VQGAN measures both at the decoder's last layer; here it is at the decoded pictures, output (B,3,H,W), which saves two passes through
    that layer.
    """
    of_reconstruction = torch.autograd.grad(reconstruction, output, retain_graph=True)[0]
    of_adversarial = torch.autograd.grad(adversarial, output, retain_graph=True)[0]
    return (of_reconstruction.norm() / (of_adversarial.norm() + 1e-8)).clamp(max=largest).detach()
