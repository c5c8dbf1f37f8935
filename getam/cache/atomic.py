"""Writing files so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from . import faults
from .errors import CacheError

Item = TypeVar("Item")
Result = TypeVar("Result")

TEMPORARY = ".tmp-"
READERS = 8  # threads: reading waits for the disk more than for the processor
BRIEF = 3e-4  # seconds; what an item takes if its file is in memory
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_FLUSH = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
_NO_FLUSH += (errno.EACCES, errno.EPERM, errno.EISDIR)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)

# Coarsest timestamps in use (FAT). A file that changed this recently may change again without its
# timestamps showing it, so nothing is remembered about it.
SETTLED_NS = 2_000_000_000


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it becomes `path`, durably.

    The content is flushed to the disk before the rename and the rename before the return. If the
    block raises, the temporary file is removed and `path` is as it was. The temporary name keeps
    the suffix, which some libraries take the format from.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_write(path) as temporary:
    ...     _ = temporary.write_text("done")
    >>> path.read_text()
    'done'
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}{path.suffix}")
    try:
        faults.point("write.begin")
        yield temporary
        faults.point("write.filled")
        sync(temporary)
        faults.point("write.synced")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
    faults.point("write.placed")


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """`atomic_write` of `content`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_json(path: str | Path, value: Any) -> None:
    """`atomic_write` of `value` as indented JSON (UTF-8; TypeError where JSON cannot hold it)."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    atomic_write_bytes(path, (text + "\n").encode())


def sync(path: str | Path) -> None:
    """Flush a file or a folder to the disk. Some disks refuse to flush folders: there it is left
    to the disk when a name is on it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH or not os.path.isdir(path):
            raise


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int = READERS
) -> list[Result]:
    """``[function(item) for item in items]``, by several threads if an item takes long.

    The threads wait for the disk at the same time. Files that are in memory are faster without
    them: then handing over from thread to thread takes longer than reading. So this thread begins
    alone, and goes on alone while an item takes less than ``BRIEF`` seconds.
    """
    done, slow = [], 0
    while len(done) < len(items) and slow < 2:  # the first item may also import something
        began, some = time.perf_counter(), items[len(done) : len(done) + min(16, 1 + len(done))]
        done += [function(item) for item in some]
        slow = slow + 1 if time.perf_counter() - began > BRIEF * len(some) else 0
    rest = items[len(done) :]
    if not rest:
        return done
    from concurrent.futures import ThreadPoolExecutor

    slices = [rest[start : start + 16] for start in range(0, len(rest), 16)]
    with ThreadPoolExecutor(threads) as pool:
        for results in pool.map(lambda some: [function(item) for item in some], slices):
            done += results
    return done


def identity(stat: os.stat_result) -> str:
    """What tells a file's content from another without reading it.

    Size, mtime and inode; the device because inodes repeat on others, and the ctime because a
    program can set the mtime back but not the ctime.
    """
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def settled(stat: os.stat_result, now_ns: int | None = None) -> bool:
    """Whether a later change would surely show in the timestamps of the file."""
    now = time.time_ns() if now_ns is None else now_ns
    return all(abs(now - stamp) > SETTLED_NS for stamp in (stat.st_mtime_ns, stat.st_ctime_ns))


@contextmanager
def disk_errors(doing: str, folder: Path) -> Iterator[None]:
    """Turn a full or write-protected disk into one sentence; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(doing, folder) from error
        if error.errno in _FORBIDDEN:
            raise CacheError(
                f"{error.filename or folder} cannot be written while {doing} ({error.strerror}): "
                "give write permission or choose another artifacts folder"
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, or one that led to it, says that the disk or the quota is full.

    Some libraries lose the number of the error and keep the text.
    """
    texts = tuple(os.strerror(number) for number in _FULL)
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError) and current.errno in _FULL:
            return True
        if any(text in str(current) for text in texts):
            return True
        current = current.__cause__ or current.__context__
    return False


def disk_full(doing: str, folder: Path) -> CacheError:
    """The sentence for a full disk."""
    import shutil

    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return CacheError(
        f"No space left while {doing} in {folder} ({free / 2**20:.0f} MiB free): free some space "
        "(gc drops what no named run uses), then run again; finished artifacts are intact and "
        "the stage goes on from what it has"
    )
