"""Configuration files and NAME=VALUE options, checked against what there is to set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ..common.errors import ConfigError

T = TypeVar("T")
SECTIONS = ("training", "model")


def _read_config(path: str) -> dict[str, dict[str, Any]]:
    """The sections of a JSON file, {"training": {...}, "model": {...}}, both of them optional. Raises ConfigError."""
    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); check the path and its commas and quotes") from error
    if not isinstance(loaded, dict) or set(loaded) - set(SECTIONS) or not all(isinstance(part, dict) for part in loaded.values()):
        raise ConfigError(f"{path}: must be an object with the sections {' and '.join(SECTIONS)}; see docs/training.md")
    return loaded


def read_configs(names: Sequence[str], stage: str, training: Sequence[str], model: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the options of `train` say of a stage.

    Args:
        names: Presets of lab.training.presets and JSON files, each laid over those before it.
        stage: The stage that presets are asked about.
        training, model: NAME=VALUE options, laid over all of them.

    Returns:
        The training's options and the model's.

    Raises:
        ConfigError: For an unknown preset, an unreadable file, or an option of another form.
    """
    from ..lab.training.presets import NAMES, preset

    merged: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name in names:
        if name not in NAMES and not name.endswith(".json"):
            raise ConfigError(f"--config {name}: neither a .json file nor one of {', '.join(NAMES)}")
        part = preset(name, stage) if name in NAMES else _read_config(name)
        merged = {section: merged[section] | part.get(section, {}) for section in SECTIONS}
    return merged["training"] | parse_pairs(training), merged["model"] | parse_pairs(model)


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
