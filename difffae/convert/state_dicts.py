"""Weights files of other people -> names and tensors. Pickles are read by PyTorch's weights-only unpickler, which executes nothing."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..common.errors import CheckpointError

NESTS = ("state_dict", "state_dict_backbone", "model", "module")  # where training scripts put the weights inside a checkpoint
# Training frameworks leave their classes beside the weights. They are read as empty objects, and never imported.
IGNORED_MODULES = ("pytorch_lightning.", "lightning.", "lightning_fabric.")
DIFFUSERS_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")


class Ignored:
    """Stands for an object of a training framework inside a checkpoint."""


def read_state(path: Path, part: str | None = None) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors file, a PyTorch file, or a diffusers folder.

    part: the folder's name inside a whole diffusers pipeline, such as "unet". Raises CheckpointError for anything else, and for
    truncated or hostile files.
    """
    if path.is_dir():
        path = _file_of_folder(path, part)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; give a file with a network's weights")
    return tensors


def only_input(inputs: list[Path], what: str) -> Path:
    """The one input of a converter that takes one. Raises CheckpointError."""
    if len(inputs) != 1:
        raise CheckpointError(f"{inputs[1]}: {what} is one file or folder, but {len(inputs)} were given; give one")
    return inputs[0]


def strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Names and shapes must agree. Raises CheckpointError that names the first difference."""
    for names, verdict in ((expected.keys() - tensors.keys(), "lacks"), (tensors.keys() - expected.keys(), "has an unknown")):
        if names:
            raise CheckpointError(f"{path}: not {what}: {verdict} '{min(names)}' ({len(names)} such); give another file")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: not {what}: '{name}' is {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}; give another file"
            )


def _file_of_folder(folder: Path, part: str | None) -> Path:
    places = [folder / part, folder] if part else [folder]
    found = next((place / name for place in places for name in DIFFUSERS_FILES if (place / name).is_file()), None)
    if found is None:
        wanted = " or ".join(f"{place.name}/{DIFFUSERS_FILES[0]}" for place in places)
        raise CheckpointError(f"{folder}: no diffusers folder; {wanted} was expected there")
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error}); download it again") from error


def load_torch(path: Path) -> Any:
    """The content of a file of torch.save, tensors and plain containers only. Raises CheckpointError."""
    is_zip = zipfile.is_zipfile(path)
    try:
        with ExitStack() as stack:
            if is_zip:
                stack.enter_context(torch.serialization.safe_globals(_placeholders(path)))
            # mapped files are read tensor by tensor, so that 4 GB of optimizer state cost nothing
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged or hostile pickle may raise anything; whatever it is, the file is unusable
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        # PyTorch's own text recommends to run the file after all
        reason = f"it names {named[1]}" if named else " ".join(str(error).split()).partition("Weights only load failed")[0][:200]
        reason = reason or type(error).__name__
        raise CheckpointError(
            f"{path}: not a complete PyTorch weights file, or one that holds more than weights ({reason}); download it again, or use "
            "its .safetensors version"
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    content = load_torch(path)
    while isinstance(content, Mapping) and (nest := _nest(content)) is not None:
        content = content[nest]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__} instead of named tensors; give a file with a network's weights")
    return {name: tensor for name, tensor in content.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _nest(content: Mapping[Any, Any]) -> str | None:
    return next((name for name in NESTS if isinstance(content.get(name), Mapping)), None)


def _placeholders(path: Path) -> list[Any]:
    """Allow-list entries for the framework classes that a checkpoint mentions."""
    names: Iterable[str] = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(Ignored, name) for name in names if name.startswith(IGNORED_MODULES)]
