"""What a review of the photos changes in a data set (see ``getam.data.review_table``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getam.data.index import DataIndex, Record

ACCEPTED, REJECTED = "accepted", "rejected"


@dataclass(frozen=True)
class Review:
    """The lines of a ``review.csv``.

    Attributes:
        split: the split to learn from, which rejected photos leave.
        verdicts: image id -> ``accepted`` or ``rejected``; photos without a verdict are not there.
        classes: image id -> the corrected class names; ``()`` is a photo of none of the classes.
    """

    split: str
    verdicts: Mapping[str, str]
    classes: Mapping[str, tuple[str, ...]]

    def keeps(self, split: str, image_id: str) -> bool:
        """Whether a photo stays in a split."""
        return split != self.split or self.verdicts.get(image_id) != REJECTED


def reviewed(index: DataIndex, review: Review | None) -> DataIndex:
    """The same data with corrected image-level labels, and no rejected photo in the train split.

    ``index`` has all classes of the data set, not a subset. Rejected photos of other splits stay:
    figures measured only on photos that someone found good would be too high.
    """
    if review is None:
        return index
    numbers = {name: number for number, name in enumerate(index.classes, start=1)}

    def corrected(record: Record) -> Record:
        names = review.classes.get(record.id)
        if names is None:
            return record
        return replace(record, labels=tuple(sorted({numbers[name] for name in names})))

    splits = {
        name: [corrected(record) for record in records if review.keeps(name, record.id)]
        for name, records in index.splits.items()
    }
    return replace(index, splits=splits)
