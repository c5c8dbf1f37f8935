"""Numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things.

    >>> counted(1, "problem"), counted(2, "problem"), counted(0, "class", "classes")
    ('1 problem', '2 problems', '0 classes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
