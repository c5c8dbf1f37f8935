"""Which checks of stages found nothing wrong, so that they are not made again.

A check reads settings and data. A verdict holds as long as every setting that the check read has
the same value, and as long as the data, the source code and the versions of libraries are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .checked import read_checked, write_checked
from .file_digests import FileDigests, write_protected
from .stage import ConfigView, canonical

_REMEMBERED = 200  # verdicts, the latest


class NotingView(ConfigView):
    """Settings by attribute, as ``ConfigView``; each value that is read is put into ``noted``."""

    __slots__ = ("_noted",)

    def __init__(
        self, stage: str, values: Mapping[str, Any], noted: dict[str, Any], path: str = ""
    ) -> None:
        super().__init__(stage, values, path)
        object.__setattr__(self, "_noted", noted)

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if not isinstance(value, dict):
            self._noted[f"{self._path}{name}"] = value
        return super().__getitem__(name)

    def keys(self) -> Iterator[str]:
        self._note_all()
        return super().keys()

    def __iter__(self) -> Iterator[str]:
        self._note_all()
        return super().__iter__()

    def __len__(self) -> int:
        self._note_all()
        return super().__len__()

    def __reduce__(self) -> tuple:
        self._note_all()
        return super().__reduce__()

    def __repr__(self) -> str:
        self._note_all()
        return super().__repr__()

    def _frozen(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return NotingView(self._stage, value, self._noted, path + ".")
        return super()._frozen(value, path)

    def _note_all(self) -> None:
        self._noted[self._path.removesuffix(".")] = self._values


class Verdicts:
    """The verdicts in a file that `save` alone writes; a damaged file has none.

    A `subject` is plain data: all that a check depends on apart from settings.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._changed = file, False
        self._known: list[tuple[str, dict[str, Any]]] | None = None

    def ask(
        self,
        stage: str,
        subject: Any,
        config: Mapping[str, Any],
        check: Callable[[ConfigView], None],
    ) -> None:
        """Call `check` with the config, unless it is known to find nothing wrong. Its errors come
        out."""
        name = hashlib.sha256(canonical([stage, subject]).encode()).hexdigest()
        if any(known == name and _same(config, reads) for known, reads in self._load()):
            return
        noted: dict[str, Any] = {}
        check(NotingView(stage, config, noted))
        self._load().append((name, noted))
        self._changed = True

    def save(self) -> None:
        """Write what is new; nothing if the folder is write-protected."""
        if self._changed and not write_protected(self._file):
            write_checked(self._file, json.dumps(self._load()[-_REMEMBERED:]).encode())
            self._changed = False

    def _load(self) -> list[tuple[str, dict[str, Any]]]:
        if self._known is None:
            body = read_checked(self._file)
            self._known = [(name, reads) for name, reads in json.loads(body)] if body else []
        return self._known


def sources_digest(root: Path, packages: Sequence[str], files: FileDigests) -> str:
    """The digest of all source files of `packages`: checks may use any of them."""
    found = (path for name in packages for path in (root / name).rglob("*.py"))
    digests = files.digest(sorted(path for path in found if path.is_file()))
    listed = {path.relative_to(root).as_posix(): digest for path, digest in digests.items()}
    return hashlib.sha256(canonical(listed).encode()).hexdigest()


def _same(config: Mapping[str, Any], reads: Mapping[str, Any]) -> bool:
    return all(_value(config, path) == [value] for path, value in reads.items())


def _value(config: Any, path: str) -> list[Any]:
    """The value under a dotted path, in a list; an empty list if there is none."""
    for name in path.split(".") if path else ():
        if not isinstance(config, Mapping) or name not in config:
            return []
        config = config[name]
    return [config]
