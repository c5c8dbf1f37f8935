"""Photos whose file breaks off in the middle, as after an interrupted copy, found without decoding.

A header alone does not tell: it is whole. The end of the file does, for the formats that mark it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from getam.cache import in_threads
from getam.data.images import photo_values

TAIL = 64  # bytes: some cameras fill the end of a file with zeros


def check_whole(paths: Iterable[Path]) -> None:
    """Decode the photos whose end is not that of a whole JPEG, PNG, WebP or BMP.

    A file that merely has something behind its end is no mistake. TIFF and HEIC mark no end.

    Raises:
        UserError: one of them breaks off.
    """
    paths = list(paths)
    for path, suspect in zip(paths, in_threads(may_break_off, paths)):
        if suspect:
            photo_values(path)


def may_break_off(path: Path) -> bool:
    """Whether a photo has not the end that its format demands; False if it cannot be opened."""
    try:
        start, end, size = _ends(path)
    except OSError:
        return False  # a problem of its own
    if start.startswith(b"\xff\xd8"):
        return not end.rstrip(b"\0").endswith(b"\xff\xd9")
    if start.startswith(b"\x89PNG"):
        return b"IEND\xae\x42\x60\x82" not in end
    if start.startswith(b"RIFF") and start[8:] == b"WEBP":
        return size < int.from_bytes(start[4:8], "little") + 8
    if start.startswith(b"BM"):
        return size < int.from_bytes(start[2:6], "little")
    return False


def _ends(path: Path) -> tuple[bytes, bytes, int]:
    """The first 12 bytes of a file, its last ones, and its size.

    Without a file object: making one takes longer than reading.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        return os.pread(file, 12, 0), os.pread(file, TAIL, max(0, size - TAIL)), size
    finally:
        os.close(file)
