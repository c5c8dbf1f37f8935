"""Some of many photos, to look at or to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(items: Sequence[T], count: int) -> list[T]:
    """``count`` of the items at equal distances, the first one among them; all if there are fewer.

    >>> evenly([0, 1, 2, 3, 4, 5, 6], 3), evenly([0, 1], 3)
    ([0, 2, 4], [0, 1])
    """
    taken = min(count, len(items))
    return [items[n * len(items) // taken] for n in range(taken)]
