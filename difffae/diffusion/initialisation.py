"""Starting a denoiser from the weights of another one, such as Stable Diffusion's U-Net (paper 4.3: "finetuning of LDM")."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..common.checkpoint import load_checkpoint
from ..common.errors import CheckpointError
from .denoiser import KIND, Denoiser

log = logging.getLogger(__name__)
INPUT = "unet.conv_in.weight"
TOKEN_LAYERS = ("attn2.to_k.weight", "attn2.to_v.weight")  # read the tokens, whose size differs from a text encoder's
ADAIN = ".adain."


@dataclass(frozen=True)
class Initialisation:
    """What became of the denoiser's tensors, by their names.

    copied   whole
    widened  copied into the first input channels, the others zero
    fresh    kept as they were
    """

    copied: tuple[str, ...]
    widened: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.copied)} tensors copied, {len(self.widened)} widened, {len(self.fresh)} fresh"


@torch.no_grad()
def initialise(denoiser: Denoiser, tensors: Mapping[str, Tensor], path: str | Path) -> Initialisation:
    """Copy what fits into a denoiser.

    The input convolution may have fewer input channels in the file (noise alone, or no carried picture):
    the first ones are copied, the rest becomes zero, so that the new inputs change nothing at first.
    Keys and values of the tokens stay as they are where their size differs, and so does AdaIN where the
    file has none, or one that was never trained, as `convert unet` writes it.

    Args:
        denoiser: changed in place.
        tensors: named as in its state_dict (`unet. ...`).
        path: their file, for errors.

    Raises:
        CheckpointError: any other difference.
    """
    if not any(bool(tensor.any()) for name, tensor in tensors.items() if ADAIN in name and name.endswith("weight")):
        tensors = {name: tensor for name, tensor in tensors.items() if ADAIN not in name}
    own = denoiser.state_dict()
    unknown = [name for name in tensors if name not in own and ADAIN not in name]
    if unknown:
        raise CheckpointError(f"{path}: '{unknown[0]}' has no place in this denoiser ({len(unknown)} such); give a U-Net of its layout")
    copied, widened, fresh = [], [], []
    for name, target in own.items():
        given = tensors.get(name)
        if given is not None and given.shape == target.shape:
            target.copy_(given)
            copied.append(name)
        elif given is not None and name == INPUT and given.shape[1] < target.shape[1] and _alike(given, target):
            target.zero_()
            target[:, : given.shape[1]].copy_(given)
            widened.append(name)
        elif (given is None and ADAIN in name) or (given is not None and name.endswith(TOKEN_LAYERS) and _alike(given, target)):
            fresh.append(name)
        else:
            have = "is missing" if given is None else f"is {tuple(given.shape)} instead of {tuple(target.shape)}"
            raise CheckpointError(f"{path}: '{name}' {have}; give a U-Net of this denoiser's layout")
    return Initialisation(tuple(copied), tuple(widened), tuple(fresh))


def init_from(denoiser: Denoiser, path: str | Path) -> Initialisation:
    """As `initialise`, from a denoiser checkpoint, such as `python -m difffae convert unet` writes; warns of an AdaIN that moves the start
    away from the file's. Raises CheckpointError."""
    report = initialise(denoiser, load_checkpoint(path, KIND).tensors, path)
    if denoiser.config.adain == "replace" and any(ADAIN in name for name in report.fresh):
        log.warning(
            "%s: has no trained AdaIN, and adain=replace (Eq. 4) normalises the output of every block from the first step on, so the "
            "denoiser does not start where this file was; adain=blend (--model-set) does, and opens AdaIN by learned gates",
            path,
        )
    return report


def _alike(given: Tensor, target: Tensor) -> bool:
    """Equal but for the number of input channels."""
    return given.dim() == target.dim() and given.shape[0] == target.shape[0] and given.shape[2:] == target.shape[2:]
