"""What tells two files of weights apart that have the same name: a hash of their contents.

Of a safetensors file it is a hash of the tensors' names, shapes and values as they are used, float32. So it stays the same when a file is
renamed, gets another licence text or order, or is saved again without loss (float16 as float32, say), none of which changes a number that
a network gives; it changes with a single weight, and with a coarser precision, since those give other numbers. Other files are hashed byte
for byte.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from .checkpoint import load_checkpoint
from .errors import CheckpointError, ConfigError


def fingerprint(path: str | Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal.

    Args:
        path: a file of ours (.safetensors), or any other, such as an .onnx network.

    Raises:
        CheckpointError: the file is missing, or no complete checkpoint of ours.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return tensors_fingerprint(load_checkpoint(path).tensors)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; check the path")
    return file_sha256(path)


def tensors_fingerprint(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of tensors, in the order of their names: of each its name, type and shape, and its values, the last axis fastest and
    the lowest byte first."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous().numpy()
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {values.dtype.name} {list(values.shape)}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal, read in pieces. Raises ConfigError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            while piece := handle.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return digest.hexdigest()
