"""Copies of photos for a tool, and which photo a name in a tool's file means."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from PIL import Image

from getam.data.files import IMAGES, MASKS, clean_id
from getam.data.images import read_image
from getam.data.index import Record
from getam.data.intensity import Range

JPEG = (".jpg", ".jpeg")
UPRIGHT, ORIENTATION = 1, 0x0112  # of EXIF
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts this before the name of an upload


def write_jpeg(source: Path, target: Path, intensities: Range | None = None) -> None:
    """An upright JPEG of 8 bits: upright JPEG files are copied, others are written anew.

    Raises:
        UserError: as ``getam.data.images.read_image``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix.lower() in JPEG and _is_upright_jpeg(source):
        shutil.copyfile(source, target)
    else:
        Image.fromarray(read_image(source, intensities)).save(target, "JPEG", quality=95)


def _is_upright_jpeg(source: Path) -> bool:
    with Image.open(source) as image:
        if image.format != "JPEG":
            return False
    return is_upright(source)


def is_upright(photo: Path) -> bool:
    """Whether the photo has no EXIF orientation that turns or mirrors it."""
    with Image.open(photo) as image:
        return image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT


def copy_photo(record: Record, folder: Path) -> str:
    """Write ``ID.jpg`` into a folder; its name."""
    name = f"{record.id}.jpg"
    write_jpeg(record.image, folder / name, record.intensities)
    return name


def own_name(record: Record) -> str:
    """The photo's path below the folder of the photos, such as ``cat/01.jpg`` of the id cat_01."""
    parts = record.image.parts
    for count in range(1, len(parts)):
        stem = PurePosixPath(*parts[-count:]).with_suffix("")
        if _id_of(stem.parts) == record.id:
            return "/".join(parts[-count:])
    return record.image.name


def _id_of(parts: Iterable[str]) -> str:
    return clean_id("_".join(parts))


class PhotoNames:
    """Which photo of the data set a name in a tool's file means."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = {record.id: record for record in records}

    def find(self, name: str) -> Record | None:
        """The photo of a name such as ``cat/01.jpg``, ``images/cat_01.jpg`` or ``cat_01``.

        A suffix of photos does not count. Folders are part of the id (``cat_01``); those in front
        that belong to no id are left out. The longest match wins.
        """
        for text in (name, unquote(name)):
            for stem in _stems(text):
                parts = PurePosixPath(stem).parts
                for first in range(len(parts)):
                    found = self.records.get(_id_of(parts[first:]))
                    if found is not None:
                        return found
        return None


def _stems(name: str) -> list[str]:
    """The name, the same without its suffix, and that without the prefix of an upload."""
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    stem = str(path.with_suffix("")) if path.suffix.lower() in (*IMAGES, *MASKS) else name
    parent, slash, last = stem.rpartition("/")
    return [name, stem, parent + slash + _UPLOADED.sub("", last, count=1)]
