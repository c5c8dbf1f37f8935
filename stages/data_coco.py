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

from getam.cache import atomic_write
from getam.data.coco import Photo, annotation_files, draw_mask, read_coco_photos, read_instances
from getam.data.palette import write_label_png
from getam.errors import UserError

if TYPE_CHECKING:
    from getam.cache import Job

CHUNK = 64  # photos that a worker gets at a time


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
            f"{folder}: {len(missing)} of {len(photos)} annotated photos are missing, the first "
            f"is {missing[0]}.jpg. Unpack {folder.name}.zip again."
        )


def _same_classes(split: str, before: tuple[str, ...], classes: tuple[str, ...]) -> tuple[str, ...]:
    if before and before != classes:
        raise UserError(
            f"annotations/instances_{split}.json: got other categories than in the file of the "
            f"other split, expected the same. Take both files from the same archive."
        )
    return classes


def _draw(job: Job, photos: Sequence[Photo], numbers: dict[int, int]) -> None:
    """Draw the masks of the photos that have none yet."""
    draw = MaskWriter(job.folder / "masks", numbers)
    todo = [photo for photo in photos if not draw.file(photo).exists()]
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    parallel = joblib.Parallel(n_jobs=job.context.workers, return_as="generator_unordered")
    done = parallel(joblib.delayed(draw)(chunk) for chunk in chunks)
    for _ in job.context.track(done, total=len(chunks), unit=f"chunk of {CHUNK} image"):
        pass


class MaskWriter:
    """Draws and writes masks. Is sent to worker processes."""

    def __init__(self, folder: Path, numbers: dict[int, int]) -> None:
        self.folder, self.numbers = folder, numbers

    def file(self, photo: Photo) -> Path:
        return self.folder / f"{photo.id}.png"

    def __call__(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            mask = draw_mask(photo.annotations, photo.size, self.numbers)
            with atomic_write(self.file(photo)) as temporary:
                write_label_png(temporary, mask)
