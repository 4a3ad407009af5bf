"""Folders that tests read. The data beside the repository is not part of it; tests that need it are skipped without."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
SHARED = ROOT.parent / "shared"
