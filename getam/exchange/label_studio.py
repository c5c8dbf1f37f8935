"""Label Studio: tasks with brush masks, and the labelling interface for them.

images/ID.jpg     the photos
tasks.json        the tasks to import: address and id of the photo, and its mask as a prediction
config.xml        the labelling interface

A mask is a prediction, not an annotation: a photo is corrected when someone has submitted it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from getam.cache import atomic_write_bytes
from getam.data.class_names import counted
from getam.data.files import IMAGES
from getam.data.index import Record
from getam.data.label_values import BACKGROUND, IGNORE
from getam.errors import UserError
from getam.exchange import brush
from getam.exchange.batch import BACKGROUND_NAME, IGNORED_NAME, Batch, colours, hexadecimal
from getam.exchange.copies import copy_photo, own_name
from getam.exchange.drawn import Canvas, Drawn, Reading, files_in, read_json

LOCAL = "/data/local-files/?d="  # Label Studio's address of files below its document root
IMAGE, LABEL = "image", "label"  # names of the tags of the labelling interface
PHOTO, SAMPLED = "photo", "sample"  # what a task knows beside the address of its photo
MODEL = "GETAM"
NO_SHAPES = (  # results of these types are words or numbers, though they may belong to a shape
    *("choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy"),
    "textarea",
)
CHOICES = ("choices", "taxonomy")  # these may be image-level labels
GEOMETRY = ("points", "x", "vertices", "imageDataURL")


def write_label_studio(batch: Batch, folder: Path, address: str | None = None) -> str:
    """Write the tasks, the labelling interface and the photos; what, in words.

    Args:
        address: what stands before the name of a photo; None: the address of ``images/`` where
            Label Studio serves the folder above ``folder``.
    """
    address = f"{LOCAL}{quote(folder.resolve().name)}/images/" if address is None else address
    batch.write_sample(folder)
    tasks = [_task(batch, photo.record, photo.read(), address) for photo in batch.tracked()]
    if batch.with_photos:
        for photo in batch.photos:
            copy_photo(photo.record, folder / "images")
    atomic_write_bytes(folder / "tasks.json", json.dumps(tasks, ensure_ascii=False).encode())
    atomic_write_bytes(folder / "config.xml", labelling_interface(batch.classes))
    return counted(len(tasks), "photo", "photos")


def labelling_interface(classes: tuple[str, ...]) -> bytes:
    """The XML that Label Studio asks for: a photo, and a brush for each class."""
    view = ElementTree.Element("View")
    tools = {"zoom": "true", "zoomControl": "true", "rotateControl": "false"}
    ElementTree.SubElement(view, "Image", name=IMAGE, value="$image", **tools)
    labels = ElementTree.SubElement(view, "BrushLabels", name=LABEL, toName=IMAGE)
    for name, colour in colours(classes).items():
        if name != BACKGROUND_NAME:
            shown = hexadecimal(colour)
            ElementTree.SubElement(labels, "Label", value=name, background=shown)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8") + b"\n"


def _task(batch: Batch, record: Record, labels: np.ndarray, address: str) -> dict[str, Any]:
    names = dict(enumerate(batch.classes, start=1))
    names[IGNORE] = IGNORED_NAME
    name = f"{record.id}.jpg" if batch.with_photos else own_name(record)
    data = {IMAGE: address + quote(name), PHOTO: record.id}
    if batch.sample:
        data[SAMPLED] = "yes"  # comes back with the annotations
    result = [
        _region(names[value], labels == value, f"{record.id}-{value}")
        for value in np.unique(labels[labels != BACKGROUND]).tolist()
    ]
    return {"data": data, "predictions": [{"model_version": MODEL, "result": result}]}


def _region(name: str, chosen: np.ndarray, region_id: str) -> dict[str, Any]:
    height, width = chosen.shape
    value = {"format": "rle", "rle": brush.encode(chosen), "brushlabels": [name]}
    return {
        "id": region_id,
        "type": "brushlabels",
        "from_name": LABEL,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


def read_label_studio(place: Path, reading: Reading) -> Iterator[Drawn]:
    """The photos of an export in the format JSON. One that nobody submitted is not annotated.

    Raises:
        UserError: a file that is not such an export, or shapes that are not drawn with the brush.
    """
    words: list[Path] = []  # files of annotations that have choices and no shape
    for file in [place] if place.is_file() else files_in(place, ".json"):
        content = read_json(file)
        tasks = content if isinstance(content, list) else [content]
        try:
            for task in tasks:
                name = _name_of(file, task["data"])
                if SAMPLED in task["data"]:
                    reading.sampled.append(name)
                if reading.wanted(name):
                    drawn, has_choices = _read_task(file, name, task, reading)
                    words += [file] * has_choices
                    yield drawn
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise UserError(
                f"{file}: this is not what Label Studio exports in the format 'JSON' "
                f"({type(error).__name__}: {error}). Export again as JSON, not as JSON-MIN, CSV, "
                f"PNG or NumPy."
            ) from None
    if words and len(words) == reading.bare and not reading.shaped:
        raise UserError(
            f"{words[0]}: got {counted(len(words), 'annotation', 'annotations')} with choices and "
            f"no shape in any photo; expected shapes that are drawn with the brush. If the choices "
            f"are the classes of the photos, they are image-level labels: write them into "
            f"labels.csv."
        )


def _name_of(file: Path, data: dict[str, Any]) -> str:
    """The id of the photo of a task, or the path in the only address of a photo that it has.

    Raises:
        UserError: it has no address of a photo, or several.
    """
    if PHOTO in data:
        return str(data[PHOTO])
    paths = {key: _name_in(text) for key, text in data.items() if isinstance(text, str)}
    photos = [path for path in paths.values() if os.path.splitext(path)[1].lower() in IMAGES]
    if IMAGE not in paths and len(photos) != 1:
        raise UserError(
            f"{file}: got a task with {', '.join(map(repr, data)) or 'nothing'} in its data, "
            f"expected the address of one photo. Call it {IMAGE!r}, or give the id of the photo "
            f"as {PHOTO!r}."
        )
    return paths.get(IMAGE) or photos[0]


def _read_task(file: Path, name: str, task: dict[str, Any], reading: Reading) -> tuple[Drawn, bool]:
    """The mask of a photo; and whether its annotation has choices and no shape."""
    made = [one for one in task["annotations"] if not one.get("was_cancelled")]
    reading.several += len(made) > 1
    last = max(made, key=lambda one: str(one.get("updated_at") or ""), default=None)
    labels = None if last is None else _draw(file, name, last["result"], reading)
    bare = labels is not None and labels.size == 0
    reading.shaped += labels is not None and not bare
    reading.bare += bare
    chosen = bare and any(one.get("type") in CHOICES for one in last["result"])
    return Drawn(name, labels, file), chosen


def _name_in(address: str) -> str:
    """The path of a photo in its address."""
    _, local, path = address.partition("?d=")
    return path if local else address.partition("?")[0]


def _draw(file: Path, name: str, result: list[dict[str, Any]], reading: Reading) -> np.ndarray:
    """The regions of an annotation; an empty (0, 0) mask where there is none."""
    canvas = None
    shapes = [region for region in result if _is_shape(region)]
    with_class = {region.get("id") for region in shapes if _class_of(region)}
    for region in shapes:
        value, named = region["value"], _class_of(region)
        if "rle" not in value:
            raise UserError(
                f"{file}: photo {name!r} has a shape of the type {region.get('type')}, expected "
                f"shapes that are drawn with the brush. Draw it with the brush, or delete it."
            )
        if not named:
            if region.get("id") in with_class:  # tags Brush and Labels: a result of each
                continue
            raise UserError(
                f"{file}: photo {name!r} has a shape without a class, expected one of "
                f"{', '.join(reading.names.classes)}. Give it a class in the tool, or delete it."
            )
        size = int(region["original_height"]), int(region["original_width"])
        canvas = canvas or Canvas(size)
        canvas.draw(brush.decode(value["rle"], size), reading.names.value(named[0]))
    if canvas is None:
        return np.zeros((0, 0), np.uint8)
    reading.overlaps += canvas.overlaps
    reading.unseen += canvas.unseen
    return canvas.labels


def _is_shape(region: dict[str, Any]) -> bool:
    """Whether a result is a shape in the photo. Text and choices may lie at one: they are not."""
    kind, value = str(region.get("type", "")), region.get("value", {})
    if kind in NO_SHAPES:
        return False
    return kind.endswith("labels") or "rle" in value or any(key in value for key in GEOMETRY)


def _class_of(region: dict[str, Any]) -> list[str]:
    """The classes of a shape: one, or none."""
    value = region["value"]
    return value.get("brushlabels") or value.get("labels") or []
