"""The pairs file: which pictures every method edits, and what its results are called (docs/evaluation.md).

CSV with a header: source, query, result and, optionally, take ("pose expression light", the default, or some of them).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...common.errors import ConfigError
from ...vocabulary import TAKEABLE

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Pair:
    """source and query are paths of pictures, result is the name of a file in every method's folder."""

    source: Path
    query: Path
    result: str
    take: tuple[str, ...] = TAKEABLE

    def find(self, folder: Path) -> Path | None:
        """The result in a method's folder; another method may have saved it with another picture ending."""
        exact = folder / self.result
        others = (exact.with_suffix(ending) for ending in ENDINGS)
        return next((path for path in (exact, *others) if path.is_file()), None)


def read_pairs(path: Path, pictures: Path | None = None) -> list[Pair]:
    """The rows of a pairs file; sources and queries lie in `pictures`, or beside the file. Raises ConfigError that names the line."""
    folder = path.parent if pictures is None else pictures
    pairs: list[Pair] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, skipinitialspace=True)
            columns = {name.strip() for name in reader.fieldnames or () if name}
            missing = [name for name in ("source", "query", "result") if name not in columns]
            if missing:
                raise ConfigError(
                    f"{path}: no column '{missing[0]}'; the first line must be source,query,result or source,query,result,take"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                cells = {name.strip(): (value or "").strip() for name, value in row.items() if name and isinstance(value, str | None)}
                if any(cells.values()):
                    pairs.append(_pair(cells, folder, where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as CSV ({error}); check the path and save it as UTF-8") from error
    if not pairs:
        raise ConfigError(f"{path}: holds no pairs; add lines such as a.png,b.png,0001.png")
    seen: set[str] = set()
    for pair in pairs:
        stem = str(PurePosixPath(pair.result).with_suffix("")).lower()
        if stem in seen:
            raise ConfigError(f"{path}: two pairs have the result '{pair.result}'; give every pair a name of its own")
        seen.add(stem)
    return pairs


def _pair(cells: dict[str, str], folder: Path, where: str) -> Pair:
    for name in ("source", "query", "result"):
        if not cells.get(name):
            raise ConfigError(f"{where}: {name} is empty; give a file name")
    result = PurePosixPath(cells["result"].replace("\\", "/"))
    # model results are written under these names: none may lead out of the method's folder
    if result.is_absolute() or ".." in result.parts or ":" in result.parts[0] or result.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{where}: result '{cells['result']}' must be a file name below a folder, ending in {', '.join(ENDINGS)}")
    take = tuple(cells.get("take", "").replace("+", " ").split()) or TAKEABLE
    for name in take:
        if name not in TAKEABLE:
            raise ConfigError(f"{where}: take '{name}' is unknown; choose from {', '.join(TAKEABLE)}")
    return Pair(folder / cells["source"], folder / cells["query"], str(result), tuple(name for name in TAKEABLE if name in take))
