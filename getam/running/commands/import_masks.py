"""import: masks that were corrected in an annotation tool, as ID.png."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from getam.data.files import MASKS, find_files
from getam.data.masks import read_mask
from getam.data.photo_lists import read_ids
from getam.exchange.importing import Imported, Importer, class_names, photos_of
from getam.running.commands.current import LABELS, CurrentRun, Track, output_file, writes

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
    known = photos_of(run.data).records
    chosen = None if only is None else read_ids(only, known, "the data set")
    names = class_names(run.data, renamed)
    importer = Importer(run.data, names, only=chosen, as_background=as_background)
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


def unchanged(run: CurrentRun, folder: Path, ids: list[str]) -> list[str]:
    """The ids whose imported mask is the final mask of this run as it was."""
    labels = LABELS["masks"]
    if not run.has(labels.stage):
        return []
    final = find_files(run.folder(labels.stage) / labels.folder, MASKS)
    masks = find_files(folder, MASKS, nested=True)
    return [i for i in ids if i in final and _same(final[i], masks[i])]


def _same(one: Path, other: Path) -> bool:
    return np.array_equal(read_mask(one), read_mask(other))
