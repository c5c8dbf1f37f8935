"""Locks between processes; the system frees one when the process that holds it dies."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import disk_errors
from .errors import CacheError

_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


@contextmanager
def lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, which is created and stays.

    If another process has it, `on_wait` is called once and the lock waited for; without
    `on_wait`, False is yielded at once and the lock is not held.

    Raises CacheError on a disk that has no locks: a replacement for them would outlive its process.
    """
    from filelock import FileLock, Timeout

    file = FileLock(path)
    try:
        with disk_errors("locking an artifact", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            _require_locks(path.parent)
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
    """Whether a process holds the lock now. Writes nothing, not even the time of the lock file.

    Raises CacheError on a disk that has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _share(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _require_locks(folder: Path) -> None:
    """CacheError if the disk has none. Asked of a file that nobody wants for itself."""
    descriptor = os.open(folder / ".probe", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _share(descriptor, folder)
    finally:
        os.close(descriptor)


def _share(descriptor: int, folder: Path) -> bool:
    """Take a lock that may be shared; False if another process has the file for itself."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise CacheError(
            f"The disk of {folder} cannot lock files ({error.strerror}), so two runs could write "
            f"one artifact at the same time: set --artifacts to a folder on another disk"
        ) from error
    return True
