"""Write the tables of docs/numbers.md from difffae/head/axes.py.

python scripts/build_numbers.py            writes what stands between the headings "Axes", "Presets", "Coefficients" and the next heading
    --check    writes nothing; exit status 1 if the page is not what would be written
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import argparse
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from difffae.head.axes import AXES, COEFFICIENTS, PRESETS, TURN_LIMIT, Axis  # noqa: E402

PAGE = ROOT / "docs" / "numbers.md"


def _weights(weights: Mapping[str, float]) -> str:
    """Coefficients with their weights; both sides of equal weight as one."""
    shown = []
    for name, weight in weights.items():
        stem = re.sub(r"(Left|Right)$", "", name)
        both = stem != name and weights.get(f"{stem}Left") == weights.get(f"{stem}Right")
        text = (f"{stem}\\*" if both else name) + ("" if weight == 1 else f" {weight:g}")
        if text not in shown:
            shown.append(text)
    return ", ".join(shown)


def _moves(axis: Axis) -> str:
    ends = [_weights(axis.positive)] + ([f"down: {_weights(axis.negative)}"] if axis.negative else [])
    return "; ".join(ends) if axis.positive else ""


def sections() -> dict[str, str]:
    """Heading -> its text."""
    axes = ["| number | group | range | what it does | coefficients at 1 |", "|---|---|---|---|---|"]
    axes += [f"| `{axis.name}` | {axis.group} | {axis.low:g}..{axis.high:g} | {axis.text} | {_moves(axis)} |" for axis in AXES]
    presets = ["| preset | sets |", "|---|---|"]
    for name, numbers in PRESETS.items():
        shown = ", ".join(f"{own} {value:g}" for own, value in numbers.items())
        if len(numbers) > 9:
            assert not any(numbers.values())
            shown = "all numbers of the groups eyes, brows and mouth to 0"
        presets.append(f"| `{name}` | {shown} |")
    coefficients = "\n".join(textwrap.wrap(", ".join(COEFFICIENTS) + ". All of them -1..1.", 160))
    limit = (
        f"A turn by numbers ends {TURN_LIMIT:g} degrees from how the photograph shows the head, and as many from facing the viewer, each\n"
        "of yaw, pitch and roll; a message says so. A head that stands farther away may stay there. `beyond_limit` turns it all the way."
    )
    return {"Axes": "\n".join(axes), "Presets": "\n".join(presets), "Coefficients": coefficients, "Turn limit": limit}


def built(page: str) -> str:
    """The page with its sections replaced. Raises ValueError if a heading is missing."""
    for heading, text in sections().items():
        section = f"## {heading}\n\n{text}\n\n".replace("\\", r"\\")  # re reads backslashes
        page, count = re.subn(rf"(?ms)^## {heading}\n.*?(?=^## |\Z)", section, page)
        if count != 1:
            raise ValueError(f"{PAGE.name}: has {count} headings '{heading}', 1 is needed")
    return page.rstrip("\n") + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the page differs")
    page = PAGE.read_text(encoding="utf-8")
    wanted = built(page)
    if parser.parse_args().check:
        return int(page != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
