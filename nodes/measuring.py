"""Numbers of an edit, frame by frame. B frames."""

from __future__ import annotations

from torch import Tensor

from ..difffae.edit.editor import Portrait
from ..difffae.edit.report import measure_pair
from .analysis import crop_faces, estimate
from .bundle import Bundle, each_chunk
from .frames import common_batch, to_pictures
from .sockets import Report


def measure_frames(bundle: Bundle, source: Tensor, result: Tensor, reference: Tensor | None) -> Report:
    """IMAGEs of source, result and reference, each of 1 or B frames. Raises NoFaceError, ImageError."""
    given = {"source": source, "result": result} | ({} if reference is None else {"reference": reference})
    batch = common_batch({name: len(image) for name, image in given.items()})
    portraits = {name: _portraits(bundle, image, name) for name, image in given.items()}
    rows = []
    for part in each_chunk(batch, 1):
        before, after, wanted = (
            portraits[name][part.start % len(portraits[name])] if name in portraits else None for name in ("source", "result", "reference")
        )
        measured = measure_pair(bundle, before, wanted or before, after)
        rows.append([row for row in measured if wanted is not None or row.key == "identity"])
    return Report(rows)


def _portraits(bundle: Bundle, image: Tensor, name: str) -> list[Portrait]:
    pictures = to_pictures(image, name)
    crop = crop_faces(bundle, pictures, name=name)
    attributes = estimate(bundle, crop)
    return [
        Portrait(
            name,
            pictures[i],
            square,
            crop.picture[i : i + 1],
            crop.known[i : i + 1],
            crop.landmarks[i : i + 1],
            crop.blendshapes[i : i + 1],
            attributes[i],
        )
        for i, square in enumerate(crop.squares)
    ]
