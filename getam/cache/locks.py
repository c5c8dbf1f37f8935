"""Locks between processes; the system frees one when the process that holds it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import disk_errors


@contextmanager
def lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, which is created and stays.

    If another process has it, `on_wait` is called once and the lock waited for; without
    `on_wait`, False is yielded at once and the lock is not held.
    """
    from filelock import FileLock, Timeout

    file = FileLock(path)
    try:
        with disk_errors("locking an artifact", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            file.acquire(timeout=0)
    except Timeout:
        if on_wait is None:
            yield False
            return
        on_wait()
        file.acquire(poll_interval=0.1)
    try:
        yield True
    finally:
        file.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock now. Writes nothing, not even the time of the lock file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
