"""What lies between encoder and decoder while a first stage is trained: a posterior with a KL term, or codes with a commitment term.

Shape letters: B batch, Z latent channels, h and w latent sides, H and W image sides, K codes.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

from ...diffusion.autoencoder import Autoencoder, FirstStage
from ...diffusion.first_stages import KLFirstStage, VQFirstStage

COMMITMENT = 0.25  # weight of pulling the encoder to its codes against pulling the codes to it (van den Oord et al. 2017)


def variational_latents(mean: Tensor, logvar: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Posterior (B,Z,h,w) -> unscaled latents (B,Z,h,w), the KL divergence from a standard normal (nats per picture, a scalar), and
    numbers for the log. noise (B,Z,h,w) draws from the posterior; without it its mean is taken."""
    latents = mean if noise is None else mean + noise.to(mean) * torch.exp(0.5 * logvar)
    mean, logvar = mean.float(), logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
    return latents, kl, {"kl": kl}


def quantised_latents(model: VQFirstStage, images: Tensor, noise: Tensor | None, frozen: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """images (B,3,H,W) in 0..1 -> codes (B,Z,h,w) whose gradient goes straight through to the encoder, the codebook's loss, a scalar, and
    numbers for the log: the perplexity of the batch's codes, which falls when a codebook collapses.

    noise (B,Z,h,w), unscaled, is added before the codes are chosen. frozen: encoder and codebook do not learn.
    """
    points = model.unscaled(images)
    if noise is not None:
        points = points + noise.to(points)
    with torch.no_grad():
        index = model.quantize(points * model.config.latent_scale)[1]
        shares = torch.bincount(index.reshape(-1), minlength=model.config.codes).float() / index.numel()
        perplexity = torch.special.entr(shares).sum().exp()
    codes = F.embedding(index, model.network.quantize.embedding.weight).movedim(-1, 1).float()
    loss = F.mse_loss(codes, points.detach()) + COMMITMENT * F.mse_loss(points, codes.detach())
    straight = codes.detach() if frozen else points + (codes - points).detach()
    return straight, loss, {"codebook": loss, "codes": perplexity}


def decode_latents(model: FirstStage, latents: Tensor, recompute: bool) -> Tensor:
    """Unscaled latents or codes (B,Z,h,w) -> images (B,3,H,W) in -1..1, float32. recompute: activations are computed again in backward."""
    assert isinstance(model, Autoencoder | KLFirstStage | VQFirstStage)
    if recompute and isinstance(model, Autoencoder):
        return recomputed(model.decoder, latents, use_reentrant=False).float()
    return model.decoder(latents).float()


def recompute_blocks(model: FirstStage) -> None:
    """Make diffusers' encoder and decoder keep only the activations between their blocks, in place. (The open first stage is checkpointed
    as a whole.) VQModel has no public switch for it, its parts have."""
    if isinstance(model, KLFirstStage | VQFirstStage):
        for part in (model.network.encoder, model.network.decoder):
            part.gradient_checkpointing = True
            part._gradient_checkpointing_func = partial(recomputed, use_reentrant=False)
