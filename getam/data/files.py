"""Finding the image files of a data set; no file outside its folder is ever one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from getam.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SALIENCY = (".png", ".jpg", ".jpeg")
MASKS = (".png",)


def find_files(folder: Path, suffixes: Collection[str], nested: bool = False) -> dict[str, Path]:
    """Id -> file, in the order of their names; nothing where there is no such folder.

    The id is the file name without its suffix. With ``nested``, files of sub-folders are found
    too: ``cat/01.jpg`` has the id ``cat_01``.

    Raises:
        UserError: a link that leaves the folder, or two files for one id.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    inside = os.path.realpath(folder)
    for prefix, entry in _entries(folder, nested):
        stem, suffix = os.path.splitext(prefix + entry.name)
        if suffix.lower() not in suffixes or not entry.is_file():
            continue
        if entry.is_symlink() and not _is_inside(os.path.realpath(entry.path), inside):
            raise UserError(
                f"{entry.path}: this link leaves the data folder. Put the file itself there."
            )
        if stem in found:
            raise UserError(
                f"{entry.path}: got a second file for image {stem!r} beside "
                f"{found[stem].name}, expected one. Rename or remove one of them."
            )
        found[stem] = Path(entry.path)
    return found


def _entries(folder: Path, nested: bool, prefix: str = "") -> Iterator[tuple[str, os.DirEntry]]:
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if nested and entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), nested, f"{prefix}{entry.name}_")
        else:
            yield prefix, entry


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
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_ids(
    file: Path, photos: Collection[str], folder: str, id_of: Callable[[str], str] = str
) -> list[str]:
    """The image ids of a split list; ``id_of`` takes the id from a line.

    Raises:
        UserError: an id that is not among ``photos`` (those of ``folder``), or one given twice.
    """
    seen: dict[str, int] = {}
    for number, line in read_lines(file):
        image_id = id_of(line)
        if image_id not in photos:
            raise UserError(
                f"{file}, line {number}: got {image_id!r}, but {folder} has no such image. Add "
                f"the image or remove the line."
            )
        if image_id in seen:
            raise UserError(
                f"{file}: image {image_id!r} stands there twice (lines {seen[image_id]} and "
                f"{number}), expected once."
            )
        seen[image_id] = number
    return list(seen)
