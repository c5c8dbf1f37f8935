"""Label tables: ``labels.csv`` and ``labels.json`` as image id -> class names.

How the classes in a cell of ``labels.csv`` are separated is decided once for the whole table:

- If any cell has a comma, semicolon, bar, tab or line break, these separate classes everywhere,
  and spaces belong to the names: ``traffic light;stop sign``.
- Otherwise spaces separate classes: ``cat dog``.
- A cell that is a line of ``classes.txt`` as it stands is that one class.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from getam.data.class_names import SEPARATORS, clean_name, is_list, spelling_notes
from getam.data.files import clean_id, no_such_image
from getam.errors import UserError

HEADER = ["image", "classes"]
DELIMITERS = ",;\t|"


class LabelTable(NamedTuple):
    """Image id -> its class names, and what a reader of the table should know."""

    names: dict[str, list[str]]
    notes: list[str]


def read_table(file: Path, images: Collection[str], listed: Collection[str]) -> LabelTable:
    """Read a label table.

    Args:
        images: the ids that there are photos of.
        listed: the names in ``classes.txt``; none without it.

    Raises:
        UserError: a table that cannot be read, a label for an image that is not there or that has
            one already, a list as text, a cell that can be read in two ways.
    """
    if file.suffix == ".json":
        return _cleaned(_read_json(file, images), [])
    cells = _read_csv(file, images)
    names, notes = split_cells(cells, set(listed), file)
    return _cleaned(names, notes)


def _cleaned(names: Mapping[str, list[str]], notes: list[str]) -> LabelTable:
    spellings: dict[str, set[str]] = {}
    for name in {name for some in names.values() for name in some}:
        spellings.setdefault(clean_name(name), set()).add(" ".join(name.split()))
    cleaned = {image_id: [*map(clean_name, some)] for image_id, some in names.items()}
    return LabelTable(cleaned, [*notes, *spelling_notes(spellings)])


def split_cells(
    cells: Mapping[str, str], listed: Collection[str], file: Path
) -> tuple[dict[str, list[str]], list[str]]:
    """The class names of each cell (see the module), and notes about how they were read."""
    for image_id, cell in cells.items():
        if cell[-1:] in "])}" and is_list(cell):
            raise UserError(
                f"{file}: image {image_id!r} has {cell}, a list as text; expected the class names "
                f"themselves, separated by semicolons (cat;dog), or a labels.json with lists."
            )
    texts = set(cells.values())
    whole = {cell for cell in texts if clean_name(cell) in listed}
    separated = any(SEPARATORS.search(cell) for cell in texts - whole)
    split = {cell: _split(cell, cell in whole, separated, listed) for cell in texts}
    names = {image_id: split[cell] for image_id, cell in cells.items()}
    _refuse_two_readings(names, separated, listed, file)
    return names, [] if listed else _space_notes(cells, names, separated, file)


def _split(cell: str, whole: bool, separated: bool, listed: Collection[str]) -> list[str]:
    parts = [cell] if whole else _separated(cell, listed) if separated else cell.split()
    return [name for name in map(str.strip, parts) if name]


def _separated(cell: str, listed: Collection[str]) -> list[str]:
    """The parts between separators; a listed name keeps the separators that it has itself."""
    own = sorted(filter(SEPARATORS.search, listed), key=len, reverse=True)
    names = "|".join([*map(re.escape, own), r"[^,;|\t\r\n]*"])
    return re.findall(rf"\s*({names})\s*(?:{SEPARATORS.pattern}|$)", cell)


def _refuse_two_readings(
    names: Mapping[str, list[str]], separated: bool, listed: Collection[str], file: Path
) -> None:
    """A name of several words, each of which is a class too, may be one class or several."""
    known = set(listed) or {clean_name(name) for some in names.values() for name in some}
    for image_id, some in names.items():
        for name in some:
            words = name.split()
            if len(words) == 1 or (separated and clean_name(name) in listed):
                continue
            if known.issuperset(map(clean_name, words)):
                raise UserError(
                    f"{file}: image {image_id!r} has {name!r}, which may be one class or the "
                    f"classes {' and '.join(words)}. Separate classes by semicolons in every cell "
                    f"({';'.join(words)})."
                )


def _space_notes(
    cells: Mapping[str, str], names: Mapping[str, list[str]], separated: bool, file: Path
) -> list[str]:
    """What spaces were taken for, where that is a guess."""
    several = {i: cell for i, cell in cells.items() if len(cell.split()) > 1}
    if separated:
        sure = {
            clean_name(name)
            for i, some in names.items()
            if SEPARATORS.search(cells[i])
            for name in some
        }
        several = {
            i: cell
            for i, cell in several.items()
            if not SEPARATORS.search(cell) and clean_name(cell) not in sure
        }
    if not several:
        return []
    alone = {some[0] for some in names.values() if len(some) == 1}
    image_id = next((i for i in several if not alone.issuperset(names[i])), next(iter(several)))
    if separated:
        return [
            f"{file.name}: a sign separates classes in some cells, so spaces belong to names: "
            f"{cells[image_id]!r} (image {image_id!r}) is one class. If it is several, separate "
            f"them by semicolons."
        ]
    return [
        f"{file.name}: spaces separate classes, so {cells[image_id]!r} (image {image_id!r}) is the "
        f"classes {' and '.join(names[image_id])}. If it is one name, list the names in "
        f"classes.txt, one a line, and separate several classes by semicolons."
    ]


def _read_json(file: Path, images: Collection[str]) -> dict[str, list[str]]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return each_once(file, [(file, key, value) for key, value in pairs], images)

    try:
        table = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except OSError as error:
        raise UserError(f"{file}: cannot read the label table ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON in UTF-8 ({error}).") from None
    if not isinstance(table, dict):
        raise UserError(f"{file}: got a {type(table).__name__}, expected {{image id: [classes]}}.")
    for image_id, names in table.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(
                f"{file}: image {image_id!r} has {names!r}, expected a list of class names."
            )
    return table


def _read_csv(file: Path, images: Collection[str]) -> dict[str, str]:
    """Image id -> its cell of classes."""
    entries = []
    for number, row in read_rows(file, HEADER):
        if len(row) != 2:
            raise UserError(
                f"{file}, line {number}: got {len(row)} columns, expected image,classes. Separate "
                f"several classes of an image by semicolons (cat;dog), or quote the cell."
            )
        entries.append((f"{file}, line {number}", row[0], row[1].strip()))
    return each_once(file, entries, images)


def each_once(
    file: Path,
    entries: list[tuple[Path | str, str, Any]],
    images: Collection[str],
    folder: str = "images/",
) -> dict[str, Any]:
    """Image id -> value of (where, image id or file name, value).

    Raises:
        UserError: an id that is not among ``images`` (those of ``folder``), or one given twice.
    """
    table: dict[str, Any] = {}
    for where, name, value in entries:
        image_id = clean_id(name.strip())
        if image_id not in images and os.path.splitext(image_id)[0] in images:
            image_id = os.path.splitext(image_id)[0]
        if image_id not in images:
            raise UserError(no_such_image(where, image_id, folder))
        if image_id in table:
            raise UserError(f"{where}: image {image_id!r} has a line above already.")
        table[image_id] = value
    return table


def read_rows(file: Path, header: list[str]) -> list[tuple[int, list[str]]]:
    """Line number and cells of each row below the header that is not blank.

    Raises:
        UserError: a file that cannot be read, or has another header.
    """
    text = _text(file)
    first = next(iter(text.splitlines()), "")
    delimiter = next((d for d in DELIMITERS if _cells(first, d) == header), None)
    if delimiter is None:
        raise UserError(
            f"{file}, line 1: got {first or 'nothing'!r}, expected the header {','.join(header)}."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: not a CSV table ({error}).") from None
    return [(number, row) for number, row in rows[1:] if any(map(str.strip, row))]


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _text(file: Path) -> str:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            return stream.read()
    except OSError as error:
        raise UserError(
            f"{file}: cannot read the label table ({error.strerror}). Expected a CSV file with "
            f"the header image,classes, a labels.json, or a sub-folder of images/ per class."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not UTF-8 text. Save the table as UTF-8.") from None
