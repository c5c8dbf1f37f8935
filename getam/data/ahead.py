"""Reads photos ahead of the work on them, and writes results behind it, by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")


def read_ahead(
    read: Callable[[Item], Made],
    items: Iterable[Item],
    ahead: int,
    workers: int | Executor,
) -> Iterator[tuple[Item, Made]]:
    """(item, ``read(item)``) of each item, in their order, while threads read the next ones.

    ``read`` may also write: then ``items`` are made while threads write the ones before.

    Args:
        ahead: items that are read before they are asked for, at most; memory grows with it.
        workers: how many threads read, or the threads or processes themselves. Decoding releases
            Python's lock.

    Raises:
        Exception: what ``read`` raises, when its item is reached.

    >>> list(read_ahead(str, [1, 2, 3], ahead=2, workers=1))
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


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most ``size`` items, in their order.

    >>> list(batches(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


class Behind:
    """Calls functions one after the other in a thread, such as writing beside the computation.

    At most ``waiting`` calls wait; a further one waits until there is room. Leaving the context
    waits for all calls.

    Raises:
        Exception: what a call raised: at a later call, or on leaving.

    >>> with Behind(waiting=1) as behind:
    ...     behind(print, "written")
    written
    """

    def __init__(self, waiting: int = 2) -> None:
        self._thread, self._waiting = ThreadPoolExecutor(1), waiting
        self._calls: deque[Future[Any]] = deque()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        while len(self._calls) > self._waiting or (self._calls and self._calls[0].done()):
            self._calls.popleft().result()
        self._calls.append(self._thread.submit(function, *arguments))

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        for call in self._calls if kind is None else ():
            call.result()


def _pool(workers: int | Executor, most: int) -> AbstractContextManager[Executor]:
    """The workers. Threads that are made here end with the context; an executor stays open."""
    if isinstance(workers, int):
        return ThreadPoolExecutor(min(workers, most))
    return nullcontext(workers)
