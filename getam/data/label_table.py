"""Label tables: ``labels.csv`` and ``labels.json`` as image id -> class names.

How the classes in a cell of ``labels.csv`` are separated is decided once for the whole table:

- If any cell has a comma, semicolon, bar, tab or line break, these separate classes everywhere,
  and spaces belong to the names: ``traffic light;stop sign``.
- Otherwise spaces separate classes: ``cat dog``.
- A cell that is a line of ``classes.txt`` as it stands is that one class.

``getam.data.label_lines`` reads the lines. ``getam.data.class_columns`` reads the other form of the
table, with a column for each class.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from getam.data.class_columns import class_columns, read_class_columns
from getam.data.class_names import SEPARATORS, clean_name, is_list, spelling_notes
from getam.data.label_lines import NOWHERE, read_csv, read_json
from getam.errors import UserError, collected


class LabelTable(NamedTuple):
    """Image id -> its class names, and what a reader of the table should know."""

    names: dict[str, list[str]]
    notes: list[str]


def read_table(
    file: Path,
    images: Collection[str],
    listed: Collection[str],
    elsewhere: Mapping[str, str] = NOWHERE,
    problems: list[str] | None = None,
) -> LabelTable:
    """Read a label table.

    Args:
        images: the ids that there are photos of.
        listed: the names in ``classes.txt``; none without it.
        elsewhere: id -> path of each photo in a folder that is not read.
        problems: gets each mistake in a line, which is then left out; None: it is raised.

    Raises:
        UserError: a table that cannot be read, a label for a photo that is not there or that has
            one already, a list as text, a cell that can be read in two ways; with a column for
            each class, a cell that is neither 0 nor 1.
    """
    if file.suffix == ".json":
        return _cleaned(read_json(file, images, elsewhere, problems), [])
    if delimiter := class_columns(file):
        return LabelTable(*read_class_columns(file, delimiter, images, elsewhere, problems))
    cells, notes = read_csv(file, images, listed, elsewhere, problems)
    names, more = split_cells(cells, set(listed), file, problems)
    return _cleaned(names, notes + more)


def _cleaned(names: Mapping[str, list[str]], notes: list[str]) -> LabelTable:
    spellings: dict[str, set[str]] = {}
    for name in {name for some in names.values() for name in some}:
        spellings.setdefault(clean_name(name), set()).add(" ".join(name.split()))
    cleaned = {image_id: [*map(clean_name, some)] for image_id, some in names.items()}
    return LabelTable(cleaned, [*notes, *spelling_notes(spellings)])


def split_cells(
    cells: Mapping[str, str],
    listed: Collection[str],
    file: Path,
    problems: list[str] | None = None,
) -> tuple[dict[str, list[str]], list[str]]:
    """The class names of each cell (see the module), and notes about how they were read."""
    lists = {i: cell for i, cell in cells.items() if cell[-1:] in "])}" and is_list(cell)}
    if lists:
        with collected(problems):
            _refuse_lists(lists, file)
        cells = {i: cell for i, cell in cells.items() if i not in lists}
    texts = set(cells.values())
    whole = {cell for cell in texts if clean_name(cell) in listed}
    separated = any(SEPARATORS.search(cell) for cell in texts - whole)
    split = {cell: _split(cell, cell in whole, separated, listed) for cell in texts}
    names = {image_id: split[cell] for image_id, cell in cells.items()}
    with collected(problems):
        _refuse_two_readings(names, separated, listed, file)
    return names, [] if listed else _space_notes(cells, names, separated, file)


def _refuse_lists(lists: Mapping[str, str], file: Path) -> None:
    image_id, cell = next(iter(lists.items()))
    count = f"{len(lists)} lines have lists as text; the first: " if len(lists) > 1 else ""
    raise UserError(
        f"{file}: {count}photo {image_id!r} has {cell}, a list as text; expected the class names "
        f"themselves, separated by semicolons (cat;dog), or a labels.json with lists."
    )


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
                    f"{file}: photo {image_id!r} has {name!r}, which may be one class or the "
                    f"classes {' and '.join(words)}. Separate classes by semicolons in every "
                    f"cell: {';'.join(words)}, or {name}; for the one class."
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
            f"{file.name}: some cells separate classes by ; or another sign, so a space does not "
            f"separate classes: {cells[image_id]!r} (photo {image_id!r}) is one class. If it is "
            f"several, write {';'.join(cells[image_id].split())}."
        ]
    return [
        f"{file.name}: spaces separate classes, so {cells[image_id]!r} (photo {image_id!r}) is the "
        f"classes {' and '.join(names[image_id])}. If it is one name, list the names in "
        f"classes.txt, one a line, and separate several classes by semicolons."
    ]
