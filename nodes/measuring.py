"""Numbers of an edit, frame by frame. B frames."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from ..difffae.common.batches import common_batch
from ..difffae.edit.analysing import Choice, analyse, with_attributes
from ..difffae.edit.description import Faces
from ..difffae.report.results import Row, find_results, measure_pair
from .bundle import Bundle
from .frames import to_pictures
from .sockets import Report
from .wires import check_report, tell


def measure_frames(bundle: Bundle, source: Tensor, result: Tensor, reference: Tensor | None, edited: Faces | int = 0) -> Report:
    """Measure results against their sources and what they took from.

    Args:
        source, result, reference: IMAGEs, each of 1 or B frames.
        edited: which face of the source was edited: the crop of Crop Face, or its number, the largest first.

    Raises:
        NoFaceError, ImageError.
    """
    given = {"source": source, "result": result} | ({} if reference is None else {"reference": reference})
    batch = common_batch({name: len(image) for name, image in given.items()})
    if isinstance(edited, Faces):
        tell(check_report(to_pictures(source, "source"), to_pictures(result, "result"), edited))
        before = with_attributes(bundle, edited)
    else:
        before = analyse(bundle, to_pictures(source, "source"), Choice(edited), "source")
    after = find_results(bundle, before, to_pictures(result, "result"))
    wanted = None if reference is None else analyse(bundle, to_pictures(reference, "reference"), name="reference")
    rows = []
    for part in bundle.chunks(batch, 1):
        first, last = (faces.portrait(part.start % len(faces)) for faces in (before, after))
        query = first if wanted is None else wanted.portrait(part.start % len(wanted))
        measured = [row for row in measure_pair(bundle, first, query, last) if wanted is not None or row.key == "identity"]
        shown = before.shows_face(part.start)
        rows.append(measured if shown else [_unknown(row) for row in measured])
    return Report(rows)


def _unknown(row: Row) -> Row:
    """A number of a frame that does not show the face."""
    return replace(row, value=math.nan, note="the face is not in this frame")
