"""The lines of ``labels.csv`` and ``labels.json``: image id -> its cell or its names, unread.

A ``labels.csv`` may have a line per photo, or a line per photo and class: if no cell has several
classes, and photos have several lines, the lines of a photo count together. Then a cell of several
words is one class, if a photo of several lines has it; else ``classes.txt`` must tell.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from getam.data.class_names import SEPARATORS
from getam.data.photo_lists import known_id, refuse_lost
from getam.errors import UserError, collected

HEADER = ["image", "classes"]
SHOWN = 200  # characters of a wrong header that are shown
TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".ods")
DELIMITERS = ",;\t|"
_SPACE_AFTER_QUOTE = re.compile(r"(\") +(?=\r|\n|$)", re.MULTILINE)
NOWHERE: Mapping[str, str] = MappingProxyType({})


def read_json(
    file: Path,
    images: Collection[str],
    elsewhere: Mapping[str, str],
    problems: list[str] | None,
) -> dict[str, list[str]]:
    """Image id -> its class names.

    Raises:
        UserError: as :func:`getam.data.label_table.read_table`.
    """

    try:
        # An object becomes a tuple of pairs, so that a photo that is there twice is seen.
        table = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except OSError as error:
        raise UserError(f"{file}: cannot read the label table ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON in UTF-8 ({error}).") from None
    if not isinstance(table, tuple):
        raise UserError(f"{file}: got a {type(table).__name__}, expected {{image id: [classes]}}.")
    entries = []
    for image_id, names in table:
        with collected(problems):
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                got = "an object {...}" if isinstance(names, tuple) else repr(names)[:SHOWN]
                raise UserError(
                    f"{file}: {image_id!r} has {got}, expected a list of class names. Write one "
                    f'object, with a list for each photo: {{"photo": ["cat", "dog"]}}.'
                )
            entries.append((file, image_id, names))
    return each_once(file, entries, images, "images/", elsewhere, problems)


def read_csv(
    file: Path,
    images: Collection[str],
    listed: Collection[str],
    elsewhere: Mapping[str, str],
    problems: list[str] | None,
) -> tuple[dict[str, str], list[str]]:
    """Image id -> its cell of classes; and a note if photos have several lines.

    Raises:
        UserError: as :func:`getam.data.label_table.read_table`.
    """
    lines: dict[str, list[tuple[int, str]]] = {}
    lost: dict[str, str] = {}
    delimiter = _delimiter(read_text(file), HEADER) or ","
    for number, row in read_rows(file, HEADER):
        with collected(problems):
            _refuse_columns(file, number, row, delimiter)
            image_id = known_id(row[0], images)
            if image_id in images:
                lines.setdefault(image_id, []).append((number, row[1].strip()))
            else:
                lost.setdefault(image_id, f"line {number}")
    with collected(problems):
        refuse_lost(file, lost, "images/", images, elsewhere)
    several = {i: rows for i, rows in lines.items() if len(rows) > 1}
    with collected(problems):
        _refuse_repeated(file, lines, several, delimiter)
    with collected(problems):
        _refuse_words(file, lines, several, listed)
    # Line breaks separate classes.
    cells = {i: "\n".join(dict.fromkeys(c for _, c in rows)) for i, rows in lines.items()}
    return cells, _lines_note(file, several, len(lines))


def _refuse_columns(file: Path, number: int, row: Sequence[str], delimiter: str) -> None:
    if len(row) != len(HEADER):
        raise UserError(
            f"{file}, line {number}: got {len(row)} columns, expected 2, the photo and its "
            f"classes. Put several classes of a photo in quotes: "
            f'{row[0].strip()}{delimiter}"cat;dog"'
        )


def _refuse_repeated(
    file: Path,
    lines: Mapping[str, Sequence[tuple[int, str]]],
    several: Mapping[str, Sequence[tuple[int, str]]],
    delimiter: str,
) -> None:
    """Several lines for a photo are right only if every line of the table has one class."""
    for image_id, rows in several.items():
        (first, one), (number, other) = rows[:2]
        if "" in (one, other) and one != other:
            raise UserError(
                f"{file}, line {number}: photo {image_id!r} has classes in one line and none in "
                f"another (line {first}). Remove one of the lines."
            )
    if several and any(SEPARATORS.search(cell) for rows in lines.values() for _, cell in rows):
        image_id, rows = next(iter(several.items()))
        joined = ";".join(dict.fromkeys(cell for _, cell in rows))
        cell = f'"{joined}"' if delimiter in joined else joined
        raise UserError(
            f"{file}, line {rows[1][0]}: photo {image_id!r} has a line already (line "
            f"{rows[0][0]}). Where a cell of the table has several classes, write one line per "
            f"photo: {image_id}{delimiter}{cell}"
        )


def _refuse_words(
    file: Path,
    lines: Mapping[str, Sequence[tuple[int, str]]],
    several: Mapping[str, Sequence[tuple[int, str]]],
    listed: Collection[str],
) -> None:
    """One photo with several lines does not make one class of ``cat dog`` elsewhere."""
    repeated = [i for i, rows in several.items() if len({cell for _, cell in rows}) > 1]
    if not repeated or listed:  # with classes.txt, what is no class is refused as unknown
        return
    known = {cell for i in repeated for _, cell in several[i]}
    cells = ((number, i, cell) for i, rows in lines.items() for number, cell in rows)
    for number, image_id, cell in cells:
        if len(cell.split()) > 1 and cell not in known:
            raise UserError(
                f"{file}, line {number}: photo {image_id!r} has {cell!r}, which may be one class "
                f"or several, as photos have several lines ({repeated[0]!r} first). If it is one "
                f"class, list the class names in classes.txt, one a line. If it is several, write "
                f"one line per photo."
            )


def _lines_note(file: Path, several: Mapping[str, Any], count: int) -> list[str]:
    if not several:
        return []
    return [
        f"{file.name}: {len(several)} of {count} photos have several lines, "
        f"{next(iter(several))!r} first. Each line adds its class to the photo."
    ]


def each_once(
    file: Path,
    entries: list[tuple[Path | str, str, Any]],
    images: Collection[str],
    folder: str = "images/",
    elsewhere: Mapping[str, str] = NOWHERE,
    problems: list[str] | None = None,
) -> dict[str, Any]:
    """Image id -> value of (where, image id or file name, value).

    Raises:
        UserError: an id that is not among ``images`` (those of ``folder``), or one given twice.
    """
    table: dict[str, Any] = {}
    lost: dict[str, str] = {}
    for where, name, value in entries:
        image_id = known_id(name, images)
        if image_id not in images:
            lost.setdefault(image_id, str(where).removeprefix(str(file)).lstrip(", "))
            continue
        with collected(problems):
            if image_id in table:
                raise UserError(
                    f"{where}: photo {image_id!r} stands there twice, expected once. Remove one."
                )
            table[image_id] = value
    with collected(problems):
        refuse_lost(file, lost, folder, images, elsewhere)
    return table


def read_rows(file: Path, header: list[str]) -> list[tuple[int, list[str]]]:
    """Line number and cells of each row below the header that is not blank.

    Raises:
        UserError: a file that cannot be read, or has another header.
    """
    text = read_text(file)
    delimiter = _delimiter(text, header)
    if delimiter is None:
        first = next(iter(text.splitlines()), "")[:SHOWN]
        other = " A table with 0 or 1 for each class has the header image,cat,dog: the class names."
        raise UserError(
            f"{file}, line 1: got {first or 'nothing'!r}, expected the header {','.join(header)}: "
            f"these {len(header)} columns, their names in small letters. Rename the columns, and "
            f"delete other ones.{other if header == HEADER else ''}"
        )
    rows = [*numbered_rows(file, text, delimiter)]
    return [(number, row) for number, row in rows[1:] if any(map(str.strip, row))]


def numbered_rows(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line of each row, and its cells."""
    lines = io.StringIO(_SPACE_AFTER_QUOTE.sub(r"\1", text), newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{file}, line {first}: not a CSV table ({error}). A quote seems not to be closed, "
                f'or to end before its cell does. Put a whole cell in quotes ("cat;dog"), or none '
                f"of it; write a quote that belongs to a name twice."
            ) from None
        yield first, row


def _delimiter(text: str, header: list[str]) -> str | None:
    """What separates the columns, if the first line of the text is the header."""
    first = next(iter(text.splitlines()), "")
    return next((d for d in DELIMITERS if header_cells(first, d) == header), None)


def header_cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a cell of over 131,072 characters
        return []


def read_text(file: Path) -> str:
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            return stream.read()
    except OSError as error:
        raise UserError(
            f"{file}: cannot read the label table ({error.strerror}). Expected a CSV file with "
            f"the header image,classes, a labels.json, or a sub-folder of images/ per "
            f"class.{_other_table(file)}"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            f"{file}: not UTF-8 text. Save the table as CSV in UTF-8, from the program that it "
            f"comes from; to rename a spreadsheet file is not enough."
        ) from None


def _other_table(file: Path) -> str:
    """A sentence about a file in the same folder that may be the table, under another name."""
    beside = sorted(file.parent.iterdir()) if file.parent.is_dir() else []
    found = [one.name for one in beside if one.suffix.lower() in TABLES and one.is_file()]
    if not found:
        return ""
    return f" If {found[0]!r} is the table, save it as {file.name}: CSV in UTF-8."
