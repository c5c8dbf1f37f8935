"""Opening the data set of a run, whichever its kind. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from getam.data.folder import read_folder

if TYPE_CHECKING:
    from getam.data.index import DataIndex
    from getam.running.context import Context


def open_index(context: Context, made: Path | None, classes: Sequence[str] | None) -> DataIndex:
    """The user's data set, or the folder ``made`` by the data stage, with ``classes`` alone.

    Of COCO labels and masks are made, and its photos lie where the user has them.
    """
    if made is None:
        return context.index
    if context.index is None:
        return read_folder(made).subset(classes)
    photos = [context.root / split for split in context.index.splits]
    found = read_folder(made, context.saliency, photos)
    return found.subset(classes).with_intensities(context.intensities)
