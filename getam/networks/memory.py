"""What happens to memory that is freed: it goes back to the system at once, or it is kept."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt in malloc.h
_LARGE = 1 << 20  # bytes
_USUAL = 32 << 20  # the highest threshold that glibc itself would choose
_USUAL_TRIM, _NEVER = 128 << 10, (1 << 31) - 1  # free bytes at the end that go back


@contextmanager
def large_arrays_given_back() -> Iterator[None]:
    """A context in which the memory of an array of a megabyte or more goes back when it is freed.

    The allocator of Linux (glibc) would keep up to 32 MB for each size and thread. Where other
    processes need the memory, that is much. On other systems the context changes nothing.
    """
    _set(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        _set(_MMAP_THRESHOLD, _USUAL)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A context in which freed arrays of at most 32 MB stay with the process, for the next ones.

    A training step takes and frees the same arrays as the step before. Getting them from the system
    each time takes a tenth of the time of a small network. On other systems the context changes
    nothing.
    """
    _set(_MMAP_THRESHOLD, _USUAL)
    _set(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        _set(_TRIM_THRESHOLD, _USUAL_TRIM)
        libc = _glibc()
        if libc is not None:
            libc.malloc_trim(0)


def _set(option: int, value: int) -> None:
    libc = _glibc()
    if libc is not None:
        libc.mallopt(option, value)


def _glibc() -> ctypes.CDLL | None:
    """The C library of Linux, if it has these calls; musl has none."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
