"""A checkpoint's own row: its edits of all pairs, written into a folder like any other method's results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from ...common.errors import ConfigError, ImageError, NoFaceError
from ...common.images import read_image, write_image
from ...edit.description import Portrait, Sampling
from ...edit.editor import DiffFAE
from ...vocabulary import FRAMINGS
from .pairs import Pair

SETTINGS = "difffae-edits.json"


@dataclass(frozen=True)
class RowSampling(Sampling):
    """How our rows are made. framing "query" moves and scales the head as the query's pose has it, as in the paper."""

    framing: str = FRAMINGS[0]


def write_results(
    model: DiffFAE, pairs: Sequence[Pair], folder: Path, sampling: RowSampling, each: Callable[[], object] = lambda: None
) -> None:
    """Edit every pair; the source's picture with the edited face goes to folder/result. Results that are there already are kept. Inputs
    that cannot be used give no result, which the comparison will list.

    Args:
        model: Whose row it is.
        pairs: What to edit.
        folder: For the results, and for a note of the settings they were made with; it is made if it is missing.
        sampling: How to edit.
        each: Called after every pair.

    Raises:
        ConfigError: If the folder holds results of another checkpoint or other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = model.checkpoint.record() if model.checkpoint else {"name": model.model.name}
    settings = json.dumps({"checkpoint": record, **asdict(sampling)}, indent=2) + "\n"
    note = folder / SETTINGS
    if note.is_file() and note.read_text(encoding="utf-8") != settings:
        raise ConfigError(f"{folder}: holds results of another checkpoint or other settings ({SETTINGS}); choose another folder for --keep")
    note.write_text(settings, encoding="utf-8")

    @lru_cache(maxsize=64)  # pairs of one source come together; all pictures of a large set would not fit
    def portrait(path: Path) -> Portrait | None:
        try:
            return model.analyse(read_image(path)[0], 0, str(path))
        except (ImageError, NoFaceError):
            return None  # the judge meets the same picture and says why

    for pair in pairs:
        place = folder / pair.result
        if not place.is_file():
            source, query = portrait(pair.source), portrait(pair.query)
            if source is not None and query is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_image(place, model.edit(source, query, take=pair.take, framing=sampling.framing, sampling=sampling).image)
        each()
