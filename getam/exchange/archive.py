"""Archives that tools write."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from getam.errors import UserError

OF_MACS = "__MACOSX/"  # notes that a Mac puts into archives, under the names of the files
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
        try:
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if not name.startswith(OF_MACS)]
                archive.extractall(place, names)
        except _BROKEN as error:
            raise UserError(
                f"{file}: cannot unpack this archive ({error}). Download it from the tool again."
            ) from None
        try:
            yield Path(place)
        except UserError as error:  # the user knows the archive, not the folder it is unpacked in
            raise UserError(str(error).replace(place, str(file))) from None
