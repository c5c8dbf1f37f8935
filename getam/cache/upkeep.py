"""Checks of the whole store: what is broken, and what nothing needs any more."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

from . import faults, manifest
from .atomic import TEMPORARY, disk_errors
from .errors import CacheError
from .folders import files_of, remove
from .manifest import BrokenManifest
from .records import Runs, Tables
from .stage import KEY_LENGTH, is_stage_name
from .store import PARTIAL, REPLACED, Store

DROPPED = ".dropped"  # an artifact while it is removed
_BELONGS = re.compile(
    rf"([0-9a-f]{{{KEY_LENGTH}}})(|{re.escape(PARTIAL)}|{re.escape(REPLACED)}|\.broken-\d+)"
    rf"({re.escape(DROPPED)})?"
)
_HOUR = 3600  # a temporary file older than this is no longer being written


@dataclass(frozen=True)
class Problem:
    """Something wrong with an artifact; `file` is relative to it."""

    stage: str
    key: str
    file: str
    detail: str


@dataclass(frozen=True)
class Garbage:
    """Something that nothing needs: its path and its size in bytes."""

    path: Path
    size: int


def verify(store: Store) -> list[Problem]:
    """Read every file of every artifact again and compare with the manifests.

    Reported are missing, truncated, changed and extra files and unreadable manifests. What was
    found to have changed is remembered, so that the next run makes those artifacts anew.
    """
    store.check_links()
    problems = [p for stage, key in _artifacts(store) for p in _problems(store, stage, key)]
    with disk_errors("remembering digests", store.root):
        store.files.save()
    return problems


def gc(store: Store, *, dry_run: bool = False) -> list[Garbage]:
    """Remove, or with `dry_run` only list, what no named run uses or is making.

    That is: artifacts and working folders of other keys, broken artifacts, remains of writes, and
    tables of data parts that nothing that remains has. What a named run uses includes all
    upstream of it; to let go of a run, delete its file in ``runs``. Nothing that a process has
    locked is touched, nor what is upstream of that. Of a link, only the link itself is removed.
    """
    store.check_links()
    with disk_errors("removing what is not used", store.root):
        return _Collection(store, dry_run).run()


def _artifacts(store: Store) -> Iterator[tuple[str, str]]:
    for folder in sorted(store.root.glob("*")):
        if folder.is_dir() and is_stage_name(folder.name):
            for key in store.keys(folder.name):
                yield folder.name, key


def _own_folders(store: Store) -> list[Path]:
    """The folders of stages that lie here: what a link leads to is not ours to remove."""
    folders = (p for p in store.root.glob("*") if p.is_dir() and not p.is_symlink())
    return sorted(folder for folder in folders if is_stage_name(folder.name))


def _problems(store: Store, stage: str, key: str) -> list[Problem]:
    folder = store.folder(stage, key)
    try:
        found = manifest.read(folder, stage, key)
    except BrokenManifest as error:
        return [Problem(stage, key, manifest.NAME, f"the artifact {error}")]
    try:
        wrong = store.problems(folder, found, reread=True)
    except CacheError as error:  # a file that cannot be read
        return [Problem(stage, key, manifest.NAME, str(error))]
    return [Problem(stage, key, name, detail) for name, detail in wrong.items()]


class _Collection:
    """One round of gc."""

    def __init__(self, store: Store, dry_run: bool) -> None:
        self._store = store
        self._dry_run = dry_run
        # of a key they never change, so each manifest is read once
        self._ingredients = functools.cache(store.ingredients)

    def run(self) -> list[Garbage]:
        garbage = []
        for path, stage, key in self._candidates():
            if self._dry_run:
                if not self._store.locked(stage, key) and self._is_garbage(path, stage, key):
                    garbage.append(_measured(path))
                continue
            with self._store.lock(stage, key) as free:
                there = os.path.lexists(path)  # another gc may have been faster
                if free and there and self._is_garbage(path, stage, key):
                    garbage.append(_measured(path))
                    _drop(path)
        return garbage + self._drop_remains({found.path for found in garbage})

    def _candidates(self) -> list[tuple[Path, str, str]]:
        """(path, stage, key) of everything that belongs to an artifact; what is half removed comes
        first, so that its name is free."""
        paths = [path for folder in _own_folders(self._store) for path in folder.iterdir()]
        matches = {path: _BELONGS.fullmatch(path.name) for path in sorted(paths)}
        found = [(path, path.parent.name, match[1]) for path, match in matches.items() if match]
        return sorted(found, key=lambda candidate: candidate[0].suffix != DROPPED)

    def _is_garbage(self, path: Path, stage: str, key: str) -> bool:
        """Asked while nobody else holds the lock of the artifact, and for each anew: another
        process may have begun to use it meanwhile."""
        kind = path.name.removeprefix(key)
        if kind in ("", PARTIAL):
            return (stage, key) not in self._kept(but=(stage, key))
        if kind == REPLACED:  # until the new one is in place, the former may be all there is
            placed = path.with_name(key).exists()
            return placed or (stage, key) not in self._kept(but=(stage, key))
        return True

    def _kept(self, but: tuple[str, str]) -> set[tuple[str, str]]:
        """(stage, key) of what named runs or running processes use, and of all upstream of it.

        `but` is taken as not running: its lock may be held by the caller.
        """
        pending = Runs(self._store.root).used()
        for path, stage, key in self._candidates():
            running = path.name == key + PARTIAL and (stage, key) != but
            if running and self._store.locked(stage, key):
                pending.add((stage, key))
        kept: set[tuple[str, str]] = set()
        while pending:
            used = pending.pop()
            kept.add(used)
            pending |= self._ingredients(*used).get("inputs", {}).items() - kept
        return kept

    def _drop_remains(self, gone: set[Path]) -> list[Garbage]:
        """Old temporary files beside the artifacts, and tables that nothing that remains has."""
        tables = {
            digest
            for path, stage, key in self._candidates()
            if path not in gone
            for digest in self._ingredients(stage, key).get("data", {}).values()
        }
        hidden, root = self._store.hidden, self._store.root
        folders = [hidden, hidden / "tables", root / "runs", *_own_folders(self._store)]
        remains = [
            path
            for folder in folders
            for path in sorted(folder.glob(TEMPORARY + "*"))
            if _is_old(path)
        ]
        remains += Tables(hidden).unused(tables)
        garbage = [_measured(path) for path in remains]
        for path in remains if not self._dry_run else ():
            path.unlink(missing_ok=True)
        return garbage


def _is_old(path: Path) -> bool:
    """Whether it is a file, or a link, that is no longer being written."""
    stat = path.lstat()
    return not S_ISDIR(stat.st_mode) and time.time() - stat.st_mtime > _HOUR


def _measured(path: Path) -> Garbage:
    folder = path.is_dir() and not path.is_symlink()
    files = files_of(path).values() if folder else [path.lstat()]
    return Garbage(path, sum(stat.st_size for stat in files))


def _drop(path: Path) -> None:
    """Rename first, so that a kill in between leaves nothing that looks like an artifact."""
    dropped = path.with_name(path.name.removesuffix(DROPPED) + DROPPED)
    faults.point("gc.found")
    if path != dropped:
        remove(dropped)
        path.rename(dropped)
    faults.point("gc.renamed")
    remove(dropped)
    faults.point("gc.removed")
