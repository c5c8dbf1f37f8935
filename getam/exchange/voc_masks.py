"""PASCAL VOC: mask files in colours, and labelmap.txt that says which class has which colour.

labelmap.txt                        name:R,G,B:: in a line
SegmentationClass/ID.png            the class of each pixel
SegmentationObject/ID.png           the object of each pixel: here one per class
ImageSets/Segmentation/NAME.txt     ids, one a line
JPEGImages/ID.jpg                   the photos

CVAT's format "Segmentation mask 1.1" is this without photos, in an archive.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from getam.cache import atomic_write_bytes
from getam.data.class_names import counted
from getam.data.label_values import BACKGROUND
from getam.data.palette import write_label_png
from getam.errors import UserError
from getam.exchange.batch import BACKGROUND_NAME, Batch, colours, hexadecimal
from getam.exchange.copies import copy_photo

CLASSES, OBJECTS, LISTS = "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"
LABEL_MAP = "labelmap.txt"
_NO_NAME = (":", "#")  # a name in labelmap.txt ends at a colon, and # begins a comment


def write_voc(batch: Batch, folder: Path) -> str:
    """Write a VOC folder, with ``JPEGImages/`` if photos are wanted; what, in words.

    Raises:
        UserError: a class name that labelmap.txt cannot have.
    """
    batch.write_sample(folder)
    _write_masks(batch, folder)
    if batch.with_photos:
        for photo in batch.photos:
            copy_photo(photo.record, folder / "JPEGImages")
    return counted(len(batch.photos), "photo", "photos")


def write_cvat(batch: Batch, folder: Path) -> str:
    """Write what CVAT asks for; what, in words.

    labels.json, to paste where a task gets its labels; images/ to upload; annotations.zip, in the
    format "Segmentation mask 1.1", to upload as annotations.

    Raises:
        UserError: a class name that labelmap.txt cannot have.
    """
    batch.write_sample(folder)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        _write_masks(batch, Path(place))
        with zipfile.ZipFile(folder / "annotations.zip", "w") as archive:
            for file in sorted(Path(place).rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(place).as_posix())
    if batch.with_photos:
        for photo in batch.photos:
            copy_photo(photo.record, folder / "images")
    named = {name: c for name, c in colours(batch.classes).items() if name != BACKGROUND_NAME}
    labels = [
        {"name": name, "color": hexadecimal(colour), "type": "any", "attributes": []}
        for name, colour in named.items()
    ]
    atomic_write_bytes(
        folder / "labels.json", json.dumps(labels, indent=1, ensure_ascii=False).encode()
    )
    return counted(len(batch.photos), "photo", "photos")


def _write_masks(batch: Batch, folder: Path) -> None:
    (folder / LISTS).mkdir(parents=True)
    atomic_write_bytes(folder / LABEL_MAP, label_map(batch.classes).encode())
    for photo in batch.tracked():
        labels = photo.read()
        objects = np.unique(labels)
        objects = objects[objects != BACKGROUND]
        numbers = np.zeros(256, np.uint8)
        numbers[objects] = np.arange(1, len(objects) + 1)
        for name, values in ((CLASSES, labels), (OBJECTS, numbers[labels])):
            target = folder / name / f"{photo.record.id}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_label_png(target, values)
    ids = "".join(f"{photo.record.id}\n" for photo in batch.photos)
    (folder / LISTS / "default.txt").write_text(ids, encoding="utf-8")


def label_map(classes: Sequence[str]) -> str:
    """The lines of labelmap.txt: background, the classes, and the ignored pixels.

    Raises:
        UserError: a class name that they cannot have.
    """
    wrong = [name for name in classes if _NO_NAME[0] in name or name.startswith(_NO_NAME[1])]
    if wrong:
        raise UserError(
            f"{wrong[0]}: a class name with ':' in it or '#' before it cannot stand in "
            f"{LABEL_MAP}. Export with --format coco or --format label-studio, or rename the class."
        )
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{r},{g},{b}::" for name, (r, g, b) in colours(classes).items()]
    return "\n".join(lines) + "\n"
