"""Pieces: the finished files of a stage that is still being made, each known by its digest.

A stage that is called again goes on from the pieces that earlier attempts finished. Before that,
every piece is read again; what is not what was written, or was not finished, is removed.

Each attempt has a folder of its own, ``scratch/.attempt-XXXX``. Pieces are filled there, their
digests are noted there, and then they get their place. When the next attempt begins, it renames
that folder: a process that an earlier attempt left behind can place nothing from then on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from . import faults
from .atomic import atomic_write_bytes, in_threads, sync
from .errors import CacheError
from .file_digests import digest_of
from .folders import files_of, keep_only, remove
from .stage import SCRATCH

_ATTEMPT = ".attempt-"
_OVER = ".over"  # the folder of an attempt once another one has begun
_NOTES = ".notes"  # of a process: a line of JSON, [name, digest], per piece
_KEPT = "kept" + _NOTES  # those of earlier attempts that are whole


class Pieces:
    """The pieces in the working `folder` of a stage. Travels to other processes.

    Make one with `begin`. Paths may be given absolute, or relative to the working directory.
    """

    def __init__(self, folder: Path, attempt: Path) -> None:
        self.folder, self._attempt = folder, attempt

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_attempt": self._attempt}

    def has(self, path: Path) -> bool:
        """Whether an earlier attempt finished this file; it was whole when this one began."""
        return self._name(path) in self._kept

    @contextmanager
    def write(self, path: Path, *, flush: bool = False) -> Iterator[Path]:
        """Yield a temporary path to write to; on success it becomes the piece `path`.

        A kill leaves the former file or the new one. So does a power cut with `flush`; without it,
        a file that had not reached the disk is found out by its digest and made again. The
        temporary name keeps the suffix, which some libraries take the format from.
        """
        name = self._name(path)
        temporary = self._attempt / f"{os.getpid()}-{os.urandom(4).hex()}{path.suffix}"
        try:
            faults.point("piece.begin")
            yield temporary
            faults.point("piece.filled")
            self._note(name, digest_of(temporary), flush)
            # Noted first: the file there is always one of those noted, the former or the new one.
            faults.point("piece.noted")
            path.parent.mkdir(parents=True, exist_ok=True)
            if flush:
                sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if flush:
            sync(path.parent)
        faults.point("piece.placed")

    def _name(self, path: Path) -> str:
        return path.absolute().relative_to(self.folder).as_posix()

    def _note(self, name: str, digest: str, flush: bool) -> None:
        line = json.dumps([name, digest]) + "\n"
        notes = self._attempt / f"{os.uname().nodename}-{os.getpid()}{_NOTES}"
        descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        if flush:
            sync(notes)
            sync(self._attempt)

    @cached_property
    def _kept(self) -> frozenset[str]:
        return frozenset(_noted([self._attempt / _KEPT]))


def begin(folder: Path) -> Pieces:
    """Begin an attempt in the working `folder`, which is made if it is missing.

    Removed are pieces that are not what was written, and everything that is no piece.
    """
    folder = folder.absolute()
    scratch = folder / SCRATCH
    for path in (folder, scratch):
        if path.is_symlink() or not path.is_dir():
            remove(path)
        path.mkdir(parents=True, exist_ok=True)
    over = _end_attempts(scratch)
    faults.point("pieces.fenced")
    whole = _whole(folder, notes_of(folder))
    keep_only(folder, {*whole, *(f"{SCRATCH}/{path.name}" for path in over)})
    faults.point("pieces.cleaned")
    attempt = scratch / f"{_ATTEMPT}{os.urandom(8).hex()}"
    attempt.mkdir(parents=True)
    lines = "".join(json.dumps(pair) + "\n" for pair in whole.items())
    atomic_write_bytes(attempt / _KEPT, lines.encode())
    faults.point("pieces.begun")
    sync(scratch)
    for path in over:
        remove(path)
    return Pieces(folder, attempt)


def notes_of(folder: Path) -> dict[str, set[str]]:
    """The digests that were noted in a working folder: name of each piece -> those it had."""
    attempts = (folder / SCRATCH).glob(f"{_ATTEMPT}*")
    return _noted([path for attempt in sorted(attempts) for path in attempt.glob(f"*{_NOTES}")])


def check(folder: Path, digests: Mapping[str, str]) -> None:
    """CacheError if a piece in a working folder is not what was written. `digests` are those of
    files that were read just now; the others are read here."""
    for name, noted in notes_of(folder).items():
        path = folder / name
        if (digests.get(name) or _digest(path)) not in noted:
            raise CacheError(
                f"{path} is not what the stage wrote: the disk, or another program, changed it. "
                f"Run again: this file is then made anew, and the others are kept"
            )


def _end_attempts(scratch: Path) -> list[Path]:
    """Rename the folders of earlier attempts, which are returned."""
    over = []
    for path in sorted(scratch.glob(f"{_ATTEMPT}*")):
        if path.is_symlink() or not path.is_dir():
            continue
        if path.suffix != _OVER:
            path = path.rename(path.with_name(path.name + _OVER))
        over.append(path)
    return over


def _noted(files: list[Path]) -> dict[str, set[str]]:
    """Lines that are no notes are left out: what they were about is made again."""
    found: dict[str, set[str]] = {}
    for line in chain.from_iterable(map(_lines, files)):
        try:
            name, digest = json.loads(line)
        except (ValueError, TypeError):
            continue
        found.setdefault(str(name), set()).add(str(digest))
    return found


def _lines(file: Path) -> list[bytes]:
    """None of a file that cannot be read."""
    try:
        return file.read_bytes().splitlines()
    except OSError:
        return []


def _whole(folder: Path, noted: dict[str, set[str]]) -> dict[str, str]:
    """The pieces whose content is what was noted: name -> digest."""
    names = [n for n in files_of(folder) if n in noted and not (folder / n).is_symlink()]
    digests = in_threads(lambda name: _digest(folder / name), names)
    return {name: digest for name, digest in zip(names, digests) if digest in noted[name]}


def _digest(path: Path) -> str | None:
    """None for what cannot be read: it is made again."""
    try:
        return digest_of(path)
    except CacheError:
        return None
