"""Numbers that change along a clip: values at some moments, and curves through them.

A file of keyframes is JSON:

    {"curve": "smooth", "keys": [{"time": 0, "yaw": -15}, {"time": 1.5, "yaw": 15, "smile": 0.6}, {"time": 2, "preset": "wink"}]}

`time` is in seconds (`frame` counts frames instead); every other name is a number of `head.axes`, a coefficient, a preset or a viseme. A
name's curve goes through the keys that name it and stays level before the first and after the last one. A list of such objects has one
for each face, the largest first, and null for a face without.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..head.adjust import NAMES, Adjustments
from ..head.axes import PRESETS, check_names

CURVES = ("smooth", "linear", "hold")
# the mouth's shapes of speech, by the sounds that they stand for
VISEMES: Mapping[str, Mapping[str, float]] = {
    "rest": {},
    "aa": {"jaw_open": 0.55},
    "ee": {"wide": 0.6, "jaw_open": 0.15},
    "ih": {"wide": 0.3, "jaw_open": 0.2},
    "oh": {"funnel": 0.7, "jaw_open": 0.3},
    "oo": {"pout": 0.7, "funnel": 0.2},
    "mbp": {"mouthPressLeft": 0.5, "mouthPressRight": 0.5},
    "fv": {"mouthRollLower": 0.5, "mouthUpperUpLeft": 0.25, "mouthUpperUpRight": 0.25},
    "sz": {"wide": 0.4, "jaw_open": 0.05},
    "sh": {"funnel": 0.5, "jaw_open": 0.1},
    "th": {"jaw_open": 0.15, "tongueOut": 0.3},
}
WORDS = {"preset": PRESETS, "viseme": VISEMES}
MOUTH = sorted({name for shape in VISEMES.values() for name in shape})


@dataclass(frozen=True)
class Curve:
    """One number over time: its value at some moments (seconds, rising), and how it goes from one to the next."""

    times: tuple[float, ...]
    values: tuple[float, ...]
    kind: str = CURVES[0]

    def at(self, time: float) -> float:
        """The value at a moment."""
        after = bisect.bisect_right(self.times, time)
        if after == 0 or after == len(self.times):
            return self.values[max(after - 1, 0)]
        start, end = after - 1, after
        share = (time - self.times[start]) / (self.times[end] - self.times[start])
        if self.kind == "hold":
            return self.values[start]
        if self.kind == "linear":
            return self.values[start] + share * (self.values[end] - self.values[start])
        return self._hermite(start, share)

    def _hermite(self, start: int, share: float) -> float:
        """A cubic that never overshoots its two keys (Fritsch and Carlson, "Monotone piecewise cubic interpolation", 1980)."""
        step = self.times[start + 1] - self.times[start]
        a, b = self.values[start], self.values[start + 1]
        slopes = [self._slope(key) * step for key in (start, start + 1)]
        t, u = share, 1 - share
        return a * (1 + 2 * t) * u * u + b * (1 + 2 * u) * t * t + slopes[0] * t * u * u - slopes[1] * t * t * u

    def _slope(self, key: int) -> float:
        """At a key: level at the ends and where the curve turns, else the harmonic mean of both sides."""
        if key in (0, len(self.times) - 1):
            return 0.0
        before, after = ((self.values[k + 1] - self.values[k]) / (self.times[k + 1] - self.times[k]) for k in (key - 1, key))
        return 2 * before * after / (before + after) if before * after > 0 else 0.0


@dataclass(frozen=True)
class Keyframes:
    """Curves by the name of their number.

    curves        name of head.axes or coefficient -> its curve
    absolute      whether turns and expressions replace the portrait's own instead of being added
    beyond_limit  as in `Adjustments`

    >>> from difffae.video.keyframes import Keyframes
    >>> keys = Keyframes.of({"curve": "linear", "keys": [{"time": 0, "yaw": 0}, {"time": 2, "yaw": 20}]})
    >>> keys.at(0.5).record()
    {'yaw': 5.0}
    """

    curves: Mapping[str, Curve]
    absolute: bool = False
    beyond_limit: bool = False

    @staticmethod
    def read(path: str | Path, rate: float = 25.0) -> Keyframes | tuple[Keyframes | None, ...]:
        """From a file, as `told`; rate: frames a second, for keys by frame. Raises ConfigError."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except ValueError as error:
            raise ConfigError(f"{path}: is not JSON ({error}); see docs/cli.md for an example") from error
        try:
            return Keyframes.told(data, rate)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @staticmethod
    def of(data: Any, rate: float = 25.0) -> Keyframes:
        """From what a file holds. Raises ConfigError for names, numbers and times that cannot be."""
        keys = data.get("keys") if isinstance(data, dict) else None
        if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
            raise ConfigError('keyframes: a list "keys" is needed, such as {"keys": [{"time": 0, "yaw": 0}, {"time": 1, "yaw": 15}]}')
        check_names("keyframes", data, ("keys", "curve", "absolute", "beyond_limit"))
        kind = data.get("curve", CURVES[0])
        check_names("curve", [kind], CURVES)
        found: dict[str, dict[float, float]] = {}
        for number, key in enumerate(keys):
            moment = _moment(key, number, rate)
            for name, value in _numbers(key, number).items():
                found.setdefault(name, {})[moment] = value
        if not found:
            raise ConfigError('keyframes: no key has a number; write some beside the time, such as {"time": 1, "yaw": 15}')
        rising = {name: dict(sorted(points.items())) for name, points in found.items()}
        curves = {name: Curve(tuple(points), tuple(points.values()), kind) for name, points in rising.items()}
        result = Keyframes(curves, bool(data.get("absolute", False)), bool(data.get("beyond_limit", False)))
        for moment in sorted({time for points in found.values() for time in points}):
            result.at(moment)  # says which number is out of its range
        return result

    @staticmethod
    def of_faces(data: Any, rate: float = 25.0) -> tuple[Keyframes | None, ...]:
        """From a list with one entry for each face, the largest first, and null for a face that stays as it is. Raises ConfigError as `of`,
        and for a list that changes no face."""
        if not isinstance(data, list) or all(one is None for one in data):
            raise ConfigError("keyframes: the list changes no face; give each face an object with keys, or null, the largest face first")
        found: list[Keyframes | None] = []
        for number, one in enumerate(data):
            try:
                found.append(None if one is None else Keyframes.of(one, rate))
            except ConfigError as error:
                raise ConfigError(f"face {number}: {error}") from error
        return tuple(found)

    @staticmethod
    def told(data: Any, rate: float = 25.0) -> Keyframes | tuple[Keyframes | None, ...]:
        """What a file holds: keyframes for every face alike, or a list, as `of_faces`. Raises ConfigError."""
        return Keyframes.of_faces(data, rate) if isinstance(data, list) else Keyframes.of(data, rate)

    @property
    def duration(self) -> float:
        """Seconds to the last key."""
        return max(curve.times[-1] for curve in self.curves.values())

    def at(self, time: float) -> Adjustments:
        """What to change at a moment in seconds."""
        values: dict[str, Any] = {name: curve.at(time) for name, curve in self.curves.items()}
        return Adjustments(absolute=self.absolute, beyond_limit=self.beyond_limit, **values)

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        curves = {name: [list(curve.times), list(curve.values), curve.kind] for name, curve in sorted(self.curves.items())}
        return {"curves": curves, "absolute": self.absolute, "beyond_limit": self.beyond_limit}


def by_face(told: Keyframes | Sequence[Keyframes | None], faces: Sequence[int] | None = None) -> dict[int, Keyframes | None]:
    """Which keyframes each face has.

    Args:
        told: for every face alike, or one entry for each, the largest first.
        faces: the faces that are meant, 0 is the largest. None: those that a list has keyframes for, else the largest.

    Raises:
        ConfigError: a list has keyframes for a face that is not meant.

    >>> from difffae.video.keyframes import Keyframes, by_face
    >>> nod = Keyframes.of({"keys": [{"time": 0, "pitch": 5}]})
    >>> {face: one is nod for face, one in by_face([None, nod], [0, 1]).items()}
    {0: False, 1: True}
    """
    if isinstance(told, Keyframes):
        return dict.fromkeys([0] if faces is None else faces, told)
    listed = {face: one for face, one in enumerate(told) if one is not None}
    meant = list(listed) if faces is None else faces
    for face in listed:
        if face not in meant:
            known = ", ".join(map(str, meant))
            raise ConfigError(
                f"keyframes: the list has some for face {face}, but what moves is face {known}; name it, too, or write null there"
            )
    return {face: listed.get(face) for face in meant}


def _moment(key: Mapping[str, Any], number: int, rate: float) -> float:
    """When a key is, in seconds."""
    given = [name for name in ("time", "frame") if name in key]
    if len(given) != 1:
        raise ConfigError(f'keyframes: key {number} needs one of "time" (seconds) and "frame"')
    value = key[given[0]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"keyframes: {given[0]} {value!r} of key {number} is no moment; write a number from 0 on")
    return value if given[0] == "time" else value / rate


def _numbers(key: Mapping[str, Any], number: int) -> dict[str, float]:
    """What a key sets; a preset's or viseme's numbers first, what is named on top."""
    result: dict[str, float] = {}
    for word, known in WORDS.items():
        if word in key:
            check_names(word, [key[word]], known)
            # shapes of speech follow one another, so one takes the last one's numbers back
            result |= dict.fromkeys(MOUTH, 0.0) if word == "viseme" else {}
            result |= known[key[word]]
    named = {name: value for name, value in key.items() if name not in ("time", "frame", *WORDS)}
    check_names(f"keyframes, key {number}", named, NAMES)
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"keyframes: {name} of key {number} is {value!r}; write a number such as 0.5")
    return result | {name: float(value) for name, value in named.items()}
