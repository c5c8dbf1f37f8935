"""Reads photos ahead of the work on them, by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")

THREADS = 4  # decoding releases Python's lock


def read_ahead(
    read: Callable[[Item], Made], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Made]]:
    """(item, ``read(item)``) of each item, in their order, while threads read the next ones.

    Args:
        ahead: items that are read before they are asked for, at most; memory grows with it.

    Raises:
        Exception: what ``read`` raises, when its item is reached.

    >>> list(read_ahead(str, [1, 2, 3], ahead=2))
    [(1, '1'), (2, '2'), (3, '3')]
    """
    items = iter(items)
    with ThreadPoolExecutor(min(THREADS, ahead)) as threads:
        waiting: deque[tuple[Item, Future[Made]]] = deque()
        try:
            waiting += [(item, threads.submit(read, item)) for item in islice(items, ahead)]
            while waiting:
                item, future = waiting.popleft()
                made = future.result()
                waiting += [(one, threads.submit(read, one)) for one in islice(items, 1)]
                yield item, made
        finally:
            for _, future in waiting:
                future.cancel()
