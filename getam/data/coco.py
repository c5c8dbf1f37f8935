"""MS COCO: labels and masks made from ``annotations/instances_*.json``.

annotations/instances_SPLIT.json    SPLIT is such as train2014: also the name of the image folder
SPLIT/NAME.jpg                      the photos; ID is the file name without its suffix

How the annotations of an image become its mask and its labels:

- **Classes** in rising order of the category ids (1 to 90 with gaps in 2014): class id 1 is
  person, 80 is toothbrush, 0 is background: 81 values.
- **Overlaps**: annotations are drawn in the order of the file, a later one over an earlier one.
- **Crowds** (``iscrowd: 1``) are drawn first, as 255: ignored, as COCO's own evaluation ignores
  them, except where a single object lies over them. Their class counts as a label all the same.
- An annotation without an outline gives a label and no pixels. An image without annotations is
  background alone.

Outlines are filled by pycocotools, as ``COCO.annToMask`` does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from getam.data.files import IMAGES, SALIENCY, find_files
from getam.data.index import DataIndex, Record
from getam.data.label_values import IGNORE
from getam.errors import UserError


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


def read_coco_photos(root: Path, saliency: Path | None = None) -> DataIndex:
    """The photos of a COCO folder, a split per image folder, not labelled: reads no annotation.

    Raises:
        UserError: there are no annotation files, or no images.
    """
    root = Path(root)
    if not annotation_files(root):
        raise UserError(
            f"{root / 'annotations'}: there is no instances_*.json. Set data.root to the folder "
            f"with annotations/ and the image folders (annotations_trainval2014.zip, "
            f"train2014.zip and val2014.zip of cocodataset.org)."
        )
    salient = find_files(saliency or root / "saliency", SALIENCY)
    splits = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        photos = find_files(folder, IMAGES)
        if photos and folder.name not in ("annotations", "saliency"):
            splits[folder.name] = [
                Record(i, path, None, saliency=salient.get(i)) for i, path in photos.items()
            ]
    hints = {
        name: f"Unpack {name}.zip of cocodataset.org there, or set data.train and data.val."
        for name in annotation_files(root)
    }
    return DataIndex(root, (), splits, lists="annotations", hints=hints)


def read_coco(root: Path, saliency: Path | None = None) -> DataIndex:
    """The photos with their labels, not with masks: those are made (see ``stages.data_coco``).

    Raises:
        UserError: as ``read_coco_photos`` and ``read_instances``.
    """
    index = read_coco_photos(root, saliency)
    classes: tuple[str, ...] = ()
    splits = dict(index.splits)
    for split, file in annotation_files(root).items():
        instances = read_instances(file)
        classes = instances.classes
        numbers = {name: number for number, name in enumerate(classes, start=1)}
        labels = {i: tuple(numbers[n] for n in names) for i, names in instances.labels().items()}
        records = index.splits.get(split, ())
        splits[split] = [replace(record, labels=labels.get(record.id)) for record in records]
    return replace(index, classes=classes, splits=splits)


def annotation_files(root: Path) -> dict[str, Path]:
    """Split -> its file of instances."""
    files = sorted((root / "annotations").glob("instances_*.json"))
    return {file.stem.removeprefix("instances_"): file for file in files}


def read_instances(file: Path) -> Instances:
    """Read an annotation file, whole: that of train2014 takes a few GB of memory.

    Raises:
        UserError: a file that is not as COCO's.
    """
    try:
        content = json.loads(file.read_bytes())
        names = {c["id"]: c["name"] for c in content["categories"]}
        numbers = {c: number for number, c in enumerate(sorted(names), start=1)}
        photos = {
            p["id"]: Photo(Path(p["file_name"]).stem, (p["height"], p["width"]), [])
            for p in content["images"]
        }
        for annotation in content["annotations"]:
            if annotation["category_id"] not in numbers:
                raise KeyError(f"category {annotation['category_id']}")
            photos[annotation["image_id"]].annotations.append(annotation)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: cannot read these annotations ({type(error).__name__}: {error}). Unpack "
            f"annotations_trainval2014.zip again."
        ) from None
    return Instances(tuple(names[c] for c in sorted(names)), numbers, list(photos.values()))


def draw_mask(
    annotations: Sequence[dict[str, Any]], size: tuple[int, int], numbers: dict[int, int]
) -> np.ndarray:
    """Annotations of one image as a mask (H, W) uint8; see the module for crowds and overlaps.

    Raises:
        UserError: pycocotools is not installed.
    """
    mask = np.zeros(size, np.uint8)
    for annotation in sorted(annotations, key=lambda a: not a.get("iscrowd")):  # stable
        if annotation.get("segmentation"):
            number = IGNORE if annotation.get("iscrowd") else numbers[annotation["category_id"]]
            mask[_fill(annotation["segmentation"], size)] = number
    return mask


def _fill(outline: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of polygons, or of a run-length encoding, compressed or not."""
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise UserError(
            "data.kind: coco needs pycocotools, which is not installed: pip install 'getam[coco]'."
        ) from None
    if isinstance(outline, list):
        outline = coco.merge(coco.frPyObjects(outline, *size))
    elif isinstance(outline["counts"], list):
        outline = coco.frPyObjects(outline, *size)
    return coco.decode(outline).astype(bool)
