"""The artifacts on the disk: ``<root>/<stage>/<key>/``, complete or not there.

While a stage runs it works in ``<key>.partial``; the manifest is written last, and then the
folder gets its name. An artifact found broken is set aside as ``<key>.broken-N``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from . import faults, locks, manifest
from .atomic import atomic_write_json, disk_errors, files_of, in_threads, remove_temporaries, sync
from .errors import CacheError
from .file_digests import FileDigests
from .manifest import BrokenManifest, Manifest
from .stage import KEY_LENGTH, SCRATCH, Ingredients

STARTED = "started.json"  # in a partial artifact: who makes it, from what
FAILED = "failed.json"  # in a partial artifact: why the last attempt failed
OURS = (manifest.NAME, STARTED, FAILED, SCRATCH)
PARTIAL = ".partial"
REPLACED = ".replaced"  # the former artifact, while a forced rerun takes its place
_FLUSHERS = 32  # flushes that wait together share a turn of the disk
_KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


class Presence(Enum):
    COMPLETE = "complete"
    BROKEN = "broken"
    FAILED = "failed"
    PARTIAL = "partial"
    ABSENT = "absent"


Result = TypeVar("Result")


def _guarded(method: Callable[..., Result]) -> Callable[..., Result]:
    """A method of the store in which a full or write-protected disk is one clear sentence."""

    @wraps(method)
    def guarded(self: Store, *args: Any) -> Result:
        with disk_errors("keeping an artifact", self.root):
            return method(self, *args)

    return guarded


@dataclass(frozen=True)
class Found:
    """What is on the disk for a key; `detail` words what is broken or failed, `checked` says
    that the content of all files is known to be what it was."""

    presence: Presence
    manifest: Manifest | None = None
    detail: str = ""
    checked: bool = False


class Store:
    """The artifacts folder `root`; `files` remembers content digests in it.

    Nothing is created before something is written. All methods that write expect the caller to
    hold the `lock` of the artifact.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise CacheError(f"{self.root} is a file: name a folder for the artifacts")
        self.hidden = self.root / ".cache"
        self.files = FileDigests(self.hidden / "files")

    def folder(self, stage: str, key: str) -> Path:
        """Where the complete artifact is."""
        if not _KEY.fullmatch(key):
            raise CacheError(f"{key!r} is not a key: expected {KEY_LENGTH} hexadecimal digits")
        return self.root / stage / key

    def partial(self, stage: str, key: str) -> Path:
        """Where it is while it is made."""
        return self.folder(stage, key).with_name(key + PARTIAL)

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """The manifest of an artifact; None if it is absent or broken."""
        try:
            return manifest.read(self.folder(stage, key), stage, key)
        except BrokenManifest:
            return None

    def keys(self, stage: str) -> list[str]:
        """Keys of the artifacts of `stage`, broken ones included."""
        return sorted(p.name for p in (self.root / stage).glob("*") if _KEY.fullmatch(p.name))

    def find(self, stage: str, key: str, *, read: bool = False) -> Found:
        """What is there. An artifact is complete if its manifest is whole and its files have the
        sizes and digests that it says, as far as their content is remembered; with `read`, content
        that is not remembered is read."""
        folder, partial = self.folder(stage, key), self.partial(stage, key)
        if not folder.is_dir():
            if (partial / FAILED).exists():
                return Found(Presence.FAILED, detail=read_note(partial / FAILED).get("error", ""))
            return Found(Presence.PARTIAL if partial.is_dir() else Presence.ABSENT)
        try:
            found = manifest.read(folder, stage, key)
        except BrokenManifest as error:
            return Found(Presence.BROKEN, detail=f"it {error}")
        problems, unread = self._quick_problems(folder, found)
        if read and unread and not problems:
            problems, unread = self._content_problems(folder, found, unread), []
        detail = next(iter(problems.values()), "")
        presence = Presence.BROKEN if problems else Presence.COMPLETE
        return Found(presence, found, detail, checked=not unread)

    def problems(self, folder: Path, found: Manifest, *, reread: bool = False) -> dict[str, str]:
        """File -> what is wrong with it; content that is not remembered is read, with `reread` all
        of it."""
        problems, unread = self._quick_problems(folder, found)
        if reread:
            unread = [name for name in found.files if name not in problems]
        return problems | self._content_problems(folder, found, unread, reread=reread)

    def _quick_problems(self, folder: Path, found: Manifest) -> tuple[dict[str, str], list[str]]:
        """What is wrong without reading content, and the files that would have to be read."""
        problems, unread = {}, []
        for name, entry in found.files.items():
            try:
                stat = os.stat(f"{folder}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                problems[name] = f"{name} is missing"
                continue
            digest = self.files.remembered(stat)
            if stat.st_size != entry["size"]:
                problems[name] = f"{name} has {stat.st_size} bytes instead of {entry['size']}"
            elif digest is None:
                unread.append(name)
            elif digest != entry["digest"]:
                problems[name] = f"the content of {name} changed"
        return problems, unread

    def _content_problems(
        self, folder: Path, found: Manifest, names: list[str], *, reread: bool = False
    ) -> dict[str, str]:
        digests = self.files.digest([f"{folder}/{name}" for name in names], reread=reread)
        changed = [n for n in names if digests[f"{folder}/{n}"] != found.files[n]["digest"]]
        return {name: f"the content of {name} changed" for name in changed}

    def lock(
        self, stage: str, key: str, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[bool]:
        """Hold the lock of an artifact; see `locks.lock`."""
        return locks.lock(self._lock_file(stage, key), on_wait)

    def locked(self, stage: str, key: str) -> bool:
        """Whether a process holds the lock of an artifact now."""
        return locks.is_locked(self._lock_file(stage, key))

    def _lock_file(self, stage: str, key: str) -> Path:
        return self.hidden / "locks" / f"{stage}-{self.folder(stage, key).name}"

    @_guarded
    def begin(self, stage: str, key: str, note: Mapping[str, Any]) -> Path:
        """The working folder, new or as the last attempt left it, with `note` in it."""
        partial = self.partial(stage, key)
        (partial / SCRATCH).mkdir(parents=True, exist_ok=True)
        remove_temporaries(partial)
        for name in (FAILED, manifest.NAME):
            (partial / name).unlink(missing_ok=True)
        atomic_write_json(partial / STARTED, note)
        faults.point("store.begun")
        return partial

    def ingredients(self, stage: str, key: str) -> Ingredients:
        """What an artifact was, or while it is partial is to be, made from; empty if unknown."""
        made = self.manifest(stage, key)
        return made.ingredients if made else self.note(stage, key).get("ingredients", {})

    def note(self, stage: str, key: str) -> dict[str, Any]:
        """What `begin` noted at the last attempt; empty if there is none."""
        return read_note(self.partial(stage, key) / STARTED)

    def fail(self, stage: str, key: str, error: str) -> None:
        """Note in the working folder why the attempt failed."""
        atomic_write_json(self.partial(stage, key) / FAILED, {"error": error})

    @_guarded
    def complete(self, made: Manifest) -> None:
        """Seal the working folder under a manifest and put it in place.

        `made` comes without its files: they are listed and digested here.
        """
        partial = self.partial(made.stage, made.key)
        remove_temporaries(partial)
        if (partial / manifest.NAME).exists():
            raise CacheError(f"stage {made.stage!r} wrote {manifest.NAME}: choose another name")
        names = sorted(files_of(partial, skip=OURS, refuse_links=True))
        _sync_all(partial, names)
        faults.point("store.synced")
        digests = self.files.digest([f"{partial}/{name}" for name in names])
        sizes = files_of(partial, skip=OURS)
        files = {
            name: {"size": sizes[name].st_size, "digest": digests[f"{partial}/{name}"]}
            for name in names
        }
        manifest.write(partial, replace(made, files=files))
        faults.point("store.sealed")
        self._place(made.stage, made.key)

    @_guarded
    def finish_sealed(self, stage: str, key: str) -> bool:
        """Put in place a working folder whose maker died after sealing it; False if it is not."""
        partial = self.partial(stage, key)
        try:
            sealed = manifest.read(partial, stage, key)
        except BrokenManifest:
            return False
        if self.problems(partial, sealed):
            return False
        self._place(stage, key)
        return True

    def _place(self, stage: str, key: str) -> None:
        folder, partial = self.folder(stage, key), self.partial(stage, key)
        _remove_tree(partial / SCRATCH)
        for name in (STARTED, FAILED):
            (partial / name).unlink(missing_ok=True)
        faults.point("store.cleaned")
        replaced = folder.with_name(key + REPLACED)
        if folder.exists():  # no system call swaps two folders everywhere: step aside first
            _remove_tree(replaced)
            folder.rename(replaced)
            faults.point("store.stepped-aside")
        partial.rename(folder)
        sync(folder.parent)
        faults.point("store.placed")
        _remove_tree(replaced)

    @_guarded
    def set_aside(self, stage: str, key: str) -> Path:
        """Rename a broken artifact to ``<key>.broken-N``, which is returned."""
        folder = self.folder(stage, key)
        number = 1
        while (aside := folder.with_name(f"{key}.broken-{number}")).exists():
            number += 1
        folder.rename(aside)
        sync(folder.parent)
        faults.point("store.set-aside")
        return aside


def read_note(path: Path) -> dict[str, Any]:
    """A small JSON object; empty if it is absent or damaged."""
    try:
        note = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _sync_all(folder: Path, names: list[str]) -> None:
    """Flush the files, then every folder between them and `folder`."""
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents} | {"."}
    for paths in (names, sorted(folders)):
        in_threads(sync, [f"{folder}/{path}" for path in paths], _FLUSHERS)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
