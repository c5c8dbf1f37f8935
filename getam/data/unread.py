"""Files of a data set that nothing reads, as sentences for ``data``: none is dropped unsaid."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from getam.data.class_names import counted
from getam.data.files import find_files, printable

SYSTEM = ("thumbs.db", "desktop.ini")  # of Windows, in any folder


def unread_notes(
    folder: Path, unread: Sequence[str], suffixes: Collection[str], nested: bool = False
) -> list[str]:
    """The files of a folder that are not read: how many, of which kinds, and the first.

    Args:
        unread: their paths below ``folder``.
        suffixes: of the files that are read.
        nested: whether those in sub-folders are read too.
    """
    unread = [name for name in unread if os.path.basename(name).lower() not in SYSTEM]
    if not unread:
        return []
    kinds = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in unread)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    where = (
        "Files are read whose names end in "
        if nested
        else "Only files in this folder itself are read, not those in sub-folders. Their names "
        "end in "
    )
    return [
        f"{folder.name}/: {counted(len(unread), 'file is', 'files are')} not read, "
        f"{printable(unread[0])!r} first ({told}). {where}{', '.join(suffixes)}. "
        f"Convert or move the others if you need them."
    ]


def find_matching(
    folder: Path, suffixes: Collection[str], nested: bool, photos: Collection[str], what: str
) -> tuple[dict[str, Path], list[str]]:
    """Id -> file of the masks or saliency maps (``what``) in a folder, as
    :func:`getam.data.files.find_files`, and notes about those that are not read or match no photo.
    """
    unread: list[str] = []
    found = find_files(folder, suffixes, nested, unread)
    notes = unread_notes(folder, unread, suffixes, nested)
    lost = [path for image_id, path in found.items() if image_id not in photos]
    if lost:
        notes.append(
            f"{folder.name}/: {len(lost)} of {len(found)} {what} {_match(lost)} no photo, "
            f"{lost[0].name!r} first. Give each the name of its photo."
        )
    return found, notes


def left_out_note(photos: Sequence[str], used: Collection[str], lists: str) -> list[str]:
    """The photos that are in no list."""
    unused = [image_id for image_id in photos if image_id not in used]
    if not unused:
        return []
    return [
        f"{len(unused)} of {len(photos)} photos {_are(unused)} not in {lists} and {_are(unused)} "
        f"left out, {unused[0]!r} first."
    ]


def _are(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _match(items: Sequence[object]) -> str:
    return "matches" if len(items) == 1 else "match"
