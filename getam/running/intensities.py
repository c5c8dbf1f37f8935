"""The intensity range of a data set whose photos have more than 8 bits: set, or measured once.

What was measured is remembered in the artifacts folder by the content of the photos, so that it is
measured again only where they change. Imports no torch, and no numpy where all is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from getam.cache import in_threads
from getam.cache.checked import read_checked, write_checked
from getam.cache.file_digests import write_protected
from getam.config.schema import Data
from getam.data.index import DataIndex

Range = tuple[float, float]
Track = Callable[..., Iterable[Any]]

RULE = "thousandths"  # how a photo is measured: another rule needs another name
EIGHT = "8"
READERS = 8


class Measured:
    """Name -> what was measured, in a file that ``save`` alone writes; a damaged one is empty."""

    def __init__(self, file: Path) -> None:
        self._file, self._changed = file, False
        self._known: dict[str, str] | None = None

    def get(self, name: str) -> str | None:
        return self._load().get(name)

    def put(self, name: str, text: str) -> None:
        self._load()[name] = text
        self._changed = True

    def save(self) -> None:
        """Nothing if nothing is new, or if the folder is write-protected."""
        if self._changed and not write_protected(self._file):
            lines = (f"{name} {text}" for name, text in self._load().items())
            write_checked(self._file, "\n".join(lines).encode())
            self._changed = False

    def _load(self) -> dict[str, str]:
        if self._known is None:
            body = read_checked(self._file) or b""
            self._known = dict(line.split(" ", 1) for line in body.decode().splitlines())
        return self._known


def intensity_range(
    index: DataIndex, data: Data, photos: Mapping[str, str], measured: Measured, track: Track
) -> Range | None:
    """The values that become 0 and 255 in photos of more than 8 bits; None where there are none.

    Args:
        photos: id -> content digest of each photo that counts.

    Raises:
        UserError: such a photo cannot be read.
    """
    content = hashlib.sha256("".join(sorted(photos.values())).encode()).hexdigest()
    bits, whole = f"bits-{content}", f"{RULE}-all-{content}"
    if measured.get(bits) == EIGHT:
        return None
    records = (record for name in (data.train, data.val) for record in index.split(name))
    names = {record.image: f"{RULE}-{photos[record.id]}" for record in records}
    if measured.get(bits) is None:
        measured.put(bits, "more" if _deep(names) else EIGHT)
        return intensity_range(index, data, photos, measured, track)
    if data.intensity_range is None and measured.get(whole) is None:
        measured.put(whole, _measure(names, measured, track))
    return data.intensity_range or _numbers(measured.get(whole) or "")


def _deep(paths: Iterable[Path]) -> list[Path]:
    """The photos of more than 8 bits."""
    from getam.data.intensity import is_deep_file

    paths = list(paths)
    return [path for path, is_so in zip(paths, in_threads(is_deep_file, paths)) if is_so]


def _measure(names: Mapping[Path, str], measured: Measured, track: Track) -> str:
    """The range over all photos; ``names`` are what the ranges of single ones are kept under."""
    from getam.data.images import photo_values
    from getam.data.intensity import measure, widest

    deep = _deep(names)
    new = [path for path in deep if measured.get(names[path]) is None]
    with ThreadPoolExecutor(READERS) as threads:
        ranges = threads.map(lambda path: measure(photo_values(path)), new)
        for path, found in zip(new, track(ranges, total=len(new), unit="16-bit photo")):
            measured.put(names[path], "{!r} {!r}".format(*found))
    return "{!r} {!r}".format(*widest(_numbers(measured.get(names[path]) or "") for path in deep))


def _numbers(text: str) -> Range:
    low, high = map(float, text.split())
    return low, high
