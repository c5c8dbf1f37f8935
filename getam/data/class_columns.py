"""Label tables with a column for each class: ``image,cat,dog``, and 0 or 1 in each cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from getam.data.class_names import RESERVED, clean_name, counted
from getam.data.label_lines import (
    DELIMITERS,
    HEADER,
    each_once,
    header_cells,
    numbered_rows,
    read_text,
)
from getam.errors import UserError, collected

__all__ = ["class_columns", "read_class_columns"]

FEWEST = 2  # with one column of 0 and 1, 0 may be a class or none
VALUES = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
WORDS = ("yes", "no", "y", "n", "x", "t", "f", "wahr", "falsch", "vrai", "faux")  # for 1 and 0
SHOWN = 5  # column names in a sentence


def class_columns(file: Path) -> str | None:
    """What separates the columns, if the table has one for each class; else None.

    It has, if its header is ``image`` and two names at least, none of which is ``classes``, and
    its first line has numbers, or words for 0 and 1, in two of these columns.

    Raises:
        UserError: the file cannot be read, or has one such column.
    """
    text = read_text(file)
    lines = [line for line in text.splitlines() if line.strip()]
    for delimiter in DELIMITERS if len(lines) > 1 else ():
        header = header_cells(lines[0], delimiter)
        if header[:1] != HEADER[:1] or HEADER[1] in header:
            continue
        cells = header_cells(lines[1], delimiter)[1:]
        if len(header) > FEWEST and sum(map(_seems_a_value, cells)) >= FEWEST:
            return delimiter
        if len(header) == FEWEST and _is_one_class(file, lines[1:], delimiter):
            raise UserError(
                f"{file}: got one column of 0 and 1, {header[1]!r}; 0 may be a class or none. If "
                f"{header[1]!r} is your only class, call the column classes, write {header[1]} for "
                f"1, and leave the cell empty for 0. If 0 and 1 are two classes, write their names."
            )
    return None


def _seems_a_value(cell: str) -> bool:
    """Whether a cell was meant as 0 or 1, or as a probability."""
    try:
        float(cell)
    except ValueError:
        return cell.lower() in (*VALUES, *WORDS)
    return True


def _is_one_class(file: Path, lines: Sequence[str], delimiter: str) -> bool:
    cells = [header_cells(line, delimiter)[1:] for line in lines]
    return all(len(own) == 1 and own[0].lower() in VALUES for own in cells)


def read_class_columns(
    file: Path,
    delimiter: str,
    images: Collection[str],
    elsewhere: Mapping[str, str],
    problems: list[str] | None,
) -> tuple[dict[str, list[str]], list[str]]:
    """Image id -> names of the columns that have a 1; and notes about how the table was read.

    Raises:
        UserError: a cell that is neither 0 nor 1, a line with too few or too many cells, a column
            without a name or with that of another one, a photo that is not there, or twice.
    """
    lines = numbered_rows(file, read_text(file), delimiter)
    (first, header), *rows = ((number, row) for number, row in lines if any(map(str.strip, row)))
    columns = [clean_name(name) for name in header[1:]]
    _refuse_names(f"{file}, line {first}", columns)
    entries = []
    wrong: dict[str, list[tuple[int, str]]] = {}  # column -> its cells that are neither
    for number, row in rows:
        with collected(problems):
            _refuse_length(file, number, row, header)
            values = dict(zip(columns, (VALUES.get(cell.strip().lower()) for cell in row[1:])))
            for name, cell in zip(columns, row[1:]):
                if values[name] is None:
                    wrong.setdefault(name, []).append((number, cell.strip()))
            names = [name for name in columns if values[name]]
            entries.append((f"{file}, line {number}", row[0], names))
    for name, cells in wrong.items():
        with collected(problems):
            _refuse_cells(file, name, cells)
    table = each_once(file, entries, images, elsewhere=elsewhere, problems=problems)
    return table, _notes(file, columns, table)


def _refuse_names(where: str, columns: Sequence[str]) -> None:
    for position, name in enumerate(columns, start=2):
        if not name:
            raise UserError(
                f"{where}: column {position} has no name, expected a class. Name it, or "
                f"delete the column."
            )
        if name.casefold() in RESERVED:
            raise UserError(
                f"{where}: got a column {name!r}, which is no class. Delete it: a photo "
                f"with 0 in all columns shows background alone."
            )
        if columns.count(name) > 1:
            raise UserError(
                f"{where}: two columns are called {name!r}, expected one for each class. "
                f"Rename or delete one of them."
            )


def _refuse_length(file: Path, number: int, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise UserError(
            f"{file}, line {number}: got {len(row)} columns, expected {len(header)} as in the "
            f"header: the photo, and 0 or 1 for each class."
        )


def _refuse_cells(file: Path, name: str, cells: Sequence[tuple[int, str]]) -> None:
    (number, first), *more = cells
    others = f" (and {counted(len(more), 'other line is', 'other lines are')} wrong)"
    raise UserError(
        f"{file}, line {number}: column {name!r} has {first!r}, expected 0 or 1, as the table "
        f"has a column for each class{others if more else ''}. If {name!r} is no class, delete the "
        f"column; if it has the class names, call it classes and delete the others. If nobody "
        f"knows whether a photo shows the class, delete the line of the photo."
    )


def _notes(file: Path, columns: Sequence[str], table: Mapping[str, Sequence[str]]) -> list[str]:
    shown = {name for names in table.values() for name in names}
    never = [name for name in columns if name not in shown]
    notes = [f"{file.name}: read as a table with a column for each class: {_listed(columns)}."]
    if never:
        notes.append(
            f"{file.name}: no photo has a 1 in {_listed(never)}, so "
            f"{'this is no class' if len(never) == 1 else 'these are no classes'} here."
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {more} more" if more > 0 else "")
