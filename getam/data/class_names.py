"""Class names: how they are compared, in which order they get their ids, and which are refused."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from getam.data.label_values import MOST_CLASSES
from getam.errors import UserError

RESERVED = ("background", "ignore", "ignored")  # rows of tables and label maps have these names
NOTHING = frozenset(("nan", "none", "null", "na", "n/a", "nothing", "empty", "-"))
SEPARATORS = re.compile(r"[,;|\t\r\n]")
TRUTHS = frozenset(("true", "false", "yes", "no", "y", "n", "t", "f"))
JOINING = re.compile(r"[+&/\\；、，＋]")  # signs that people write between classes
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


@lru_cache(4096)  # a table has few names in many lines
def clean_name(name: str) -> str:
    """A name as names are compared: Unicode form NFC, and single spaces.

    >>> clean_name(" traffic   light ")
    'traffic light'
    """
    return " ".join(unicodedata.normalize("NFC", name).split())


def ordered(names: Iterable[str]) -> list[str]:
    """Names in their natural order: numbers by value, also inside of names.

    >>> ordered(["10", "9", "-1"]), ordered(["part 10", "part 9", "dog"])
    (['-1', '9', '10'], ['dog', 'part 9', 'part 10'])
    """
    names = list(names)
    if all(_NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names, key=lambda name: (_natural(name), name))


def _natural(name: str) -> list[tuple[str, int]]:
    parts = re.split(r"(\d+)", name)  # text and digits in turn
    return [(text, int(digits)) for text, digits in zip(parts[::2], [*parts[1::2], "0"])]


def is_list(text: str) -> bool:
    """Whether a text is in brackets, as a list of Python, NumPy or JSON is.

    >>> is_list("['cat', 'dog']"), is_list("bow (weapon)")
    (True, False)
    """
    text = text.strip()
    return len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]


def check_classes(classes: Sequence[str], where: Path | str) -> tuple[str, ...]:
    """The classes, if each can be one; ``where`` is the file or folder that names them.

    Raises:
        UserError: none or too many, one twice, a reserved name, a list or quotes as a name.
    """
    if not classes:
        raise UserError(
            f"{where}: got no class, expected the name of one class at least. Write into the label "
            f"table which photos show it."
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(
            f"{where}: got {len(classes)} classes, expected {MOST_CLASSES} at most: a mask has one "
            f"byte for each pixel. Leave out classes, or put some of them together."
        )
    for name in classes:
        check_name(name, where)
        if classes.count(name) > 1:
            raise UserError(f"{where}: class {name!r} stands there twice, expected once.")
    return tuple(classes)


def check_name(name: str, where: Path | str) -> None:
    """Whether a class can be called so.

    Raises:
        UserError: it is empty, a reserved name, a list or in quotes.
    """
    if not name:
        raise UserError(f"{where}: got a class with an empty name, expected a name.")
    if name.casefold() in RESERVED:
        raise UserError(
            f"{where}: got a class called {name!r}, a name that background (0) or ignored pixels "
            f"(255) have already. {_no_class(Path(where))}"
        )
    if is_list(name) or name[0] in "'\"" or name[-1] == '"':
        raise UserError(
            f"{where}: got {name}, a list or a quoted text, where a class name is expected. Write "
            f"the names themselves, separated by semicolons: cat;dog."
        )


def _no_class(where: Path) -> str:
    """What to do with background, or ignored pixels, in the place of a class."""
    if where.name == "classes.txt":
        return "Delete this line: the first class has the value 1 in masks, and background 0."
    if where.is_dir():
        return (
            "Put all photos into the folder itself, and write their classes into a labels.csv; "
            "leave the cell of a photo that shows no class empty."
        )
    return "Rename the class; for a photo that shows no class, leave its cell in labels.csv empty."


def refuse_truths(classes: Collection[str], where: Path | str) -> None:
    """Names that only say whether something is there, but not what.

    Raises:
        UserError: all names are such words.
    """
    if classes and {name.casefold() for name in classes} <= TRUTHS:
        raise UserError(
            f"{where}: the only names are {' and '.join(map(repr, sorted(classes)))}, which do not "
            f"say what a photo shows; expected names of classes. Write the name of the class where "
            f"a photo shows it, and leave the cell empty where it shows none. If they are names of "
            f"classes, list them in classes.txt."
        )


def refuse_joined(classes: Collection[str], where: Path | str) -> None:
    """Names such as ``cat+dog`` where ``cat`` and ``dog`` are classes too, and a sign as a name.

    Raises:
        UserError: there is one.
    """
    for name in classes:
        parts = [clean_name(part) for part in JOINING.split(name)]
        if not any(parts):
            raise UserError(
                f"{where}: got {name!r} as a class, expected a name. If it stands between two "
                f"classes, write a semicolon in its place, in every cell that has several classes."
            )
        if len({*parts}) > 1 and all(part in classes for part in parts):
            several = (
                "separate them as in other cells, or, in a table with a column for each class, "
                "write 1 in the column of each and delete this one"
            )
            if Path(where).suffix == ".json":
                several = f"write {json.dumps(parts, ensure_ascii=False)}"
            raise UserError(
                f"{where}: got {name!r}, which may be one class or the classes "
                f"{' and '.join(parts)}. If it is several, {several}. If it is one class, list "
                f"all class names in classes.txt."
            )


def as_yaml(names: Sequence[str]) -> str:
    """Names as a list in a setting, in one line: quoted where they would be something else.

    >>> as_yaml(["cat", "yes", "1", "a: b"])
    "[cat, 'yes', '1', 'a: b']"
    """
    text = yaml.safe_dump([*names], default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.strip()


def counted(count: int, one: str, several: str) -> str:
    """A count and what is counted, in the right number.

    >>> counted(1, "photo is", "photos are"), counted(3, "photo is", "photos are")
    ('1 photo is', '3 photos are')
    """
    return f"{count} {one if count == 1 else several}"


def name_notes(classes: Sequence[str]) -> list[str]:
    """What looks wrong about the names of a data set's classes, a sentence each."""
    return [*_alike(classes), *_punctuated(classes), *_numbers(classes), *_nothing(classes)]


def spelling_notes(spellings: Mapping[str, Collection[str]]) -> list[str]:
    """Names that were written in several Unicode forms: cleaned name -> how it was written."""
    names = [name for name, written in spellings.items() if len(written) > 1]
    return [
        f"{name!r} is written in {len(spellings[name])} Unicode forms that look alike; they count "
        f"as one class."
        for name in names
    ]


def _alike(classes: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(_skeleton(name), []).append(name)
    return [
        f"Classes {' and '.join(map(repr, names))} look alike (upper and lower case, spaces, signs "
        f"or invisible characters differ). They count as {len(names)} classes; if they are one, "
        f"write one name everywhere."
        for names in groups.values()
        if len(names) > 1
    ]


def _skeleton(name: str) -> str:
    """The letters and digits of a name; all of it where it has none."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in folded if c.isalnum()) or folded


def _punctuated(classes: Sequence[str]) -> list[str]:
    names = [name for name in classes if SEPARATORS.search(name)]
    return [
        f"Class {name!r} is one class, although its name has a sign that separates classes."
        for name in names
    ]


def _numbers(classes: Sequence[str]) -> list[str]:
    """Numbers as names, where they are not the ids."""
    wrong = [
        (name, number)
        for number, name in enumerate(classes, start=1)
        if not (name.isdecimal() and int(name) == number)
    ]
    if not wrong or not all(map(_NUMBER.fullmatch, classes)):
        return []
    name, number = wrong[0]
    return [
        f"The class names are numbers, but not the class ids: class {name!r} has id {number}. "
        f"Masks must have the ids (1 to {len(classes)}), not the names."
    ]


def _nothing(classes: Sequence[str]) -> list[str]:
    return [
        f"There is a class called {name!r}. If it says that a photo shows no class, leave the "
        f"cell of the photo empty instead."
        for name in classes
        if name.casefold() in NOTHING
    ]
