"""The class names of a COCO annotation file, without reading its annotations."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

from getam.data.class_names import clean_name
from getam.data.coco import annotation_files, read_instances
from getam.errors import UserError

FIELD = b'"categories"'


def coco_classes(root: Path, splits: list[str]) -> tuple[str, ...]:
    """The classes of the first annotation file of ``splits``, in the order of their ids.

    The list of categories is found in the bytes of the file: train2014 as a whole takes ten
    seconds and a few GB of memory.

    Raises:
        UserError: as ``getam.data.coco.read_instances``, or no split has an annotation file.
    """
    files = [file for name, file in annotation_files(root).items() if name in splits]
    if not files:
        raise UserError(
            f"{root / 'annotations'}: there is no instances_SPLIT.json of the splits "
            f"{', '.join(splits)}. Set data.train and data.val to splits that have one."
        )
    return _named_in(files[0]) or read_instances(files[0]).classes


def _named_in(file: Path) -> tuple[str, ...]:
    """The classes; none where the list is not found at the first look."""
    with open(file, "rb") as stream:
        if not file.stat().st_size:
            return ()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.rfind(FIELD)
            colon = content.find(b":", start + len(FIELD)) if start >= 0 else -1
            end = content.find(b"]", colon) + 1 if colon >= 0 else 0
            text = content[colon + 1 : end]
    try:
        categories = json.loads(text)
        names = {c["id"]: clean_name(c["name"]) for c in categories}
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()  # another text of these letters, or a list that holds lists: read the whole file
    return tuple(names[number] for number in sorted(names))
