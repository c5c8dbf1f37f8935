"""Progress of a loop: a bar on a terminal, or a line of text every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def track(
    iterable: Iterable[T],
    total: int | None = None,
    initial: int = 0,
    unit: str = "photo",
    stream: Any = None,
    every: float = 15,
    figure: Callable[[], str] | None = None,
    size: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Yield from ``iterable`` while showing how far it is, its rate and the time left.

    Args:
        total: number of all units, including the ``initial`` ones done in an earlier run.
        every: seconds between two lines of text, if ``stream`` (stderr) is not a terminal.
        figure: gives a text to show too, such as the current loss; called once a second at most.
        size: how many units an item is, such as the photos of a portion; None: each is one.
    """
    stream = stream or sys.stderr
    if total is None and hasattr(iterable, "__len__"):
        total = initial + len(iterable)  # type: ignore[arg-type]
    size = size or _one
    if stream.isatty():
        from tqdm import tqdm

        with tqdm(total=total, initial=initial, unit=unit, leave=False, file=stream) as bar:
            yield from _with_figure(iterable, bar, size, figure)
    else:
        yield from _plain(iterable, total, initial, unit, stream, every, figure, size)


def _one(_: Any) -> int:
    return 1


def _with_figure(
    iterable: Iterable[T], bar: Any, size: Callable[[T], int], figure: Callable[[], str] | None
) -> Iterator[T]:
    shown = 0.0
    for item in iterable:
        yield item
        bar.update(size(item))
        if figure and time.monotonic() - shown >= 1:  # figure() may wait for a GPU
            bar.set_postfix_str(figure(), refresh=False)
            shown = time.monotonic()


def _plain(
    iterable: Iterable[T],
    total: int | None,
    done: int,
    unit: str,
    stream: Any,
    every: float,
    figure: Callable[[], str] | None,
    size: Callable[[T], int],
) -> Iterator[T]:
    began = said = time.monotonic()
    first = done
    for item in iterable:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - said >= every:
            rate = (done - first) / (now - began)
            left = f", {duration((total - done) / rate)} left" if total else ""
            of = f"/{total}" if total else ""
            also = f", {figure()}" if figure else ""
            print(f"  {done}{of} {unit}s, {rate:.2g}/s{left}{also}", file=stream, flush=True)
            said = now


def duration(seconds: float) -> str:
    """A number of seconds as text.

    >>> duration(3.21), duration(75), duration(7320)
    ('3.2 s', '1 min 15 s', '2 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
