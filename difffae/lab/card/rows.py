"""The rows of a model card: which numbers, of which records, with which goals.

A block (card_blocks) is a list of records, one for each picture or pair, plain numbers only; a row is a statistic of one block's
records. Quotients divide sums over the pairs by sums: 0 is perfect, 1 is doing nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from ...source.slots import REGIONS
from ..tables.intervals import RESAMPLES, bootstrap_interval

Record = dict[str, Any]
Statistic = Callable[[Sequence[Record]], float | None]
LEAST_LIGHT = 0.5  # pairs whose lights differ by less do not count in the light's quotient
TAKES = ("pose", "expression", "light")
DRIFTS = tuple((attribute, take) for take in TAKES for attribute in TAKES if attribute != take)


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


def lost(records: Sequence[Record]) -> float | None:
    return float(sum(1 for record in records if record.get("lost"))) if records else None


def ratio(left: Callable[[Record], float], before: Callable[[Record], float]) -> Statistic:
    """Sum of `left` over the sum of `before`; None where nothing was there before."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = found(records)
        whole = sum(map(before, counted))
        return sum(map(left, counted)) / whole if whole > 0 else None

    return statistic


def where(name: str, value: str, statistic: Statistic) -> Statistic:
    """The statistic of those records alone whose `name` is `value`."""
    return lambda records: statistic([record for record in records if record[name] == value])


def transfer(attribute: str) -> Statistic:
    """Error that is left over the error before the edit."""
    quotient = ratio(lambda r: r["to_query"][attribute], lambda r: r["before"][attribute])
    return quotient if attribute != "light" else lambda records: quotient(other_lights(records))


def other_lights(records: Sequence[Record]) -> list[Record]:
    """Those whose source and query differ in light: other quotients say nothing."""
    return [record for record in found(records) if record["before"]["light"] > LEAST_LIGHT]


def drift(attribute: str, take: str) -> Statistic:
    """How far an attribute went from the source although only `take` was taken, over the difference of source and query."""
    return where("take", take, ratio(lambda r: r["to_source"][attribute], lambda r: r["before"][attribute]))


def mean_drift(records: Sequence[Record]) -> float | None:
    values = [value for attribute, take in DRIFTS if (value := drift(attribute, take)(records)) is not None]
    return fmean(values) if values else None


def overlap(kind: str, region: str | None = None) -> Statistic:
    """Intersection over union of all pictures together, of one region or the mean of all. Records hold counts of pixels by region under
    kind: [intersection, union]."""

    def statistic(records: Sequence[Record]) -> float | None:
        counted = [record[kind] for record in records if kind in record]
        names = [region] if region else list(counted[0]) if counted else []
        sums = [[sum(counts[name][i] for counts in counted) for i in (0, 1)] for name in names]
        values = [both / either for both, either in sums if either]
        return fmean(values) if values else None

    return statistic


def of_region(region: str, key: str) -> Statistic:
    """Of the swaps of a region, whose records hold two numbers under key: sum of the first over the sum of the second."""
    return where("region", region, ratio(lambda r: r[key][0], lambda r: r[key][1]))


def clusters(records: Sequence[Record]) -> list[list[Record]]:
    """Records of one pair together, for they are no independent samples."""
    found: dict[Any, list[Record]] = {}
    for index, record in enumerate(records):
        found.setdefault((record["source"], record["query"]) if "query" in record else index, []).append(record)
    return list(found.values())


def bootstrap(statistic: Statistic, records: Sequence[Record], seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % percentile interval of a statistic over resampled pairs; None for fewer than 5 of them."""
    return bootstrap_interval(lambda drawn: statistic([record for group in drawn for record in group]), clusters(records), seed, resamples)


def _values(records: Sequence[Record], name: str) -> list[float]:
    return [record[name] for record in found(records) if record.get(name) is not None]


FIRST_STAGE = (
    Row("first_psnr", "first stage at 256x256: PSNR", "first-stage", mean_of("psnr"), 33, True, "dB"),
    Row("first_ssim", "first stage: SSIM", "first-stage", mean_of("ssim"), 0.92, True),
    Row("first_sharpness", "first stage: sharpness, output / input, median", "first-stage", median_of("sharpness"), 0.85, True),
)
NOISY = "source = query, noisy codes"
SELF = (
    Row("self_identity", f"{NOISY}: identity distance, median", "self", median_of("identity"), 0.25, short="self identity"),
    Row("self_psnr", f"{NOISY}: PSNR", "self", mean_of("psnr"), 27, True, "dB", "self PSNR"),
)
HEAD_SHARPNESS = "sharpness of the head, result / source, median"
EDIT = (  # cross edits that take everything
    Row("yaw", "cross edit: yaw error, mean", "edit", mean_of("yaw"), 4, unit="degrees", short="yaw"),
    Row("pitch", "cross edit: pitch error, mean", "edit", mean_of("pitch"), 4, unit="degrees", short="pitch"),
    Row("expression", "expression error quotient", "edit", transfer("expression"), 0.35, short="expression"),
    Row("light", "light error quotient", "edit", transfer("light"), 0.25, short="light"),
    Row("identity", "identity distance result-source, median", "edit", median_of("identity"), 0.30, short="identity"),
    Row("sharpness", HEAD_SHARPNESS, "edit", median_of("sharpness"), more_is_better=True, short="sharpness"),
    Row("lost", "results without a face", "edit", lost, short="lost"),
)
DRIFT = (Row("drift", "not-taken attributes: drift, mean of the six quotients", "drift", mean_drift, 0.25),)
DRIFT_DETAIL = (
    *(Row(f"drift_{a}_by_{t}", f"drift of {a} when only {t} is taken", "drift", drift(a, t)) for a, t in DRIFTS),
    *(
        Row(f"drift_codes_by_{t}", f"drift of the light's codes when only {t} is taken", "drift", drift("light codes", t))
        for t in ("pose", "expression")
    ),
)
STILL = tuple(
    Row(key, f"{place}, only expression taken: PSNR, median", "drift", where("take", "expression", median_of(key)), 30, True, "dB", short)
    for key, place, short in (
        ("still", "clothes and background away from the head", "kept"),
        ("outside", "everything outside the face", ""),
    )
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
)
SAMPLED = (*SELF, *EDIT[:5], *DRIFT, *STILL, *SYNTHETIC)  # rows that depend on the sampler
GOALS = (*FIRST_STAGE, *SAMPLED)
FITTED = "masks fitted to picture and person matte"
SLOTS = (
    *(
        row
        for kind, name in (("real", "real portraits, pseudo labels"), ("synthetic", "synthetic portraits, exact labels"))
        for row in (
            Row(f"slots_{kind}", f"{name}: mean IoU", f"slots-{kind}", overlap("slots"), 0.70, True),
            *(Row(f"slots_{kind}_{r}", f"{name}: {r}", f"slots-{kind}", overlap("slots", r), None, True) for r in REGIONS),
            Row(f"refined_{kind}", f"{name}, {FITTED}: mean IoU", f"slots-{kind}", overlap("refined"), 0.70, True),
        )
    ),
    Row("shift", "masks of the shifted picture against shifted masks: mean IoU", "slots-moved", overlap("shift"), 0.70, True),
    Row("shift_floor", "the same, had the masks not moved", "slots-moved", overlap("shift_still")),
    Row("flip", "masks of the mirrored picture against mirrored masks: mean IoU", "slots-moved", overlap("flip"), 0.70, True),
    Row("flip_floor", "the same, had the masks not been mirrored", "slots-moved", overlap("flip_still")),
)


def _swap_rows(key: str, label: str, kinds: dict[str, str], of: Callable[[str, str], Statistic], **how: Any) -> Iterator[Row]:
    """A row for every kind of swap (name -> words) and region; of: region, kind -> statistic."""
    for kind, words in kinds.items():
        for region in REGIONS[1:]:
            yield Row(f"{key}_{kind}_{region}", f"swap of {region}: {label}, {words}", "swaps", of(region, kind), **how)


SWAP_KINDS = {"result": "result", "tokens": "by tokens alone"}
DRAWN = {"drawn": "the model's own picture"}
SWAPS = (
    *_swap_rows("swap", "change inside / outside its region", DRAWN | SWAP_KINDS, of_region, goal=5, more_is_better=True),
    *_swap_rows(
        "arrival",
        "distance of its token to the reference's, after / before",
        SWAP_KINDS,
        lambda region, kind: of_region(region, f"{kind}_token"),
    ),
    *_swap_rows(
        "swap_sharp",
        "sharpness of the region / of the reference's, median",
        SWAP_KINDS,
        lambda region, kind: where("region", region, median_of(f"{kind}_sharp")),
        more_is_better=True,
    ),
)
SPLIT = (*SELF, *EDIT[:6], STILL[0])  # rows of the split tables
# what `evaluate --portraits` prints of cross edits
DEV_TABLE: dict[str, Statistic] = {
    "pairs": len,
    "no face in the result": lambda records: len(records) - len(found(records)),
    "yaw error, mean (degrees)": mean_of("yaw"),
    "pitch error, mean (degrees)": mean_of("pitch"),
    "expression error quotient": transfer("expression"),
    "light error quotient": transfer("light"),
    "light pairs": lambda records: len(other_lights(records)),
    "identity distance, median": median_of("identity"),
    "background and clothes, PSNR (dB)": median_of("still"),
    HEAD_SHARPNESS: median_of("sharpness"),
}
