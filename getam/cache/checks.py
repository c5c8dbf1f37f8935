"""Checks of the whole store: what is broken, and what nothing needs any more."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import manifest
from .files import TEMPORARY, disk_errors, files_of
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
    problems = [p for stage, key in _artifacts(store) for p in _problems(store, stage, key)]
    with disk_errors("remembering digests", store.root):
        store.files.save()
    return problems


def gc(store: Store, *, dry_run: bool = False) -> list[Garbage]:
    """Remove, or with `dry_run` only list, what no named run uses or is making.

    That is: artifacts and working folders of other keys, broken artifacts, remains of writes, and
    tables of data parts that nothing that remains has. What a named run uses includes all
    upstream of it. Nothing that a process has locked is touched, nor what is upstream of that.
    """
    garbage = []
    with disk_errors("removing what is not used", store.root):
        for path, stage, key in _candidates(store):
            if dry_run:
                free = not store.locked(stage, key)
                garbage += [_measured(path)] if free and _is_garbage(store, path, key) else []
                continue
            with store.lock(stage, key) as free:
                # asked again for each: another process may have begun to use it meanwhile
                if free and _is_garbage(store, path, key):
                    garbage.append(_measured(path))
                    _drop(path)
        garbage += _drop_remains(store, {g.path for g in garbage}, dry_run)
    return garbage


def _artifacts(store: Store) -> Iterator[tuple[str, str]]:
    for folder in _stage_folders(store):
        for key in store.keys(folder.name):
            yield folder.name, key


def _stage_folders(store: Store) -> list[Path]:
    folders = (p for p in store.root.glob("*") if p.is_dir() and is_stage_name(p.name))
    return sorted(folders)


def _problems(store: Store, stage: str, key: str) -> list[Problem]:
    folder = store.folder(stage, key)
    try:
        found = manifest.read(folder, stage, key)
    except BrokenManifest as error:
        return [Problem(stage, key, manifest.NAME, f"the artifact {error}")]
    wrong = store.problems(folder, found, reread=True)
    for name in sorted(files_of(folder).keys() - found.files.keys() - {manifest.NAME}):
        wrong[name] = f"{name} is extra"
    return [Problem(stage, key, name, detail) for name, detail in wrong.items()]


def _candidates(store: Store) -> list[tuple[Path, str, str]]:
    """(path, stage, key) of everything that belongs to an artifact."""
    found = []
    for folder in _stage_folders(store):
        # what is half removed comes first, so that its name is free
        for path in sorted(folder.iterdir(), key=lambda p: (p.suffix != DROPPED, p.name)):
            match = _BELONGS.fullmatch(path.name)
            if match:
                found.append((path, folder.name, match[1]))
    return found


def _is_garbage(store: Store, path: Path, key: str) -> bool:
    """Asked while nobody else holds the lock of the artifact."""
    kind, stage = path.name[len(key) :], path.parent.name
    if kind in ("", PARTIAL):
        return (stage, key) not in _kept(store, but=(stage, key))
    if kind == REPLACED:  # until the new one is in place, the former may be all there is
        return path.with_name(key).exists() or (stage, key) not in _kept(store, but=(stage, key))
    return True


def _kept(store: Store, but: tuple[str, str]) -> set[tuple[str, str]]:
    """(stage, key) of what named runs or running processes use, and of all upstream of it.

    `but` is taken as not running: its lock may be held by the caller.
    """
    pending = Runs(store.root).used()
    for path, stage, key in _candidates(store):
        if path.name == key + PARTIAL and (stage, key) != but and store.locked(stage, key):
            pending.add((stage, key))
    kept: set[tuple[str, str]] = set()
    while pending:
        stage, key = pending.pop()
        kept.add((stage, key))
        pending |= store.ingredients(stage, key).get("inputs", {}).items() - kept
    return kept


def _measured(path: Path) -> Garbage:
    files = files_of(path).values() if path.is_dir() else [path.stat()]
    return Garbage(path, sum(stat.st_size for stat in files))


def _drop(path: Path) -> None:
    """Rename first, so that a kill in between leaves nothing that looks like an artifact."""
    dropped = path.with_name(path.name.removesuffix(DROPPED) + DROPPED)
    if path != dropped:
        path.rename(dropped)
    shutil.rmtree(dropped)


def _drop_remains(store: Store, gone: set[Path], dry_run: bool) -> list[Garbage]:
    """Old temporary files beside the artifacts, and tables that no remaining artifact has."""
    tables = {
        digest
        for path, stage, key in _candidates(store)
        if path not in gone
        for digest in store.ingredients(stage, key).get("data", {}).values()
    }
    folders = [store.hidden, store.hidden / "tables", store.root / "runs", *_stage_folders(store)]
    remains = [
        path
        for folder in folders
        for path in sorted(folder.glob(TEMPORARY + "*"))
        if path.is_file() and time.time() - path.stat().st_mtime > _HOUR
    ]
    remains += Tables(store.hidden).unused(tables)
    garbage = [_measured(path) for path in remains]
    for path in remains if not dry_run else ():
        path.unlink(missing_ok=True)
    return garbage
