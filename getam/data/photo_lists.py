"""Lists of photos, a name a line: which photo a name means, and names that no photo has."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from getam.data.class_names import counted
from getam.data.files import IMAGES, clean_id, is_hidden
from getam.errors import UserError, collected

LISTED = 20  # lines of a list that a sentence names


def refuse_lost(
    file: Path,
    lost: Mapping[str, str],
    folder: str,
    photos: Collection[str],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse the ids in a list that there is no photo of, all in one sentence.

    Args:
        lost: id -> where it stands in the file, such as ``line 4``; empty where that has no name.
        photos: the ids that there are photos of.
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
    names = {_loose(image_id): image_id for image_id in photos}
    far = {i: own for i in lost if _stem(i) not in elsewhere and (own := _last(i, photos))}
    near = {i: names[name] for i in lost if (name := _loose(_stem(_joined(i)))) in names}
    hints = [
        hidden
        and "Files whose names begin with . or @ are passed over, as they are notes of the "
        "system: rename such a photo and its line.",
        found
        and f"{len(found)} of these photos are in sub-folders, {found[0]!r} first. With a "
        f"label table no sub-folder is read: move all photos into {folder} itself.",
        near and _nearly(near),
        far
        and f"{counted(len(far), 'line has', 'lines have')} another path before the name of a "
        f"photo: write the name alone, {next(iter(far.values()))!r} for the first one.",
        len(found) + len(hidden) + len(near) + len(far) < len(lost)
        and "Add each photo, or remove its line.",
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


def _nearly(near: Mapping[str, str]) -> str:
    """A hint at names that differ from those of photos as a spreadsheet changes names.

    ``near``: name in the list -> id of the photo.
    """
    listed, photo = next(iter(near.items()))
    return (
        f"{counted(len(near), 'name differs', 'names differ')} from that of a photo only in "
        f"leading zeros or in upper and lower case, {listed!r} from {photo!r} first: write them as "
        f"the files are called (a spreadsheet drops leading zeros of cells that are not text)."
    )


def _loose(name: str) -> str:
    """A name without what a spreadsheet or another system may change.

    >>> _loose("IMG_0012"), _loose("0")
    ('img_12', '0')
    """
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())


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


def _last(path: str, photos: Collection[str]) -> str | None:
    """The photo that the last part of a path, or of an address, names; None: none."""
    _, slash, name = path.replace("\\", "/").rpartition("/")
    own = known_id(name, photos)
    return own if slash and own in photos else None


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
        refuse_lost(file, lost, folder, photos)
    return list(seen)
