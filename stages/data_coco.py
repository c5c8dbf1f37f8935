"""data: makes labels and masks from the annotations of MS COCO.

needs   annotations/instances_SPLIT.json of the train and val split
makes   a data folder without photos: masks/ID.png labels.json classes.txt splits/
        (see getam.data.folder and getam.data.coco)
costs   about 8 ms per photo and core; a few GB of memory while the annotations are read
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib

from getam.data.coco import (
    Photo,
    annotation_files,
    check_photos,
    read_coco_photos,
    read_instances,
    same_classes,
)
from getam.data.coco_outlines import draw_mask
from getam.data.palette import write_label_png
from getam.running.processes import workers

if TYPE_CHECKING:
    from getam.cache import Job, Pieces

CHUNK = 64  # photos that a worker gets at a time


def run(job: Job) -> dict[str, Any]:
    root, data = job.context.root, job.config.data
    for name in ("masks", "splits"):
        (job.folder / name).mkdir(exist_ok=True)
    splits = dict.fromkeys(s for s in (data.train, data.val, data.test) if s)
    known = read_coco_photos(root, splits=splits)
    classes: tuple[str, ...] = ()
    labels: dict[str, list[str]] = {}
    counts, skipped = {}, 0
    for split in splits:
        ids = [record.id for record in known.split(split)]
        if split in annotation_files(root):
            file = annotation_files(root)[split]
            instances = read_instances(file)
            check_photos(root / split, instances.photos, known.split(split))
            ids = [photo.id for photo in instances.photos]
            classes = same_classes(file, classes, instances.classes)
            skipped += instances.skipped()
            labels |= instances.labels()
            _draw(job, instances.photos, instances.numbers)
        listed = job.folder / "splits" / f"{split}.txt"
        listed.write_text("\n".join(ids) + "\n", encoding="utf-8")
        counts[f"{split} images"] = len(ids)
    (job.folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    (job.folder / "labels.json").write_text(json.dumps(labels))
    if skipped:
        counts["polygons of under three points, skipped"] = skipped
    return {"classes": len(classes), **counts}


def _draw(job: Job, photos: Sequence[Photo], numbers: dict[int, int]) -> None:
    """Draw the masks of the photos that have none yet."""
    draw = MaskWriter(job.folder / "masks", numbers, job.pieces)
    todo = [photo for photo in photos if not job.pieces.has(draw.file(photo))]
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    done = workers(job.context.workers)(joblib.delayed(draw)(chunk) for chunk in chunks)
    there = len(photos) - len(todo)
    for _ in job.context.track(done, total=len(photos), initial=there, size=int):
        pass


class MaskWriter:
    """Draws and writes masks. Can be sent to worker processes."""

    def __init__(self, folder: Path, numbers: dict[int, int], pieces: Pieces) -> None:
        self.folder, self.numbers, self.pieces = folder, numbers, pieces

    def file(self, photo: Photo) -> Path:
        return self.folder / f"{photo.id}.png"

    def __call__(self, photos: Sequence[Photo]) -> int:
        """Their number."""
        for photo in photos:
            mask = draw_mask(photo.annotations, photo.size, self.numbers)
            with self.pieces.write(self.file(photo)) as temporary:
                write_label_png(temporary, mask)
        return len(photos)
