"""evaluation: measures the output of all stages, as one table.

needs   the stages before it; masks of train and val; corrected masks of a sample. Without masks and
        sample only the classifier is measured
makes   metrics.json, table.txt
costs   for each row of the table: reading the masks, and the output that is measured
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from getam.data.images import read_scores
from getam.data.label_values import IGNORE
from getam.data.mask_labels import MaskLabels, values_of
from getam.data.masks import read_mask
from getam.data.transforms import resize_maps
from getam.labels.patch_classes import unstacked
from getam.maps.file import MapFile
from getam.metrics.bootstrap import class_areas, miou_interval
from getam.metrics.classification import average_precision, f1, mean_average_precision
from getam.metrics.segmentation import ConfusionMatrix, ThresholdSweep
from getam.training import distributed
from getam.view.table import evaluation_table
from stages.predictions import FINAL, PLAIN, SMOOTHED
from stages.shared import explained, open_data, per_class, teaches

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

SALIENT = 0.5
TINY = 1e-12
FEWEST = 2  # photos of a sample that give an interval


def run(job: Job) -> dict[str, Any]:
    data = open_data(job)
    train, val = (Masks(data, split) for split in (job.config.data.train, job.config.data.val))

    rows = [_classifier(job, data)]
    if train.records and "maps" in job.inputs:
        rows.append(_seeds(job, train))
    if train.records and "foreground" in job.inputs:
        rows.append(_foreground(job, train))
        rows.append(_seeds(job, train, job.inputs["foreground"]))
    if train.records and "pseudolabels" in job.inputs:
        rows.append(_pseudo_labels(job, train))
    for what, folder in (("network", PLAIN), ("network + CRF", SMOOTHED)):
        if val.records and (job.inputs["predictions"] / folder).is_dir():
            rows.append(_network(job, val, what, folder))
    if (job.inputs["predictions"] / FINAL).is_dir():
        rows += [_final_masks(job, masks) for masks in (train, val) if masks.labelled]
    rows += _sample(job, data)
    contradictions = [said for masks in (train, val) if (said := masks.contradiction())]
    distributed.wait()
    if distributed.rank():
        return {}

    for said in contradictions:
        warnings.warn(said, stacklevel=1)
    (job.folder / "metrics.json").write_text(json.dumps(rows, indent=1))
    table = evaluation_table(rows, data.classes, contradictions)
    (job.folder / "table.txt").write_text(table, encoding="utf-8")
    return {f"{row['what']} {row['measure']}": row["value"] for row in rows}


class Masks:
    """The photos of a split that have a mask. Compares the masks it reads with the labels."""

    def __init__(self, data: DataIndex, split: str) -> None:
        self.data, self.split = data, split
        self.records = [record for record in data.split(split) if record.mask is not None]
        self.labelled = [record for record in self.records if record.labels is not None]
        self._against = MaskLabels()

    @property
    def classes(self) -> int:
        """The number of classes, background included."""
        return len(self.data.classes) + 1

    def read(self, record: Record) -> np.ndarray:
        """The mask (H, W) of a photo."""
        mask = self.data.read_mask(record)
        self._against.add(record, values_of(mask))
        return mask

    def contradiction(self) -> str | None:
        """A sentence if masks, read by any process, contradict the labels of their photos."""
        return distributed.add_up(self._against).sentence(self.split, self.data.classes)


def _classifier(job: Job, data: DataIndex) -> dict[str, Any]:
    kept = np.load(explained(job) / "scores.npz", allow_pickle=False)
    scores, labels = kept["scores"], kept["labels"]
    score = f1(scores, labels)
    return {
        "what": "classifier",
        "split": job.config.data.val,
        "images": len(scores),
        "measure": "mAP",
        "value": mean_average_precision(scores, labels),
        "per class": per_class(data.classes, average_precision(scores, labels)),
        "F1 micro": score.micro,
        "F1 macro": score.macro,
    }


def _seeds(job: Job, masks: Masks, foreground: Path | None = None) -> dict[str, Any]:
    """Measure the maps, enlarged but not refined, at the best of many global thresholds.

    With ``foreground`` (the artifact of that stage) the threshold is applied to its object scores.
    A pixel gets the class with the highest class share, if that stage wrote class shares, else the
    class with the strongest map.
    """
    maps = MapFile(job.inputs["maps"] / "maps.h5")
    count = job.config.evaluation.thresholds
    sweep = ThresholdSweep(masks.classes, np.arange(count) / count)
    for record in job.context.track(distributed.share(masks.records)):
        class_ids, image_maps, _ = maps.read(record.id)
        mask = masks.read(record)
        enlarged = resize_maps(torch.from_numpy(image_maps)[None], mask.shape)[0]
        if foreground is not None and len(class_ids):
            enlarged = _in_foreground(foreground, record, enlarged)
        sweep.update(enlarged.clamp_(0, 1).numpy(), class_ids, mask)
    sweep = distributed.add_up(sweep)
    threshold, miou = sweep.best()
    best = int(np.searchsorted(sweep.thresholds, threshold))
    what = "seeds in foreground" if foreground else "seeds"
    row = _row(what, masks, sweep, miou, sweep.iou()[best])
    if row["value"] is None:
        return row
    curve = dict(zip(sweep.thresholds.round(6).tolist(), sweep.miou().round(6).tolist()))
    return {**row, "best threshold": threshold, "threshold curve": curve}


def _in_foreground(folder: Path, record: Record, maps: torch.Tensor) -> torch.Tensor:
    """Maps (K, H, W) scaled so that the strongest class of a pixel has its object score."""
    own = folder / "classes" / f"{record.id}.png"
    if own.is_file():
        shares = torch.from_numpy(unstacked(read_scores(own), len(maps)))
        maps = resize_maps(shares[None], maps.shape[1:])[0]
    found = _enlarged_scores(folder / "foreground", record, maps.shape[1:])
    return maps.div_(maps.amax(0).clamp_min(TINY)).mul_(found)


def _foreground(job: Job, masks: Masks) -> dict[str, Any]:
    """Measure the object scores, before PAMR, against the masks: any class or background."""
    folder = job.inputs["foreground"] / "foreground"
    confusion = ConfusionMatrix(2)
    for record in distributed.share(masks.records):
        mask = masks.read(record)
        found = _enlarged_scores(folder, record, mask.shape).numpy() > SALIENT
        confusion.update(found.astype(np.uint8), np.where(mask == IGNORE, mask, mask > 0))
    confusion = distributed.add_up(confusion)
    ground, objects = confusion.iou()
    row = _row("foreground", masks, confusion, objects, np.array([ground]))
    return {**row, "measure": "IoU"}


def _enlarged_scores(folder: Path, record: Record, shape: tuple[int, int]) -> torch.Tensor:
    scores = torch.from_numpy(read_scores(folder / f"{record.id}.png"))[None, None]
    return resize_maps(scores, shape)[0, 0]


def _pseudo_labels(job: Job, masks: Masks) -> dict[str, Any]:
    confusion = _against_masks(job.inputs["pseudolabels"] / "labels", masks, masks.records)
    row = _row("pseudo labels", masks, confusion, confusion.miou(), confusion.iou())
    if row["value"] is None:
        return row
    shares = {
        "ignored": confusion.ignored_share,
        "foreground recall": confusion.foreground_recall,
    }
    return {**row, **shares}


def _network(job: Job, masks: Masks, what: str, folder: str) -> dict[str, Any]:
    confusion = _against_masks(job.inputs["predictions"] / folder, masks, masks.records)
    row = _row(what, masks, confusion, confusion.miou(), confusion.iou())
    return {**row, "trained on": _trained_on(job, masks.data)}


def _trained_on(job: Job, data: DataIndex) -> str:
    end_to_end = job.config.mode == "end-to-end"
    labels = "its own labels" if end_to_end else job.config.deeplab.labels
    learnt = sum(teaches(job, record) for record in data.split(job.config.data.train))
    if not learnt or labels == "masks":
        return labels
    return f"{labels} and {learnt} correction{'s' * (learnt > 1)}"


def _final_masks(job: Job, masks: Masks) -> dict[str, Any]:
    confusion = _against_masks(job.inputs["predictions"] / FINAL, masks, masks.labelled)
    what = f"final masks, {masks.split}"
    row = _row(what, masks, confusion, confusion.miou(), confusion.iou())
    return {**row, "images": len(masks.labelled)}


def _row(
    what: str,
    masks: Masks,
    counts: ConfusionMatrix | ThresholdSweep,
    value: float,
    iou: np.ndarray,
) -> dict[str, Any]:
    """A row of the table. It has no values if no mask shows a class."""
    row = {"what": what, "split": masks.split, "images": len(masks.records), "measure": "mIoU"}
    if not counts.has_classes:
        return {**row, "value": None, "per class": {}, "no class in masks": True}
    return {**row, "value": value, "per class": per_class(("background", *masks.data.classes), iou)}


def _against_masks(folder: Path, masks: Masks, records: Sequence[Record]) -> ConfusionMatrix:
    """One confusion matrix of all photos, summed over all processes. Reads one photo at a time."""
    confusion = ConfusionMatrix(masks.classes)
    for record in distributed.share(records):
        mask = masks.read(record)
        confusion.update(read_mask(folder / f"{record.id}.png", mask.shape), mask)
    return distributed.add_up(confusion)


def _sample(job: Job, data: DataIndex) -> list[dict[str, Any]]:
    """Final masks, and predictions without labels, against the corrected masks of the sample."""
    splits = dict.fromkeys((job.config.data.train, job.config.data.val))
    drawn = {r.id: (r, name) for name in splits for r in data.split(name) if r.in_sample}
    rows = []
    for what, folder, kind in (
        ("final masks, sample", FINAL, "final mask"),
        ("network, sample", PLAIN, "prediction"),
    ):
        made = job.inputs["predictions"] / folder
        found = [(r, name) for r, name in drawn.values() if (made / f"{r.id}.png").is_file()]
        if found:
            of = [name for name in splits if any(name == own for _, own in found)]
            measured = _against_corrections(data, [record for record, _ in found], made)
            row = {"what": what, "split": ", ".join(of), "measure": "mIoU", "kind": kind}
            rows.append({**row, **measured, "drawn": len(drawn)})
    learnt = bool(drawn) and job.config.data.learn_from_sample
    return [{**row, "learnt": True} for row in rows] if learnt else rows


def _against_corrections(data: DataIndex, records: Sequence[Record], made: Path) -> dict[str, Any]:
    """The mIoU of the photos that were drawn at random, and its interval."""
    classes = len(data.classes) + 1
    total, areas = ConfusionMatrix(classes), []
    for record in distributed.share(records):
        one, mask = ConfusionMatrix(classes), data.read_correction(record)
        one.update(read_mask(made / f"{record.id}.png", mask.shape), mask)
        total, areas = total + one, [*areas, class_areas(one)]
    total, areas = distributed.add_up(total), distributed.gather(areas)
    row = {"images": len(records)}
    if not total.has_classes:
        return {**row, "value": None, "per class": {}, "no class in masks": True}
    row |= {
        "value": total.miou(),
        "per class": per_class(("background", *data.classes), total.iou()),
    }
    if len(records) < FEWEST:
        return row
    return {**row, "interval": [*miou_interval(np.stack(areas))[1:]]}
