"""data: of COCO, labels and masks made from the annotations, as a data folder without images.

needs   annotations/instances_SPLIT.json of the train and val split
makes   masks/ID.png labels.json classes.txt splits/ (see getam.data.folder and getam.data.coco)
costs   about 8 ms per image and core; a few GB of memory while the annotations are read
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib

from getam.data.coco import Photo, annotation_files, draw_mask, read_coco_photos, read_instances
from getam.data.palette import write_label_png
from getam.errors import UserError
from getam.running.processes import workers

if TYPE_CHECKING:
    from getam.cache import Job, Pieces

CHUNK = 64  # images a worker takes at a time


def run(job: Job) -> dict[str, Any]:
    root, data = job.context.root, job.config.data
    for name in ("masks", "splits"):
        (job.folder / name).mkdir(exist_ok=True)
    known = read_coco_photos(root)
    classes: tuple[str, ...] = ()
    labels: dict[str, list[str]] = {}
    counts = {}
    for split in dict.fromkeys(s for s in (data.train, data.val, data.test) if s):
        ids = [record.id for record in known.split(split)]
        if split in annotation_files(root):
            instances = read_instances(annotation_files(root)[split])
            _check_photos(root / split, instances.photos, ids)
            ids = [photo.id for photo in instances.photos]
            classes = _same_classes(split, classes, instances.classes)
            labels |= instances.labels()
            _draw(job, instances.photos, instances.numbers)
        (job.folder / "splits" / f"{split}.txt").write_text("\n".join(ids) + "\n")
        counts[f"{split} images"] = len(ids)
    (job.folder / "classes.txt").write_text("\n".join(classes) + "\n")
    (job.folder / "labels.json").write_text(json.dumps(labels))
    return {"classes": len(classes), **counts}


def _check_photos(folder: Path, photos: Sequence[Photo], ids: Sequence[str]) -> None:
    missing = sorted({photo.id for photo in photos} - set(ids))
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(photos)} annotated images are missing, "
            f"{missing[0]}.jpg first. Unpack {folder.name}.zip again."
        )


def _same_classes(split: str, before: tuple[str, ...], classes: tuple[str, ...]) -> tuple[str, ...]:
    if before and before != classes:
        raise UserError(
            f"annotations/instances_{split}.json: its categories are not those of the other "
            f"split. Take both files from the same archive."
        )
    return classes


def _draw(job: Job, photos: Sequence[Photo], numbers: dict[int, int]) -> None:
    """Masks of the images that have none yet."""
    draw = MaskWriter(job.folder / "masks", numbers, job.pieces)
    todo = [photo for photo in photos if not job.pieces.has(draw.file(photo))]
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    done = workers(job.context.workers)(joblib.delayed(draw)(chunk) for chunk in chunks)
    for _ in job.context.track(done, total=len(chunks), unit=f"chunk of {CHUNK} image"):
        pass


class MaskWriter:
    """Draws and writes masks; travels to worker processes."""

    def __init__(self, folder: Path, numbers: dict[int, int], pieces: Pieces) -> None:
        self.folder, self.numbers, self.pieces = folder, numbers, pieces

    def file(self, photo: Photo) -> Path:
        return self.folder / f"{photo.id}.png"

    def __call__(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            mask = draw_mask(photo.annotations, photo.size, self.numbers)
            with self.pieces.write(self.file(photo)) as temporary:
                write_label_png(temporary, mask)
