"""Gathers items that can be computed together, such as photos of one size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def groups_of_alike(
    items: Iterable[Item],
    kind: Callable[[Item], Hashable],
    cost: Callable[[Item], int],
    most: int,
    waiting: int,
) -> Iterator[list[Item]]:
    """Lists of items of one kind; each item is in one list.

    A list is given out as soon as the next item of its kind would bring its cost above ``most``. An
    item that costs more alone has a list of its own. If all lists that wait for more items cost
    more than ``waiting``, the one that has waited longest is given out as it is.

    >>> [*groups_of_alike("aBAbacb", str.lower, lambda item: 1, most=3, waiting=9)]
    [['a', 'A', 'a'], ['B', 'b', 'b'], ['c']]
    >>> [*groups_of_alike("abcdab", str.lower, lambda item: 1, most=9, waiting=2)]
    [['a'], ['b'], ['c'], ['d'], ['a'], ['b']]
    >>> [*groups_of_alike("abaa", str.lower, lambda item: 1, most=9, waiting=2)]
    [['a', 'a'], ['b'], ['a']]
    """
    open_groups: dict[Hashable, list[Item]] = {}
    costs: dict[Hashable, int] = {}

    def close(key: Hashable) -> list[Item]:
        del costs[key]
        return open_groups.pop(key)

    for item in items:
        key, price = kind(item), cost(item)
        if key in costs and costs[key] + price > most:
            yield close(key)
        open_groups.setdefault(key, []).append(item)
        costs[key] = costs.get(key, 0) + price
        while sum(costs.values()) > waiting and len(costs) > 1:
            yield close(next(iter(costs)))
        if costs.get(key, 0) >= most:
            yield close(key)
    yield from open_groups.values()
