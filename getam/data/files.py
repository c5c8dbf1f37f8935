"""Finding the image files of a data set; no file outside its folder is ever one of them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from getam.errors import UserError

HEIC = (".heic", ".heif")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", *HEIC)
SALIENCY = (".png", ".jpg", ".jpeg")
MASKS = (".png",)
RESERVED = ("classes.txt", "data.intensity_range")  # what tables by id have beside the ids
LONGEST = 255  # bytes of a file name, on nearly every disk
SUFFIX = ".png"  # of the files that are written for an image


def find_files(
    folder: Path,
    suffixes: Collection[str],
    nested: bool = False,
    unread: list[str] | None = None,
) -> dict[str, Path]:
    """Id -> file, in the order of their names; nothing where there is no such folder.

    The id is the file name without its suffix, in Unicode form NFC. With ``nested``, files of
    sub-folders are found too: ``cat/01.jpg`` has the id ``cat_01``. Names that begin with ``.`` or
    ``@`` are passed over: systems keep previews and notes under them.

    Args:
        unread: gets the path below ``folder`` of each other file that is not read.

    Raises:
        UserError: a link that leaves the folder, two files for one id, or a name that no file of
            the project could have.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    inside = os.path.realpath(folder)
    for parents, entry in _entries(folder, nested or unread is not None):
        stem, suffix = os.path.splitext(entry.name)
        suffix = suffix.lower()
        if nested and entry.is_symlink() and entry.is_dir():
            raise UserError(
                f"{entry.path}: this link to a folder is not followed. Put the folder itself there."
            )
        if suffix in suffixes and entry.is_symlink() and not os.path.exists(entry.path):
            raise UserError(
                f"{entry.path}: this link leads to a file that is not there. Put the file itself "
                f"there, or remove the link."
            )
        if suffix not in suffixes or (parents and not nested) or not entry.is_file():
            if unread is not None:
                unread.append("/".join((*parents, entry.name)))
            continue
        if entry.is_symlink() and not _is_inside(os.path.realpath(entry.path), inside):
            raise UserError(
                f"{entry.path}: this link leads out of {folder}. Put the file itself there."
            )
        image_id = _checked_id("_".join((*parents, stem)), entry.path)
        if image_id in found:
            raise UserError(
                f"{entry.path}: got a second file for photo {image_id!r} beside "
                f"{found[image_id].name}, expected one. Rename or remove one of them."
            )
        found[image_id] = Path(entry.path)
    return found


def clean_id(name: str) -> str:
    """An id as ids are compared: Unicode form NFC, whatever form the disk keeps."""
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: ``.DS_Store``, ``._1.jpg``, ``@eaDir``."""
    return name.startswith((".", "@"))


def printable(name: str) -> str:
    r"""A name for a message: what is not text is escaped.

    >>> printable("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _checked_id(name: str, path: str) -> str:
    """The id made of a file name, if the files of the project can have it as a name."""
    image_id = name if name.isascii() else clean_id(name)
    if not (image_id.isascii() and image_id.isprintable()) and not _is_text(image_id):
        raise UserError(
            f"{printable(path)}: this file name has bytes that are not UTF-8 text, or control "
            f"characters. Rename the file."
        )
    if image_id != image_id.strip():
        raise UserError(
            f"{path}: this file name begins or ends with a space, which lists of photos cannot "
            f"keep. Rename the file."
        )
    if image_id in RESERVED:
        raise UserError(
            f"{path}: got a photo with the id {image_id!r}, which has a meaning of its own. "
            f"Rename the file."
        )
    length = len((image_id + SUFFIX).encode())
    if length > LONGEST:
        raise UserError(
            f"{path}: its labels would be called {image_id[:20]}...{SUFFIX}, {length} bytes long; "
            f"expected at most {LONGEST}. Shorten the name of the file, or of its folders, which "
            f"are part of it."
        )
    return image_id


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8 on the disk, in one line, without control characters."""
    return not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in name}


def _entries(
    folder: Path, nested: bool, parents: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], os.DirEntry]]:
    """Each file in a folder and, ``nested``, below it, with the names of the folders between."""
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if nested:
                yield from _entries(Path(entry.path), nested, (*parents, entry.name))
        else:
            yield parents, entry


def _is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
