"""Batches that go together: a batch of one serves any number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from .errors import ImageError


def common_batch(sizes: Mapping[str, int]) -> int:
    """The number of rows of inputs that must go together.

    Args:
        sizes: name of an input -> its number of rows.

    Raises:
        ImageError: two inputs have different numbers of rows, neither of them 1; it names both.
    """
    longest = max(sizes, key=lambda name: sizes[name])
    for name, size in sizes.items():
        if size not in (1, sizes[longest]):
            raise ImageError(f"{name}: has {size} frames, but {longest} has {sizes[longest]}; give 1, or as many")
    return sizes[longest]


def expanded(values: Tensor, batch: int) -> Tensor:
    """(B or 1,...) -> (batch,...), without a copy."""
    return values if len(values) == batch else values.expand(batch, *values.shape[1:])


def slices(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows that cover `count` rows."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
