"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(title: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, whatever the cells hold: line breaks become spaces, bars are escaped."""
    shown = [[" ".join(text.split()).replace("|", "\\|") for text in cells] for cells in (title, *rows)]
    shown.insert(1, ["---"] * len(title))
    return [f"| {' | '.join(cells)} |" for cells in shown]
