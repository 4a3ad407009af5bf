"""What is done of a long piece of work, kept beside its output, so that work that was killed goes on where it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ..common.files import atomic_write, remove_leftovers

PIECE = 32  # frames that are kept together


class Work:
    """A folder beside an output with the finished pieces of it. `description` is everything that the result depends on: work of another
    description is thrown away."""

    def __init__(self, output: str | Path, description: dict[str, Any]) -> None:
        output = Path(output)
        self.folder = output.with_name(f"{output.name}.parts")
        told, text = self.folder / "work.json", json.dumps(description, sort_keys=True, indent=1)
        if not told.is_file() or told.read_text(encoding="utf-8") != text:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            with atomic_write(told) as temporary:
                temporary.write_text(text, encoding="utf-8")
        remove_leftovers(self.folder)

    def piece(self, kind: str, number: int) -> Path:
        """The file of one piece."""
        return self.folder / f"{kind}-{number:05d}.safetensors"

    def pieces(self, kind: str) -> list[Path]:
        """The files of the first pieces in a row that are finished."""
        found: list[Path] = []
        while (path := self.piece(kind, len(found))).is_file():
            found.append(path)
        return found

    def remove(self) -> None:
        """Remove the folder, once the output is there."""
        shutil.rmtree(self.folder)
