"""Opens the data set of a run, of any kind. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from getam.data.folder import read_folder
from getam.data.index import DataIndex, Record

if TYPE_CHECKING:
    from getam.config.schema import Shapes
    from getam.running.context import Context


def open_index(context: Context, made: Path | None, classes: Sequence[str] | None) -> DataIndex:
    """The data set of a run, with only the classes ``classes`` (None: all).

    It is the folder ``made`` by the data stage or, if there is no such stage, the user's data set.
    For COCO the data stage makes labels and masks, and the photos stay in the user's folder.
    """
    if made is None:
        return context.index
    if context.index is None:
        return read_folder(made).subset(classes).with_corrections(context.corrections)
    photos = [context.root / split for split in context.index.splits]
    found = read_folder(made, context.saliency, photos).with_corrections(context.corrections)
    return found.subset(classes).with_intensities(context.intensities)


def drawn_index(shapes: Shapes) -> DataIndex:
    """The ids and classes of the embedded example, known before the data stage draws its photos."""
    from getam.data.shapes import CLASSES

    counts = {"train": shapes.train, "val": shapes.val}
    splits = {
        name: [Record(f"{name}_{number:04}", Path(), None) for number in range(count)]
        for name, count in counts.items()
    }
    return DataIndex(Path(), CLASSES, splits)
