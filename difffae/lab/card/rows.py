"""The rows of a model card: which numbers, of which records, with which goals.

A block (card_blocks) is a list of records, one for each picture or pair, plain numbers only; a row is a statistic of one block's
records. Quotients divide sums over the pairs by sums: 0 is perfect, 1 is doing nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from .table import LEAST_LIGHT

Record = dict[str, Any]
Statistic = Callable[[Sequence[Record]], float | None]
RESAMPLES = 1000
TAKES = ("pose", "expression", "light")


@dataclass(frozen=True)
class Row:
    """goal: a bound for the value, from below if more is better. key is for programs and tests, label for people."""

    key: str
    label: str
    block: str
    statistic: Statistic
    goal: float | None = None
    more_is_better: bool = False
    unit: str = ""
    short: str = ""  # label in wide tables

    def met(self, value: float) -> bool | None:
        if self.goal is None:
            return None
        return value >= self.goal if self.more_is_better else value <= self.goal

    def worse_by(self, value: float, reference: float) -> float:
        """How many percent a value is worse than a reference; negative where it is better."""
        difference = reference - value if self.more_is_better else value - reference
        return 100 * difference / max(abs(reference), 1e-9)


def found(records: Sequence[Record]) -> list[Record]:
    """Those in whose result a face was found."""
    return [record for record in records if not record.get("lost")]


def mean_of(name: str) -> Statistic:
    return lambda records: fmean(values) if (values := _values(records, name)) else None


def median_of(name: str) -> Statistic:
    return lambda records: median(values) if (values := _values(records, name)) else None


def least_of(name: str) -> Statistic:
    return lambda records: min(values) if (values := _values(records, name)) else None


def lost(records: Sequence[Record]) -> float | None:
    return float(sum(1 for record in records if record.get("lost"))) if records else None


def transfer(attribute: str) -> Statistic:
    """Error that is left over the error before the edit."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [r for r in found(records) if attribute != "light" or r["before"]["light"] > LEAST_LIGHT]
        return _quotient([r["to_query"][attribute] for r in counted], [r["before"][attribute] for r in counted])

    return statistic


def drift(attribute: str, take: str) -> Statistic:
    """How far an attribute went from the source although only `take` was taken, over the difference of source and query."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [record for record in found(records) if record["take"] == take]
        return _quotient([r["to_source"][attribute] for r in counted], [r["before"][attribute] for r in counted])

    return statistic


DRIFTS = tuple((attribute, take) for take in TAKES for attribute in TAKES if attribute != take)


def mean_drift(records: Sequence[Record]) -> float | None:
    values = [value for attribute, take in DRIFTS if (value := drift(attribute, take)(records)) is not None]
    return fmean(values) if values else None


def taken(take: str, statistic: Statistic) -> Statistic:
    return lambda records: statistic([record for record in records if record["take"] == take])


def overlap(kind: str, region: str | None = None) -> Statistic:
    """Intersection over union of all pictures together, of one region or the mean of all. Records hold counts of pixels by region under
    kind: [intersection, union]."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [record[kind] for record in records if kind in record]
        names = [region] if region else list(counted[0]) if counted else []
        values = []
        for name in names:
            both, either = (sum(counts[name][i] for counts in counted) for i in (0, 1))
            if either:
                values.append(both / either)
        return fmean(values) if values else None

    return statistic


def selectivity(kind: str, region: str) -> Statistic:
    """Mean change inside a swapped region over the mean change of the other regions."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [record for record in records if record["region"] == region]
        return _quotient([r[kind][0] for r in counted], [r[kind][1] for r in counted])

    return statistic


def arrival(kind: str, region: str) -> Statistic:
    """Distance of a swapped region's token from the reference's over what it was before."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [record for record in records if record["region"] == region]
        return _quotient([r[f"{kind}_token"][0] for r in counted], [r[f"{kind}_token"][1] for r in counted])

    return statistic


def swapped(region: str, statistic: Statistic) -> Statistic:
    return lambda records: statistic([record for record in records if record["region"] == region])


def clusters(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one pair together, for they are no independent samples."""
    found: dict[Any, list[Record]] = {}
    for index, record in enumerate(records):
        found.setdefault((record["source"], record["query"]) if "query" in record else index, []).append(record)
    return list(found.values())


def bootstrap(statistic: Statistic, records: Sequence[Record], seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % percentile interval of a statistic over resampled pairs; None for fewer than 5 of them."""
    groups = clusters(records)
    if len(groups) < 5:
        return None
    rng = random.Random(seed)
    drawn = ([record for group in rng.choices(groups, k=len(groups)) for record in group] for _ in range(resamples))
    values = sorted(value for sample in drawn if (value := statistic(sample)) is not None)
    return (values[int(0.025 * len(values))], values[min(len(values) - 1, int(0.975 * len(values)))]) if values else None


def _values(records: Sequence[Record], name: str) -> list[float]:
    return [record[name] for record in found(records) if record.get(name) is not None]


def _quotient(left: Sequence[float], before: Sequence[float]) -> float | None:
    return sum(left) / sum(before) if before and sum(before) > 0 else None


IDENTITY = "identity distance result-source, median"
FIRST_STAGE = (
    Row("first_psnr", "first stage at 256x256: PSNR", "first-stage", mean_of("psnr"), 33, True, "dB"),
    Row("first_ssim", "first stage: SSIM", "first-stage", mean_of("ssim"), 0.92, True),
    Row("first_sharpness", "first stage: sharpness, output / input, median", "first-stage", median_of("sharpness"), 0.85, True),
)
SELF = (
    Row(
        "self_identity",
        "source = query, noisy codes: identity distance, median",
        "self",
        median_of("identity"),
        0.25,
        short="self identity",
    ),
    Row("self_psnr", "source = query, noisy codes: PSNR", "self", mean_of("psnr"), 27, True, "dB", "self PSNR"),
)


def edit_rows(block: str) -> tuple[Row, ...]:
    """Of cross edits that take everything."""
    return (
        Row("yaw", "cross edit: yaw error, mean", block, mean_of("yaw"), 4, unit="degrees", short="yaw"),
        Row("pitch", "cross edit: pitch error, mean", block, mean_of("pitch"), 4, unit="degrees", short="pitch"),
        Row("expression", "expression error quotient", block, transfer("expression"), 0.35, short="expression"),
        Row("light", "light error quotient", block, transfer("light"), 0.25, short="light"),
        Row("identity", IDENTITY, block, median_of("identity"), 0.30, short="identity"),
        Row(
            "sharpness",
            "sharpness of the head, result / source, median",
            block,
            median_of("sharpness"),
            more_is_better=True,
            short="sharpness",
        ),
        Row("lost", "results without a face", block, lost, short="lost"),
    )


DRIFT = (Row("drift", "not-taken attributes: drift, mean of the six quotients", "drift", mean_drift, 0.25),)
DRIFT_DETAIL = (
    *(Row(f"drift_{a}_by_{t}", f"drift of {a} when only {t} is taken", "drift", drift(a, t)) for a, t in DRIFTS),
    *(
        Row(f"drift_codes_by_{t}", f"drift of the light's codes when only {t} is taken", "drift", drift("light codes", t))
        for t in TAKES
        if t != "light"
    ),
)
STILL = (
    Row(
        "still",
        "clothes and background away from the head, only expression taken: PSNR, median",
        "drift",
        taken("expression", median_of("still")),
        30,
        True,
        "dB",
        "kept",
    ),
    Row(
        "outside",
        "everything outside the face, only expression taken: PSNR, median",
        "drift",
        taken("expression", median_of("outside")),
        30,
        True,
        "dB",
    ),
)
SYNTHETIC = (
    Row("synthetic_psnr", "synthetic pairs, codes estimated: PSNR", "synthetic", mean_of("psnr"), 24, True, "dB"),
    Row("synthetic_ssim", "synthetic pairs, codes estimated: SSIM", "synthetic", mean_of("ssim"), 0.85, True),
    Row("synthetic_known_psnr", "synthetic pairs, exact codes: PSNR", "synthetic", mean_of("known_psnr"), 24, True, "dB"),
    Row("synthetic_known_ssim", "synthetic pairs, exact codes: SSIM", "synthetic", mean_of("known_ssim"), 0.85, True),
)
SYNTHETIC_DETAIL = (
    Row("synthetic_source_psnr", "the source itself against the truth: PSNR", "synthetic", mean_of("source_psnr"), None, True, "dB"),
    Row("synthetic_source_ssim", "the source itself against the truth: SSIM", "synthetic", mean_of("source_ssim"), None, True),
)  # fmt: skip
GOALS = (*FIRST_STAGE, *SELF, *edit_rows("edit")[:5], *DRIFT, *STILL, *SYNTHETIC)
SAMPLED = (*SELF, *edit_rows("edit")[:5], *DRIFT, *STILL, *SYNTHETIC)  # rows that depend on the sampler
REGION_NAMES = ("face", "hair", "clothes", "background")
SLOTS = (
    *(
        row
        for name, kind in (("real portraits, pseudo labels", "real"), ("synthetic portraits, exact labels", "synthetic"))
        for row in (
            Row(f"slots_{kind}", f"{name}: mean IoU", f"slots-{kind}", overlap("slots"), 0.70, True),
            *(Row(f"slots_{kind}_{r}", f"{name}: {r}", f"slots-{kind}", overlap("slots", r), None, True) for r in REGION_NAMES),
            Row(
                f"refined_{kind}",
                f"{name}, masks fitted to picture and person matte: mean IoU",
                f"slots-{kind}",
                overlap("refined"),
                0.70,
                True,
            ),
        )
    ),
    Row("shift", "masks of the shifted picture against shifted masks: mean IoU", "slots-moved", overlap("shift"), 0.70, True),
    Row("shift_floor", "the same, had the masks not moved", "slots-moved", overlap("shift_still")),
    Row("flip", "masks of the mirrored picture against mirrored masks: mean IoU", "slots-moved", overlap("flip"), 0.70, True),
    Row("flip_floor", "the same, had the masks not been mirrored", "slots-moved", overlap("flip_still")),
)
SWAP_KINDS = (("result", "result"), ("tokens", "by tokens alone"))
SWAPS = (
    *(
        Row(
            f"swap_{kind}_{region}",
            f"swap of {region}: change inside / outside its region, {words}",
            "swaps",
            selectivity(kind, region),
            5,
            True,
        )
        for kind, words in (("drawn", "the model's own picture"), *SWAP_KINDS)
        for region in REGION_NAMES[1:]
    ),
    *(
        Row(
            f"arrival_{kind}_{region}",
            f"swap of {region}: distance of its token to the reference's, after / before, {words}",
            "swaps",
            arrival(kind, region),
        )
        for kind, words in SWAP_KINDS
        for region in REGION_NAMES[1:]
    ),
    *(
        Row(
            f"swap_sharp_{kind}_{region}",
            f"swap of {region}: sharpness of the region / of the reference's, median, {words}",
            "swaps",
            swapped(region, median_of(f"{kind}_sharp")),
            None,
            True,
        )
        for kind, words in SWAP_KINDS
        for region in REGION_NAMES[1:]
    ),
)
SPLIT = (*SELF, *edit_rows("edit")[:6], STILL[0])  # rows of the split tables
