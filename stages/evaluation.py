"""evaluation: one table over everything that can be measured.

needs   the stages before it; masks for whatever is to be measured against masks
makes   metrics.json, table.txt, predictions/ID.png of the val split (predictions_crf/ with CRF);
        of data.test those as well, and results/: what an evaluation server takes
costs   scales x flips forward passes per val image; dense CRF about half a second each and core
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch

from getam import ranks
from getam.cache import atomic_write
from getam.crf import dense_crf
from getam.data.images import read_image, read_mask, read_scores
from getam.data.palette import write_label_png
from getam.data.transforms import resize_maps
from getam.foreground import unstacked
from getam.inference import Segmenter, segment
from getam.mapfile import MapFile
from getam.metrics import IGNORE, ConfusionMatrix, ThresholdSweep
from getam.networks import load_network, network_build
from getam.scores import average_precision, f1, mean_average_precision
from getam.view.table import evaluation_table
from stages.common import batches, explained, open_data, per_class

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

PLAIN, SMOOTHED = "predictions", "predictions_crf"
SALIENT = 0.5
TINY = 1e-12


def run(job: Job) -> dict[str, Any]:
    data = open_data(job)
    train, val = job.config.data.train, job.config.data.val
    seen = [r for r in data.split(train) if r.mask is not None]
    held_out = [r for r in data.split(val) if r.mask is not None]

    rows = [_classifier(job, data)]
    if seen and "maps" in job.inputs:
        rows.append(_seeds(job, data, seen))
    if seen and "foreground" in job.inputs:
        rows.append(_foreground(job, data, seen))
        rows.append(_seeds(job, data, seen, job.inputs["foreground"]))
    if seen and "pseudolabels" in job.inputs:
        rows.append(_pseudo_labels(job, data, seen))
    _predict(job, data.split(val))
    if held_out:
        rows.append(_network(job, data, held_out, "network", PLAIN))
        if job.config.evaluation.crf.enabled:
            rows.append(_network(job, data, held_out, "network + CRF", SMOOTHED))

    if job.config.data.test:
        _predict(job, data.split(job.config.data.test))
        _write_results(job, data, data.split(job.config.data.test))
    ranks.wait()
    if ranks.rank():
        return {}

    (job.folder / "metrics.json").write_text(json.dumps(rows, indent=1))
    (job.folder / "table.txt").write_text(evaluation_table(rows, data.classes))
    return {f"{row['what']} {row['measure']}": row["value"] for row in rows}


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


def _seeds(
    job: Job, data: DataIndex, records: Sequence[Record], foreground: Path | None = None
) -> dict[str, Any]:
    """Maps as they are, enlarged, against the masks: the best of many global thresholds.

    With scores of the foreground these are what has a threshold, and the maps, or what the
    foreground stage made of them, name the class.
    """
    maps = MapFile(job.inputs["maps"] / "maps.h5")
    count = job.config.evaluation.thresholds
    sweep = ThresholdSweep(len(data.classes) + 1, np.arange(count) / count)
    for record in job.context.track(ranks.share(records)):
        class_ids, image_maps, _ = maps.read(record.id)
        mask = data.read_mask(record)
        enlarged = resize_maps(torch.from_numpy(image_maps)[None], mask.shape)[0]
        if foreground is not None and len(class_ids):
            enlarged = _in_foreground(foreground, record, enlarged)
        sweep.update(enlarged.clamp(0, 1).numpy(), class_ids, mask)
    sweep = ranks.add_up(sweep)
    threshold, miou = sweep.best()
    best = int(np.searchsorted(sweep.thresholds, threshold))
    iou = sweep.iou()[best]
    curve = dict(zip(sweep.thresholds.round(6).tolist(), sweep.miou().round(6).tolist()))
    return {
        **_row(
            "seeds in foreground" if foreground else "seeds",
            job.config.data.train,
            records,
            data,
            miou,
            iou,
        ),
        "best threshold": threshold,
        "threshold curve": curve,
    }


def _in_foreground(folder: Path, record: Record, maps: torch.Tensor) -> torch.Tensor:
    """Scores of the foreground (K, H, W) for the class that is strongest, less for the others."""
    own = folder / "classes" / f"{record.id}.png"
    if own.is_file():
        shares = torch.from_numpy(unstacked(read_scores(own), len(maps)))
        maps = resize_maps(shares[None], maps.shape[1:])[0]
    found = _enlarged_scores(folder / "foreground", record, maps.shape[1:])
    return maps / maps.amax(0).clamp_min(TINY) * found


def _foreground(job: Job, data: DataIndex, records: Sequence[Record]) -> dict[str, Any]:
    """Object or ground, as it is before PAMR, against any class or background of the masks."""
    folder = job.inputs["foreground"] / "foreground"
    confusion = ConfusionMatrix(2)
    for record in ranks.share(records):
        mask = data.read_mask(record)
        found = _enlarged_scores(folder, record, mask.shape).numpy() > SALIENT
        confusion.update(found.astype(np.uint8), np.where(mask == IGNORE, mask, mask > 0))
    ground, objects = ranks.add_up(confusion).iou()
    return {
        **_row("foreground", job.config.data.train, records, data, objects, np.array([])),
        "measure": "IoU",
        "per class": per_class(("background",), np.array([ground])),
    }


def _enlarged_scores(folder: Path, record: Record, shape: tuple[int, int]) -> torch.Tensor:
    scores = torch.from_numpy(read_scores(folder / f"{record.id}.png"))[None, None]
    return resize_maps(scores, shape)[0, 0]


def _pseudo_labels(job: Job, data: DataIndex, records: Sequence[Record]) -> dict[str, Any]:
    folder = job.inputs["pseudolabels"] / "labels"
    confusion = _against_masks(folder, data, records)
    return {
        **_row(
            "pseudo labels",
            job.config.data.train,
            records,
            data,
            confusion.miou(),
            confusion.iou(),
        ),
        "ignored": confusion.ignored_share,
        "foreground recall": confusion.foreground_recall,
    }


def _network(
    job: Job, data: DataIndex, records: Sequence[Record], what: str, folder: str
) -> dict[str, Any]:
    confusion = _against_masks(job.folder / folder, data, records)
    row = _row(what, job.config.data.val, records, data, confusion.miou(), confusion.iou())
    separate = "deeplab" in job.inputs
    return {**row, "trained on": job.config.deeplab.labels if separate else "its own labels"}


def _row(
    what: str,
    split: str,
    records: Sequence[Record],
    data: DataIndex,
    miou: float,
    iou: np.ndarray,
) -> dict[str, Any]:
    return {
        "what": what,
        "split": split,
        "images": len(records),
        "measure": "mIoU",
        "value": miou,
        "per class": per_class(("background", *data.classes), iou),
    }


def _against_masks(folder: Path, data: DataIndex, records: Sequence[Record]) -> ConfusionMatrix:
    """One confusion matrix over all images, read one at a time, and over all processes."""
    confusion = ConfusionMatrix(len(data.classes) + 1)
    for record in ranks.share(records):
        mask = data.read_mask(record)
        confusion.update(read_mask(folder / f"{record.id}.png", mask.shape), mask)
    return ranks.add_up(confusion)


def _predict(job: Job, records: Sequence[Record]) -> None:
    """Write the predictions of each image; those of an interrupted run are kept."""
    settings, context = job.config.evaluation, job.context
    folder = job.inputs["deeplab" if "deeplab" in job.inputs else "endtoend"]
    network, side = load_network(folder, context.device), network_build(folder)["image_size"]
    segmenter = Segmenter(network, side, settings.scales, settings.flip, settings.precision)
    write = Writer(job.folder, dict(settings.crf))
    own = [r for batch in ranks.share([*batches(records, settings.batch_size)]) for r in batch]
    todo = [r for r in own if not write.last(r.id).exists()]
    images: Iterator = ((r.id, read_image(r.image)) for r in todo)
    probabilities = segment(segmenter, images, settings.batch_size)
    parallel = joblib.Parallel(n_jobs=context.workers, return_as="generator_unordered")
    done = parallel(joblib.delayed(write)(*one) for one in probabilities)
    for _ in context.track(done, total=len(own), initial=len(own) - len(todo)):
        pass
    ranks.wait()


def _write_results(job: Job, data: DataIndex, records: Sequence[Record]) -> None:
    """The final predictions, in the mask values of the data set, where its server wants them."""
    made = job.folder / (SMOOTHED if job.config.evaluation.crf.enabled else PLAIN)
    folder = job.folder / data.results
    folder.mkdir(parents=True, exist_ok=True)
    for record in ranks.share(records):
        labels = read_mask(made / f"{record.id}.png")
        write_label_png(folder / f"{record.id}.png", data.mask_values(labels))


class Writer:
    """Writes predictions without and with dense CRF; travels to worker processes."""

    def __init__(self, folder: Path, crf: dict[str, Any]) -> None:
        self.folder, self.smooths = folder, crf["enabled"]
        self.crf = {name: value for name, value in crf.items() if name != "enabled"}
        for name in (PLAIN, SMOOTHED) if self.smooths else (PLAIN,):
            (folder / name).mkdir(exist_ok=True)

    def last(self, image_id: str) -> Path:
        """The file of an image that is written last."""
        return self.folder / (SMOOTHED if self.smooths else PLAIN) / f"{image_id}.png"

    def __call__(self, image_id: str, image: np.ndarray, probabilities: np.ndarray) -> None:
        labels = probabilities.argmax(0).astype(np.uint8)
        self._write(self.folder / PLAIN / f"{image_id}.png", labels)
        if self.smooths:
            # Background and the classes that win somewhere: the others cannot come back.
            present = np.union1d(0, np.unique(labels)).astype(np.uint8)
            smooth = dense_crf(image, probabilities[present], **self.crf)
            self._write(self.last(image_id), present[smooth.argmax(0)])

    @staticmethod
    def _write(path: Path, labels: np.ndarray) -> None:
        with atomic_write(path) as temporary:
            write_label_png(temporary, labels)
