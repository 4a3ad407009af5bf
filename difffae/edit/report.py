"""The numbers of one edit, as a person asks for them: source, query and result as pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..source.identity import distance_note
from .description import Parts, Portrait
from .measures import expression_distance, light_direction


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
    rows = [Row("identity", "identity distance to the source", distance, distance_note(parts.identity.name))]
    angles = {name: head_angles(p) for name, p in (("source", source), ("query", query), ("result", result))}
    for index, name in enumerate(("yaw", "pitch", "roll")):
        left = (angles["result"] - angles["query"])[index].abs().item()
        before = (angles["source"] - angles["query"])[index].abs().item()
        rows.append(Row(f"{name}_error", f"{name} error to the query", left, f"degrees; {before:.1f} before"))
    left = expression_distance(result.blendshapes, query.blendshapes).item()
    before = expression_distance(source.blendshapes, query.blendshapes).item()
    rows.append(Row("expression_error", "expression error to the query", left, f"mean score difference; {before:.3f} before"))
    rows.append(Row("expression_quotient", "expression quotient", _quotient(left, before, 0.01), "0 full transfer, 1 none"))
    light = {name: light_direction(p.picture, p.landmarks)[0] for name, p in (("source", source), ("query", query), ("result", result))}
    left = (light["result"] - light["query"]).abs().mean().item()
    before = (light["source"] - light["query"]).abs().mean().item()
    rows.append(Row("light_error", "light error to the query", left, f"log-ratios left/right, up/down; {before:.3f} before"))
    rows.append(Row("light_quotient", "light quotient", _quotient(left, before, 0.05), "0 full transfer, 1 none"))
    return rows
