"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` when the block ends without an error.

    Until then whatever was there stays, and readers never see half a file. A block that fails leaves nothing behind; a process
    that is killed outright leaves its hidden temporary file, for `remove_leftovers`. Permissions are those that a plain
    open() for writing would give: of the file that was there, or the usual ones.

    Args:
        path: The file to make or to replace. Its folder must exist.

    Yields:
        A path in the same folder at which there is no file yet.

    Raises:
        OSError: From the block, or if the file cannot be put in its place.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.tmp")
    temporary.touch()
    mode = (path if path.exists() else temporary).stat().st_mode
    temporary.unlink()
    try:
        yield temporary
        os.chmod(temporary, stat.S_IMODE(mode))  # safetensors makes files that only their owner may read
        with open(temporary, "r+b") as file:  # the content must be on the disk before its name is
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove what killed calls of `atomic_write` left in a folder and below. Nobody else may be writing there meanwhile."""
    for leftover in Path(folder).rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
