"""Image-level labels that cannot teach what they are meant to, however good the photos are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from getam.data.index import LABELS_OF_A_PHOTO, Record

LISTED = 5  # classes or pairs in a sentence


class Photos(NamedTuple):
    """A class, and the numbers of the photos that are labelled with it."""

    name: str
    shown: frozenset[int]


def unlabelled(split: str, records: Sequence[Record]) -> str | None:
    """The sentence for a split without a label; None where there is one."""
    if any(record.labels is not None for record in records):
        return None
    return f"{split}: no photo is labelled. Give each photo its labels: {LABELS_OF_A_PHOTO}."


def label_problems(split: str, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """What a classifier cannot learn from the labels of a split, and what to add."""
    found, count = _photos_of(records, classes)
    always = [one.name for one in found if count and len(one.shown) == count]
    problems = []
    if always:
        problems.append(
            f"{split}: all {count} labelled photos show {_listed(always)}, so nothing teaches how "
            f"a photo without it looks. Add photos that do not show it; where they show no class "
            f"at all, leave their cell in the label table empty."
        )
    return problems + [
        f"{split}: {' and '.join(names)} are always labelled together (in {number} photos), so "
        f"labels cannot tell them apart. {_words_hint(names)}Add photos that show one without the "
        f"other, or make them one class."
        for names, number in _together(found)
    ]


def label_notes(split: str, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Classes that are never alone: each only where a certain other is."""
    found, count = _photos_of(records, classes)
    pairs = [
        f"{one.name} (always with {other.name})"
        for one in found
        for other in found
        if one.shown < other.shown and one.shown and len(other.shown) < count
    ]
    if not pairs:
        return []
    return [
        f"{split}: some classes are labelled only together with another one: {_listed(pairs)}. "
        f"Their maps may cover both. Photos that show the first without the second would help."
    ]


def _photos_of(records: Sequence[Record], classes: Sequence[str]) -> tuple[list[Photos], int]:
    """The photos of each class, and how many are labelled."""
    labelled = [record.labels for record in records if record.labels is not None]
    shown: list[set[int]] = [set() for _ in classes]
    for number, labels in enumerate(labelled):
        for class_id in labels:
            shown[class_id - 1].add(number)
    return [Photos(n, frozenset(s)) for n, s in zip(classes, shown)], len(labelled)


def _together(found: Sequence[Photos]) -> list[tuple[list[str], int]]:
    """Classes that are in the very same photos, and in how many."""
    groups: dict[frozenset[int], list[str]] = {}
    for one in found:
        groups.setdefault(one.shown, []).append(one.name)
    return [(names, len(shown)) for shown, names in groups.items() if shown and len(names) > 1]


def _words_hint(names: Sequence[str]) -> str:
    """A cell ``Zebra Longwing`` is two classes, unless ``classes.txt`` has the name."""
    if any(" " in name for name in names):
        return ""
    return "If they are the words of one class name, list that name in classes.txt. "


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
