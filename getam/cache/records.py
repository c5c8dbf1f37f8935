"""What is kept beside the artifacts: named runs, and what each data part was made of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .atomic import TEMPORARY, atomic_write_json
from .checked import read_checked, write_checked
from .errors import CacheError
from .stage import DataPart, canonical

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Runs:
    """The named runs, one file each: ``runs/<name>.json``.

    `keys` are those the run used when it last finished each stage, `unfinished` those that it was
    making when it last started; both are kept by gc. `settings` is what the run was started with.
    When a name is used again with other settings, the former record stays under a name of its own,
    `former_name`: gc removes no experiment because another one followed it.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / "runs"

    def start(self, name: str, keys: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Note that the run is about to make or use `keys`.

        What an earlier run of this name began for other stages stays noted: gc must keep it.
        """
        last = self._last(name, settings)
        self._update(name, last["keys"], last["unfinished"] | keys, settings)

    def finish(self, name: str, keys: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Note the keys that the run used; stages not among them keep their former ones."""
        last = self._last(name, settings)
        rest = {stage: key for stage, key in last["unfinished"].items() if stage not in keys}
        self._update(name, last["keys"] | keys, rest, settings)

    def forget(self, name: str, settings: Mapping[str, Any]) -> None:
        """Remove the record of the run with this name and these settings, if there is one."""
        for kept in (name, former_name(name, settings)):
            if self.read(kept)["settings"] == settings:
                self._path(kept).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The names of all runs, in the order of the alphabet."""
        return sorted(p.stem for p in self._files() if _NAME.fullmatch(p.stem))

    def read(self, name: str) -> dict[str, Any]:
        """The record of a run; one without keys if there is none."""
        return _whole(_read(self._path(name)))

    def settings(self, name: str) -> dict[str, Any]:
        """What the run was started with. Raises CacheError if its record is damaged."""
        path = self._path(name)
        record = _read(path)
        if not record and path.exists():
            raise CacheError(
                f"{path} is damaged, so the settings of the run {name} are unknown: start it anew "
                f"with --config and all its --set, or delete the file"
            )
        return _whole(record)["settings"]

    def used(self) -> set[tuple[str, str]]:
        """(stage, key) of all runs. Raises CacheError if a record is damaged."""
        found: set[tuple[str, str]] = set()
        for path in self._files():
            record = _read(path)
            if not record:
                raise CacheError(
                    f"{path} is damaged, so what its run uses is unknown: delete it if the run is "
                    "no longer wanted, or run it again under that name"
                )
            record = _whole(record)
            found |= record["keys"].items() | record["unfinished"].items()
        return found

    def _last(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The record of the last run with this name and these settings."""
        record = self.read(name)
        same = record["settings"] == settings
        return record if same else self.read(former_name(name, settings))

    def _update(
        self,
        name: str,
        keys: Mapping[str, str],
        unfinished: Mapping[str, str],
        settings: Mapping[str, Any],
    ) -> None:
        record = {"keys": dict(keys), "unfinished": dict(unfinished), "settings": dict(settings)}
        former = self.read(name)
        if all(former[part] == value for part, value in record.items()):
            return
        if former["settings"] != settings and (former["keys"] or former["unfinished"]):
            kept = former_name(name, former["settings"])
            self._write({**former, "name": kept})
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._write({"name": name, "time": time, **record})
        self._path(former_name(name, settings)).unlink(missing_ok=True)

    def _write(self, record: Mapping[str, Any]) -> None:
        path = self._path(record["name"])
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, record)

    def _files(self) -> list[Path]:
        """Beside them may lie what a killed write left."""
        files = (p for p in self._folder.glob("*.json") if not p.name.startswith(TEMPORARY))
        return sorted(path for path in files if path.is_file())

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked_run_name(name)}.json"


def _read(path: Path) -> dict[str, Any]:
    """Empty if the record is absent or damaged."""
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) and _is_sound(_whole(record)) else {}


def _is_sound(record: dict[str, Any]) -> bool:
    """Whether each part of a whole record is of its type."""
    parts = [record[name] for name in ("keys", "unfinished", "settings")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    return all(isinstance(key, str) for keys in parts[:2] for key in keys.values())


def _whole(record: dict[str, Any]) -> dict[str, Any]:
    return {"keys": {}, "unfinished": {}, "settings": {}} | record


def former_name(name: str, settings: Mapping[str, Any]) -> str:
    """What a run that had these settings is called when its name is used with others.

    >>> former_name("default", {"classifier": {"epochs": 3}})
    'default-115b8faa'
    """
    return f"{name[:91]}-{hashlib.sha256(canonical(settings).encode()).hexdigest()[:8]}"


def checked_run_name(name: str) -> str:
    """`name`, or CacheError if it could leave the folder of runs."""
    if not _NAME.fullmatch(name):
        raise CacheError(
            f"run name {name!r} is not usable as a file name: use up to 100 letters, digits, "
            "dots, - and _, starting with a letter or digit"
        )
    return name


class Tables:
    """Items of data parts by the digest of the part, each stored once."""

    def __init__(self, hidden: Path) -> None:
        self._folder = hidden / "tables"

    def add(self, part: DataPart) -> None:
        path = self._folder / part.digest
        if not path.exists():
            write_checked(path, json.dumps(dict(part.details())).encode())

    def get(self, digest: str) -> dict[str, str] | None:
        """The items, or None if they are not at hand."""
        body = read_checked(self._folder / digest)
        return None if body is None else json.loads(body)

    def unused(self, digests: set[str]) -> list[Path]:
        """The files of all tables but those of `digests`."""
        paths = sorted(self._folder.glob("[0-9a-f]*"))
        return [path for path in paths if path.name not in digests]
