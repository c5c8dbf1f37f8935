"""The manifest of an artifact: what it was made from, by what, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .checked import read_checked_json, write_checked_json
from .file_digests import unreadable
from .stage import Ingredients, key_of

NAME = "manifest.json"


class BrokenManifest(Exception):
    """A manifest that is absent, damaged, or another artifact's; the message completes "it ..."."""


@dataclass(frozen=True)
class Manifest:
    """`files`: relative path -> {"size": bytes, "digest": SHA-256}. `info`: library versions,
    device, seed and whatever else the caller records. `seconds` are those of the last attempt,
    `start` (ISO 8601, UTC) is that of the first of all `attempts`."""

    stage: str
    key: str
    start: str
    seconds: float
    attempts: int
    metrics: dict[str, Any]
    ingredients: Ingredients
    files: dict[str, dict[str, Any]]
    info: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())


def write(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into `folder`: JSON whose first entry is a checksum of the rest."""
    write_checked_json(folder / NAME, asdict(manifest))


def read(folder: Path, stage: str, key: str) -> Manifest:
    """The manifest in `folder`; BrokenManifest unless it is whole and that of `stage` and `key`.

    Raises CacheError if it cannot be read, such as without the right to: it may be whole.
    """
    path = folder / NAME
    try:
        content = read_checked_json(path)
    except FileNotFoundError:
        raise BrokenManifest(f"has no {NAME}") from None
    except (IsADirectoryError, NotADirectoryError):
        raise BrokenManifest(f"has a folder in the place of {NAME}") from None
    except OSError as error:
        raise unreadable(path, error) from error
    if content is None:
        raise BrokenManifest(f"has a damaged {NAME}")
    try:
        manifest = Manifest(**content)
    except TypeError:
        raise BrokenManifest(f"has a {NAME} of another version of this program") from None
    if (manifest.stage, manifest.key) != (stage, key) or key_of(manifest.ingredients) != key:
        raise BrokenManifest(f"holds the manifest of {manifest.stage}/{manifest.key}")
    if any(_escapes(name) for name in manifest.files):
        raise BrokenManifest(f"names files outside its folder in {NAME}")
    return manifest


def library_versions(names: Sequence[str]) -> dict[str, str | None]:
    """Installed version of each distribution, None where it is not installed.

    >>> library_versions(["no-such-library"])
    {'no-such-library': None}
    """
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {name: installed(name) for name in names}


def _escapes(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in name.split("/")
