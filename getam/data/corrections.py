"""Masks that were corrected by hand: a folder of ``ID.png``, and which of them only measure.

ID.png, CLASS/NAME.png     masks with the class ids of the data set, as in ``masks/``; 255 is ignore
sample.txt                 one ID a line: photos that were drawn at random, to measure
classes.txt                the classes that the values of the masks mean, as import writes it

A network learns from the masks of the train photos that are not in ``sample.txt``. Those in it give
a figure with an interval, which says something about all photos only because chance chose them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from getam.data.class_names import clean_name
from getam.data.files import MASKS, find_files
from getam.data.photo_lists import read_ids, read_lines
from getam.data.unread import unread_notes
from getam.errors import UserError

SAMPLE = "sample.txt"
CLASSES = "classes.txt"


@dataclass(frozen=True)
class Corrections:
    """Image id -> corrected mask, the ids of ``sample.txt``, and the names in ``classes.txt``."""

    folder: Path
    files: Mapping[str, Path]
    sample: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def read_corrections(folder: Path, photos: Collection[str]) -> Corrections:
    """Index a folder of corrected masks; opens no mask.

    Args:
        photos: the ids of all photos of the data set.

    Raises:
        UserError: no such folder, no mask in it, or a mask or a line of ``sample.txt`` for a photo
            that is not there. ``sample_check`` looks further at the sample.
    """
    if not folder.is_dir():
        raise UserError(
            f"data.corrections: there is no folder {folder}. Expected a folder with a mask ID.png "
            f"for each corrected photo. Give its absolute path or its name below data.root, or set "
            f"data.corrections to null."
        )
    unread: list[str] = []
    files = find_files(folder, MASKS, nested=True, unread=unread)
    if not files:
        raise UserError(
            f"data.corrections: there is no mask in {folder}. Expected a file ID.png for each "
            f"corrected photo. Put the masks there, or set data.corrections to null."
        )
    for image_id, file in files.items():
        if image_id not in photos:
            raise UserError(
                f"{file}: got a corrected mask for {image_id!r}, but no split of this run has "
                f"such a photo. Give the mask the name of its photo, add the photo to a split, or "
                f"remove the mask."
            )
    others = [name for name in unread if name not in (SAMPLE, CLASSES)]
    listed = folder / SAMPLE
    sample = read_ids(listed, photos, "the data set") if listed.is_file() else []
    notes = tuple(unread_notes(folder, others, MASKS, nested=True))
    return Corrections(folder, files, frozenset(sample), notes, listed_classes(folder))


def listed_classes(folder: Path) -> tuple[str, ...]:
    """The classes by the values of the masks in a folder (value 1 first); none if not listed."""
    file = folder / CLASSES
    return tuple(clean_name(name) for _, name in read_lines(file)) if file.is_file() else ()


def check_meaning(folder: Path, listed: Sequence[str], classes: Sequence[str]) -> None:
    """Whether the values of the masks in a folder mean the same classes as in the data set.

    Args:
        listed: what :func:`listed_classes` gives for the folder.
        classes: of the data set, by the values of its masks. It may have more classes at the end.

    Raises:
        UserError: they mean others.
    """
    for value, name in enumerate(listed, start=1):
        here = classes[value - 1] if value <= len(classes) else None
        if name != here:
            now = "no class" if here is None else repr(here)
            raise UserError(
                f"{folder / CLASSES}: in the masks of this folder the value {value} is {name!r}, "
                f"but in the data set it is {now} now. {_remedy(listed, classes)}"
            )


def _remedy(listed: Sequence[str], classes: Sequence[str]) -> str:
    gone = [name for name in listed if name not in classes]
    renamed = gone and f"If {gone[0]!r} was renamed, write its new name in its line in this file. "
    return (
        f"{renamed or ''}If the order changed, list the classes in the classes.txt of the data "
        f"folder in the order of the masks ({', '.join(listed)}), new classes last (with "
        f"data.kind=folder), or import the masks again from the file of the tool, into a new "
        f"folder."
    )
