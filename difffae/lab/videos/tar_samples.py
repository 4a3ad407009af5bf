"""WebDataset shards: tar files in which the files of one sample follow each other under one name and different suffixes.

The same samples always give the same bytes: no times, owners or modes of the machine that wrote them. Read with `webdataset` too.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...common.errors import CheckpointError, ConfigError
from ...common.files import atomic_write

Sample = tuple[str, dict[str, bytes]]


def write_tar(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write samples (key, {suffix: bytes}) to a shard, whole or not at all; returns how many there were.

    A key may have slashes, but no dot after the last one: the suffix begins there. Raises ConfigError for such a key.
    """
    count = 0
    with atomic_write(path) as temporary, tarfile.open(temporary, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key, files in samples:
            if "." in key.rsplit("/", 1)[-1]:
                raise ConfigError(f"{path}: sample '{key}' has a dot in its name; rename it")
            count += 1
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return count


def read_tar(path: str | Path) -> Iterator[Sample]:
    """The samples of a shard in order, one in memory at a time. Raises CheckpointError for a damaged shard."""
    key, files = None, {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                data = tar.extractfile(member)
                if data is None:
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                found = f"{folder}/{stem}" if folder else stem
                if key is not None and found != key:
                    yield key, files
                    files = {}
                key = found
                files[suffix] = data.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: not a complete shard ({error}); prepare it again") from error
    if key is not None:
        yield key, files
