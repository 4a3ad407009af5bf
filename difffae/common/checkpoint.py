"""One-file checkpoints: safetensors whose metadata holds the configuration, the kind and the licence.

A file of ours has these metadata entries, all strings:
    format   "difffae/1"
    kind     what it is: "head", "landmarks", "identity", "edit" ...
    config   JSON object, everything needed to build the modules
    license  SPDX name or a sentence
    source   where it came from
Floating tensors may be stored as 8-bit integers: `name` int8 (O, ...) and `name::scale` float16 (O,), one scale per output
channel; `load_checkpoint` returns them as float32. No pickle is ever read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import CheckpointError
from .files import atomic_write

FORMAT = "difffae/1"
SCALE = "::scale"
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and metadata of one file.

    tensors  by name; floating ones as float32
    kind     what the file holds: "head", "landmarks", "identity", "edit" ...
    config   all that building the modules needs
    license  SPDX name or a sentence
    source   where the weights came from
    """

    tensors: dict[str, Tensor]
    kind: str
    config: dict
    license: str
    source: str

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix.`, without that prefix."""
        start = prefix + "."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def asset_path(name: str) -> Path:
    """Path of a file that ships in difffae/assets; raises CheckpointError if the installation lacks it."""
    path = Path(__file__).parents[1] / "assets" / name  # not by the package's name: ComfyUI loads it under another
    if not path.is_file():
        raise CheckpointError(f"{path}: the bundled file is missing; install the package again")
    return path


def quantize(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Float tensor (O, ...) -> int8 of the same shape and float16 scale (O,): x ~ q * scale."""
    flat = tensor.detach().float().reshape(tensor.shape[0], -1)
    # float16 is what gets stored, so the division uses the rounded scale; the floor keeps all-zero rows finite
    scale = (flat.abs().amax(dim=1) / 127).clamp_min(6e-8).half()
    q = (flat / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return q.reshape(tensor.shape), scale


def save_checkpoint(
    path: str | Path,
    tensors: dict[str, Tensor],
    *,
    kind: str,
    config: dict,
    license: str,
    source: str,
    eight_bit: bool = False,
    half: bool = False,
) -> None:
    """Write a checkpoint; it appears whole or not at all.

    Args:
        path: the file to make or to replace.
        tensors: by name, on any device.
        kind, config, license, source: the metadata, see the module.
        eight_bit: store float tensors of two or more dimensions as int8 with a scale per row.
        half: store the float tensors that remain as float16.

    Raises:
        OSError: the file cannot be written.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if eight_bit and tensor.is_floating_point() and tensor.dim() >= 2:
            stored[name], stored[name + SCALE] = quantize(tensor)
        elif half and tensor.is_floating_point():
            stored[name] = tensor.half()
        else:
            stored[name] = tensor
    metadata = {"format": FORMAT, "kind": kind, "config": json.dumps(config), "license": license, "source": source}
    with atomic_write(path) as temporary:
        save_file(stored, temporary, metadata=metadata)


def load_checkpoint(path: str | Path, kind: str | None = None, parts: Iterable[str] | None = None) -> Checkpoint:
    """Read a checkpoint, or no more of it than is needed; float16 and 8-bit tensors come back as float32.

    Args:
        path: the file.
        kind: what it must hold; None takes any kind.
        parts: read only tensors whose names start with one of these and a dot; () reads the header alone; None reads all.

    Returns:
        The checkpoint. Its tensors keep their whole names.

    Raises:
        CheckpointError: the file is missing, is no safetensors file, is truncated, is not ours, or is of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; give the path of a .safetensors file or a bundled name")
    try:
        with safe_open(str(path), framework="pt") as handle:
            metadata = handle.metadata() or {}
            names = list(handle.keys())
            if parts is not None:
                starts = tuple(f"{part}." for part in parts)
                names = [name for name in names if name.startswith(starts)]
            raw = {name: handle.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error}); download or convert it again") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not one of DiffFAE's; convert it first with `python -m difffae convert`")
    if kind is not None and metadata.get("kind") != kind:
        raise CheckpointError(f"{path}: holds '{metadata.get('kind')}', but '{kind}' is needed here; choose another file")
    try:
        config = json.loads(metadata["config"])
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: its configuration cannot be read ({error}); convert it again") from error
    tensors: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        if name.endswith(SCALE):
            continue
        scale = raw.get(name + SCALE)
        if scale is not None:
            tensors[name] = tensor.float() * scale.float().reshape(-1, *[1] * (tensor.dim() - 1))
        elif tensor.is_floating_point():
            tensors[name] = tensor.float()
        else:
            tensors[name] = tensor
    return Checkpoint(tensors, metadata["kind"], config, metadata.get("license", ""), metadata.get("source", ""))


def load_weights(module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Put tensors into a module, names and shapes exactly as it has them.

    Args:
        module: changed in place.
        tensors: its whole state_dict.
        path: their file, for the error.

    Raises:
        CheckpointError: a tensor is missing, is one too many or has another shape.
    """
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path}: the weights do not fit their configuration ({first}); convert or download it again") from error


class _NoStart(TorchFunctionMode):
    """Within it weights are not started at random. (PyTorch's own way, the meta device, imports its compiler for a normal distribution.)"""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def filled(build: Callable[[], Module], tensors: dict[str, Tensor], path: str | Path) -> Module:
    """A module with these weights, without the random start that they would overwrite, which takes longer than reading them.

    Args:
        build: makes the module.
        tensors: its whole state_dict; they are copied.
        path: their file, for the error.

    Returns:
        The module, frozen, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit.
    """
    with _NoStart():
        module = build()
    load_weights(module, tensors, path)
    return module.eval().requires_grad_(False)


def channels_last(module: nn.Module) -> None:
    """Lay out the weights of convolutions as their fast kernels want them, in place."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
