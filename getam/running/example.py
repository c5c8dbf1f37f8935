"""What is known of the embedded example before the data stage draws its photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from getam.data.index import DataIndex, Record

if TYPE_CHECKING:
    from getam.config.schema import Shapes


def drawn_index(shapes: Shapes) -> DataIndex:
    """The ids and classes of the example; the records name no file."""
    from getam.data.shapes import CLASSES

    counts = {"train": shapes.train, "val": shapes.val}
    splits = {
        name: [Record(f"{name}_{number:04}", Path(), None) for number in range(count)]
        for name, count in counts.items()
    }
    return DataIndex(Path(), CLASSES, splits)
