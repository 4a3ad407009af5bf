"""SlotDiffusion's slot attention (github.com/Wuziyi616/SlotDiffusion), with its image encoder -> slots."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError, ConfigError
from ..source.slots import KIND, SlotEncoder, SlotsConfig
from .state_dicts import check_fit, only_input, read_state, strip

log = logging.getLogger(__name__)

LICENSE = "MIT, if these are SlotDiffusion's weights; their training pictures (CelebA) are for non-commercial research"
# their names -> ours; those of slot attention are the same
PARTS = {
    "encoder.": "encoder.",
    "encoder_pos_embedding.dense.": "position.project.",
    "encoder_out_layer.": "head.",
    "slot_attention.": "attention.",
    "init_latents": "initial",
}
GRID = "encoder_pos_embedding.grid"  # (1,h,w,4), from 0 to 1 as ours; only its size is read
GROUPS = 32  # of their norms


def convert(inputs: list[Path], output: Path, *, license: str = LICENSE, image_size: int = 0, iterations: int = 3) -> None:
    """A checkpoint of SlotDiffusion, or of its Slot Attention baseline, on pictures (`sa_ldm_celeba`, `sa_celeba`) with a ResNet.

    Which slot is which region is not known of them: `assemble --labels` measures it.

    Args:
        inputs: One: their .pth.
        output: The file to write.
        license: What it says of its licence.
        image_size: Of the model that the slots are for; larger pictures are reduced to the size they were trained with. 0: that size.
        iterations: Of slot attention, which no file states; theirs are 3.

    Raises:
        CheckpointError: For another network.
        ConfigError: For a size or a number that cannot be.
    """
    path = only_input(inputs, "a slot attention")
    state = read_state(path)
    state = strip(state, "module.") or state
    tensors = {
        ours + name[len(theirs) :]: value for name, value in state.items() for theirs, ours in PARTS.items() if name.startswith(theirs)
    }
    config = _config(state, tensors, path, image_size, iterations)
    with torch.device("meta"):
        network = SlotEncoder(config)
    check_fit(tensors, network.state_dict(), path, "SlotDiffusion's slot attention with a ResNet")
    save_checkpoint(output, tensors, kind=KIND, config=config.to_dict(), license=license, source=f"converted from {path.name}")
    log.info(
        "%s: %d slots of pictures of %d pixels, %d tensors", output, config.slot_count, config.input_size or config.image_size, len(tensors)
    )


def _config(state: dict[str, Tensor], tensors: dict[str, Tensor], path: Path, image_size: int, iterations: int) -> SlotsConfig:
    """The sizes that the tensors have. Raises CheckpointError, ConfigError."""
    grid, starts, hidden = state.get(GRID), tensors.get("initial"), tensors.get("attention.mlp.1.weight")
    stages = sorted(name for name in tensors if name.startswith("encoder.layer") and name.endswith(".0.conv1.weight"))
    if grid is None or starts is None or hidden is None or starts.dim() != 3 or grid.dim() != 4 or not stages:
        raise CheckpointError(
            f"{path}: no slot attention of SlotDiffusion with a ResNet ({GRID}, init_latents, slot_attention.*, encoder.layer*); give its "
            "sa_ldm or sa checkpoint of pictures (DINO's and plain encoders are not read)"
        )
    first = stages[0].removesuffix("0.conv1.weight")
    blocks = sum(name.startswith(first) and name.endswith(".conv1.weight") for name in tensors)
    side = grid.shape[1] * 2 ** (len(stages) - 1)
    if iterations < 1 or image_size < 0 or 0 < image_size < side:
        raise ConfigError(f"convert slots: image_size {image_size} and iterations {iterations}: at least {side}, or 0, and at least 1")
    return SlotsConfig(
        image_size=image_size or side,
        input_size=0 if image_size in (0, side) else side,
        encoder="resnet",
        stem_channels=tensors["encoder.conv1.weight"].shape[0] if "encoder.conv1.weight" in tensors else 0,
        block_channels=tuple(tensors[name].shape[0] for name in stages),
        layers_per_block=blocks,
        norm_groups=GROUPS,
        feature_channels=tensors["head.1.weight"].shape[0] if "head.1.weight" in tensors else 0,
        slot_count=starts.shape[1],
        slot_size=starts.shape[2],
        slot_hidden=hidden.shape[0],
        iterations=iterations,
        order=(),
    )
