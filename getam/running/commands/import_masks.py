"""import: masks that were corrected in an annotation tool, as ID.png."""

from __future__ import annotations

from pathlib import Path

from getam.data.files import read_ids
from getam.exchange.importing import Imported, Importer, class_names, photos_of
from getam.running.commands.current import CurrentRun, Track, output_file, writes


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
        return importer.run(kind, file, folder, sample, track)
