"""The numbers of one edit, as a person asks for them: source, query and result as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.batches import common_batch
from ..common.errors import NoFaceError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..edit.analysing import Choice, detect, find_faces, with_attributes
from ..edit.description import Faces, Parts, Portrait
from ..faces.detector import box_iou
from ..faces.landmarker import Face
from ..faces.quarter_turns import turned
from ..faces.rois import OVAL
from ..source.identity import distance_note
from ..vocabulary import MISSING_FACE
from .measures import expression_distance, light_direction

# Part of their common area by which an edited face still lies over the source's, however far it was turned; two people's hardly touch
SAME_PLACE = 0.1
SAME_SHAPE = 0.02  # logarithm of the ratio of two aspect ratios, up to which one picture is the other one scaled


@dataclass(frozen=True)
class Row:
    """One number with a short name for programs and words for people."""

    key: str
    label: str
    value: float
    note: str


def head_angles(portrait: Portrait) -> Tensor:
    """Yaw, pitch and roll of the head in degrees, (3,)."""
    matrices = axis_angle_to_matrix(portrait.attributes.pose[0, :2])
    return to_yaw_pitch_roll(matrix_to_axis_angle(matrices[0] @ matrices[1]))


def find_results(parts: Parts, source: Faces, pictures: Tensor, name: str = "result") -> Faces:
    """The edited faces in results: of all faces those where the source's are.

    Args:
        source: the faces that were edited, with landmarks and the pictures around them; of 1 or B rows.
        pictures: (B,3,H,W) RGB 0..1, results as large as the source's pictures, as those were given, or scaled; or edited squares. In
            pictures of another shape no place can be compared, and the largest face is taken.

    Returns:
        Analysed faces of B rows, those of frames that do not show the source's face filled (see `Faces.gaps`).

    Raises:
        NoFaceError: no face is where the source's is.
    """
    batch = common_batch({"source": len(source), name: len(pictures)})
    upright, boxes = _places(source, pictures, batch)
    found = detect(parts, upright)
    chosen: list[Face | None] = []
    for row, faces in enumerate(found):
        box = None if boxes is None else boxes[row]
        face = _nearest(faces, box)
        if not source.shows_face(row):
            face = None
        elif face is None and faces and box is not None:  # a small face beside large ones
            face = _nearest(parts.landmarker.detect(upright[row], smallest=float((box[2:] - box[:2]).min()) / 2)[0], box)
            if face is None:
                where = "" if batch == 1 else f" in frame {row} of {batch}"
                raise NoFaceError(
                    f"{name}: no face is where the source's is{where}; give the result of an edit of this source and this face"
                )
        chosen.append(face)
    gaps = all(face is not None or not source.shows_face(row) for row, face in enumerate(chosen))
    choice = Choice(missing=MISSING_FACE[1 if gaps else 0])
    kept = [[] if face is None else [face] for face in chosen]
    return with_attributes(parts, find_faces(parts, upright, choice, name, kept))


def _places(source: Faces, pictures: Tensor, batch: int) -> tuple[Tensor, list[Tensor] | None]:
    """Results as their faces are upright, and the boxes (4,) in them where the source's faces are; None for pictures of another shape."""
    assert source.landmarks is not None
    points = [source.landmarks[row if len(source) > 1 else 0][:OVAL, :2] for row in range(batch)]
    side, upright = source.picture.shape[-1], turned(pictures, source.turns)
    height, width = upright.shape[-2:]
    square = source.square(0) if source.squares else None
    whole = square is not None and (square.height, square.width) == (height, width)
    if tuple(pictures.shape[-2:]) == (side, side) and not whole:
        upright = pictures
    elif square is None or abs(math.log(width * square.height / (height * square.width))) > SAME_SHAPE:
        return pictures, None
    else:
        points = [source.square(row).to_picture(some) * (width / square.width) for row, some in enumerate(points)]
    return upright, [torch.cat([some.amin(0), some.amax(0)]).to(pictures.device) for some in points]


def _nearest(faces: Sequence[Face], box: Tensor | None) -> Face | None:
    """The face that lies most over a box (4,), None if none does; or the largest without a box."""
    if box is None:
        return faces[0] if faces else None
    over = [float(box_iou(box, face.box[None].to(box))[0]) for face in faces]
    return faces[over.index(max(over))] if over and max(over) >= SAME_PLACE else None


def quotient_note(quotient: float) -> str:
    """What a quotient means, in words."""
    if math.isnan(quotient):
        return "the two hardly differed"
    limits = ((1 / 3, "most of it arrived"), (0.75, "part of it arrived"), (1.0, "little of it arrived"))
    words = next((words for limit, words in limits if quotient <= limit), "farther away than before")
    return f"{words}; 0 full transfer, 1 none"


def _quotient(left: float, before: float, least: float) -> float:
    return left / before if before > least else float("nan")


@torch.no_grad()
def measure_pair(parts: Parts, source: Portrait, query: Portrait, result: Portrait) -> list[Row]:
    """Identity against the source; pose, expression and light against the query, with what was there before the edit.

    A quotient divides the error that is left by the error before: 0 is a full transfer, 1 is no change. It is not a number
    (NaN) where source and query hardly differed.
    """
    faces = [parts.identity.embed(p.picture, p.landmarks[..., :2]) for p in (source, result)]
    distance = parts.identity.distance(faces[0], faces[1]).item()
    rows = [Row("identity", "identity distance to the source", distance, distance_note(parts.identity.name, distance))]
    angles = {name: head_angles(p) for name, p in (("source", source), ("query", query), ("result", result))}
    for index, name in enumerate(("yaw", "pitch", "roll")):
        left = (angles["result"] - angles["query"])[index].abs().item()
        before = (angles["source"] - angles["query"])[index].abs().item()
        rows.append(Row(f"{name}_error", f"{name} error to the query", left, f"degrees; {before:.1f} before"))
    left = expression_distance(result.blendshapes, query.blendshapes).item()
    before = expression_distance(source.blendshapes, query.blendshapes).item()
    rows.append(Row("expression_error", "expression error to the query", left, f"mean score difference; {before:.3f} before"))
    quotient = _quotient(left, before, 0.01)
    rows.append(Row("expression_quotient", "expression quotient", quotient, quotient_note(quotient)))
    light = {name: light_direction(p.picture, p.landmarks)[0] for name, p in (("source", source), ("query", query), ("result", result))}
    left = (light["result"] - light["query"]).abs().mean().item()
    before = (light["source"] - light["query"]).abs().mean().item()
    rows.append(Row("light_error", "light error to the query", left, f"log-ratios left/right, up/down; {before:.3f} before"))
    quotient = _quotient(left, before, 0.05)
    rows.append(Row("light_quotient", "light quotient", quotient, quotient_note(quotient)))
    return rows
