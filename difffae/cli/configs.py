"""Configuration files and NAME=VALUE options, checked against a dataclass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ..common.errors import ConfigError

T = TypeVar("T")
SECTIONS = ("training", "model")


def read_config(path: str | None, training: Sequence[str], model: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file's sections with the NAME=VALUE options laid over them. Raises ConfigError."""
    data: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    if path is not None:
        try:
            loaded = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as JSON ({error}); check the path and its commas and quotes") from error
        if not isinstance(loaded, dict) or set(loaded) - set(SECTIONS) or not all(isinstance(part, dict) for part in loaded.values()):
            raise ConfigError(f"{path}: must be an object with the sections {' and '.join(SECTIONS)}; see docs/training.md")
        data |= loaded
    return data["training"] | parse_pairs(training), data["model"] | parse_pairs(model)


def read_configs(names: Sequence[str], stage: str, training: Sequence[str], model: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Presets of training.presets and JSON files, each laid over those before it, then the NAME=VALUE options. Raises ConfigError."""
    from ..lab.training.presets import NAMES, preset

    merged: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name in names:
        if name not in NAMES and not name.endswith(".json"):
            raise ConfigError(f"--config {name}: neither a .json file nor one of {', '.join(NAMES)}")
        part = preset(name, stage) if name in NAMES else dict(zip(SECTIONS, read_config(name, [], []), strict=True))
        merged = {section: merged[section] | part.get(section, {}) for section in SECTIONS}
    return merged["training"] | parse_pairs(training), merged["model"] | parse_pairs(model)


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """["a=1", "b=text"] -> {"a": 1, "b": "text"}: values are JSON, or else plain text."""
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


def build(kind: type[T], values: dict[str, Any], what: str) -> T:
    """An instance of a dataclass; unknown names and values of another type raise ConfigError."""
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in defaults:
            raise ConfigError(f"{what}: there is no option '{name}'; choose from {', '.join(defaults)}")
        default = defaults[name]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            values = values | {name: float(value)}
        elif isinstance(default, tuple) and isinstance(value, list):
            values = values | {name: tuple(value)}
        elif isinstance(default, bool | int | float | str | tuple) and type(value) is not type(default):
            raise ConfigError(f"{what}: {name}={value!r} must be of type {type(default).__name__}, as in {name}={default!r}; correct it")
    return kind(**values)
