"""From what a tool wrote to a folder of masks ID.png with the class ids of the data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from getam.data.class_names import counted
from getam.data.corrections import SAMPLE
from getam.data.images import image_size
from getam.data.index import DataIndex, Record
from getam.data.label_values import BACKGROUND, IGNORE
from getam.data.masks import read_mask
from getam.data.palette import write_label_png
from getam.data.photo_lists import read_ids
from getam.errors import UserError, collected
from getam.exchange.archive import unpacked
from getam.exchange.coco_json import ANNOTATIONS, read_coco_drawn
from getam.exchange.copies import PhotoNames, is_upright
from getam.exchange.drawn import Drawn, Names, Reading, files_in
from getam.exchange.label_studio import read_label_studio
from getam.exchange.target import Target
from getam.exchange.voc_reading import read_voc_drawn

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
        rejected: the photos that a review took out of the data set; their masks are kept too.
    """

    def __init__(
        self,
        data: DataIndex,
        names: Names,
        *,
        only: Collection[str] | None = None,
        as_background: bool = False,
        rejected: Collection[Record] = (),
    ) -> None:
        self.data, self.photos = data, photos_of(data, rejected)
        self.rejected = {record.id for record in rejected}
        self.reading = Reading(names, self._wanted)
        self.only, self.as_background = only, as_background
        self.done = Imported()
        self._unknown: list[str] = []
        self._empty, self._bare = list[str](), list[str]()
        self._before: dict[str, Path] = {}
        self._more: list[str] = []
        self._kept = 0

    def run(
        self, kind: str, file: Path, folder: Path, sample: Path | None, track: Callable
    ) -> Imported:
        """Read a file, archive or folder of a tool, and put the masks into ``folder``.

        Nothing is put there before all masks are right. A mask that is there is replaced.

        Raises:
            UserError: what is not as expected, in one sentence.
        """
        known = self.photos.records
        target = Target(folder, self.data, known)
        self._before = target.masks
        given = None if sample is None else read_ids(sample, known, "the data set")
        with unpacked(file) as place, target.temporary() as temporary:
            for drawn in track(READERS[kind](place, self.reading)):
                self._take(drawn, temporary)
            self._check(file)
            if given is None:
                self.done.sample = self._sample_found(file, place)
            else:
                self.done.sample = self._sample_given(sample, given)
            target.fill(temporary, self.done.ids, self.done.sample)
        self.done.replaced = len(self._before.keys() & set(self.done.ids))
        if self.done.sample:
            self._note_missing(target.sample)
        self._note()
        return self.done

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
        if drawn.labels is not None and drawn.labels.size == 0 and record.labels:
            self._bare.append(record.id)
        labels = self._with_other_classes(self._sized(drawn, record), record)
        write_label_png(folder / f"{record.id}.png", labels)
        self.done.ids.append(record.id)
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
        if (width, height) == size and not is_upright(record.image):
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
        if record.labels is None or record.id in self.rejected:
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

    def _sample_given(self, file: Path, listed: list[str]) -> list[str]:
        if not set(listed) & set(self.done.ids):
            raise UserError(
                f"--sample {file}: none of the {len(self.done.ids)} imported masks is of a photo "
                f"in this list. Give the {SAMPLE} of the export that these masks come from."
            )
        return listed

    def _sample_found(self, file: Path, place: Path) -> list[str]:
        """The random sample that the masks belong to, as lists and the file itself say; or none."""
        sampled = filter(None, map(self.photos.find, self.reading.sampled))
        found = [[record.id for record in sampled]]
        for path in _lists(file, place):
            problems: list[str] = []
            with collected(problems):
                found.append(read_ids(path, self.photos.records, "the data set", problems=problems))
            if problems:
                found.pop()
                self.done.notes.append(
                    f"{path} is not taken as the list of a random sample: some of its lines are "
                    f"no photos of the data set. If these masks are of this sample, give it with "
                    f"--sample."
                )
        taken = [ids for ids in found if set(ids) & set(self.done.ids)]
        return list(dict.fromkeys(image_id for ids in taken for image_id in ids))

    def _note_missing(self, whole: list[str]) -> None:
        """What of a random sample has no mask yet."""
        have = self._before.keys() | set(self.done.ids)
        missing = [image_id for image_id in whole if image_id not in have]
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
        if self._bare:
            notes.append(
                f"{counted(len(self._bare), 'photo is', 'photos are')} labelled with a class, but "
                f"submitted without a shape, {self._bare[0]!r} first: taken as background alone."
            )
        if self._more:
            notes.append(
                f"{counted(len(self._more), 'mask shows', 'masks show')} a class that the photo is "
                f"not labelled with, {self._more[0]!r} first. If the mask is right, correct the "
                f"label."
            )
        rejected = [i for i in self.done.ids if i in self.rejected]
        if rejected:
            masks = counted(len(rejected), "mask is", "masks are")
            notes.append(
                f"{masks} of photos that data.review rejects, {rejected[0]!r} first: no run uses "
                f"them until the photos are accepted."
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
    classes, pairs = data.mask_classes or data.classes, {}
    known = Names(classes, {})
    for text in renamed:
        places = [at for at, sign in enumerate(text) if sign == "=" and text[:at]]
        fitting = [at for at in places if known.find(text[at + 1 :]) is not None]
        at = (fitting or places[-1:] or [len(text)])[0]
        if not text[at + 1 :]:
            raise UserError(f"--rename {text}: expected OLD=NEW, such as --rename kitty=cat.")
        pairs[text[:at]] = text[at + 1 :]
    return Names(classes, pairs)


def photos_of(data: DataIndex, rejected: Iterable[Record] = ()) -> PhotoNames:
    """The photos of all splits, and those that a review took out of them."""
    return PhotoNames([*rejected, *(r for records in data.splits.values() for r in records)])


def _lists(file: Path, place: Path) -> Iterator[Path]:
    """Each ``sample.txt`` in what is imported, beside it, and above the folder annotations/."""
    if place.is_dir():
        yield from (path for path in files_in(place, ".txt") if path.name == SAMPLE)
    parent = Path(os.path.abspath(file)).parent
    for folder in [parent, parent.parent] if parent.name == ANNOTATIONS.parts[0] else [parent]:
        if (folder / SAMPLE).is_file():
            yield folder / SAMPLE
