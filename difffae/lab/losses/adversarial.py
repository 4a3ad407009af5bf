"""An adversarial loss for first stages, as VQGAN and latent diffusion have it: texture that a pixel loss would average away.

Hinge loss (Lim and Ye 2017) against a small patch discriminator (Isola et al. 2017) whose convolutions are spectrally normalised (Miyato et
al. 2018): it needs neither batch statistics, which would differ between processes, nor a gradient penalty.
Shape letters: B batch, H and W image sides, h and w sides of the map of verdicts, one per patch.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Convolutions that halve the picture `layers` times. Three of them see patches of 54 x 54 pixels, two of them 26 x 26.

    detail: standard deviation in pixels of a blur; only the difference from the blurred picture is judged. 0: the picture itself. A decoder
    that is only to win back texture needs no verdict on colour and shading, and the discriminator learns faster: on the shipped first
    stage's reconstructions its hinge loss was 0.25 after 60 batches with a blur of 2, and 0.98 without.
    """

    def __init__(self, width: int = 32, layers: int = 3, detail: float = 0.0) -> None:
        super().__init__()
        self.detail = detail
        widths = [3, *(width * min(2**i, 4) for i in range(layers))]
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            parts += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
        parts += [spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, 1, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts, spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """images (B,3,H,W) in -1..1 -> verdicts (B,1,h,w), positive for photographs."""
        if self.detail:
            images = (images - gaussian_blur(images, self.detail)) * DETAIL_GAIN
        return self.layers(images)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's: verdicts of photographs above 1 and of reconstructions below -1 cost nothing. A scalar."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


class Adversary:
    """A discriminator that learns beside a first stage.

    In a step `generator_loss` judges reconstructions without touching the discriminator's gradients, and keeps them; `learn` then trains
    the discriminator on what was kept. Every process of a run has the same weights, since `learn` averages the gradients over them.
    """

    def __init__(self, width: int, layers: int, detail: float, learning_rate: float, device: str, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PatchDiscriminator(width, layers, detail)
        channels_last(self.network.to(device))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate, betas=(0.5, 0.9))
        self.rate = learning_rate
        self.kept: list[tuple[Tensor, Tensor]] = []

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """real and fake (B,3,H,W) in -1..1 -> what the reconstructions pay for being seen through, a scalar."""
        self.kept.append((real.detach(), fake.detach()))
        self.network.requires_grad_(False).eval()  # evaluation: the power iteration stands still
        return -self.network(fake).float().mean()

    def learn(self, average: Callable[[list[Tensor]], None]) -> dict[str, Tensor]:
        """One step on the kept pictures; returns numbers for the log. average takes the mean of tensors over the processes, in place."""
        if not self.kept:
            return {}
        self.network.requires_grad_(True).train()
        self.optimizer.zero_grad(set_to_none=True)
        parts: dict[str, Tensor] = {}
        for real, fake in self.kept:
            verdicts = self.network(torch.cat([real, fake]))
            on_real, on_fake = verdicts.chunk(2)
            loss = hinge_loss(on_real, on_fake)
            (loss / len(self.kept)).backward()
            for name, value in (("discriminator", loss), ("verdict_real", on_real.mean()), ("verdict_fake", on_fake.mean())):
                parts[name] = parts.get(name, 0.0) + value.detach() / len(self.kept)
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
