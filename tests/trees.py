"""Miniature VOC and COCO folders: a handful of images with all that makes the real ones hard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from getam.data.palette import write_label_png
from getam.data.voc import CLASSES, LISTS

VOC_SETTINGS = ("data.kind=voc", "data.train=train_aug", "data.test=test")
# Of each image the objects: (class, difficult). The mask has a rectangle of each.
VOC_OBJECTS = {
    "2007_000001": [("cat", 0), ("person", 0)],
    "2007_000002": [("dog", 0)],
    "2007_000003": [("cat", 0), ("dog", 1)],
    "2007_000004": [("person", 0)],
    "2008_000001": [("dog", 0), ("dog", 0)],  # of SBD
    "2008_000002": [("cat", 0)],  # of SBD
    "2009_000001": [("cat", 0)],
    "2009_000002": [("dog", 0), ("person", 0)],
    "2009_000003": [("cat", 0), ("dog", 0)],
    "2010_000001": None,  # a test image: no annotation, no mask
    "2010_000002": None,
}
VOC_SPLITS = {"train": (0, 4), "train_aug": (0, 6), "val": (6, 9), "test": (9, 11)}


def make_voc(root: Path) -> Path:
    """A VOC 2012 tree of 11 images with SBD's masks, the list train_aug, and saliency maps."""
    for name in ("JPEGImages", "Annotations", LISTS, "SegmentationClass", "SegmentationClassAug"):
        (root / name).mkdir(parents=True)
    (root / "saliency").mkdir()
    rng = np.random.default_rng(0)
    for image_id, objects in VOC_OBJECTS.items():
        image = rng.integers(0, 80, (40, 52, 3), dtype=np.uint8)
        mask = voc_mask(objects or [])
        image[mask > 0] += (mask[mask > 0, None] * np.array([7, 3, 5])).astype(np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
        saliency = Image.fromarray((mask > 0).astype(np.uint8) * 255)
        saliency.save(root / "saliency" / f"{image_id}.png")
        if objects is None:
            continue
        (root / "Annotations" / f"{image_id}.xml").write_text(voc_xml(objects))
        if image_id.startswith("2008"):
            Image.fromarray(mask).save(root / "SegmentationClassAug" / f"{image_id}.png")
        else:
            write_label_png(root / "SegmentationClass" / f"{image_id}.png", mask)
    for name, (start, stop) in VOC_SPLITS.items():
        (root / LISTS / f"{name}.txt").write_text("\n".join([*VOC_OBJECTS][start:stop]) + "\n")
    return root


def voc_mask(objects: list) -> np.ndarray:
    """(40, 52) uint8: the objects side by side, each with an ignored border on its right."""
    mask = np.zeros((40, 52), np.uint8)
    for n, (name, _) in enumerate(objects):
        mask[8:32, 4 + 24 * n : 22 + 24 * n] = CLASSES.index(name) + 1
        mask[8:32, 22 + 24 * n : 24 + 24 * n] = 255
    return mask


def voc_xml(objects: list) -> str:
    things = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<part><name>head</name></part></object>"
        for name, difficult in objects
    )
    return f"<annotation><filename>x.jpg</filename>{things}</annotation>\n"


COCO_CATEGORIES = [  # ids with gaps and not in rising order, a name with a space
    {"id": 18, "name": "dog"},
    {"id": 1, "name": "person"},
    {"id": 10, "name": "traffic light"},
]


def box(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def crowd(left: int, top: int, right: int, bottom: int, size: tuple[int, int]) -> dict:
    """An uncompressed run-length encoding, column by column as COCO has it."""
    area = np.zeros(size, np.uint8)
    area[top:bottom, left:right] = 1
    flat = area.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, len(flat)]).tolist()
    return {"size": list(size), "counts": counts if flat[0] == 0 else [0, *counts]}


def coco_annotations(number: int, size: tuple[int, int]) -> list[tuple[int, object, int]]:
    """(category, outline, crowd) of the image with this number."""
    return [
        [(18, box(4, 4, 20, 30), 0), (1, box(12, 10, 34, 28), 0)],  # they overlap
        [(1, crowd(2, 2, 30, 20, size), 1), (18, box(10, 8, 24, 30), 0)],
        [(18, box(6, 6, 30.5, 22.25) + box(2, 24, 9, 33), 0)],  # two polygons
        [],  # nothing annotated
        [(10, box(5, 5, 18, 30), 0), (1, [], 0)],  # an object without an outline
    ][number % 5]


def make_coco(root: Path, train: int = 7, val: int = 4) -> Path:
    """A COCO 2014 folder."""
    rng = np.random.default_rng(1)
    (root / "annotations").mkdir(parents=True)
    for split, count, first in (("train2014", train, 0), ("val2014", val, 1)):
        (root / split).mkdir()
        images, annotations = [], []
        for n in range(count):
            size = (36, 44) if n % 2 else (44, 36)
            name = f"COCO_{split}_{n + 1:012}.jpg"
            image = Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
            image.save(root / split / name)
            images.append({"id": n + 1, "file_name": name, "height": size[0], "width": size[1]})
            for category, outline, is_crowd in coco_annotations(n + first, size):
                annotation = {"image_id": n + 1, "category_id": category, "iscrowd": is_crowd}
                annotations.append({**annotation, "segmentation": outline, "area": 1})
        annotations = [{**a, "id": n} for n, a in enumerate(annotations, start=1)]
        content = {"images": images, "annotations": annotations, "categories": COCO_CATEGORIES}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
