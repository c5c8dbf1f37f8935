"""Content digests of files, remembered so that an unchanged file is never read twice."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from .atomic import identity, in_threads, settled
from .checked import read_checked, write_checked
from .errors import CacheError

AnyPath = TypeVar("AnyPath", str, Path)

_BUFFER = 1 << 20
_REMEMBERED = 50_000  # files kept in the memory beyond those in use, the latest


class _Hashed(NamedTuple):
    identity: str
    digest: str
    settled: bool


class FileDigests:
    """SHA-256 digests of files, remembered in the file `memory` (None: only in this process).

    A file is known again by device, inode, size, mtime and ctime, whatever its path: a renamed or
    moved file is not read again, a rewritten one is, also when its mtime was set back. Files that
    changed in the last two seconds are not remembered, since another change could go unseen.
    The memory is written by `save` alone; a damaged one is ignored.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_bytes(b"abc")
    >>> FileDigests(None).digest([path])[path][:8]
    'ba7816bf'
    """

    def __init__(self, memory: Path | None) -> None:
        self._memory = memory
        self._known: dict[str, str] | None = None
        self._used: dict[str, str] = {}
        self._changed = False

    def digest(self, paths: Iterable[AnyPath], *, reread: bool = False) -> dict[AnyPath, str]:
        """Path -> digest (64 hex digits), in the given order.

        `reread` reads every file whatever is remembered. Raises CacheError naming the file if one
        cannot be read or changes while it is read.
        """
        paths = list(paths)
        digests = {} if reread else self._known_of(paths)
        unread = [path for path in paths if path not in digests]
        for path, hashed in zip(unread, in_threads(_hash, unread)):
            digests[path] = hashed.digest
            self._remember(hashed)
        return {path: digests[path] for path in paths}

    def remembered(self, stat: os.stat_result) -> str | None:
        """The digest of the file with this `stat`, if it is known without reading."""
        name = identity(stat)
        digest = self._load().get(name)
        if digest is not None:
            self._used[name] = digest
        return digest

    def save(self) -> None:
        """Write what was learnt; nothing if nothing was, or if the folder is write-protected."""
        if not self._changed or self._memory is None or write_protected(self._memory):
            return
        known = self._load()
        unused = [name for name in known if name not in self._used][-_REMEMBERED:]
        merged = {name: known[name] for name in unused} | self._used
        write_checked(self._memory, "\n".join(map(" ".join, merged.items())).encode())
        self._changed = False

    def _known_of(self, paths: list[AnyPath]) -> dict[AnyPath, str]:
        digests = {}
        for path in paths:
            try:
                stat = os.stat(path)
            except OSError as error:
                raise unreadable(path, error) from error
            if digest := self.remembered(stat):
                digests[path] = digest
        return digests

    def _remember(self, hashed: _Hashed) -> None:
        if hashed.settled:
            self._load()[hashed.identity] = self._used[hashed.identity] = hashed.digest
            self._changed = True

    def _load(self) -> dict[str, str]:
        if self._known is None:
            body = (read_checked(self._memory) if self._memory else None) or b""
            self._known = dict(line.rsplit(" ", 1) for line in body.decode().splitlines())
        return self._known


def digest_of(path: str | Path) -> str:
    """The digest of a file, read now. Raises CacheError as `FileDigests.digest` does."""
    return _hash(path).digest


def _hash(path: str | Path) -> _Hashed:
    started = time.time_ns()
    state = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            buffer = memoryview(bytearray(min(before.st_size + 1, _BUFFER)))
            while count := file.readinto(buffer):
                state.update(buffer[:count])
            after = os.fstat(file.fileno())
    except OSError as error:
        raise unreadable(path, error) from error
    if identity(before) != identity(after):
        raise CacheError(f"{path} changed while it was read: wait until it is complete, run again")
    return _Hashed(identity(before), state.hexdigest(), settled(before, started))


def unreadable(path: str | Path, error: OSError) -> CacheError:
    """The sentence for a file that is there and cannot be read, or is gone."""
    return CacheError(f"{path} cannot be read ({error.strerror}): put it back or mend its rights")


def write_protected(path: Path) -> bool:
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    return not os.access(folder, os.W_OK)
