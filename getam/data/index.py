"""What a data set is: images with ids, image-level labels, optional masks and saliency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from getam.errors import UserError


@dataclass(frozen=True)
class Record:
    """One image. ``labels`` are class ids 1..C in rising order; None: not labelled."""

    id: str
    image: Path
    labels: tuple[int, ...] | None
    mask: Path | None = None
    saliency: Path | None = None


@dataclass(frozen=True)
class DataIndex:
    """Class names (id 1 first), and the records of each split in the order of its list."""

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Record]] = field(repr=False)

    def split(self, name: str) -> Sequence[Record]:
        """The records of a split.

        Raises:
            UserError: the split does not exist or is empty.
        """
        if name not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise UserError(
                f"{self.root}: there is no split {name!r} (known: {known}). Add "
                f"splits/{name}.txt with one image id per line, or set data.train and data.val."
            )
        if not self.splits[name]:
            raise UserError(
                f"{self.root}: split {name!r} is empty, expected at least one image id in "
                f"splits/{name}.txt."
            )
        return self.splits[name]

    def labelled(self, name: str) -> Sequence[Record]:
        """The records of a split that have image-level labels.

        Raises:
            UserError: there is none.
        """
        records = [r for r in self.split(name) if r.labels is not None]
        if not records:
            raise UserError(
                f"{self.root}: no image of split {name!r} has a line in the label table; "
                f"expected image-level labels for at least one."
            )
        return records
