"""import: masks that were corrected in an annotation tool, as ID.png."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from getam.data.files import MASKS, find_files
from getam.data.index import Record
from getam.data.masks import read_mask
from getam.data.photo_lists import read_ids
from getam.exchange.importing import Imported, Importer, class_names, photos_of
from getam.running.commands.current import LABELS, CurrentRun, Track, output_file, writes
from getam.running.datasets import unreviewed_index

UNTOLD = ("coco", "voc", "cvat")  # these do not say which masks someone has checked


def import_masks(
    run: CurrentRun,
    kind: str,
    file: Path,
    folder: Path,
    track: Track,
    *,
    renamed: tuple[str, ...] = (),
    sample: Path | None = None,
    only: Path | None = None,
    as_background: bool = False,
) -> Imported:
    """Put the masks of a tool's file into ``folder``.

    Args:
        renamed: texts OLD=NEW: the name of a class in the tool, and in the data set.
        sample: list of the photos that were drawn at random, one id a line.
        only: list of the photos to import, one id a line.
        as_background: whether a photo that is not annotated is background alone.

    Raises:
        UserError: what is not as expected, in one sentence.
    """
    output_file(folder, run.artifacts)
    rejected = rejected_photos(run)
    known = photos_of(run.data, rejected).records
    chosen = None if only is None else read_ids(only, known, "the data set")
    names = class_names(run.data, renamed)
    importer = Importer(
        run.data, names, only=chosen, as_background=as_background, rejected=rejected
    )
    with writes(folder):
        done = importer.run(kind, file, folder, sample, track)
    same = unchanged(run, folder, done.ids)
    if same and kind in UNTOLD:
        done.notes.append(
            f"{len(same)} of {len(done.ids)} masks are the same as the final masks of this run, "
            f"{same[0]!r} first. If you did not check these photos in the tool, remove their "
            f"masks, or import into another folder with --only."
        )
    return done


def rejected_photos(run: CurrentRun) -> list[Record]:
    """The photos that ``data.review`` took out of the data set of this run."""
    context = run.runner.context
    if context.review is None:
        return []
    index = unreviewed_index(context, run.folder("data") if "data" in run.rows else None)
    kept = photos_of(run.data).records
    return [r for i, r in photos_of(index).records.items() if i not in kept]


def unchanged(run: CurrentRun, folder: Path, ids: list[str]) -> list[str]:
    """The ids whose imported mask is the final mask of this run as it was."""
    labels = LABELS["masks"]
    if not run.has(labels.stage):
        return []
    final = find_files(run.folder(labels.stage) / labels.folder, MASKS)
    masks, known = find_files(folder, MASKS, nested=True), photos_of(run.data).records

    def same(image_id: str) -> bool:
        # In class ids: with data.classes the mask of the folder has other values for its classes.
        mask = run.data.read_correction(replace(known[image_id], correction=masks[image_id]))
        return np.array_equal(read_mask(final[image_id]), mask)

    return [i for i in ids if i in final and i in known and same(i)]
