"""Dataclasses of tensors whose first dimension is the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from torch import Tensor

State = TypeVar("State")


class Later(Generic[State]):
    """A dataclass of tensors that is worked out when it is first asked for, and kept; so are its rows, of the same work."""

    def __init__(self, work: Callable[[], State]) -> None:
        self._work = work

    @cached_property
    def value(self) -> State:
        return self._work()


def map_tensors(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The same dataclass with a function applied to every tensor in it and in the dataclasses it holds."""
    if not is_dataclass(state) or isinstance(state, type):
        return state
    changed: dict[str, Any] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Later):
            changed[field.name] = _later(value, function)
        else:
            changed[field.name] = function(value) if isinstance(value, Tensor) else map_tensors(value, function)
    return replace(state, **changed)  # type: ignore[type-var]


def _later(whole: Later[State], function: Callable[[Tensor], Tensor]) -> Later[State]:
    return Later(lambda: map_tensors(whole.value, function))


def repeat_rows(state: State, batch: int) -> State:
    """A dataclass of one row, its tensors repeated `batch` times as views."""
    return map_tensors(state, lambda tensor: tensor.expand(batch, *tensor.shape[1:]))
