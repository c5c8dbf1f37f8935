"""MS COCO: labels and masks made from ``annotations/instances_*.json``.

annotations/instances_SPLIT.json    SPLIT is such as train2014: also the name of the image folder
SPLIT/NAME.jpg                      the photos; ID is the file name without its suffix

How the annotations of an image become its mask and its labels:

- **Classes** in rising order of the category ids (1 to 90 with gaps in 2014): class id 1 is
  person, 80 is toothbrush, 0 is background: 81 values.
- **Overlaps**: annotations are drawn in the order of the file, a later one over an earlier one.
- **Crowds** (``iscrowd: 1``) are drawn first, as 255: ignored, as COCO's own evaluation ignores
  them, except where a single object lies over them. Their class counts as a label all the same.
- An annotation without an outline gives a label and no pixels, as does a polygon of fewer than
  three points. An image without annotations is background only.

Outlines are filled by pycocotools, as ``COCO.annToMask`` does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from getam.cache import in_threads
from getam.data.class_names import check_classes, clean_name
from getam.data.coco_outlines import misses, polygons
from getam.data.files import IMAGES, SALIENCY, clean_id, find_files, is_hidden
from getam.data.images import image_size
from getam.data.index import DataIndex, Record
from getam.data.unread import left_out_note, unread_notes
from getam.errors import UserError

LONGEST_SIDE = 65_535  # of a photo, in pixels: that of a JPEG file


class Photo(NamedTuple):
    """An image of an annotation file: (H, W), and its annotations in the order of the file."""

    id: str
    size: tuple[int, int]
    annotations: list[dict[str, Any]]


class Instances(NamedTuple):
    """An annotation file: class names (id 1 first), category id -> class id, and the images."""

    classes: tuple[str, ...]
    numbers: dict[int, int]
    photos: list[Photo]

    def labels(self) -> dict[str, list[str]]:
        """Image id -> names of the classes in it, in the order of the class ids."""
        found = {}
        for photo in self.photos:
            present = {self.numbers[a["category_id"]] for a in photo.annotations}
            found[photo.id] = [self.classes[number - 1] for number in sorted(present)]
        return found

    def skipped(self) -> int:
        """Polygons of fewer than three points, which are not drawn."""
        outlines = (a.get("segmentation") for photo in self.photos for a in photo.annotations)
        lists = [outline for outline in outlines if isinstance(outline, list)]
        return sum(len(outline) - len(polygons(outline)) for outline in lists)

    def invisible(self) -> tuple[int, int]:
        """Annotations without an outline, and those whose outline covers no pixel of the image."""
        bare = outside = 0
        for photo in self.photos:
            for outline in (a.get("segmentation") for a in photo.annotations):
                parts = polygons(outline) if isinstance(outline, list) else outline
                bare += not parts
                outside += isinstance(parts, list) and bool(parts) and misses(parts, photo.size)
        return bare, outside

    def notes(self, file: Path) -> list[str]:
        """What ``data`` says of this annotation file."""
        notes = []
        if count := self.skipped():
            notes.append(
                f"{file.name}: {count} polygons have fewer than three points, or a point without "
                f"y, and are not drawn. Their classes count as labels all the same."
            )
        total = sum(len(photo.annotations) for photo in self.photos)
        for count, what in zip(self.invisible(), ("no outline", "an outline outside the image")):
            if count:
                notes.append(
                    f"{file.name}: {count} of {total} annotations have {what}. Their classes count "
                    f"as labels. In the masks their pixels are background, so the mIoU counts "
                    f"right labels there as wrong. Outlines must be in pixels; a box is none."
                )
        return notes


def read_coco_photos(
    root: Path, saliency: Path | None = None, splits: Collection[str] | None = None
) -> DataIndex:
    """The photos of a COCO folder, a split per image folder, not labelled: reads no annotation.

    Args:
        splits: the image folders to read; without it all that are there.

    Raises:
        UserError: there are no annotation files, or a file name is in two image folders.
    """
    root = Path(root)
    if not annotation_files(root):
        raise UserError(
            f"{root / 'annotations'}: there is no instances_*.json. Set data.root to the folder "
            f"with annotations/ and the image folders (annotations_trainval2014.zip, "
            f"train2014.zip and val2014.zip of cocodataset.org)."
        )
    salient = find_files(saliency or root / "saliency", SALIENCY)
    records: dict[str, list[Record]] = {}
    notes: list[str] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name in ("annotations", "saliency") or is_hidden(folder.name):
            continue
        if splits is not None and folder.name not in splits:
            continue
        unread: list[str] = []
        photos = find_files(folder, IMAGES, unread=unread)
        if photos:
            notes += unread_notes(folder, unread, IMAGES)
            records[folder.name] = [
                Record(i, path, None, saliency=salient.get(i)) for i, path in photos.items()
            ]
    hints = {
        name: f"Unpack {name}.zip of cocodataset.org there, or set data.train and data.val."
        for name in annotation_files(root)
    }
    _refuse_shared_ids(records)
    return DataIndex(root, (), records, lists="annotations", hints=hints, notes=tuple(notes))


def _refuse_shared_ids(splits: Mapping[str, Sequence[Record]]) -> None:
    """An id in two folders would have one mask for two photos."""
    known: dict[str, Path] = {}
    for record in (record for records in splits.values() for record in records):
        if record.id in known:
            raise UserError(
                f"{record.image}: got a second photo {record.id!r}, {known[record.id]} is one "
                f"already; expected each name in one image folder. Rename the files of one folder, "
                f"and in its annotations."
            )
        known[record.id] = record.image


def read_coco(
    root: Path, saliency: Path | None = None, splits: Collection[str] | None = None
) -> DataIndex:
    """The photos with their labels, not with masks: those are made (see ``stages.data_coco``).

    Raises:
        UserError: as ``read_coco_photos``, ``read_instances`` and ``same_classes``.
    """
    index = read_coco_photos(root, saliency, splits)
    classes: tuple[str, ...] = ()
    labelled, notes = dict(index.splits), list(index.notes)
    for split, file in annotation_files(root).items():
        if splits is not None and split not in splits:
            continue
        instances = read_instances(file)
        classes = same_classes(file, classes, instances.classes)
        numbers = {name: number for number, name in enumerate(classes, start=1)}
        labels = {i: tuple(numbers[n] for n in names) for i, names in instances.labels().items()}
        records = index.splits.get(split, ())
        if records:
            check_photos(root / split, instances.photos, records)
        labelled[split] = [replace(r, labels=labels[r.id]) for r in records if r.id in labels]
        notes += left_out_note([r.id for r in records], labels, file.name)
        notes += instances.notes(file)
    return replace(index, classes=classes, splits=labelled, notes=tuple(notes))


def annotation_files(root: Path) -> dict[str, Path]:
    """Split -> its file of instances."""
    files = sorted((root / "annotations").glob("instances_*.json"))
    return {file.stem.removeprefix("instances_"): file for file in files}


def same_classes(file: Path, before: tuple[str, ...], classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of an annotation file, if they are those of the files ``before``.

    Raises:
        UserError: they are others.
    """
    if before and before != classes:
        raise UserError(
            f"{file}: its categories are not those of the other split. Take both files from the "
            f"same archive."
        )
    return classes


def check_photos(folder: Path, photos: Sequence[Photo], records: Sequence[Record]) -> None:
    """Whether the folder, with these records, has each annotated photo in its annotated size.

    Raises:
        UserError: it has not.
    """
    files = {record.id: record.image for record in records}
    missing = sorted({photo.id for photo in photos} - files.keys())
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(photos)} annotated images are missing, "
            f"{missing[0]}.jpg first. Unpack {folder.name}.zip again."
        )
    sizes = in_threads(lambda photo: image_size(files[photo.id]), photos)
    for photo, size in zip(photos, sizes):
        if size != photo.size:
            raise UserError(
                f"{files[photo.id]}: got a photo of {size[1]} x {size[0]} pixels (width x height, "
                f"upright), but its annotations are for {photo.size[1]} x {photo.size[0]}. Put the "
                f"photo back that was annotated, or annotate this one."
            )


def read_instances(file: Path) -> Instances:
    """Read an annotation file, whole: that of train2014 takes a few GB of memory.

    Raises:
        UserError: a file that is not as COCO's, categories that cannot be classes, or a file name
            that is there twice.
    """
    try:
        content = json.loads(file.read_bytes())
        check_ids(file, content)
        names = {_whole(c["id"]): clean_name(c["name"]) for c in content["categories"]}
        photos = {
            p["id"]: Photo(
                clean_id(Path(p["file_name"]).stem), (side(p["height"]), side(p["width"])), []
            )
            for p in content["images"]
        }
        for annotation in content["annotations"]:
            if annotation["category_id"] not in names:
                raise KeyError(f"category {annotation['category_id']}")
            photos[annotation["image_id"]].annotations.append(_checked(annotation))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise UserError(
            f"{file}: cannot read these annotations ({type(error).__name__}: {error}). Unpack "
            f"annotations_trainval2014.zip again."
        ) from None
    numbers = {c: number for number, c in enumerate(sorted(names), start=1)}
    classes = check_classes([names[c] for c in numbers], file)
    twice = Counter(photo.id for photo in photos.values()).most_common(1)
    if twice and twice[0][1] > 1:
        raise UserError(
            f"{file}: image {twice[0][0]!r} stands there twice, expected each file name once "
            f"(without its folder and suffix)."
        )
    return Instances(classes, numbers, list(photos.values()))


def check_ids(file: Path, content: dict[str, Any]) -> None:
    """Each id of COCO's lists ``images`` and ``categories`` names one of them.

    Raises:
        UserError: an id is there twice. Its shapes could belong to either.
    """
    for kind in ("images", "categories"):
        twice = Counter(one["id"] for one in content[kind]).most_common(1)
        if twice and twice[0][1] > 1:
            raise UserError(
                f"{file}: got {twice[0][1]} {kind} with the id {twice[0][0]}, expected another id "
                f"for each. If several files were put together, number the {kind} of each further "
                f"file anew, in its annotations too."
            )


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"a category id is a {type(value).__name__}, expected a whole number")
    return value


def side(value: Any) -> int:
    """A height or width in pixels; ValueError if it cannot be one."""
    if type(value) is not int or not 0 < value <= LONGEST_SIDE:
        raise ValueError(f"a height or width is {value!r}, expected 1 to {LONGEST_SIDE}")
    return value


def _checked(annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation whose outline, where it has one, is of a kind that can be filled."""
    outline = annotation.get("segmentation")
    if outline and not isinstance(outline, (list, dict)):
        raise TypeError(f"a segmentation is a {type(outline).__name__}")
    if isinstance(outline, list) and not all(isinstance(part, list) for part in outline):
        raise TypeError("a segmentation is a list of numbers, not of polygons")
    if isinstance(outline, dict) and outline and not {"counts", "size"} <= outline.keys():
        raise KeyError("counts and size of a segmentation")
    return annotation
