"""The artifacts on the disk: ``<root>/<stage>/<key>/``, complete or not there.

While a stage runs it works in ``<key>.partial``; the manifest is written last, and then the
folder gets its name. An artifact found broken is set aside as ``<key>.broken-N``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from . import faults, locks, manifest, pieces
from .atomic import disk_errors, sync
from .checked import read_checked_json, write_checked_json
from .errors import CacheError
from .file_digests import FileDigests
from .folders import files_of, refuse_escape, remove, sync_all
from .manifest import BrokenManifest, Manifest
from .pieces import Pieces
from .stage import KEY_LENGTH, SCRATCH, Ingredients

STARTED = "started.json"  # in a partial artifact: who makes it, from what
FAILED = "failed.json"  # in a partial artifact: why the last attempt failed
OURS = (manifest.NAME, STARTED, FAILED, SCRATCH)
PARTIAL = ".partial"
REPLACED = ".replaced"  # the former artifact, while a forced rerun takes its place
_OF_SYSTEMS = re.compile(r"(.*/)?(\.DS_Store|\._.*|\.nfs[0-9a-f]+|Thumbs\.db|desktop\.ini)")
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

    def check_links(self) -> None:
        """CacheError if what is written beside the artifacts would get elsewhere by a link."""
        hidden = ("files", "code", "checks", "intensities", "tables", "locks")
        for path in ("runs", *(f".cache/{name}" for name in hidden)):
            refuse_escape(self.root, self.root / path)

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """The manifest of an artifact; None if it is absent or broken."""
        try:
            return manifest.read(self.folder(stage, key), stage, key)
        except BrokenManifest:
            return None

    def keys(self, stage: str) -> list[str]:
        """Keys of the artifacts of `stage`, broken ones included."""
        return sorted(p.name for p in (self.root / stage).glob("*") if _KEY.fullmatch(p.name))

    def find(self, stage: str, key: str, *, read: bool = False, reread: bool = False) -> Found:
        """What is there. An artifact is complete if its manifest is whole and its files have the
        sizes and digests that it says, as far as their content is remembered; with `read`, content
        that is not remembered is read, and with `reread` all content is."""
        folder, partial = self.folder(stage, key), self.partial(stage, key)
        if not folder.is_dir():
            if (partial / FAILED).exists():
                return Found(Presence.FAILED, detail=_read_note(partial / FAILED).get("error", ""))
            return Found(Presence.PARTIAL if partial.is_dir() else Presence.ABSENT)
        try:
            found = manifest.read(folder, stage, key)
        except BrokenManifest as error:
            return Found(Presence.BROKEN, detail=f"it {error}")
        problems, unread = self._quick_problems(folder, found)
        if reread:
            unread = list(found.files)
        if read and unread and not problems:
            problems = self._content_problems(folder, found, unread, reread=reread)
            unread = []
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
        stats = files_of(folder, skip=OURS if folder.suffix == PARTIAL else (manifest.NAME,))
        for name, entry in found.files.items():
            stat = stats.pop(name, None)
            if stat is None:
                problems[name] = f"{name} is missing"
                continue
            digest = self.files.remembered(stat)
            if stat.st_size != entry["size"]:
                problems[name] = f"{name} has {stat.st_size} bytes instead of {entry['size']}"
            elif digest is None:
                unread.append(name)
            elif digest != entry["digest"]:
                problems[name] = f"the content of {name} changed"
        extra = sorted(name for name in stats if not _OF_SYSTEMS.fullmatch(name))
        return problems | {name: f"{name} is extra" for name in extra}, unread

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
        refuse_escape(self.root, self._lock_file(stage, key))
        return locks.lock(self._lock_file(stage, key), on_wait)

    def locked(self, stage: str, key: str) -> bool:
        """Whether a process holds the lock of an artifact now."""
        return locks.is_locked(self._lock_file(stage, key))

    def _lock_file(self, stage: str, key: str) -> Path:
        return self.hidden / "locks" / f"{stage}-{self.folder(stage, key).name}"

    @_guarded
    def begin(self, stage: str, key: str, note: Mapping[str, Any]) -> Pieces:
        """The pieces in the working folder, new or from the last attempt, with `note` beside."""
        refuse_escape(self.root, self.partial(stage, key))
        begun = pieces.begin(self.partial(stage, key))
        write_checked_json(begun.folder / STARTED, note)
        faults.point("store.begun")
        return begun

    @_guarded
    def clear(self, stage: str, key: str) -> None:
        """Remove the working folder, with all work in it."""
        refuse_escape(self.root, self.root / stage)
        remove(self.partial(stage, key))

    def ingredients(self, stage: str, key: str) -> Ingredients:
        """What an artifact was, or while it is partial is to be, made from; empty if unknown."""
        made = self.manifest(stage, key)
        return made.ingredients if made else self.note(stage, key).get("ingredients", {})

    def note(self, stage: str, key: str) -> dict[str, Any]:
        """What `begin` noted at the last attempt; empty if there is none."""
        return _read_note(self.partial(stage, key) / STARTED)

    def fail(self, stage: str, key: str, error: str) -> None:
        """Note in the working folder why the attempt failed."""
        write_checked_json(self.partial(stage, key) / FAILED, {"error": error})

    @_guarded
    def complete(self, made: Manifest) -> None:
        """Seal the working folder under a manifest and put it in place.

        `made` comes without its files: they are listed and digested here. Raises CacheError if a
        piece is no longer what was written.
        """
        partial = self.partial(made.stage, made.key)
        if (partial / manifest.NAME).exists():
            raise CacheError(f"stage {made.stage!r} wrote {manifest.NAME}: choose another name")
        names = sorted(files_of(partial, skip=OURS, refuse_links=True))
        sync_all(partial, names)
        faults.point("store.synced")
        digests = self.files.digest([f"{partial}/{name}" for name in names])
        sizes = files_of(partial, skip=OURS)
        files = {
            name: {"size": sizes[name].st_size, "digest": digests[f"{partial}/{name}"]}
            for name in names
        }
        pieces.check(partial, {name: entry["digest"] for name, entry in files.items()})
        manifest.write(partial, replace(made, files=files))
        faults.point("store.sealed")
        self._place(made.stage, made.key)

    @_guarded
    def finish_sealed(self, stage: str, key: str) -> bool:
        """Put in place a working folder whose maker died after sealing it; False if it is not."""
        partial = self.partial(stage, key)
        refuse_escape(self.root, partial)
        try:
            sealed = manifest.read(partial, stage, key)
        except BrokenManifest:
            return False
        if self.problems(partial, sealed, reread=True):
            return False
        self._place(stage, key)
        return True

    def _place(self, stage: str, key: str) -> None:
        folder, partial = self.folder(stage, key), self.partial(stage, key)
        for name in (SCRATCH, STARTED, FAILED):
            remove(partial / name)
        faults.point("store.cleaned")
        replaced = folder.with_name(key + REPLACED)
        if folder.exists():  # no system call swaps two folders everywhere: step aside first
            remove(replaced)
            folder.rename(replaced)
            faults.point("store.stepped-aside")
        partial.rename(folder)
        sync(folder.parent)
        faults.point("store.placed")
        remove(replaced)

    @_guarded
    def set_aside(self, stage: str, key: str) -> Path:
        """Rename a broken artifact to ``<key>.broken-N``, which is returned."""
        folder = self.folder(stage, key)
        refuse_escape(self.root, folder.parent)
        number = 1
        while (aside := folder.with_name(f"{key}.broken-{number}")).exists():
            number += 1
        folder.rename(aside)
        sync(folder.parent)
        faults.point("store.set-aside")
        return aside


def _read_note(path: Path) -> dict[str, Any]:
    """Empty if it is absent or damaged: it is of no use then, and no harm."""
    try:
        return read_checked_json(path) or {}
    except OSError:
        return {}
