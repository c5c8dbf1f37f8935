"""COCO: one JSON file with a shape per photo and class.

One annotation per photo and class, as in COCO-Stuff: the labels do not tell objects of a class
apart, and a single shape is the easiest to correct. COCO has no word for ignored pixels: they are
shapes of a category of their own, ``ignored``, which is there only if some pixel needs it.

A reader of COCO takes ``iscrowd: 1`` for "ignore this region", but CVAT sets it for every mask that
was drawn with the brush. Here it has no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from getam.cache import atomic_write_bytes
from getam.data.class_names import counted
from getam.data.coco import check_ids, side
from getam.data.coco_outlines import are_shares, filled, polygons
from getam.data.index import Record
from getam.data.label_values import BACKGROUND, IGNORE
from getam.errors import UserError
from getam.exchange.batch import IGNORED_NAME, Batch
from getam.exchange.copies import copy_photo, own_name
from getam.exchange.drawn import Canvas, Drawn, Reading, files_in, read_json
from getam.exchange.polygons import outlines

ANNOTATIONS = Path("annotations", "instances_default.json")
PHOTOS = Path("images", "default")


def write_coco(batch: Batch, path: Path, tolerance: float | None = None) -> str:
    """Write a JSON file, or a folder with it and copies of the photos; what, in words.

    Args:
        path: a file ``*.json``, or a folder that gets ``annotations/instances_default.json`` and
            ``images/default/ID.jpg``.
        tolerance: None: outlines are run lengths. A number of pixels: they are polygons (see
            ``getam.exchange.polygons``).

    Raises:
        UserError: pycocotools is not installed.
    """
    coco = coco_masks()
    is_file = path.suffix.lower() == ".json"
    images, annotations = [], []
    for number, photo in enumerate(batch.tracked(), start=1):
        labels = photo.read()
        height, width = labels.shape
        name = _name(batch, photo.record, None if is_file else path / PHOTOS)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for value in np.unique(labels[labels != BACKGROUND]).tolist():
            category = len(batch.classes) + 1 if value == IGNORE else value
            shape = _shape(coco, labels == value, tolerance)
            if shape is not None:
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append({**entry, "iscrowd": 0, **shape})
    ignores = any(a["category_id"] > len(batch.classes) for a in annotations)
    names = (*batch.classes, *([IGNORED_NAME] if ignores else []))
    info: dict[str, Any] = {"description": f"{batch.told}, made by GETAM from image-level labels"}
    if batch.sample:
        info["sample"] = batch.sample
    content = {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": c, "name": n} for c, n in enumerate(names, start=1)],
    }
    file = path if is_file else path / ANNOTATIONS
    file.parent.mkdir(parents=True, exist_ok=True)
    batch.write_sample(file.parent if is_file else path)
    atomic_write_bytes(file, json.dumps(content, ensure_ascii=False).encode())
    photos = counted(len(images), "photo", "photos")
    return f"{photos}, {counted(len(annotations), 'annotation', 'annotations')}"


def _name(batch: Batch, record: Record, folder: Path | None) -> str:
    """The photo's name in the file; with a folder it is copied there."""
    if folder is None:
        return own_name(record)
    return copy_photo(record, folder) if batch.with_photos else f"{record.id}.jpg"


def _shape(coco: ModuleType, chosen: np.ndarray, tolerance: float | None) -> dict[str, Any] | None:
    """Outline, box and area of some pixels; None where no polygon is left of them."""
    rle = coco.encode(np.asfortranarray(chosen, dtype=np.uint8))
    outline: Any = {"size": list(chosen.shape), "counts": rle["counts"].decode("ascii")}
    if tolerance is not None:
        outline = outlines(chosen, tolerance)
        if not outline:
            return None
        rle = coco.merge(coco.frPyObjects(outline, *chosen.shape))
    box, area = coco.toBbox(rle).tolist(), int(coco.area(rle))
    return {"bbox": box, "area": area, "segmentation": outline}


def coco_masks() -> ModuleType:
    """``pycocotools.mask``.

    Raises:
        UserError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "--format coco needs pycocotools, which is not installed: pip install 'getam[coco]'."
        ) from None
    return mask


def read_coco_drawn(place: Path, reading: Reading) -> Iterator[Drawn]:
    """The photos of the JSON files of a folder, or of one file.

    A photo without any shape that covers a pixel counts as not annotated: COCO does not tell it
    from one that shows background alone.

    Raises:
        UserError: no such file, one that is not as COCO's, or a shape without an outline.
    """
    coco = coco_masks()
    for file in _files(place):
        content = read_json(file)
        try:
            check_ids(file, content)
            names = {c["id"]: str(c["name"]) for c in content["categories"]}
            shapes: dict[Any, list[dict[str, Any]]] = {p["id"]: [] for p in content["images"]}
            for shape in content["annotations"]:
                shapes[shape["image_id"]].append(shape)
            reading.sampled += _sampled(content.get("info"))
            for photo in content["images"]:
                if reading.wanted(str(photo["file_name"])):
                    yield _read_photo(coco, file, photo, shapes[photo["id"]], names, reading)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise UserError(
                f"{file}: this is not a COCO file with the outlines of shapes "
                f"({type(error).__name__}: {error}). Export it from the tool again, as COCO."
            ) from None


def _sampled(info: Any) -> list[str]:
    """The random sample that an export has noted; other programs have other things there."""
    noted = info.get("sample") if isinstance(info, dict) else None
    return [*map(str, noted)] if isinstance(noted, list) else []


def _files(place: Path) -> list[Path]:
    """The annotation files of a COCO folder: those in ``annotations/``, else all."""
    if place.is_file():
        return [place]
    found = [*files_in(place, ".json")]
    found = [file for file in found if file.parent.name == "annotations"] or found
    if not found:
        raise UserError(f"{place}: there is no JSON file, expected annotations/*.json of COCO.")
    return found


def _read_photo(
    coco: ModuleType,
    file: Path,
    photo: dict[str, Any],
    shapes: list[dict[str, Any]],
    names: dict[Any, str],
    reading: Reading,
) -> Drawn:
    """The shapes of a photo as a mask, in the order of the file."""
    name, size = str(photo["file_name"]), (side(photo["height"]), side(photo["width"]))
    canvas = Canvas(size)
    for shape in shapes:
        class_name, outline = names[shape["category_id"]], shape.get("segmentation")
        if isinstance(outline, list):
            parts, outline = len(outline), polygons(outline)
            reading.parts += parts - len(outline)
        if not outline:
            raise UserError(
                f"{file}: photo {name!r} has a shape of class {class_name!r} with no "
                f"outline, expected a mask, or a polygon of at least three points. Draw it again "
                f"in the tool, or delete it."
            )
        canvas.draw(filled(outline, size, coco), reading.names.value(class_name))
    lists = (shape["segmentation"] for shape in shapes if isinstance(shape["segmentation"], list))
    if any(are_shares(polygons(parts), size) for parts in lists):
        raise UserError(
            f"{file}: photo {name!r} has an outline with numbers from 0 to 1 alone, expected "
            f"pixels, from 0, 0 at the upper left. If the tool wrote shares of the sides, export "
            f"with pixels; else draw the shape again, or delete it."
        )
    reading.overlaps += canvas.overlaps
    reading.unseen += canvas.unseen
    return Drawn(name, canvas.labels if canvas.unseen < len(shapes) else None, file)
