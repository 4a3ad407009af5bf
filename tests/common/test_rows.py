"""Dataclasses of tensors: rows of them, and what is worked out later."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difffae.common.rows import Later, map_tensors, repeat_rows


@dataclass(frozen=True, eq=False)
class Inner:
    values: Tensor


@dataclass(frozen=True, eq=False)
class Outer:
    own: Tensor
    inner: Inner
    later: Later[Inner | None]
    name: str = "kept"


def test_what_is_worked_out_later_is_worked_out_once_for_all_rows():
    asked = []

    def work() -> Inner:
        asked.append(1)
        return Inner(torch.arange(3.0)[None])

    outer = Outer(torch.ones(1, 2), Inner(torch.zeros(1, 4)), Later(work))
    repeated = repeat_rows(outer, 5)
    first = map_tensors(repeated, lambda tensor: tensor[:1] + 1)
    assert not asked
    assert torch.equal(repeated.later.value.values, torch.arange(3.0).expand(5, 3))
    assert torch.equal(first.later.value.values, torch.tensor([[1.0, 2.0, 3.0]]))
    assert torch.equal(outer.later.value.values, torch.arange(3.0)[None])
    assert len(asked) == 1
    assert (repeated.own.shape, repeated.inner.values.shape, first.own.max(), first.name) == ((5, 2), (5, 4), 2, "kept")
    assert map_tensors(Outer(outer.own, outer.inner, Later(lambda: None)), torch.neg).later.value is None
