"""Reads photos ahead of the work on them, by threads, and writes results behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")

THREADS = 4  # decoding releases Python's lock


def read_ahead(
    read: Callable[[Item], Made],
    items: Iterable[Item],
    ahead: int,
    workers: int | Executor = THREADS,
) -> Iterator[tuple[Item, Made]]:
    """(item, ``read(item)``) of each item, in their order, while threads read the next ones.

    ``read`` may also write: then ``items`` are made while threads write the ones before.

    Args:
        ahead: items that are read before they are asked for, at most; memory grows with it.
        workers: how many threads read, or the threads or processes themselves.

    Raises:
        Exception: what ``read`` raises, when its item is reached.

    >>> list(read_ahead(str, [1, 2, 3], ahead=2))
    [(1, '1'), (2, '2'), (3, '3')]
    """
    items = iter(items)
    with _pool(workers, ahead) as pool:
        waiting: deque[tuple[Item, Future[Made]]] = deque()
        try:
            waiting += [(item, pool.submit(read, item)) for item in islice(items, ahead)]
            while waiting:
                item, future = waiting.popleft()
                made = future.result()
                waiting += [(one, pool.submit(read, one)) for one in islice(items, 1)]
                yield item, made
        finally:
            for _, future in waiting:
                future.cancel()


def _pool(workers: int | Executor, most: int) -> AbstractContextManager[Executor]:
    """The workers. Threads that are made here end with the context; an executor stays open."""
    if isinstance(workers, int):
        return ThreadPoolExecutor(min(workers, most))
    return nullcontext(workers)
