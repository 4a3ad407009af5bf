"""Attributes changed by sliders: what DiffFAE Adjust Attributes and its live preview share. B frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..difffae.head.adjust import Adjustments, adjust
from ..difffae.head.attributes import FaceAttributes, compose_each
from ..difffae.vocabulary import TAKEABLE

HEAD = ("yaw", "pitch", "roll")
EXPRESSION = ("smile", "jaw_open", "blink", "brow_up", "gaze_x", "gaze_y")
LIGHT = ("light_azimuth", "light_elevation", "light_strength")


def adjusted(attributes: FaceAttributes, values: Mapping[str, Any], expression_names: Sequence[str]) -> FaceAttributes:
    """Attributes with the values of the node's widgets; all at their defaults: the same object.

    `pasted` is JSON of other attributes, whose pose, expression and light are taken first; then the sliders count. Sliders at 0 change
    nothing, unless `absolute` sets head and expression to the sliders; the light ones count only if `relight` is on. Raises ConfigError.
    """
    pasted = str(values.get("pasted") or "").strip()
    if pasted:
        other = FaceAttributes.from_json(pasted)
        attributes = compose_each(attributes, dict.fromkeys(TAKEABLE, (other, 1.0)))
    absolute = bool(values.get("absolute", False))
    wanted = {name: float(values.get(name, 0.0)) for name in (*HEAD, *EXPRESSION)}
    numbers = {name: value for name, value in wanted.items() if absolute or value != 0}
    if values.get("relight", False):
        numbers |= {name: float(values[name]) for name in LIGHT if name in values}
    return adjust(attributes, Adjustments(absolute=absolute, **numbers), expression_names)
