"""The table of an edit's quality over pairs of portraits (design section 8).

Shape letters: B batch, N landmarks (478).
"""

from __future__ import annotations

import csv
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import NoFaceError
from ..images import read_image
from ..pipeline import DiffFAE, EditResult, Portrait
from ..rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from .measures import away_from_head, expression_distance, laplacian_variance, light_direction, psnr

log = logging.getLogger(__name__)
Edit = Callable[[Portrait, Portrait], EditResult]


@dataclass
class Table:
    """Sums over pairs, and the rows of the table made of them."""

    yaw: list[float] = field(default_factory=list)
    pitch: list[float] = field(default_factory=list)
    expression: list[tuple[float, float]] = field(default_factory=list)  # (left, before)
    light: list[tuple[float, float]] = field(default_factory=list)
    identity: list[float] = field(default_factory=list)
    still: list[float] = field(default_factory=list)  # PSNR away from the head
    sharpness: list[float] = field(default_factory=list)  # on the head, result / source
    lost: int = 0  # results in which no face was found

    def rows(self) -> dict[str, float]:
        quotient = lambda pairs: sum(a for a, _ in pairs) / max(1e-9, sum(b for _, b in pairs))  # noqa: E731
        return {
            "pairs": len(self.yaw) + self.lost,
            "no face in the result": self.lost,
            "yaw error, mean (degrees)": mean(self.yaw),
            "pitch error, mean (degrees)": mean(self.pitch),
            "expression error quotient": quotient(self.expression),
            "light error quotient": quotient(self.light),
            "light pairs": len(self.light),
            "identity distance, median": median(self.identity),
            "background and clothes, PSNR (dB)": median(self.still),
            "sharpness of the head, result / source, median": median(self.sharpness),
        }


def pair_names(folder: Path, files: list[str], count: int, seed: int = 0, largest_yaw: float = 30.0) -> list[tuple[str, str]]:
    """Fixed pseudo-random (source, query) pairs of different persons; queries within `largest_yaw` degrees by the manifest."""
    with open(folder / "manifest.csv", newline="") as handle:
        rows = {row["file"]: row for row in csv.DictReader(handle)}
    names = sorted(files)
    queries = [name for name in names if abs(float(rows[name]["yaw_deg"])) <= largest_yaw]
    rng = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        a, b = rng.choice(names), rng.choice(queries)
        if rows[a]["person"] != rows[b]["person"]:
            pairs.append((a, b))
    return pairs


@torch.no_grad()
def evaluate_edits(
    model: DiffFAE, folder: Path, pairs: list[tuple[str, str]], edit: Edit, each: Callable[[int, EditResult], None] | None = None
) -> Table:
    """Run `edit` on every pair and measure the edited crops anew."""
    table = Table()
    cache: dict[str, Portrait | None] = {}

    def portrait(name: str) -> Portrait | None:
        if name not in cache:
            try:
                cache[name] = model.analyse(read_image(folder / name)[0], name=name)
            except NoFaceError as error:
                log.warning("%s", error)
                cache[name] = None
        return cache[name]

    for index, (source_name, query_name) in enumerate(pairs):
        source, query = portrait(source_name), portrait(query_name)
        if source is None or query is None:
            continue
        result = edit(source, query)
        if each is not None:
            each(index, result)
        measure(model, table, source, query, result)
    return table


def cloth_and_background(model: DiffFAE, picture: Tensor) -> Tensor:
    """(1,1,S,S): 1 where the slots see clothes or background in a crop (1,3,S,S)."""
    masks = model.model.slots(picture)[1]
    wanted = [name in ("clothes", "background") for name in model.model.slots.config.order]
    share = F.interpolate(masks[:, wanted].sum(1, keepdim=True), picture.shape[-2:], mode="bilinear", align_corners=False)
    return (share > 0.7).to(picture.dtype)


def measure(model: DiffFAE, table: Table, source: Portrait, query: Portrait, result: EditResult) -> None:
    """Add one edit to the table; everything is estimated again from the edited crop."""
    faces = model.landmarker.detect(result.crop)[0]
    if not faces:
        table.lost += 1
        return
    size = result.crop.shape[-1]
    points = faces[0].landmarks[None].to(result.crop)
    scores = faces[0].blendshapes[None].to(result.crop)
    again = model.estimator(result.crop, points, scores)
    turns = [axis_angle_to_matrix(face.pose[0, :2]) for face in (again, query.attributes)]  # global and neck: DECA's turn is the first
    angles = to_yaw_pitch_roll(torch.stack([matrix_to_axis_angle(turn[0] @ turn[1]) for turn in turns]))
    table.yaw.append((angles[0, 0] - angles[1, 0]).abs().item())
    table.pitch.append((angles[0, 1] - angles[1, 1]).abs().item())
    table.expression.append(
        (expression_distance(scores, query.blendshapes).item(), expression_distance(source.blendshapes, query.blendshapes).item())
    )
    lights = [
        light_direction(p, m) for p, m in ((source.picture, source.landmarks), (query.picture, query.landmarks), (result.crop, points))
    ]
    before = (lights[0] - lights[1]).norm().item()
    if before > 0.5:
        table.light.append(((lights[2] - lights[1]).norm().item(), before))
    own = model.identity.embed(source.picture, source.landmarks[..., :2])
    new = model.identity.embed(result.crop, points[..., :2])
    table.identity.append(model.identity.distance(own, new).item())
    away = away_from_head(source.landmarks, size, size) * away_from_head(points, size, size) * (source.known > 0.99)
    away = away * cloth_and_background(model, source.picture) * cloth_and_background(model, result.crop)
    if away.sum() > 0.02 * size * size:
        table.still.append(psnr(result.crop, source.picture, away).item())
    head_mask = (1 - away_from_head(points, size, size, 0.9)) * (result.validity >= 0)
    own_mask = 1 - away_from_head(source.landmarks, size, size, 0.9)
    sharp = laplacian_variance(result.crop, head_mask) / laplacian_variance(source.picture, own_mask).clamp_min(1e-9)
    table.sharpness.append(sharp.item())
