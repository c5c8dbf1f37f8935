"""Finding the image files of a data set; no file outside its folder is ever one of them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from getam.errors import UserError, collected

HEIC = (".heic", ".heif")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", *HEIC)
SALIENCY = (".png", ".jpg", ".jpeg")
MASKS = (".png",)
RESERVED = ("classes.txt", "data.intensity_range")  # what tables by id have beside the ids
LONGEST = 255  # bytes of a file name, on nearly every disk
LISTED = 20  # lines of a list that a sentence names
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
        if suffix not in suffixes or (parents and not nested) or not entry.is_file():
            if unread is not None:
                unread.append("/".join((*parents, entry.name)))
            continue
        if entry.is_symlink() and not _is_inside(os.path.realpath(entry.path), inside):
            raise UserError(
                f"{entry.path}: this link leaves the data folder. Put the file itself there."
            )
        image_id = _checked_id("_".join((*parents, stem)), entry.path)
        if image_id in found:
            raise UserError(
                f"{entry.path}: got a second file for photo {image_id!r} beside "
                f"{found[image_id].name}, expected one. Rename or remove one of them."
            )
        found[image_id] = Path(entry.path)
    return found


def refuse_lost(
    file: Path,
    lost: Mapping[str, str],
    folder: str,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse the ids in a list that there is no photo of, all in one sentence.

    Args:
        lost: id -> where it stands in the file, such as ``line 4``; empty where that has no name.
        folder: where the photos should be.
        elsewhere: id -> the path of a photo in a sub-folder that is not read.

    Raises:
        UserError: there are such ids.
    """
    if not lost:
        return
    image_id, place = next(iter(lost.items()))
    hidden = [i for i in lost if is_hidden(i) and "/" not in i]
    found = [elsewhere[key] for i in lost if (key := _stem(i)) in elsewhere]
    hints = [
        hidden
        and "Files whose names begin with . or @ are passed over, as they are notes of the "
        "system: rename such a photo and its line.",
        found
        and f"{len(found)} of these photos are in sub-folders, {found[0]!r} first. With a "
        f"label table no sub-folder is read: move all photos into {folder} itself.",
        len(found) + len(hidden) < len(lost) and "Add each photo, or remove its line.",
    ]
    remedy = " ".join(hint for hint in hints if hint)
    if len(lost) == 1:
        where = f"{file}, {place}" if place else file
        raise UserError(f"{where}: got {image_id!r}, but {folder} has no such photo. {remedy}")
    listed = ", ".join(f"{place} {i!r}".strip() for i, place in [*lost.items()][:LISTED])
    more = f" and {len(lost) - LISTED} more" if len(lost) > LISTED else ""
    raise UserError(
        f"{file}: {len(lost)} lines name photos that {folder} does not have: {listed}{more}. "
        f"{remedy}"
    )


def known_id(name: str, photos: Collection[str]) -> str:
    """The id that a line of a list names: an id, the file name of a photo, or its path.

    A path begins at the data folder or at ``images/``. What names no photo is returned as it is.

    >>> known_id("IMG_0.JPEG", {"IMG_0"}), known_id("IMG_0.1", {"IMG_0.1"})
    ('IMG_0', 'IMG_0.1')
    >>> known_id("images/IMG_0.jpg", {"IMG_0"}), known_id("cat/0.jpg", {"cat_0"})
    ('IMG_0', 'cat_0')
    """
    image_id = clean_id(name.strip())
    if image_id in photos:
        return image_id
    for text in (image_id, _joined(image_id)):
        stem, ending = os.path.splitext(text)
        if text in photos:
            return text
        if ending.lower() in IMAGES and stem in photos:
            return stem
    return image_id


def _joined(path: str) -> str:
    """The id of a path below the data folder or below ``images/``: ``cat/0`` is ``cat_0``."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return "_".join(parts[1:] if parts[:1] == ["images"] else parts)


def _stem(name: str) -> str:
    """The name of a photo without the folders before it and its ending."""
    stem, ending = os.path.splitext(name.replace("\\", "/").rpartition("/")[2])
    return stem if ending.lower() in IMAGES else name


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


def read_lines(file: Path) -> list[tuple[int, str]]:
    """Number and text of each line of a text file, stripped, without the blank ones.

    Raises:
        UserError: a file that cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{file}: cannot read this list ({reason}).") from None
    return [
        (number, clean_id(line.strip())) for number, line in enumerate(lines, 1) if line.strip()
    ]


def read_ids(
    file: Path,
    photos: Collection[str],
    folder: str,
    id_of: Callable[[str], str] = str,
    problems: list[str] | None = None,
) -> list[str]:
    """The image ids of a split list; ``id_of`` takes the id, or the file name, from a line.

    Args:
        problems: gets each mistake, whose line is then left out; None: it is raised.

    Raises:
        UserError: a line that is not among ``photos`` (those of ``folder``), or one given twice.
    """
    seen: dict[str, int] = {}
    lost: dict[str, str] = {}
    for number, line in read_lines(file):
        image_id = known_id(id_of(line), photos)
        if image_id not in photos:
            lost.setdefault(image_id, f"line {number}")
            continue
        with collected(problems):
            if image_id in seen:
                raise UserError(
                    f"{file}: photo {image_id!r} stands there twice (lines {seen[image_id]} and "
                    f"{number}), expected once. Remove one of the lines."
                )
            seen[image_id] = number
    with collected(problems):
        refuse_lost(file, lost, folder)
    return list(seen)
