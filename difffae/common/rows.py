"""Dataclasses of tensors whose first dimension is the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

State = TypeVar("State")


def map_tensors(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The same dataclass with a function applied to every tensor in it and in the dataclasses it holds."""
    if not is_dataclass(state) or isinstance(state, type):
        return state
    changed: dict[str, Any] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        changed[field.name] = function(value) if isinstance(value, Tensor) else map_tensors(value, function)
    return replace(state, **changed)  # type: ignore[type-var]


def repeat_rows(state: State, batch: int) -> State:
    """A dataclass of one row, its tensors repeated `batch` times as views."""
    return map_tensors(state, lambda tensor: tensor.expand(batch, *tensor.shape[1:]))
