"""deca_model.tar -> the networks of `difffae.estimation.deca.Deca` in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..common.checkpoint import save_checkpoint
from ..common.errors import CheckpointError
from ..estimation.deca import KIND, PARTS, Deca
from .state_dicts import check_fit, load_torch, only_input, strip

LICENSE = (
    "DECA licence (github.com/yfeng95/DECA): non-commercial research, education and art only, no redistribution without consent; "
    "do not redistribute this file"
)
NETWORKS = {"E_flame": "coarse", "E_detail": "detail", "D_detail": "decoder"}


def convert(inputs: list[Path], output: Path, *, license: str = LICENSE) -> None:
    """One input: deca_model.tar, a file of torch.save. The trainer's optimizer state and counters are dropped.

    Raises CheckpointError for a file with another layout; names and shapes must be exactly DECA's.
    """
    path = only_input(inputs, "a DECA model")
    content = load_torch(path)
    if not isinstance(content, Mapping) or not all(isinstance(content.get(name), Mapping) for name in NETWORKS):
        raise CheckpointError(f"{path}: lacks {', '.join(NETWORKS)}, so it is not DECA's model; choose deca_model.tar")
    with torch.device("meta"):
        expected = Deca().state_dict()
    tensors: dict[str, Tensor] = {}
    for theirs, ours in NETWORKS.items():
        part = {str(name): value for name, value in content[theirs].items() if isinstance(value, Tensor)}
        part = strip(part, "module.") or part  # a trainer's wrapper
        check_fit(part, strip(expected, ours + "."), path, f"DECA's {theirs}")
        tensors |= {f"{ours}.{name}": value.float() if value.is_floating_point() else value for name, value in part.items()}
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: '{name}' has values that are not finite; download it again")
    config = {"estimator": "deca", "parts": PARTS}
    save_checkpoint(output, tensors, kind=KIND, config=config, license=license, source=f"converted from {path.name}")
