"""What is kept beside the artifacts: named runs, and what each data part was made of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .atomic import atomic_write_json, read_checked, write_checked
from .errors import CacheError
from .stage import DataPart
from .store import read_note


class Runs:
    """The named runs, one file each: ``runs/<name>.json``.

    `keys` are those the run used when it last finished each stage, `unfinished` those that it was
    making when it last started; both are kept by gc. `settings` is what the run was started with.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "runs"

    def start(self, name: str, keys: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Note that the run is about to make or use `keys`."""
        record = self.read(name)
        if record["unfinished"] != keys or record["settings"] != settings:
            self._write(name, record["keys"], keys, settings)

    def finish(self, name: str, keys: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Note the keys that the run used; stages not among them keep their former ones."""
        record = self.read(name)
        changed = any(record["keys"].get(s) != k for s, k in keys.items())
        if record["unfinished"] or changed or record["settings"] != settings:
            self._write(name, record["keys"] | keys, {}, settings)

    def names(self) -> list[str]:
        """The names of all runs, in the order of the alphabet."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def read(self, name: str) -> dict[str, Any]:
        """The record of a run; one without keys if there is none."""
        return {"keys": {}, "unfinished": {}, "settings": {}} | read_note(self._path(name))

    def used(self) -> set[tuple[str, str]]:
        """(stage, key) of all runs. Raises CacheError if a record is damaged."""
        found: set[tuple[str, str]] = set()
        for path in sorted(self._folder.glob("*.json")):
            if not read_note(path):
                raise CacheError(
                    f"{path} is damaged, so what its run uses is unknown: delete it if the run is "
                    "no longer wanted, or run it again under that name"
                )
            record = self.read(path.stem)
            found |= record["keys"].items() | record["unfinished"].items()
        return found

    def _write(
        self,
        name: str,
        keys: Mapping[str, str],
        unfinished: Mapping[str, str],
        settings: Mapping[str, Any],
    ) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        record = {
            "name": name,
            "time": time,
            "keys": dict(keys),
            "unfinished": dict(unfinished),
            "settings": dict(settings),
        }
        atomic_write_json(path, record)

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked_run_name(name)}.json"


def checked_run_name(name: str) -> str:
    """`name`, or CacheError if it could leave the folder of runs."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
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
