"""From what a tool wrote to a folder of masks ID.png with the class ids of the data set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from getam.cache import atomic_write_bytes
from getam.data.class_names import counted
from getam.data.corrections import CLASSES, check_meaning, listed_classes
from getam.data.files import MASKS, find_files
from getam.data.images import image_size
from getam.data.index import DataIndex, Record
from getam.data.label_values import BACKGROUND, IGNORE
from getam.data.masks import read_mask
from getam.data.palette import write_label_png
from getam.data.photo_lists import read_ids
from getam.errors import UserError
from getam.exchange.archive import unpacked
from getam.exchange.batch import SAMPLE
from getam.exchange.coco_json import read_coco_drawn
from getam.exchange.copies import ORIENTATION, UPRIGHT, PhotoNames
from getam.exchange.drawn import Drawn, Names, Reading
from getam.exchange.label_studio import read_label_studio
from getam.exchange.voc_masks import read_voc_drawn

READERS: dict[str, Callable[[Path, Reading], Iterator[Drawn]]] = {
    "coco": read_coco_drawn,
    "voc": read_voc_drawn,
    "cvat": read_voc_drawn,
    "label-studio": read_label_studio,
}


@dataclass
class Imported:
    """What was imported: the ids of the masks, how many replaced one, and notes for the user."""

    ids: list[str] = field(default_factory=list)
    replaced: int = 0
    sample: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Importer:
    """Takes masks from a tool's file for the photos of a data set.

    Args:
        names: class names as label values (see :func:`class_names`).
        only: ids of photos; the others are left out. None: all.
        as_background: whether a photo that is not annotated is background alone; else it is left
            out.
    """

    def __init__(
        self,
        data: DataIndex,
        names: Names,
        *,
        only: Collection[str] | None = None,
        as_background: bool = False,
    ) -> None:
        self.data, self.photos = data, photos_of(data)
        self.reading = Reading(names, self._wanted)
        self.only, self.as_background = only, as_background
        self.done = Imported()
        self._unknown: list[str] = []
        self._empty: list[str] = []
        self._before: dict[str, Path] = {}
        self._more: list[str] = []
        self._in_sample: list[str] = []
        self._kept = 0

    def run(
        self, kind: str, file: Path, folder: Path, sample: Path | None, track: Callable
    ) -> Imported:
        """Read a file, archive or folder of a tool, and put the masks into ``folder``.

        Nothing is put there before all masks are right. A mask that is there is replaced.

        Raises:
            UserError: what is not as expected, in one sentence.
        """
        self._refuse_photos(folder)
        classes, listed_before = self.data.mask_classes or self.data.classes, listed_classes(folder)
        check_meaning(folder, listed_before, classes)
        self._before = find_files(folder, MASKS, nested=True)
        is_new = bool(listed_before) or not self._before
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            unpacked(file) as place,
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import-") as temporary,
        ):
            for drawn in track(READERS[kind](place, self.reading)):
                self._take(drawn, Path(temporary))
            self._check(file)
            listed = self._sample_list(file, place, sample)
            self._place(Path(temporary), folder)
        if is_new:  # else it has masks of which nobody wrote down what they mean
            atomic_write_bytes(folder / CLASSES, "".join(f"{c}\n" for c in classes).encode())
        self._carry(listed, folder)
        self._note()
        return self.done

    def _refuse_photos(self, folder: Path) -> None:
        """Refuse a folder that has photos of the data set, which masks would replace."""
        place = folder.resolve()
        for parent in {record.image.parent for record in self.photos.records.values()}:
            if parent.resolve().is_relative_to(place):
                raise UserError(
                    f"{folder}: got the folder of the photos, where masks would replace them. "
                    f"Choose another one with -o, such as corrections."
                )

    def _wanted(self, name: str) -> bool:
        """Whether a photo of a tool's file is read; without --only also one that is unknown."""
        record = self.photos.find(name)
        return self.only is None or (record is not None and record.id in self.only)

    def _take(self, drawn: Drawn, folder: Path) -> None:
        record = self.photos.find(drawn.name)
        if record is None:
            self._unknown.append(f"{drawn.where}: {drawn.name!r}")
            return
        if drawn.labels is None:
            self._empty.append(record.id)
            if not self.as_background:
                return
        if record.id in self.done.ids:
            raise UserError(
                f"{drawn.where}: got a second mask for photo {record.id!r} (as {drawn.name!r}), "
                f"expected one. Export each photo once, or remove one of the two."
            )
        labels = self._with_other_classes(self._sized(drawn, record), record)
        write_label_png(folder / f"{record.id}.png", labels)
        self.done.ids.append(record.id)
        if drawn.in_sample:
            self._in_sample.append(record.id)
        if self._has_other_classes(record, labels):
            self._more.append(record.id)

    def _sized(self, drawn: Drawn, record: Record) -> np.ndarray:
        """The mask, which must have the size of its photo; zeros for background alone."""
        size = image_size(record.image)
        if drawn.labels is None or drawn.labels.size == 0:
            return np.full(size, BACKGROUND, np.uint8)
        if drawn.labels.shape == size:
            return drawn.labels
        (height, width), (tall, wide) = drawn.labels.shape, size
        cause = "Annotate the photo at its own size, not a resized copy of it."
        if (width, height) == size and not _is_upright(record.image):
            cause = (
                "The file has an EXIF orientation, and the tool did not turn it upright. Annotate "
                "the upright copies that export writes."
            )
        raise UserError(
            f"{drawn.where}: the mask of photo {record.id!r} is {width} x {height}, expected "
            f"{wide} x {tall} as {record.image} is (width x height). {cause}"
        )

    def _with_other_classes(self, labels: np.ndarray, record: Record) -> np.ndarray:
        """What the mask before has of classes that are not in data.classes: the tool ignored it."""
        before = self._before.get(record.id)
        if before is None or not self.data.mask_classes:
            return labels
        try:
            old = read_mask(before, labels.shape, len(self.data.mask_classes))
        except UserError:  # this mask is what the import mends
            return labels
        used = self.data.mask_values(np.arange(len(self.data.classes) + 1))
        kept = (labels == IGNORE) & (old != IGNORE) & ~np.isin(old, used)
        self._kept += bool(kept.any())
        return np.where(kept, old, labels)

    def _has_other_classes(self, record: Record, labels: np.ndarray) -> bool:
        """Whether the mask shows a class that the photo is not labelled with."""
        if record.labels is None:
            return False
        counted = self.data.mask_values(np.arange(1, len(self.data.classes) + 1))
        own = self.data.mask_values(np.array(record.labels, int))
        return bool(np.setdiff1d(np.intersect1d(labels, counted), own).size)

    def _check(self, file: Path) -> None:
        if self._unknown:
            raise UserError(
                f"{self._unknown[0]} is no photo of the data set ({len(self._unknown)} such names "
                f"in all). Give the --config and --set of the run that was exported, or choose the "
                f"photos to import with --only."
            )
        self.reading.names.check(file)
        if not self.done.ids:
            empty = len(self._empty)
            told = f"none of its photos is annotated ({empty} in all)" if empty else ""
            raise UserError(
                f"{file}: got no mask to import{': ' * bool(told)}{told}. Save or submit the "
                f"photos in the tool first. If they are background alone, give --unannotated "
                f"background."
            )

    def _sample_list(self, file: Path, place: Path, given: Path | None) -> list[str]:
        """The ids of the random sample that the masks belong to; none if there is none."""
        beside = (place / SAMPLE, file.parent / SAMPLE)
        found = given or next((path for path in beside if path.is_file()), None)
        if found is None:
            return self._in_sample
        listed = read_ids(found, self.photos.records, "the data set")
        if set(listed) & set(self.done.ids):
            return listed
        if given:
            raise UserError(
                f"--sample {given}: none of the {len(self.done.ids)} imported masks is of a photo "
                f"in this list. Give the {SAMPLE} of the export that these masks come from."
            )
        return []

    def _place(self, made: Path, folder: Path) -> None:
        """Put the masks into the folder. Those that are in sub-folders stay there."""
        folder.mkdir(exist_ok=True)
        known = find_files(folder, MASKS, nested=True)
        for image_id in self.done.ids:
            target = known.get(image_id, folder / f"{image_id}.png")
            os.replace(made / f"{image_id}.png", target)
        self.done.replaced = len(known.keys() & set(self.done.ids))

    def _carry(self, listed: list[str], folder: Path) -> None:
        """Add the sample to ``sample.txt`` of the folder."""
        if not listed:
            return
        file = folder / SAMPLE
        before = read_ids(file, self.photos.records, "the data set") if file.is_file() else []
        whole = list(dict.fromkeys((*before, *listed)))
        atomic_write_bytes(file, "".join(f"{image_id}\n" for image_id in whole).encode())
        self.done.sample = listed
        known = find_files(folder, MASKS, nested=True)
        missing = [image_id for image_id in whole if image_id not in known]
        if missing:
            self.done.notes.append(
                f"{len(missing)} of {len(whole)} photos of the random sample have no mask yet, "
                f"{missing[0]!r} first. Correct them too: a figure of the photos that someone "
                f"chose is not one of a random sample."
            )

    def _note(self) -> None:
        notes = [*self.reading.notes(), *self.done.notes]
        if self._kept:
            masks = counted(self._kept, "mask keeps", "masks keep")
            notes.append(
                f"{masks} what it had before of classes that are not in data.classes, where the "
                f"tool has ignored pixels."
            )
        if not self.as_background:  # a tool may have a photo twice, and annotated once
            self._empty = [i for i in self._empty if i not in self.done.ids]
        if self._empty:
            taken = "taken as background alone" if self.as_background else "left out"
            notes.append(
                f"{counted(len(self._empty), 'photo is', 'photos are')} not annotated, "
                f"{self._empty[0]!r} first: {taken} (--unannotated skip or background)."
            )
        if self._more:
            notes.append(
                f"{counted(len(self._more), 'mask shows', 'masks show')} a class that the photo is "
                f"not labelled with, {self._more[0]!r} first. If the mask is right, correct the "
                f"label."
            )
        absent = sorted(set(self.only or ()) - set(self.done.ids))
        if absent:
            photos = counted(len(absent), "photo of --only has", "photos of --only have")
            notes.append(f"{photos} no mask, {absent[0]!r} first.")
        self.done.notes = notes


def class_names(data: DataIndex, renamed: Iterable[str]) -> Names:
    """The classes of the mask files of a data set; ``renamed`` are texts OLD=NEW.

    Raises:
        UserError: a text of another form, or an unknown class.
    """
    pairs = {}
    for text in renamed:
        old, sign, new = text.rpartition("=")
        if not sign or not old or not new:
            raise UserError(f"--rename {text}: expected OLD=NEW, such as --rename kitty=cat.")
        pairs[old] = new
    return Names(data.mask_classes or data.classes, pairs)


def photos_of(data: DataIndex) -> PhotoNames:
    """The photos of all splits."""
    return PhotoNames(record for records in data.splits.values() for record in records)


def _is_upright(photo: Path) -> bool:
    with Image.open(photo) as image:
        return image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
