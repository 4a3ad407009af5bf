"""Join docs/notices/*.txt into NOTICE: `python scripts/build_notice.py`, or with --check only compare."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """DiffFAE for ComfyUI
Licensed under the Apache License, Version 2.0; see LICENSE.

After the paper "DiffFAE: Advancing High-fidelity One-shot Facial Appearance Editing with Space-sensitive Customization and Semantic
Preservation", whose authors have no part in this project. What follows says what the files in difffae/assets were made from.
It is put together from docs/notices by scripts/build_notice.py.
"""


def notice() -> str:
    parts = [HEAD, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "notices").glob("*.txt")))]
    return ("\n" + "=" * 100 + "\n\n").join(part.strip() + "\n" for part in parts)


if __name__ == "__main__":
    goal = ROOT / "NOTICE"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if goal.read_text(encoding="utf-8") == notice() else "NOTICE is not what docs/notices say; run scripts/build_notice.py")
    goal.write_text(notice(), encoding="utf-8")
