"""The rows of the model card's block "by numbers": responses, spill, lights, sharpness, rings, with their goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import Any

from ...head.adjust import TURNS
from .numbers import AMOUNTS, BURNT, FAR, HALF_BLINK, LEAST_ASKED, LIGHTS, SHARP_TURNS, SLIDERS, SPILLED, edit_name
from .rows import Record, Row, Statistic

BLOCK = "by-numbers"
STRICT = ("yaw", "pitch", "roll", "jaw_open", "smile", "gaze_x", "gaze_y")  # those that have a goal for their response
READABLE = 30.0  # degrees: the landmark network's scores of a head turned farther than that from the viewer say little
# Rendered people of known pose, turned by 16 degrees: the estimator reads 1.03 of a yaw, and so much of a pitch (nine people, 0.56 to 0.86)
READ_SHARE = {"pitch": 0.73}
NOTE = (
    "Scores are those of the pack's own networks: expressions the landmark network's, turns the estimator's. Response: what arrives in the "
    "edited picture, read anew, over what was asked for, sums over the people; 1 is right, 0 is nothing; at the largest number also by the "
    "estimator's coefficients. Coefficients end at 1, so what was asked for is what the target's numbers say. Every other person is asked "
    "for the opposite turn, gaze and side of the jaw. Rising: share of people for whom every larger number reads larger. Spill: absolute "
    "change of sliders that were not asked for, turns as shares of 25 degrees, mean over sliders and people at the largest number (gaze "
    "and squint do not count where lids close); and the slider that changes most, mean over the people. "
    f"The landmark network reads expressions only of heads turned by less than {READABLE:g} degrees, so only those people count for them. "
    f"Of a rendered person's pitch that is known exactly the estimator reads {READ_SHARE['pitch']:g}: by that much responses to pitch are "
    "divided. Closed eyes of photographs score 0.57 to 0.72, and the score of looking up is that of wide eyes in a lowered head. "
    f"Burnt: pixels of the face above {BURNT:g} of white that were not so before. Rings: the largest change of a pixel farther than {FAR} "
    "pixels from the old and the new person, of heads turned by 20 degrees and more on plain backgrounds."
)


def edits(records: Sequence[Record], slider: str, amount: float) -> Iterator[dict[str, Any]]:
    """One edit of all people in whose result a face was found, and whose own can be read."""
    for record in records:
        if slider not in TURNS and record.get("turned", 0.0) > READABLE:
            continue
        edit = record["edits"].get(edit_name(slider, amount))
        if edit is not None and not edit.get("lost"):
            yield edit


def response(slider: str, amount: float, by: str = "arrived") -> Statistic:
    """What arrives over what was asked for, sums over the people, whichever way they were asked to go; by the landmark network's scores
    ("arrived") or the estimator ("fitted")."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [edit for edit in edits(records, slider, amount) if abs(edit["asked"]) > LEAST_ASKED]
        signed = sum(edit[by] * (1 if edit["asked"] > 0 else -1) for edit in counted)
        return signed / (sum(abs(edit["asked"]) for edit in counted) * READ_SHARE.get(slider, 1.0)) if counted else None

    return statistic


def least_response(slider: str) -> Statistic:
    """The smallest of a slider's three responses."""

    def statistic(records: Sequence[Record]) -> float | None:
        values = [value for amount in AMOUNTS[slider] if (value := response(slider, amount)(records)) is not None]
        return min(values) if values else None

    return statistic


def rises(record: Record, slider: str) -> bool | None:
    """Whether the reading goes on with every step of a slider that asks for more, from the photograph on; None if an edit is missing."""
    asked = arrived = 0.0
    for amount in AMOUNTS[slider]:
        edit = next(edits([record], slider, amount), None)
        if edit is None:
            return None
        step, got = edit["asked"] - asked, edit["arrived"] - arrived
        if abs(step) > LEAST_ASKED and got * step <= 0:
            return False
        asked, arrived = edit["asked"], edit["arrived"]
    return True if abs(asked) > LEAST_ASKED else None


def rising(*sliders: str) -> Statistic:
    """Share of people and sliders that rise."""

    def statistic(records: Sequence[Record]) -> float | None:
        values = [value for record in records for slider in sliders if (value := rises(record, slider)) is not None]
        return fmean(values) if values else None

    return statistic


def seen(slider: str, amount: float, shift: float | None = None) -> Statistic:
    """Mean reading after an edit, or how far it is from `shift`."""

    def statistic(records: Sequence[Record]) -> float | None:
        values = [edit["seen"] for edit in edits(records, slider, amount)]
        return None if not values else fmean(values) if shift is None else abs(fmean(values) - shift)

    return statistic


def spills(records: Sequence[Record], slider: str) -> dict[str, float]:
    """Slider that was not asked for -> mean absolute change over the people, at the largest number."""
    found: dict[str, list[float]] = {}
    for edit in edits(records, slider, AMOUNTS[slider][-1]):
        for name, value in edit["spill"].items():
            found.setdefault(name, []).append(value)
    return {name: fmean(found[name]) for name in SPILLED if name in found}


def spill(over: Callable[[Sequence[float]], float], *sliders: str) -> Statistic:
    """Of all that these sliders spill into others: `over` is fmean or max."""

    def statistic(records: Sequence[Record]) -> float | None:
        values = [value for slider in sliders for value in spills(records, slider).values()]
        return over(values) if values else None

    return statistic


def lights(name: str, over: Callable[[Sequence[float]], float], size: Callable[[float], float] = float) -> Statistic:
    """`over` the people (fmean or max), of the light for which it is largest."""

    def statistic(records: Sequence[Record]) -> float | None:
        values = [[size(record["lights"][light][name]) for record in records if light in record["lights"]] for light in LIGHTS]
        return max((over(part) for part in values if part), default=None)

    return statistic


def of_light(light: str, name: str, size: Callable[[float], float] = float) -> Statistic:
    """Mean over the people of one light."""

    def statistic(records: Sequence[Record]) -> float | None:
        values = [size(record["lights"][light][name]) for record in records if light in record["lights"]]
        return fmean(values) if values else None

    return statistic


def sharpness(degrees: float) -> Statistic:
    def statistic(records: Sequence[Record]) -> float | None:
        values = [record["sharpness"][f"{degrees:g}"] for record in records if f"{degrees:g}" in record["sharpness"]]
        return median(values) if values else None

    return statistic


def rings(over: Callable[[Sequence[float]], float]) -> Statistic:
    def statistic(records: Sequence[Record]) -> float | None:
        values = [record["rings"] for record in records if record["rings"] is not None]
        return over(values) if values else None

    return statistic


def without_face(records: Sequence[Record]) -> float | None:
    return float(sum(edit.get("lost", False) for record in records for edit in record["edits"].values())) if records else None


def _amounts(slider: str) -> str:
    return ", ".join(f"{amount:g}" for amount in AMOUNTS[slider]) + (" degrees" if AMOUNTS[slider][0] > 1 else "")


def _ringless(values: Sequence[float]) -> float:
    return fmean([value <= 2 for value in values])


SHARP_GOALS = dict(zip(SHARP_TURNS, (0.75, 0.6), strict=True))
NUMBERS = (
    *(Row(f"response_{s}", f"{s}: response, least of {_amounts(s)}", BLOCK, least_response(s), 0.85, True) for s in STRICT),
    Row("rising", "share of sliders and people whose reading rises with every number", BLOCK, rising(*SLIDERS), 1, True),
    Row("blink_full", "eyes at blink 1: score", BLOCK, seen("blink", 1.0), 0.8, True),
    Row("blink_half", "eyes at blink 0.5: score, distance from one half", BLOCK, seen(*HALF_BLINK, 0.5), 0.1),
    Row("spill_mean", "spill of all sliders into those not asked for, mean", BLOCK, spill(fmean, *SLIDERS), 0.05),
    Row("spill_largest", "spill of one slider into another, largest mean", BLOCK, spill(max, *SLIDERS), 0.05),
    Row("burnt", "burnt skin, share of the face, worst light", BLOCK, lights("burnt", fmean), 0.02),
    Row("burnt_worst", "burnt skin, share of the face, worst person and light", BLOCK, lights("burnt", max), 0.02),
    Row("stops", "brightness of the face, change in stops, worst light", BLOCK, lights("stops", fmean, abs), 0.25),
    Row("stops_worst", "brightness of the face, change in stops, worst person and light", BLOCK, lights("stops", max, abs), 0.25),
    *(
        Row(
            f"sharp_{d:g}", f"sharpness of the face turned by {d:g} degrees, over the photograph's, median", BLOCK, sharpness(d), goal, True
        )
        for d, goal in SHARP_GOALS.items()
    ),
    Row("rings", "rings: largest change far from both persons, median person, of 255", BLOCK, rings(median), 2),
    Row("rings_worst", "rings: largest change far from both persons, worst person, of 255", BLOCK, rings(max), 2),
    Row("rings_none", "people on plain backgrounds without rings, share", BLOCK, rings(_ringless), 1, True),
    Row("numbers_lost", "results without a face", BLOCK, without_face, 0),
)
LIGHT_DETAIL = tuple(
    Row(f"{key}_{light}", f"light from {words}: {label}", BLOCK, of_light(light, key, size))
    for light, words in (("left", "image left"), ("right", "image right"), ("above", "above"))
    for key, label, size in (("burnt", "burnt share of the face", float), ("stops", "change in stops, with its sign", float))
)
# slider -> a row for each of its three numbers, then what else its line of the table says
RESPONSES = {s: tuple(Row(f"response_{s}_{a:g}", f"{s} {a:g}: response", BLOCK, response(s, a)) for a in AMOUNTS[s]) for s in SLIDERS}
FITTED = {
    s: Row(f"fitted_{s}", f"{s} {AMOUNTS[s][-1]:g}: response by the estimator", BLOCK, response(s, AMOUNTS[s][-1], "fitted"))
    for s in SLIDERS
}
RISING = {s: Row(f"rising_{s}", f"{s}: rising", BLOCK, rising(s)) for s in SLIDERS}
SPILLS = {s: Row(f"spill_{s}", f"{s}: spill, mean", BLOCK, spill(fmean, s)) for s in SLIDERS}
WORST_SPILLS = {s: Row(f"spill_largest_{s}", f"{s}: spill, largest", BLOCK, spill(max, s)) for s in SLIDERS}
DETAIL = (*LIGHT_DETAIL, *(row for s in SLIDERS for row in (*RESPONSES[s], FITTED[s], RISING[s], SPILLS[s], WORST_SPILLS[s])))
