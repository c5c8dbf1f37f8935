"""A data folder: ``images/``, ``labels.csv``, and optional ``masks/ saliency/ splits/``.

images/ID.jpg|.jpeg|.png|...    the photos; ID is the file name without its suffix
labels.csv                      header ``image,classes``; class names separated by spaces
classes.txt                     one class name a line, ids 1..C in this order
                                (without it: the names in the table, sorted)
splits/NAME.txt                 one ID a line (without the folder: every image is in
                                ``train``, and every fifth one of them in ``val`` instead)
masks/ID.png                    palette or grey PNG, 0 background, 1..C, 255 ignore
saliency/ID.png                 grey, 0..255
"""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from getam.data.index import DataIndex, Record
from getam.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def read_folder(root: Path) -> DataIndex:
    """Index a data folder; opens no image.

    Raises:
        UserError: a missing folder or table, an unknown class, a label or a split line for an
            image that is not there, an id that leaves the folder.
    """
    root = Path(root)
    images = _files(root, "images", SUFFIXES, required=True)
    masks = _files(root, "masks", (".png",))
    saliency = _files(root, "saliency", (".png", ".jpg", ".jpeg"))
    table = _read_table(root, images)
    classes = _read_classes(root, table)
    numbers = {name: number for number, name in enumerate(classes, start=1)}

    def record(image_id: str) -> Record:
        names = table.get(image_id)
        labels = None if names is None else tuple(sorted({numbers[name] for name in names}))
        return Record(
            image_id, images[image_id], labels, masks.get(image_id), saliency.get(image_id)
        )

    splits = _read_splits(root, images)
    return DataIndex(root, classes, {name: [*map(record, ids)] for name, ids in splits.items()})


def _files(
    root: Path, name: str, suffixes: Iterable[str], required: bool = False
) -> dict[str, Path]:
    folder = root / name
    if not folder.is_dir():
        if required:
            raise UserError(
                f"{folder}: this folder is missing. Expected a data folder with {name}/ and "
                f"labels.csv; set data.root to it."
            )
        return {}
    inside = os.path.realpath(folder)
    found: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            stem, suffix = os.path.splitext(entry.name)
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


def _is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _read_table(root: Path, images: Mapping[str, Path]) -> dict[str, list[str]]:
    file = root / "labels.csv"
    table: dict[str, list[str]] = {}
    for number, row in enumerate(_rows(file), start=2):
        if not row:
            continue
        if len(row) != 2:
            raise UserError(
                f"{file}, line {number}: got {len(row)} columns, expected image,classes "
                f"(class names separated by spaces)."
            )
        image_id, names = row[0].strip(), row[1].split()
        if image_id not in images and os.path.splitext(image_id)[0] in images:
            image_id = os.path.splitext(image_id)[0]
        _require_image(image_id, images, file, number)
        if image_id in table:
            raise UserError(f"{file}, line {number}: image {image_id!r} has a line above already.")
        table[image_id] = names
    return table


def _rows(file: Path) -> list[list[str]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise UserError(
            f"{file}: cannot read the label table ({error.strerror}). Expected a CSV file with "
            f"the header image,classes."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text. Save the table as UTF-8.") from None
    if not rows or [cell.strip() for cell in rows[0]] != ["image", "classes"]:
        got = ",".join(rows[0]) if rows else "nothing"
        raise UserError(f"{file}, line 1: got {got!r}, expected the header image,classes.")
    return rows[1:]


def _require_image(image_id: str, images: Mapping[str, Path], file: Path, number: int) -> None:
    if image_id not in images:
        raise UserError(
            f"{file}, line {number}: got {image_id!r}, but images/ has no such image. Add the "
            f"image or remove the line."
        )


def _read_classes(root: Path, table: Mapping[str, list[str]]) -> tuple[str, ...]:
    file = root / "classes.txt"
    used = sorted({name for names in table.values() for name in names})
    if not file.is_file():
        classes = used
    else:
        classes = file.read_text(encoding="utf-8-sig").split()
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise UserError(f"{file}: class {twice[0]!r} stands there twice, expected once.")
    if not classes or len(classes) > 254:
        raise UserError(f"{file}: got {len(classes)} classes, expected 1 to 254.")
    for name in used:
        if name not in classes:
            raise UserError(_unknown_class(root, file, name, classes, table))
    return tuple(classes)


def _unknown_class(
    root: Path, file: Path, name: str, classes: list[str], table: Mapping[str, list[str]]
) -> str:
    image_id = next(image_id for image_id, names in table.items() if name in names)
    near = difflib.get_close_matches(name, classes, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Add it to {file.name} or mend the table."
    return (
        f"{root / 'labels.csv'}: image {image_id!r} has the class {name!r}, expected one of "
        f"{file.name} ({', '.join(classes)}). {hint}"
    )


def _read_splits(root: Path, images: Mapping[str, Path]) -> dict[str, list[str]]:
    folder = root / "splits"
    if not folder.is_dir():
        ids = list(images)
        return {"train": [i for n, i in enumerate(ids) if n % 5 != 4], "val": ids[4::5]}
    splits: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.txt")):
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        ids = []
        for number, line in enumerate(lines, start=1):
            if image_id := line.strip():
                _require_image(image_id, images, file, number)
                ids.append(image_id)
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise UserError(f"{file}: image {twice!r} stands there twice, expected once.")
        splits[file.stem] = ids
    return splits
