"""Write the dev split of a portraits folder: one tenth of the persons, chosen by a hash that never changes.

python scripts/make_splits.py PORTRAITS difffae/lab/portraits-dev.txt
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path


def is_dev(person: str) -> bool:
    """True for about a tenth of all persons; depends on nothing but the person's opaque name."""
    return int(hashlib.sha256(f"difffae-dev:{person}".encode()).hexdigest(), 16) % 10 == 0


def main(portraits: Path, output: Path) -> None:
    with open(portraits / "manifest.csv", newline="") as handle:
        files = sorted(row["file"] for row in csv.DictReader(handle) if is_dev(row["person"]))
    output.write_text("\n".join(files) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
