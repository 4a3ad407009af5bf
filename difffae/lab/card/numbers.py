"""What arrives when a number is asked for: every slider at three amounts, what it moves besides, and what it does to the pixels.

All readings come from the pack's own networks: expressions are the landmark network's scores, turns are the estimator's.

Shape letters: S crop side, N the same square in the photograph's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...common.pixels import dilate, erode
from ...edit.description import Portrait, Sampling
from ...edit.editor import DiffFAE
from ...edit.moving import PreparedFaces
from ...edit.native import native_rows, native_side, resize
from ...edit.result import EditResult
from ...estimation.fit import FACE_OVAL
from ...faces.blendshapes import BLENDSHAPE_NAMES
from ...head.adjust import TURNS, Adjustments
from ...head.axes import AXES, AXIS, COEFFICIENTS, leading
from ...report.measures import laplacian_variance, luminance
from ...report.results import head_angles
from .blocks import Subjects
from .edit_numbers import whole_crop
from .rows import Record

PEOPLE = 24
UNREAD = ("cheek_puff",)  # the landmark network's score of it stays near 0 in every photograph
SLIDERS = (*TURNS, *(axis.name for axis in AXES if axis.positive and axis.name not in UNREAD))
AMOUNTS: Mapping[str, tuple[float, float, float]] = {name: (8.0, 16.0, 25.0) if name in TURNS else (0.3, 0.6, 1.0) for name in SLIDERS}
BOTH_WAYS = (*TURNS, "gaze_x", "gaze_y", "jaw_side")  # every other person is asked for the opposite
# Sliders that something else may spill into: those that hardly share a coefficient
SPILLED = (*TURNS, "blink", "squint", "gaze_x", "gaze_y", "brow_up", "smile", "jaw_open", "jaw_side", "pout", "funnel", "wide")
LIDS, HIDDEN_BY_LIDS = ("blink", "wink_left", "wink_right"), ("gaze_x", "gaze_y", "squint")  # a closed eye has no gaze to be read
TURN_UNIT = 25.0  # degrees that spill into a turn is a share of
HALF_BLINK = ("blink", 0.5)
SHARP_TURNS = (20.0, 35.0)  # degrees of yaw at which sharpness is measured
LIGHTS: Mapping[str, Mapping[str, float]] = {
    "left": {"light_azimuth": -70, "light_strength": 0.8},
    "right": {"light_azimuth": 70, "light_strength": 0.8},
    "above": {"light_elevation": 60, "light_strength": 0.7},
}
BURNT = 0.95  # of white, mean of the channels
FAR = 8  # pixels from both persons beyond which nothing may change
PERSON = 0.2  # share of the matte from which a pixel may be the person's
PLAIN = 0.05  # standard deviation of the grey of a background on which rings are looked for
LEAST_AREA = 0.02  # of the square: less background says nothing
LEAST_ASKED = 0.02  # of an expression (or degrees): smaller differences were not asked for, since coefficients end at 1
RIM = 5  # pixels: sharpness leaves the face's own edge out


@dataclass(frozen=True, eq=False)
class Reading:
    """What the networks see in one square.

    values     slider -> degrees, or difference of the mean scores that its two ends are about
    fitted     the same by the estimator's coefficients
    landmarks  (1,478,2 or 3) in pixels of the square
    """

    values: Mapping[str, float]
    fitted: Mapping[str, float]
    landmarks: Tensor


Reader = Callable[[Tensor], Reading | None]  # (1,3,S,S) -> None without a face


def leading_of(end: Mapping[str, float]) -> list[str]:
    """The coefficients that an end of a slider is about, none for an empty end."""
    return leading(end) if end else []


def slider_values(coefficients: Mapping[str, float], angles: Iterable[float]) -> dict[str, float]:
    """Slider -> where a face stands on it: degrees for turns, mean of the coefficients that the upper end is about less that of the lower
    end's for expressions."""

    def mean(end: Mapping[str, float]) -> float:
        names = leading_of(end)
        return sum(coefficients[name] for name in names) / len(names) if names else 0.0

    turns = dict(zip(TURNS, angles, strict=True))
    return turns | {name: mean(AXIS[name].positive) - mean(AXIS[name].negative) for name in SLIDERS if name not in TURNS}


def networks_reader(model: DiffFAE) -> Reader:
    """Reads with the landmark network (expressions) and the model's estimator (turns)."""

    def read(crop: Tensor) -> Reading | None:
        seen = whole_crop(model, crop[0])
        if seen is None:
            return None
        scores = dict(zip(BLENDSHAPE_NAMES, seen.blendshapes[0].tolist(), strict=True))
        coefficients = dict(zip(model.head.expression_names, seen.attributes.expression[0].tolist(), strict=True))
        angles = head_angles(seen).tolist()
        return Reading(slider_values({"tongueOut": 0.0} | scores, angles), slider_values(coefficients, angles), seen.landmarks)

    return read


def edit_name(slider: str, amount: float) -> str:
    """What an edit is called in the records, whichever way it went."""
    return f"{slider} {amount:g}"


def plan(turned_back: bool) -> list[tuple[str, str, float]]:
    """(name, slider, number) of every edit of one person whose reading is compared."""
    asked = [(slider, amount) for slider in SLIDERS for amount in AMOUNTS[slider]] + [HALF_BLINK]
    asked += [("yaw", degrees) for degrees in SHARP_TURNS]
    return [(edit_name(s, amount), s, -amount if turned_back and s in BOTH_WAYS else amount) for s, amount in asked]


@dataclass(frozen=True, eq=False)
class Numbers:
    """Measures one person after another.

    edit    (prepared, what to change) -> the edit
    read    what the networks see
    matte   (1,3,S,S) -> (1,1,S,S) share of person, or None: rings are not looked for
    names   of the head model's coefficients
    """

    edit: Callable[[PreparedFaces, Adjustments], EditResult]
    read: Reader
    matte: Callable[[Tensor], Tensor] | None
    names: Sequence[str]

    @classmethod
    def of(cls, model: DiffFAE, sampling: Sampling) -> Numbers:
        """With the model's own networks."""

        def edit(prepared: PreparedFaces, change: Adjustments) -> EditResult:
            return model.edit(prepared, adjust=change, sampling=sampling)

        return cls(edit, networks_reader(model), model.matte, model.head.expression_names)

    @torch.no_grad()
    def person(self, source: Portrait, prepared: PreparedFaces, turned_back: bool = False) -> Record:
        """One record; turned_back: ask for the opposite of what can go both ways.

        Returns:
            `turned`: degrees that the photograph's head is turned away from the viewer, the larger of yaw and pitch; `edits`: name ->
            asked, arrived and, by the estimator, fitted (differences from the photograph's reading), seen (the reading itself) and spill
            (slider -> absolute difference), or only lost; `lights`: name -> burnt (share of the face) and stops (of its mean light);
            `sharpness`: degrees -> quotient, of turns that were not limited; `rings`: largest change in 255ths, None where
            the background is not plain. Everything is None or empty where no face is found in the photograph's own square.
        """
        record: Record = {"source": source.name, "edits": {}, "lights": {}, "sharpness": {}, "rings": None}
        before = self.read(source.picture)
        if before is None:
            return record | {"lost": True}
        record["turned"] = max(abs(before.values[name]) for name in ("yaw", "pitch"))
        views = Views(source, self.matte)
        for name, slider, number in plan(turned_back):
            result = self.edit(prepared, Adjustments.from_record({slider: number}))
            after = self.read(result.crop)
            record["edits"][name] = {"lost": True} if after is None else self._compared(source, result, slider, before, after)
            whole = abs(record["edits"][name].get("asked", 0.0)) > abs(number) - 1
            if slider == "yaw" and abs(number) in SHARP_TURNS and after is not None and whole:
                record["sharpness"][f"{abs(number):g}"] = views.sharpness(result, before, after)
            if slider in TURNS and abs(number) >= SHARP_TURNS[0]:
                rings = views.rings(result)
                record["rings"] = rings if rings is None else max(rings, record["rings"] or 0.0)
        for name, change in LIGHTS.items():
            record["lights"][name] = views.light(self.edit(prepared, Adjustments.from_record(change)), before)
        return record

    def _compared(self, source: Portrait, result: EditResult, slider: str, before: Reading, after: Reading) -> dict[str, Any]:
        own, wanted = (self._described(replace(source, attributes=attributes)) for attributes in (source.attributes, result.attributes))
        asked = {name: wanted[1][name] - own[1][name] for name in SLIDERS}
        arrived = {name: after.values[name] - before.values[name] for name in SLIDERS}
        spill = {}
        for name in SPILLED:
            if slider in LIDS and name in HIDDEN_BY_LIDS:
                continue
            if name in TURNS:
                if abs(asked[name]) < LEAST_ASKED:
                    spill[name] = abs(arrived[name]) / TURN_UNIT
            elif all(abs(wanted[0][c] - own[0][c]) < 1e-6 for end in (AXIS[name].positive, AXIS[name].negative) for c in leading_of(end)):
                spill[name] = abs(arrived[name])
        fitted = after.fitted[slider] - before.fitted[slider]
        return {"asked": asked[slider], "arrived": arrived[slider], "fitted": fitted, "seen": after.values[slider], "spill": spill}

    def _described(self, portrait: Portrait) -> tuple[dict[str, float], dict[str, float]]:
        """Coefficients by name, and where they stand on the sliders."""
        coefficients = dict.fromkeys(COEFFICIENTS, 0.0) | dict(zip(self.names, portrait.attributes.expression[0].tolist(), strict=True))
        return coefficients, slider_values(coefficients, head_angles(portrait).tolist())


class Views:
    """One photograph's square in its own pixels, and what edits change in it."""

    def __init__(self, source: Portrait, matte: Callable[[Tensor], Tensor] | None) -> None:
        self.source, self.matte = source, matte
        self.side = native_side(source)
        self.before, inside = native_rows(source, self.side, 1)
        self.backdrop: Tensor | None = None  # bool (1,1,N,N): far from the person, if it is plain
        if matte is None:
            return
        away = self._away(source.picture) & (inside > 0.99)
        grey = self.before.mean(1, keepdim=True)[away]
        if len(grey) > LEAST_AREA * self.side**2 and grey.std() < PLAIN:
            self.backdrop = away

    def rings(self, result: EditResult) -> float | None:
        """The largest change, in 255ths, farther than FAR pixels from the old and the new person; None without a plain background."""
        if self.backdrop is None:
            return None
        away = self.backdrop & self._away(result.crop)
        if away.sum() < LEAST_AREA * self.side**2:
            return None
        change = (self._after(result) * 255).round() - (self.before * 255).round()
        return change.abs().amax(1, keepdim=True)[away].max().item()

    def sharpness(self, result: EditResult, before: Reading, after: Reading) -> float:
        """Of the face inside its oval, result over source."""
        new, old = (
            laplacian_variance(picture, erode(self._face(reading), RIM)).item()
            for picture, reading in ((self._after(result), after), (self.before, before))
        )
        return new / max(old, 1e-9)

    def light(self, result: EditResult, before: Reading) -> dict[str, float]:
        """burnt: share of the face's pixels above BURNT that were not so before; stops: how much brighter its mean linear light is."""
        face = self._face(before) > 0.5
        after = self._after(result)
        new, old = (picture.mean(1, keepdim=True)[face] for picture in (after, self.before))
        means = [luminance(picture)[face].mean().clamp_min(1e-4) for picture in (after, self.before)]
        return {"burnt": ((new > BURNT) & (old <= BURNT)).float().mean().item(), "stops": (means[0] / means[1]).log2().item()}

    def _after(self, result: EditResult) -> Tensor:
        """(1,3,N,N), the square of the whole result."""
        return native_rows(replace(self.source, picture=result.crop, original=result.image[None]), self.side, 1)[0]

    def _away(self, crop: Tensor) -> Tensor:
        """Bool (1,1,N,N): farther than FAR pixels from the person of a crop (1,3,S,S)."""
        assert self.matte is not None
        person = (resize(self.matte(crop), self.side, "bilinear") > PERSON).to(crop)
        return dilate(person, 2 * FAR + 1) < 0.5

    def _face(self, reading: Reading) -> Tensor:
        """(1,1,N,N): 1 inside the face's oval."""
        from kornia.utils import draw_convex_polygon

        corners = reading.landmarks[:, list(FACE_OVAL), :2].to(self.before) * (self.side / self.source.picture.shape[-1])
        return draw_convex_polygon(self.before.new_zeros(1, 1, self.side, self.side), corners, self.before.new_ones(1, 1))


def by_numbers(
    subjects: Subjects,
    names: Sequence[str],
    denoise: float = 0.0,
    known: Sequence[Record] = (),
    keep: Callable[[list[Record]], None] = lambda records: None,
) -> list[Record]:
    """Records of some people.

    Args:
        subjects: whose model carries photographs, and whose head has ARKit's coefficients.
        names: of the portraits.
        denoise: how much the model paints; 0 measures the moved photographs.
        known: records of an earlier run that was stopped, which are not measured again.
        keep: called with all records so far after every person.
    """
    sampling = Sampling(denoise, subjects.steps, subjects.sampler, subjects.seed)
    numbers, records = Numbers.of(subjects.model, sampling), []
    done = {record["source"]: record for record in known}
    for index, name in enumerate(names):
        portrait = None if name in done else subjects.portrait(name)
        if name in done:
            records.append(done[name])
        elif portrait is not None:
            records.append(numbers.person(portrait, subjects.model.prepare(portrait), index % 2 == 1))
            keep(records)
        subjects.tick()
    return records
