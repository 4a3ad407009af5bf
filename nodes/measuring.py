"""Numbers of an edit, frame by frame. B frames."""

from __future__ import annotations

from torch import Tensor

from ..difffae.common.batches import common_batch
from ..difffae.edit.analysing import analyse
from ..difffae.edit.report import measure_pair
from .bundle import Bundle
from .frames import to_pictures
from .sockets import Report


def measure_frames(bundle: Bundle, source: Tensor, result: Tensor, reference: Tensor | None) -> Report:
    """IMAGEs of source, result and reference, each of 1 or B frames. Raises NoFaceError, ImageError."""
    given = {"source": source, "result": result} | ({} if reference is None else {"reference": reference})
    batch = common_batch({name: len(image) for name, image in given.items()})
    faces = {name: analyse(bundle, to_pictures(image, name), name=name) for name, image in given.items()}
    rows = []
    for part in bundle.chunks(batch, 1):
        seen = {name: some.portrait(part.start % len(some)) for name, some in faces.items()}
        wanted = seen.get("reference")
        measured = measure_pair(bundle, seen["source"], wanted or seen["source"], seen["result"])
        rows.append([row for row in measured if wanted is not None or row.key == "identity"])
    return Report(rows)
