"""A data folder: ``images/``, a label table, and optional ``masks/ saliency/ splits/``.

images/ID.jpg|.jpeg|.png|...    the photos; ID is the file name without its suffix
labels.csv                      header ``image,classes``; class names separated by spaces
labels.json                     or this instead: {"ID": ["class name", ...], ...}
images/CLASS/NAME.jpg|...       or this: no table, one class per image, the name of its
                                sub-folder; ID is then CLASS_NAME, and masks/ and saliency/
                                may have sub-folders as well
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
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from getam.data.files import IMAGES, MASKS, SALIENCY, find_files, read_ids, read_lines
from getam.data.index import DataIndex, Record
from getam.data.label_values import MOST_CLASSES
from getam.errors import UserError

Table = dict[str, list[str]]


def read_folder(
    root: Path, saliency: Path | None = None, images: Sequence[Path] | None = None
) -> DataIndex:
    """Index a data folder; opens no image.

    Args:
        saliency: folder of the saliency maps, instead of ``saliency/``.
        images: folders of the photos, instead of ``images/``.

    Raises:
        UserError: a missing folder or table, an unknown class, a label or a split line for an
            image that is not there, an id that leaves the folder.
    """
    root = Path(root)
    tables = [root / name for name in ("labels.csv", "labels.json") if (root / name).is_file()]
    if len(tables) == 2:
        raise UserError(f"{root}: got labels.csv and labels.json, expected one. Remove the other.")
    nested = not tables and _has_folders(root / "images")
    photos = _photos(root, images, nested)
    masks = find_files(root / "masks", MASKS, nested)
    salient = find_files(saliency or root / "saliency", SALIENCY, nested)
    file = tables[0] if tables else root / "labels.csv"
    if nested:
        table = {image_id: [path.parent.name] for image_id, path in photos.items()}
    else:
        table = _read_json(file) if file.suffix == ".json" else _read_csv(file, photos)
    for image_id in table:
        _require_image(image_id, photos, file)
    classes = _read_classes(root, table, file)
    numbers = {name: number for number, name in enumerate(classes, start=1)}

    def record(image_id: str) -> Record:
        names = table.get(image_id)
        labels = None if names is None else tuple(sorted({numbers[name] for name in names}))
        return Record(
            image_id, photos[image_id], labels, masks.get(image_id), salient.get(image_id)
        )

    splits = _read_splits(root, photos)
    return DataIndex(root, classes, {name: [*map(record, ids)] for name, ids in splits.items()})


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in os.scandir(folder))


def _photos(root: Path, folders: Sequence[Path] | None, nested: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders or [root / "images"]:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: this folder is missing. Expected a data folder with {folder.name}/ and "
                f"labels.csv; set data.root to it."
            )
        found |= find_files(folder, IMAGES, nested)
    return found


def _read_json(file: Path) -> Table:
    try:
        table = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON in UTF-8 ({error}).") from None
    if not isinstance(table, dict):
        raise UserError(f"{file}: got a {type(table).__name__}, expected {{image id: [classes]}}.")
    for image_id, names in table.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(
                f"{file}: image {image_id!r} has {names!r}, expected a list of class names."
            )
    return table


def _read_csv(file: Path, images: Mapping[str, Path]) -> Table:
    table: Table = {}
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
        _require_image(image_id, images, f"{file}, line {number}")
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
            f"the header image,classes, a labels.json, or a sub-folder of images/ per class."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text. Save the table as UTF-8.") from None
    if not rows or [cell.strip() for cell in rows[0]] != ["image", "classes"]:
        got = ",".join(rows[0]) if rows else "nothing"
        raise UserError(f"{file}, line 1: got {got!r}, expected the header image,classes.")
    return rows[1:]


def _require_image(image_id: str, images: Mapping[str, Path], where: str | Path) -> None:
    if image_id not in images:
        raise UserError(
            f"{where}: got {image_id!r}, but images/ has no such image. Add the image or remove "
            f"the line."
        )


def _read_classes(root: Path, table: Table, labels: Path) -> tuple[str, ...]:
    file = root / "classes.txt"
    used = sorted({name for names in table.values() for name in names})
    if not file.is_file():
        classes = used
    else:
        classes = [name for _, name in read_lines(file)]
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise UserError(f"{file}: class {twice[0]!r} stands there twice, expected once.")
    if not classes or len(classes) > MOST_CLASSES:
        raise UserError(f"{file}: got {len(classes)} classes, expected 1 to {MOST_CLASSES}.")
    for name in used:
        if name not in classes:
            raise UserError(_unknown_class(labels, name, classes, table))
    return tuple(classes)


def _unknown_class(file: Path, name: str, classes: list[str], table: Table) -> str:
    image_id = next(image_id for image_id, names in table.items() if name in names)
    near = difflib.get_close_matches(name, classes, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Add it to classes.txt or mend the table."
    return (
        f"{file}: image {image_id!r} has the class {name!r}, expected one of classes.txt "
        f"({', '.join(classes)}). {hint}"
    )


def _read_splits(root: Path, images: Mapping[str, Path]) -> dict[str, list[str]]:
    folder = root / "splits"
    if not folder.is_dir():
        ids = list(images)
        return {"train": [i for n, i in enumerate(ids) if n % 5 != 4], "val": ids[4::5]}
    files = sorted(folder.glob("*.txt"))
    return {file.stem: read_ids(file, images, "images/") for file in files}
