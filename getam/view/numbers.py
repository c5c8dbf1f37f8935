"""Numbers with their nouns."""

from __future__ import annotations


def counted(count: int, one: str, several: str) -> str:
    """A count and what is counted, in the right number.

    >>> counted(1, "problem", "problems"), counted(2, "class", "classes")
    ('1 problem', '2 classes')
    """
    return f"{count} {one if count == 1 else several}"
