"""export: labels for annotation tools (COCO, VOC), the network for deployment (ONNX)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from getam.cache import atomic_write_bytes
from getam.data.images import read_image, read_mask
from getam.data.index import Record
from getam.data.intensity import Range
from getam.data.label_values import BACKGROUND, IGNORE
from getam.data.palette import voc_palette, write_label_png
from getam.errors import UserError
from getam.running.commands.current import LABELS, CurrentRun, Track, output_file, writes

JPEG = (".jpg", ".jpeg")
UPRIGHT, ORIENTATION = 1, 0x0112  # of EXIF


def labelled(run: CurrentRun, what: str) -> tuple[str, list[tuple[Record, Path]]]:
    """The split that ``what`` is about, and each of its images with the file of its labels.

    Raises:
        UserError: the stage has no artifact, or made no such labels.
    """
    labels = LABELS[what]
    folder = run.folder(labels.stage) / labels.folder
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the predictions stage made no such labels. Set "
            f"predictions.crf.enabled=true, or export --what predictions."
        )
    split = run.split(labels.stage)
    return split, [(record, folder / f"{record.id}.png") for record in run.records(split)]


def export_coco(run: CurrentRun, what: str, path: Path, track: Track) -> int:
    """Write a COCO json with compressed RLE; how many annotations.

    One annotation per image and class, as in COCO-Stuff: the labels do not tell objects of a class
    apart, and a single mask is the easiest to correct. COCO cannot say "ignore": such pixels have
    no annotation.

    Raises:
        UserError: pycocotools is not installed, nothing to export, or ``path`` cannot be written.
    """
    encode = _coco_encoder()
    split, pairs = labelled(run, what)
    output_file(path, run.artifacts)
    images, annotations = [], []
    for number, (record, file) in enumerate(track(pairs), start=1):
        labels = read_mask(file, classes=len(run.data.classes))
        height, width = labels.shape
        name = f"{record.id}{record.image.suffix}"
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for class_id in np.unique(labels[(labels != BACKGROUND) & (labels != IGNORE)]).tolist():
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": class_id}
            annotations.append({**entry, "iscrowd": 0, **encode(labels == class_id)})
    content = {
        "info": {"description": f"{what} of split {split}, made by GETAM from image-level labels"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": c, "name": n} for c, n in enumerate(run.data.classes, start=1)],
    }
    with writes(path):
        atomic_write_bytes(path, json.dumps(content, ensure_ascii=False).encode())
    return len(annotations)


def _coco_encoder() -> Callable[[np.ndarray], dict[str, Any]]:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "export --format coco needs pycocotools, which is not installed: "
            "pip install 'getam[export]'."
        ) from None

    def encode(chosen: np.ndarray) -> dict[str, Any]:
        rle = mask.encode(np.asfortranarray(chosen, dtype=np.uint8))
        box, area = mask.toBbox(rle).tolist(), int(mask.area(rle))
        segmentation = {"size": list(chosen.shape), "counts": rle["counts"].decode("ascii")}
        return {"bbox": box, "area": area, "segmentation": segmentation}

    return encode


def export_voc(run: CurrentRun, what: str, folder: Path, track: Track) -> int:
    """Write a folder in VOC's layout; how many images.

    ``JPEGImages/``, ``SegmentationClass/`` (palette PNG, 255 ignore),
    ``ImageSets/Segmentation/SPLIT.txt`` and ``labelmap.txt``, which annotation tools read. Upright
    JPEG files are copied, other photos are written anew as JPEG of quality 95.

    Raises:
        UserError: nothing to export, or the folder is not empty or cannot be written.
    """
    split, pairs = labelled(run, what)
    output_file(folder / "labelmap.txt", run.artifacts)
    if any(folder.iterdir()):
        raise UserError(f"{folder}: got a folder that is not empty. Choose another one with -o.")
    with writes(folder):
        for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True)
        for record, file in track(pairs):
            target = folder / "JPEGImages" / f"{record.id}.jpg"
            write_jpeg(record.image, target, record.intensities)
            target = folder / "SegmentationClass" / f"{record.id}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_label_png(target, read_mask(file, classes=len(run.data.classes)))
        ids = "".join(f"{record.id}\n" for record, _ in pairs)
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(ids, encoding="utf-8")
        (folder / "labelmap.txt").write_text(_label_map(run.data.classes), encoding="utf-8")
    return len(pairs)


def write_jpeg(source: Path, target: Path, intensities: Range | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        as_is = image.format == "JPEG" and image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
    if as_is and source.suffix.lower() in JPEG:
        shutil.copyfile(source, target)
    else:
        Image.fromarray(read_image(source, intensities)).save(target, "JPEG", quality=95)


def _label_map(classes: tuple[str, ...]) -> str:
    palette = voc_palette()
    lines = ["# label:color_rgb:parts:actions"]
    for class_id, name in enumerate(("background", *classes)):
        red, green, blue = palette[3 * class_id : 3 * class_id + 3]
        lines.append(f"{name}:{red},{green},{blue}::")
    return "\n".join(lines) + "\n"


def export_network(run: CurrentRun, path: Path) -> str:
    """Write the segmentation network as ONNX; what was written, in words.

    Raises:
        UserError: the run has no network, a library is not installed, or the export fails.
    """
    from getam.networks.build import load_network, network_build, network_classes
    from getam.networks.onnx import export_onnx

    folder = run.network()
    output_file(path, run.artifacts)
    size, classes = network_build(folder)["image_size"], network_classes(folder)
    with writes(path):
        sizes, difference = export_onnx(path, load_network(folder), size, classes)
    return (
        f"RGB in [0, 1] (batch, 3, H, W), {sizes}, to probabilities; within {difference:.1g} of "
        f"torch's"
    )
