"""``review.csv``: what a person decided about photos, written by the page of ``review``.

image,verdict,classes       the header; a line for each photo that was looked at
image                       the id of the photo
verdict                     accepted, rejected, or empty: not decided
classes                     the corrected classes, separated as in ``labels.csv``; empty: the labels
                            are not corrected; - : the photo shows none of the classes

An empty cell of ``labels.csv`` means no class. Here it means no correction, so no class needs a
sign of its own.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from getam.data.class_names import clean_name, counted
from getam.data.index import DataIndex
from getam.data.label_lines import each_once, read_rows
from getam.data.label_table import split_cells
from getam.data.review import ACCEPTED, REJECTED, Review
from getam.errors import UserError

HEADER = ["image", "verdict", "classes"]
NO_CLASS = "-"


def read_review(file: Path, index: DataIndex, split: str) -> Review:
    """Read a ``review.csv``.

    Args:
        index: the data set, with all its classes.
        split: the split to learn from.

    Raises:
        UserError: no such file, another header, an image that is not in the data set or is listed
            twice, an unknown verdict or class, or a train split whose photos are all rejected.
    """
    if not file.is_file():
        raise UserError(
            f"data.review: there is no file {file.absolute()}. Expected the path of a review.csv, "
            f"which the page of the command review writes. Give its path, from the folder in which "
            f"you start the command, or set data.review to null."
        )
    rows = _rows(file, index)
    verdicts = {i: verdict for i, (_, verdict, _) in rows.items() if verdict}
    cells = {i: cell for i, (*_, cell) in rows.items() if cell}
    places = {i: where for i, (where, *_) in rows.items()}
    review = Review(split, verdicts, _classes(file, cells, index.classes, places))
    _check_left(file, index, review)
    return review


def _rows(file: Path, index: DataIndex) -> dict[str, tuple[str, str, str]]:
    """Image id -> where its line is, its verdict and its cell of classes."""
    photos = {record.id for records in index.splits.values() for record in records}
    entries = []
    for number, row in read_rows(file, HEADER):
        where = f"{file}, line {number}"
        if len(row) != len(HEADER):
            raise UserError(
                f"{where}: got {len(row)} columns, expected {','.join(HEADER)}. Separate several "
                f"classes of an image by semicolons (cat;dog)."
            )
        image_id, verdict, cell = map(str.strip, row)
        if verdict not in ("", ACCEPTED, REJECTED):
            raise UserError(
                f"{where}: got the verdict {verdict!r}, expected {ACCEPTED}, {REJECTED} or an "
                f"empty cell."
            )
        entries.append((where, image_id, (where, verdict, cell)))
    return each_once(file, entries, photos, "the data set (the photos in its splits)")


def _classes(
    file: Path, cells: Mapping[str, str], classes: Sequence[str], places: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Image id -> its corrected classes; ``places`` say where the line of an image is."""
    nothing = {image_id for image_id, cell in cells.items() if cell == NO_CLASS}
    if nothing and NO_CLASS in classes:
        raise UserError(
            f"{places[min(nothing)]}: image {min(nothing)!r} has the classes {NO_CLASS!r}, which "
            f"means no class, but the data set has a class of this name. Rename that class."
        )
    named = {image_id: cell for image_id, cell in cells.items() if image_id not in nothing}
    split, _ = split_cells(named, classes, file)
    found = {image_id: {*map(clean_name, names)} for image_id, names in split.items()}
    for image_id, names in found.items():
        for name in sorted(names.difference(classes)):
            raise UserError(_unknown_class(places[image_id], image_id, name, classes))
    ordered = {i: tuple(name for name in classes if name in names) for i, names in found.items()}
    return {**ordered, **dict.fromkeys(nothing, ())}


def _unknown_class(where: str, image_id: str, name: str, classes: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, classes, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Mend the line."
    return (
        f"{where}: image {image_id!r} has the class {name!r}, expected one of the data set's "
        f"({', '.join(classes)}), or {NO_CLASS} for no class. {hint}"
    )


def _check_left(file: Path, index: DataIndex, review: Review) -> None:
    """Some photo must be left to learn from."""
    photos = index.splits.get(review.split, ())
    if photos and not any(review.keeps(review.split, record.id) for record in photos):
        raise UserError(
            f"{file}: all {len(photos)} photos of {review.split} are rejected, so nothing is left "
            f"to learn from. Accept some of them."
        )


def review_notes(name: str, review: Review, index: DataIndex) -> list[str]:
    """What a review changes in a data set, as sentences for ``data``.

    Args:
        name: of the file.
        index: the data set before the review.
    """
    counts = Counter(review.verdicts.values())
    notes = [
        f"{name}: photos that are accepted: {counts[ACCEPTED]}, rejected: {counts[REJECTED]}, with "
        f"corrected classes: {len(review.classes)}."
    ]
    train = [record.id for record in index.splits.get(review.split, ())]
    left = [image_id for image_id in train if not review.keeps(review.split, image_id)]
    if left:
        notes.append(
            f"{name}: {_rejected(len(left))} {'leaves' if len(left) == 1 else 'leave'} "
            f"{review.split}, {left[0]!r} first."
        )
    stay = counts[REJECTED] - len(left)
    if stay:
        is_one = stay == 1
        notes.append(
            f"{name}: {_rejected(stay)} {'is' if is_one else 'are'} not in {review.split} and "
            f"{'stays' if is_one else 'stay'}: without such photos the figures would be too high."
        )
    return notes + [f"{name}: {change}" for change in _changes(review, index)]


def _rejected(count: int) -> str:
    return counted(count, "rejected photo", "rejected photos")


def _changes(review: Review, index: DataIndex) -> Iterator[str]:
    """For each class, how many photos get it and how many lose it."""
    added: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    records = {record.id: record for some in index.splits.values() for record in some}
    for image_id, names in review.classes.items():
        before = {index.classes[c - 1] for c in records[image_id].labels or ()}
        added.update(set(names) - before)
        removed.update(before - set(names))
    for name in index.classes:
        if added[name] or removed[name]:
            yield (
                f"{name!r} is added to {counted(added[name], 'photo', 'photos')} and removed from "
                f"{counted(removed[name], 'photo', 'photos')}."
            )
