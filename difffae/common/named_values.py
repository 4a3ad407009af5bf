"""NAME=VALUE options, checked against what there is to set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from .errors import ConfigError

T = TypeVar("T")


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """["a=1", "b=text"] -> {"a": 1, "b": "text"}: values are JSON, or else plain text. Raises ConfigError."""
    result = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"'{pair}': not of the form NAME=VALUE; write for example minutes=60")
        try:
            result[name.replace("-", "_")] = json.loads(text)
        except json.JSONDecodeError:
            result[name.replace("-", "_")] = text
    return result


def checked(values: Mapping[str, Any], defaults: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The values as arguments: integers become floats, and lists tuples, where the default is one.

    Raises ConfigError, which begins with `what`, for names that have no default and for values of another type than theirs.
    """
    result = dict(values)
    for name, value in values.items():
        if name not in defaults:
            raise ConfigError(f"{what}: there is no option '{name}'; choose from {', '.join(defaults) or 'none'}")
        default = defaults[name]
        if isinstance(default, float) and type(value) is int:
            result[name] = float(value)
        elif isinstance(default, tuple) and isinstance(value, list):
            result[name] = tuple(value)
        elif isinstance(default, bool | int | float | str | tuple) and type(value) is not type(default):
            raise ConfigError(f"{what}: {name}={value!r} must be of type {type(default).__name__}, as in {name}={default!r}; correct it")
    return result


def build(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """An instance of a dataclass from some of its fields. Raises ConfigError as `checked` does."""
    return kind(**checked(values, {field.name: field.default for field in fields(kind)}, what))  # type: ignore[arg-type]
