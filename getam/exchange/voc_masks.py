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
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from getam.cache import atomic_write_bytes
from getam.data.class_names import counted
from getam.data.files import IMAGES
from getam.data.label_values import BACKGROUND, IGNORE
from getam.data.palette import write_label_png
from getam.data.photo_lists import read_lines
from getam.errors import UserError
from getam.exchange.batch import BACKGROUND_NAME, Batch, colours, hexadecimal, voc_colour
from getam.exchange.copies import copy_photo
from getam.exchange.drawn import Drawn, Reading, files_in

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


def read_voc_drawn(place: Path, reading: Reading) -> Iterator[Drawn]:
    """The photos of a VOC folder. One that is in a list and has no mask is not annotated.

    Raises:
        UserError: a folder or file that is not as VOC's, or a colour that labelmap.txt has not.
    """
    root = _root(place)
    named = _read_label_map(root / LABEL_MAP)
    folder = root / CLASSES
    masks = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in files_in(folder, ".png")
    }
    lists = sorted((root / LISTS).glob("*.txt"))
    listed = [_listed(line) for file in lists for _, line in read_lines(file)]
    for name in filter(reading.wanted, dict.fromkeys((*masks, *listed))):
        labels = _read_colours(masks[name], named, reading) if name in masks else None
        yield Drawn(name, labels, masks.get(name, root))


def _listed(line: str) -> str:
    """The name of a photo in a list, as masks have it: without the folder of photos and ending."""
    name = line.replace("\\", "/").strip("/").removeprefix("JPEGImages/")
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in IMAGES else name


def _root(place: Path) -> Path:
    """The folder that has the masks: this one, or one below it."""
    if place.is_file():
        raise UserError(
            f"{place}: got a file, expected the archive (.zip) that the tool wrote, or the folder "
            f"with {CLASSES}/ and {LABEL_MAP}."
        )
    found = [place] if (place / CLASSES).is_dir() else sorted(place.rglob(CLASSES))
    if len(found) != 1:
        raise UserError(
            f"{place}: got {len(found)} folders {CLASSES}/ in it, expected one. In CVAT, export "
            f"in the format 'Segmentation mask 1.1'."
        )
    return found[0] if found[0] == place else found[0].parent


def _read_label_map(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Name and colour (R, G, B) of each line; without a colour it is that of VOC's palette.

    Raises:
        UserError: there is no such file, or a line is not as it should be.
    """
    if not file.is_file():
        raise UserError(
            f"{file}: this file is missing. It says which class has which colour; export from the "
            f"tool again, or put it back."
        )
    found = []
    for number, line in read_lines(file):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = rest.partition(":")[0] or ",".join(map(str, voc_colour(len(found))))
        numbers = colour.split(",")
        if len(numbers) != 3 or not all(n.strip().isdecimal() and int(n) < 256 for n in numbers):
            raise UserError(f"{file}, line {number}: got {line!r}, expected name:R,G,B::")
        found.append((name, tuple(map(int, numbers))))
    return found


def _read_colours(
    file: Path, named: Sequence[tuple[str, tuple[int, ...]]], reading: Reading
) -> np.ndarray:
    """A mask file in the values of the data set. A grey file has the numbers of the lines."""
    try:
        with Image.open(file) as image:
            grey = image.mode == "L"
            pixels = np.array(image if grey else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{file}: cannot read this mask ({error}). Export it from the tool again."
        ) from None
    if not grey:
        _check_colours(file, named)
    keys = range(len(named)) if grey else [r << 16 | g << 8 | b for _, (r, g, b) in named]
    codes = pixels if grey else pixels.astype(np.int32) @ (1 << 16, 1 << 8, 1)
    found, inverse = np.unique(codes, return_inverse=True)
    names = {key: name for key, (name, _) in zip(keys, named)}
    values = [_value(file, names, int(code), grey, reading) for code in found]
    return np.array(values, np.uint8)[inverse.reshape(codes.shape)]


def _check_colours(file: Path, named: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Each colour means one class.

    Raises:
        UserError: two names of the label map have one colour.
    """
    of: dict[tuple[int, ...], str] = {}
    for name, colour in named:
        if of.setdefault(colour, name) != name:
            raise UserError(
                f"{file}: {LABEL_MAP} gives {of[colour]!r} and {name!r} the same colour "
                f"{','.join(map(str, colour))}, expected one for each. Give one of them another "
                f"colour, and draw its pixels in it."
            )


def _value(file: Path, names: dict[int, str], code: int, grey: bool, reading: Reading) -> int:
    if code in names:
        return reading.names.value(names[code])
    if code == 0 or (grey and code == IGNORE):
        return code
    got = f"grey value {code}" if grey else f"colour {code >> 16},{code >> 8 & 255},{code & 255}"
    raise UserError(
        f"{file}: got a pixel of the {got}, which {LABEL_MAP} does not declare. If a program "
        f"smoothed the edges, save the mask without smoothing; else add the class to {LABEL_MAP}."
    )
