"""Opens the data set of a configuration for the command ``data``. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from getam.config.schema import Config
from getam.data.check import check
from getam.data.review import reviewed
from getam.data.review_table import review_notes
from getam.data.sample_check import check_sample_masks, check_sample_photos, rejected_notes
from getam.data.splits import write_splits
from getam.errors import UserError, collected
from getam.running.opening import corrections_of, read_data, review_of, root_of, used_splits


def check_data(config: Config, deep: bool = False) -> dict[str, Any]:
    """Count what a data set has, and find what is wrong with it (see ``getam.data.check``).

    Raises:
        UserError: the data set cannot be read at all.
    """
    data = config.data
    _refuse_example(config)
    problems: list[str] = []
    root = root_of(config)
    used = used_splits(data)
    expected = {}
    if data.kind == "coco":
        from getam.data.coco import read_coco

        index = read_coco(root, root / data.saliency, used)
    elif data.kind == "voc":
        from getam.data.voc import SIZES, read_voc

        expected = SIZES
        index = read_voc(root, root / data.saliency, difficult=data.difficult)
    else:
        index = read_data(config, root, root / data.saliency, problems)
    review = review_of(data, index)
    notes = review_notes(Path(data.review).name, review, index) if review else []
    corrections = corrections_of(data, root, index)
    index = reviewed(index, review)
    if corrections is not None:
        notes += rejected_notes(corrections, index)
        with collected(problems):
            check_sample_masks(corrections)
        with collected(problems):
            check_sample_photos(corrections, index, (data.train, data.val), review)
    index = replace(index, notes=(*index.notes, *notes)).with_corrections(corrections)
    return check(
        index.subset(data.classes).with_intensities(data.intensity_range),
        used,
        problems=problems,
        deep=deep,
        needs_saliency="folder" in config.pseudolabels.saliency,
        expected=expected,
        draws_masks=data.kind == "coco",
    )


def write_lists(config: Config) -> list[Path]:
    """Write down how the photos of a folder are divided; returns the files.

    Raises:
        UserError: there are lists already, or the data set has a mistake or is of another kind.
    """
    _refuse_example(config)
    if config.data.kind != "folder":
        raise UserError(
            f"--write-splits: got data.kind={config.data.kind}, which has lists of its own; "
            f"expected folder: add --config folder --set data.root=FOLDER."
        )
    root = root_of(config)
    return write_splits(root, read_data(config, root, root / config.data.saliency).splits)


def _refuse_example(config: Config) -> None:
    if config.data.kind == "shapes":
        raise UserError(
            "data: got the embedded example, which needs no check. Expected a folder of photos: "
            "add --config folder --set data.root=FOLDER, or --name with the name of a run."
        )
