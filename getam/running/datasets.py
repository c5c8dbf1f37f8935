"""Opens the data set of a run, of any kind. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from getam.data.folder import read_folder
from getam.data.review import reviewed

if TYPE_CHECKING:
    from getam.data.index import DataIndex
    from getam.running.context import Context


def open_index(context: Context, made: Path | None, classes: Sequence[str] | None) -> DataIndex:
    """The data set of a run, with only the classes ``classes`` (None: all).

    It is the folder ``made`` by the data stage or, if there is no such stage, the user's data set.
    For COCO the data stage makes labels and masks, and the photos stay in the user's folder.
    """
    if made is None:
        return context.index
    index = reviewed(unreviewed_index(context, made), context.review)
    return index.with_corrections(context.corrections).subset(classes)


def unreviewed_index(context: Context, made: Path | None) -> DataIndex:
    """The data set of a run as it is on the disk: all classes, no review and no corrections."""
    if made is None:
        return context.on_disk
    if context.on_disk is None:
        return read_folder(made)
    photos = [context.root / split for split in context.on_disk.splits]
    found = read_folder(made, context.saliency, photos)
    return found.with_intensities(context.intensities)
