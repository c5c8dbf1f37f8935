"""What a data set is: images with ids, image-level labels, optional masks and saliency."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from getam.data.class_names import clean_name
from getam.data.corrections import check_meaning
from getam.data.label_values import IGNORE
from getam.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from getam.data.corrections import Corrections

LABELS_OF_A_PHOTO = (
    "a line in labels.csv for each photo, with an empty cell where it shows none of the classes "
    "(of a VOC folder Annotations/ID.xml, of a COCO folder annotations/instances_SPLIT.json)"
)


@dataclass(frozen=True)
class Record:
    """One image. ``labels`` are class ids 1..C in rising order; None: not labelled.

    ``()`` is an image with none of the classes: background only. ``intensities`` are the values of
    a photo of more than 8 bits that become 0 and 255 (see ``getam.data.intensity``).
    ``correction`` is a mask that was corrected by hand, ``in_sample`` whether the photo was drawn
    at random to measure (see ``getam.data.corrections``).
    """

    id: str
    image: Path
    labels: tuple[int, ...] | None
    mask: Path | None = None
    saliency: Path | None = None
    intensities: tuple[float, float] | None = None
    correction: Path | None = None
    in_sample: bool = False


@dataclass(frozen=True)
class DataIndex:
    """Class names (id 1 first), and the records of each split in the order of its list.

    ``mask_classes`` are the classes by the values of the mask files (value 1 first), where they
    are not ``classes`` themselves; ``lists`` is the folder of the split lists, as errors name it;
    ``results`` is where an evaluation server expects predictions; ``hints`` say of a split that
    is missing where to get it; ``notes`` are sentences about what was read, for ``data``;
    ``intensities`` are those of each record.
    """

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Record]] = field(repr=False)
    mask_classes: tuple[str, ...] = ()
    lists: str = "splits"
    results: str = "results"
    hints: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    intensities: tuple[float, float] | None = None

    def split(self, name: str) -> Sequence[Record]:
        """The records of a split.

        Raises:
            UserError: the split does not exist or is empty.
        """
        if name not in self.splits:
            known = ", ".join(self.splits) or "none"
            remedy = self.hints.get(name) or (
                f"Add {self.lists}/{name}.txt with one photo ID per line, or set data.train and "
                f"data.val."
            )
            raise UserError(f"{self.root}: there is no split {name!r} (known: {known}). {remedy}")
        if not self.splits[name]:
            raise UserError(
                f"{self.root}: split {name!r} is empty, expected at least one photo ID in "
                f"{self.lists}/{name}.txt. Write the IDs of some photos there, and take them out "
                f"of the other lists; or add photos."
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
                f"{self.root}: no photo of split {name!r} is labelled; expected image-level labels "
                f"of at least one. Add {LABELS_OF_A_PHOTO}."
            )
        return records

    def subset(self, names: Sequence[str] | None) -> DataIndex:
        """The same images with only the classes ``names``, whose ids are 1.. in that order.

        The other classes vanish from the labels, and are ignored (255) in the masks. An image
        that is left without a label stays, as one of background only. None: all classes.

        Raises:
            UserError: a name that is no class, or one twice.
        """
        names = None if names is None else tuple(map(clean_name, names))
        if names is None or names == self.classes:
            return self
        for name in names:
            if name not in self.classes:
                raise UserError(self._unknown_class(name))
            if names.count(name) > 1:
                raise UserError(f"data.classes: got class {name!r} twice, expected each once.")
        numbers = {self.classes.index(name) + 1: n for n, name in enumerate(names, start=1)}

        def relabelled(record: Record) -> Record:
            if record.labels is None:
                return record
            kept = sorted(numbers[c] for c in record.labels if c in numbers)
            return replace(record, labels=tuple(kept))

        splits = {name: [*map(relabelled, records)] for name, records in self.splits.items()}
        known = self.mask_classes or self.classes
        return replace(self, classes=names, splits=splits, mask_classes=known)

    def with_intensities(self, intensities: tuple[float, float] | None) -> DataIndex:
        """The same images, their values in this range; None: all have 8 bits."""
        if intensities == self.intensities:
            return self
        splits = {
            name: [replace(record, intensities=intensities) for record in records]
            for name, records in self.splits.items()
        }
        return replace(self, splits=splits, intensities=intensities)

    def with_corrections(self, corrections: Corrections | None) -> DataIndex:
        """The same images with their corrected masks; None: there are none.

        Raises:
            UserError: the values of these masks mean other classes.
        """
        if corrections is None:
            return self
        if self.classes:  # those of a COCO data set are known only after its stage data
            check_meaning(
                corrections.folder, corrections.classes, self.mask_classes or self.classes
            )
        files, sample = corrections.files, corrections.sample
        splits = {
            name: [
                replace(record, correction=files.get(record.id), in_sample=record.id in sample)
                for record in records
            ]
            for name, records in self.splits.items()
        }
        return replace(self, splits=splits, notes=(*self.notes, *corrections.notes))

    def without_records(self) -> DataIndex:
        """What is needed to read masks, and little to send to another process."""
        return replace(self, splits={})

    def _unknown_class(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.classes, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(self.classes)}."
        return f"data.classes: {self.root} has no class {name!r}. {hint}"

    def read_mask(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
        """The mask of an image as (H, W) uint8: 0 background, class ids, 255 ignore.

        Every mask of a data set is read here, so that a subset of classes counts everywhere.

        Args:
            size: (H, W) that the mask must have; without it that of the image, from its header.

        Raises:
            UserError: as ``getam.data.masks.read_mask``.
        """
        from getam.data.images import image_size
        from getam.data.masks import read_mask

        size = size or image_size(record.image)
        mask = read_mask(record.mask, size, len(self.mask_classes or self.classes))
        return self._class_ids[mask] if self.mask_classes else mask

    def read_correction(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
        """The corrected mask of an image, with the arguments and errors of :meth:`read_mask`."""
        return self.read_mask(replace(record, mask=record.correction), size)

    def mask_values(self, labels: np.ndarray) -> np.ndarray:
        """Class ids (no 255) as the values that the mask files have for these classes."""
        return self._values[labels]

    @cached_property
    def _values(self) -> np.ndarray:
        import numpy as np

        known = self.mask_classes or self.classes
        return np.array([0, *(known.index(name) + 1 for name in self.classes)], np.uint8)

    @cached_property
    def _class_ids(self) -> np.ndarray:
        """(256,): value in a mask file -> class id."""
        import numpy as np

        lookup = np.full(256, IGNORE, np.uint8)
        lookup[self._values] = np.arange(len(self._values))
        return lookup
