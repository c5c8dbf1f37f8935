"""export: labels for annotation tools, the network for deployment (ONNX)."""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from getam.cache.reasons import Kind
from getam.data.class_names import counted
from getam.data.masks import read_mask
from getam.data.review import REJECTED
from getam.errors import UserError
from getam.exchange.batch import Batch, Labelled
from getam.exchange.coco_json import write_coco
from getam.exchange.label_studio import write_label_studio
from getam.exchange.voc_masks import write_cvat, write_voc
from getam.running.commands.current import LABELS, CurrentRun, Track, output_file, writes
from getam.running.same_run import command_for_this_run

MADE_BY = {"masks": "predictions.masks", "predictions_crf": "predictions.crf.enabled"}


def default_labels(run: CurrentRun) -> str:
    """The labels to export if none are named: the final masks; the pseudo labels, with a note, of
    a run that ended before the stage predictions.

    Raises:
        UserError: there were final masks, but there are none of these settings.
    """
    row = run.rows["predictions"]
    if run.has("predictions") or not run.has("pseudolabels"):
        return "masks"
    if row.reason.kind is Kind.NEVER_MADE:
        _note("predictions has not run; the pseudo labels of the train photos are exported.")
        return "pseudolabels"
    command = command_for_this_run("--until", "predictions") or "run --until predictions"
    raise UserError(
        f"export: got no final masks of these settings (predictions is {row.status}: "
        f"{row.reason.sentence()}). Make them with '{command}'; or add --what pseudolabels to "
        f"export the pseudo labels of the train photos."
    )


def labelled(run: CurrentRun, what: str) -> tuple[list[str], list[Labelled]]:
    """The splits that ``what`` is about, and their photos with what reads their labels.

    A corrected mask (``data.corrections``) takes the place of a final mask. A photo that the
    review (``data.review``) rejected is left out of the final masks, and a note says how many.

    Raises:
        UserError: the stage has no artifact, or made no such labels.
    """
    labels = LABELS[what]
    folder = run.folder(labels.stage) / labels.folder
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the stage {labels.stage} made no such labels. Set {MADE_BY[what]}=true, or "
            f"export --what predictions."
        )
    final = what == "masks"
    splits = [run.config.data.train, run.config.data.val] if final else [run.split(labels.stage)]
    records = {record.id: record for split in splits for record in run.records(split)}
    rejected = {i for i in records if final and run.verdicts.get(i) == REJECTED}
    if rejected:
        _note(f"{counted(len(rejected), 'photo', 'photos')} that data.review rejects left out.")
    found = []
    for record in (record for i, record in records.items() if i not in rejected):
        file = folder / f"{record.id}.png"
        if final and record.correction is not None:
            found.append(Labelled(record, partial(run.data.read_correction, record)))
        elif not final or file.exists():
            read = partial(read_mask, file, classes=len(run.data.classes))
            found.append(Labelled(record, read))
    return splits, found


def most_doubtful(run: CurrentRun, photos: list[Labelled], count: int) -> list[Labelled]:
    """The photos that the stage doubt puts first, without those that somebody has decided about.

    That is: those with a corrected mask, and those that ``data.review`` accepts or rejects.

    Raises:
        UserError: the stage has no artifact.
    """
    with (run.folder("doubt") / "doubt.csv").open(encoding="utf-8", newline="") as file:
        order = [row["image"] for row in csv.DictReader(file)]
    known = {photo.record.id: photo for photo in photos if photo.record.correction is None}
    decided = known.keys() & run.verdicts.keys()
    if decided:
        _note(f"{counted(len(decided), 'photo', 'photos')} decided in data.review left out.")
    chosen = [known[i] for i in dict.fromkeys(order) if i in known and i not in decided]
    _tell_fewer(len(chosen), count)
    return chosen[:count]


def _tell_fewer(there: int, wanted: int) -> None:
    if there < wanted:
        _note(f"only {there} of the {wanted} photos asked for exist.")


def _note(told: str) -> None:
    warnings.warn(told, stacklevel=1)  # the command line prints it as a note


def at_random(photos: list[Labelled], count: int, seed: int) -> list[Labelled]:
    """A random sample without replacement; the same for the same seed."""
    _tell_fewer(len(photos), count)
    order = np.random.default_rng(seed).permutation(len(photos))
    return [photos[n] for n in order[:count].tolist()]


def batch_of(
    run: CurrentRun,
    what: str,
    track: Track,
    *,
    doubtful: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    with_photos: bool = True,
) -> Batch:
    """The labels to export: all, the most doubtful ones, or a random sample.

    Raises:
        UserError: as :func:`labelled` and :func:`most_doubtful`.
    """
    splits, photos = labelled(run, what)
    if doubtful is not None:
        photos = most_doubtful(run, photos, doubtful)
    if sample is not None:
        photos = at_random(photos, sample, seed)
    return Batch(
        classes=run.data.classes,
        photos=photos,
        told=f"{what} of {' and '.join(splits)}",
        sample=tuple(photo.record.id for photo in photos) if sample is not None else (),
        with_photos=with_photos,
        track=track,
    )


WRITERS: dict[str, Callable[..., str]] = {
    "coco": write_coco,
    "voc": write_voc,
    "cvat": write_cvat,
    "label-studio": write_label_studio,
}


def export_labels(run: CurrentRun, kind: str, batch: Batch, path: Path, **options: Any) -> str:
    """Write the labels; what was written, in words.

    Raises:
        UserError: the place cannot be written, is among the artifacts, is a folder that is not
            empty, or is a file that exists.
    """
    is_folder = kind != "coco" or path.suffix.lower() != ".json"
    output_file(path / "file" if is_folder else path, run.artifacts, run.config.data)
    if is_folder and any(path.iterdir()):
        raise UserError(f"{path}: got a folder that is not empty. Choose another one with -o.")
    if not is_folder and path.exists():  # it may hold masks that somebody drew
        raise UserError(f"{path}: got a file that exists. Choose another name with -o.")
    batch.check_sample(path if is_folder else path.parent)
    try:
        with writes(path):
            return WRITERS[kind](batch, path, **options)
    except BaseException:
        for entry in path.iterdir() if is_folder else ():  # half an export looks like a whole one
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise


def export_network(run: CurrentRun, path: Path) -> str:
    """Write the segmentation network as ONNX; what was written, in words.

    Raises:
        UserError: the run has no network, a library is not installed, the export fails, or it would
            replace a file that is no ONNX file.
    """
    from getam.networks.build import load_network, network_build, network_classes
    from getam.networks.onnx import export_onnx

    folder = run.network()
    output_file(path, run.artifacts)
    if path.exists() and (path.is_dir() or path.suffix.lower() != ".onnx"):
        raise UserError(f"{path}: this exists, and is no ONNX file. Choose another name with -o.")
    size, classes = network_build(folder)["image_size"], network_classes(folder)
    with writes(path):
        sizes, difference = export_onnx(path, load_network(folder), size, classes)
    return (
        f"RGB in [0, 1] (batch, 3, H, W), {sizes}, to probabilities; within {difference:.1g} of "
        f"torch's"
    )
