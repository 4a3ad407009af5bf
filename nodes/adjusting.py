"""Attributes changed by sliders: what DiffFAE Adjust Attributes and its live preview share. B frames."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..difffae.common.errors import ConfigError
from ..difffae.head.adjust import Adjustments, adjust
from ..difffae.head.attributes import FaceAttributes, compose_each
from ..difffae.head.axes import AXES, COEFFICIENTS, NO_PRESET, check_names
from ..difffae.vocabulary import TAKEABLE

log = logging.getLogger(__name__)


def adjusted(
    attributes: FaceAttributes, values: Mapping[str, Any], expression_names: Sequence[str], tell: Callable[[str], None] = log.warning
) -> FaceAttributes:
    """Attributes with the values of the node's widgets; all at their defaults: the same object.

    `pasted` is JSON of other attributes, whose pose, expression and light are taken first; then `preset` and the sliders count. Sliders
    at 0 change nothing, unless `absolute` sets head and expression to the sliders; the light ones count only if `relight` is on, and
    those that a saved prompt does not name, not at all. `tell` is called for turns that were limited. Raises ConfigError.
    """
    pasted = str(values.get("pasted") or "").strip()
    if pasted:
        other = FaceAttributes.from_json(pasted)
        attributes = compose_each(attributes, dict.fromkeys(TAKEABLE, (other, 1.0)))
    absolute = bool(values.get("absolute", False))
    numbers: dict[str, float] = {}
    for axis in AXES:
        if axis.name not in values:
            continue
        value = float(values[axis.name])
        if values.get("relight", False) if axis.group == "light" else absolute or value != 0:
            numbers[axis.name] = value
    preset = values.get("preset", NO_PRESET)
    numbers |= coefficients(str(values.get("coefficients") or ""))
    change = Adjustments(
        preset=None if preset == NO_PRESET else preset,
        absolute=absolute,
        beyond_limit=bool(values.get("beyond_limit", False)),
        **numbers,
    )
    return adjust(attributes, change, expression_names, tell)


def coefficients(text: str) -> dict[str, float]:
    """The node's JSON of ARKit coefficients. Raises ConfigError."""
    if not text.strip():
        return {}
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f'coefficients: is not JSON ({error}); write such as {{"jawForward": 0.3}}') from error
    if not isinstance(values, dict):
        raise ConfigError('coefficients: is JSON, but not of names and numbers; write such as {"jawForward": 0.3}')
    check_names("coefficients", values, COEFFICIENTS)
    return dict(Adjustments.from_record(values).numbers)
