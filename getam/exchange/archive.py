"""Archives that tools write."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from getam.errors import UserError

OF_MACS = "__MACOSX"  # a folder that a Mac puts into archives: notes under the names of the files
# What zipfile raises for an archive that is damaged, encrypted, or packed in an unknown way.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """The file or folder itself, or a folder with the content of an archive.

    Raises:
        UserError: no such file, or a broken archive.
    """
    if not file.exists():
        raise UserError(f"{file}: there is no such file or folder. Give what the tool exported.")
    if file.is_dir() or file.suffix.lower() != ".zip":
        yield file
        return
    with tempfile.TemporaryDirectory() as place:
        _unpack(file, place)
        try:
            yield Path(place)
        except UserError as error:  # the user knows the archive, not the folder it is unpacked in
            raise UserError(str(error).replace(place, str(file))) from None


def is_note(parts: Collection[str]) -> bool:
    """Whether a path, in its parts, is a note of a system, such as ``._1.png`` in ``__MACOSX``."""
    return any(part.startswith(".") or part == OF_MACS for part in parts)


def _unpack(file: Path, place: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                entry.filename = entry.filename.replace("\\", "/")  # as some programs write it
                if OF_MACS not in entry.filename.split("/"):
                    archive.extract(entry, place)
    except _BROKEN as error:
        raise UserError(
            f"{file}: cannot unpack this archive ({error}). Download it from the tool again."
        ) from None
    except OSError as error:
        raise UserError(
            f"{file}: cannot unpack this archive into {place} ({error.strerror or error}). Give "
            f"write permission, make room there, or set TMPDIR to another folder."
        ) from None
