"""JSON lines files that survive a kill at any moment: a line counts once it is whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError
from ...common.files import atomic_write


class Journal:
    """A file of one JSON object per line, in which `key` names each object once."""

    def __init__(self, path: Path, key: str) -> None:
        """Read what is there; a last line that a kill cut off is removed."""
        self.path, self.key = path, key
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_text(path, whole.decode())
        self.rows: dict[str, dict[str, Any]] = {row[key]: row for row in map(json.loads, whole.splitlines())}

    def append(self, row: dict[str, Any]) -> None:
        """Add an object; it is on the disk when this returns."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows[row[self.key]] = row

    def sort(self) -> None:
        """Bring the file into the order of the keys, so that it does not depend on who was ready first."""
        if self.path.exists():
            self.rows = dict(sorted(self.rows.items()))
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows.values()))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def claim(output: Path, description: dict[str, Any]) -> None:
    """Note in dataset.json what a folder is made with, or hold a second run to it. Raises ConfigError for other options, or for a folder
    that cannot be written to."""
    path = output / "dataset.json"
    description = json.loads(json.dumps(description))
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_text(path, json.dumps(description, indent=1) + "\n")
            return
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{output}: cannot be used ({error}); give a folder that may be written to") from error
    unstated = {"fingerprints"} - known.keys()  # of a folder that was begun before they were noted
    for name in sorted((known.keys() | description.keys()) - unstated):
        if known.get(name) != description.get(name):
            raise ConfigError(
                f"{output}: was begun with {name} {known.get(name)}, not {description.get(name)}; use that, or another output folder"
            )
