"""Gives memory back to the system as soon as it is free."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD = -3  # of mallopt in malloc.h
_LARGE = 1 << 20  # bytes
_USUAL = 32 << 20  # the highest threshold that glibc itself would choose


@contextmanager
def large_arrays_given_back() -> Iterator[None]:
    """A context in which the memory of an array of a megabyte or more goes back when it is freed.

    The allocator of Linux (glibc) would keep up to 32 MB for each size and thread. Where other
    processes need the memory, that is much. On other systems the context changes nothing.
    """
    _set_threshold(_LARGE)
    try:
        yield
    finally:
        _set_threshold(_USUAL)


def _set_threshold(size: int) -> None:
    """Blocks of at least so many bytes get memory of their own from the system."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, size)
