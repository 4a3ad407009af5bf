"""A loss on who is to be seen: the clean latents that the denoiser predicts, decoded, through the identity network. Not in the paper.

Shape letters: B batch, Z latent channels, h and w latent sides, N landmarks (478), I identity size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...common.errors import ConfigError
from ...diffusion.autoencoder import FirstStage
from ...source.identity import IdentityEncoder
from ...source.identity_networks import load_identity

NEEDED = ("target_landmarks", "target_identity")  # of shards, beside what the denoiser reads


class IdentityLoss(nn.Module):
    """Frozen; gradients reach the latents alone. Not part of what is trained or saved. Raises ConfigError for a network without
    gradients."""

    def __init__(self, first_stage: FirstStage, network: IdentityEncoder) -> None:
        super().__init__()
        if not any(True for _ in network.parameters()):
            raise ConfigError(f"identity loss: '{network.name}' runs as an ONNX file, which gives no gradients; convert it to safetensors")
        self.first_stage = first_stage.requires_grad_(False).eval()
        self.network = network.requires_grad_(False).eval()

    def forward(self, latents: Tensor, landmarks: Tensor, identity: Tensor) -> Tensor:
        """Clean latents (B,Z,h,w), landmarks (B,N,2) in the pixels of the picture that they should be, and the identity (B,I) that it
        has -> distances (B,), in the network's own measure."""
        pictures = self.first_stage.decode(latents).float()
        with torch.autocast(pictures.device.type, enabled=False):  # distances of one person are small
            return self.network.distance(self.network.embed(pictures, landmarks), identity.float())


def judged_rows(steps: Tensor, limit: float, count: int) -> Tensor:
    """Which of the noise levels (B,) are judged: the first `count` below the limit, (B,) bool. Near pure noise the predicted picture is the
    mean of many and nobody's face."""
    below = steps < limit
    return below & (below.cumsum(0) <= count)


def check_identity(weight: float, until: float, samples: int, first_stage: str) -> None:
    """Raise ConfigError for options of a training (identity_weight, ...) that cannot work."""
    if weight < 0:
        raise ConfigError(f"identity_weight={weight}: must be 0, which leaves the identity loss out, or more")
    if not first_stage:
        raise ConfigError(
            "identity loss: it looks at decoded pictures; name the file that decodes them in first_stage, such as the model's"
        )
    if not 0 < until <= 1:
        raise ConfigError(f"identity_until={until}: is a share of the schedule, above 0 and up to 1")
    if samples < 1:
        raise ConfigError(f"identity_samples={samples}: must be 1 or more; identity_weight=0 leaves the identity loss out")


def load_identity_loss(first_stage: FirstStage, network: str, sample: dict[str, Tensor]) -> IdentityLoss:
    """The loss with the network of a file (or the bundled one, ""), for samples like this one of the shards. Raises ConfigError for parts
    that do not go together."""
    have, need = first_stage.config.latent_channels, sample["target"].shape[0]
    if have != need:
        raise ConfigError(f"identity loss: first_stage has {have} latent channels, the shards {need}; name the one that made them")
    encoder = load_identity(network or None)
    if (size := sample["target_identity"].shape[0]) != encoder.dimensions:
        raise ConfigError(
            f"identity loss: the shards' identities have {size} numbers, those of '{encoder.name}' {encoder.dimensions}; name the network "
            "that made them in identity_network"
        )
    return IdentityLoss(first_stage, encoder)
