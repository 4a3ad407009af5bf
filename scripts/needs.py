"""Imported first by the scripts: they find this repository's package, installed or not, and say in one line what else is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

SCRIPTS = Path(__file__).resolve().parent


def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception hook: one line for a package that is missing, Python's own words for anything else."""
    if not isinstance(error, ModuleNotFoundError):
        sys.__excepthook__(kind, error, trace)
        return
    from difffae.common.needs import missing

    sys.stderr.write(f"{missing(Path(sys.argv[0]).name, error)}\n")


if Path(sys.argv[0]).resolve().parent == SCRIPTS:  # not where a test imports one of them
    sys.path.insert(0, str(SCRIPTS.parent))
    sys.excepthook = say
