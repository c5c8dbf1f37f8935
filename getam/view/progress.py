"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def track(
    iterable: Iterable[T],
    total: int | None = None,
    initial: int = 0,
    unit: str = "image",
    stream: Any = None,
    every: float = 15,
) -> Iterator[T]:
    """Yield from ``iterable`` while showing how far it is, its rate and the time left.

    Args:
        total: of all items, those done in an earlier run (``initial``) included.
        every: seconds between plain lines where ``stream`` (stderr) is not a terminal.
    """
    stream = stream or sys.stderr
    if total is None and hasattr(iterable, "__len__"):
        total = initial + len(iterable)  # type: ignore[arg-type]
    if stream.isatty():
        from tqdm import tqdm

        yield from tqdm(iterable, total=total, initial=initial, unit=unit, leave=False, file=stream)
    else:
        yield from _plain(iterable, total, initial, unit, stream, every)


def _plain(
    iterable: Iterable[T], total: int | None, done: int, unit: str, stream: Any, every: float
) -> Iterator[T]:
    began = said = time.monotonic()
    first = done
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - said >= every:
            rate = (done - first) / (now - began)
            left = f", {duration((total - done) / rate)} left" if total else ""
            of = f"/{total}" if total else ""
            print(f"  {done}{of} {unit}s, {rate:.2g}/s{left}", file=stream, flush=True)
            said = now


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(3.21), duration(75), duration(7320)
    ('3.2 s', '1 min 15 s', '2 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
