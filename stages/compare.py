"""compare: measures map methods, refiners and thresholds on the same network and photos.

needs   the classifier or the end-to-end network; train photos with labels and masks
makes   table.txt, comparison.json (the mIoU at every threshold), curves.png
costs   for compare.images photos: each method as long as the stage maps, each refiner as long as
        the stage pseudolabels
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch

from getam.data.images import read_photo
from getam.data.transforms import resize_maps
from getam.errors import UserError
from getam.labels.crf import dense_crf
from getam.labels.normalise import normalise
from getam.labels.pamr import pamr
from getam.metrics.segmentation import ThresholdSweep
from getam.networks.build import load_classifier, network_build
from getam.running.processes import workers
from getam.view.plot import threshold_curves
from getam.view.table import percent, text_table
from stages.maps import Explainer
from stages.shared import batches, explained, open_data

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

Seeds = tuple[str, np.ndarray, np.ndarray]  # image id, class ids (K,), maps (K, h, w)


def check(job: Job) -> None:
    from getam.running.preflight import check_maps, check_masks, data_of

    check_maps(job, job.config.compare.methods)
    data = data_of(job)
    if data is None:
        return
    if not _chosen(job, data):
        raise UserError(
            f"{data.root}: compare measures against masks, but got no labelled photo of split "
            f"{job.config.data.train!r} that has a mask; expected masks/ID.png for some of them."
        )
    check_masks(data, data.split(job.config.data.train))


def run(job: Job) -> dict[str, Any]:
    settings = job.config.compare
    data = open_data(job)
    records = _chosen(job, data)
    rows = []
    for method in settings.methods:
        kept = job.scratch / f"{method}.json"
        if not job.pieces.has(kept):
            measured = _measure(job, data, records, method)
            with job.pieces.write(kept) as temporary:
                temporary.write_text(json.dumps(measured))
        rows += json.loads(kept.read_text())

    best = {f"{row['method']}, {row['refiner']}": row["mIoU"] for row in rows}
    report = {"split": job.config.data.train, "images": len(records), "rows": rows}
    (job.folder / "comparison.json").write_text(json.dumps(report, indent=1))
    (job.folder / "table.txt").write_text(_table(job, rows, len(records)))
    threshold_curves(job.folder / "curves.png", rows, f"{len(records)} images")
    return {"images": len(records), "best": max(best, key=best.get), "mIoU": max(best.values())}


def _chosen(job: Job, data: DataIndex) -> list[Record]:
    """At most ``compare.images`` photos with labels and a mask, at equal distances in the split."""
    records = [r for r in data.labelled(job.config.data.train) if r.labels and r.mask is not None]
    wanted = min(job.config.compare.images, len(records))
    return [records[n * len(records) // wanted] for n in range(wanted)]


def _measure(
    job: Job, data: DataIndex, records: Sequence[Record], method: str
) -> list[dict[str, Any]]:
    """Measure one map method: one row per refiner."""
    context, settings = job.context, job.config.compare
    network = load_classifier(explained(job), context.device)
    size = network_build(explained(job))["image_size"]
    how = SimpleNamespace(**{**job.config.maps, "method": method, "start_block": None})
    if method == job.config.maps.method:
        how.start_block = job.config.maps.start_block
    explain = Explainer(network, size, how, len(data.classes))
    thresholds = np.arange(settings.thresholds) / settings.thresholds
    chunks = [(chunk, list(explain(chunk))) for chunk in batches(records, 32)]
    refine = Refine(
        settings.refiners,
        dict(job.config.pseudolabels.pamr),
        dict(job.config.pseudolabels.crf),
        thresholds,
        data.without_records(),
    )
    sweeps = [ThresholdSweep(len(data.classes) + 1, thresholds) for _ in settings.refiners]
    done = workers(context.workers)(joblib.delayed(refine)(*chunk) for chunk in chunks)
    tracked = context.track(
        zip(chunks, done), total=len(records), unit=f"{method} photo", size=lambda p: len(p[0][0])
    )
    for _, partial in tracked:
        sweeps = [whole + part for whole, part in zip(sweeps, partial)]
    if not all(sweep.has_classes for sweep in sweeps):
        raise UserError(
            f"compare: the masks of {len(records)} photos of {job.config.data.train} show nothing "
            f"but background, so nothing can be compared. 'data --deep' says what is wrong with "
            f"them."
        )
    return [_row(method, *pair) for pair in zip(settings.refiners, sweeps)]


def _row(method: str, refiner: str, sweep: ThresholdSweep) -> dict[str, Any]:
    threshold, miou = sweep.best()
    return {
        "method": method,
        "refiner": refiner,
        "mIoU": miou,
        "best threshold": threshold,
        "thresholds": sweep.thresholds.tolist(),
        "curve": sweep.miou().tolist(),
    }


class Refine:
    """Measures the maps of some photos with each refiner. Can be sent to worker processes."""

    def __init__(
        self,
        refiners: Sequence[str],
        pamr: dict,
        crf: dict,
        thresholds: np.ndarray,
        data: DataIndex,
    ) -> None:
        self.refiners, self.thresholds, self.data = refiners, thresholds, data
        self.pamr = {"iterations": pamr["iterations"], "dilations": tuple(pamr["dilations"])}
        self.crf = {name: value for name, value in crf.items() if name != "enabled"}

    def __call__(self, records: Sequence[Record], seeds: Sequence[Seeds]) -> list[ThresholdSweep]:
        sweeps = [
            ThresholdSweep(len(self.data.classes) + 1, self.thresholds) for _ in self.refiners
        ]
        for record, (_, class_ids, maps) in zip(records, seeds):
            mask = self.data.read_mask(record)
            image = read_photo(record)
            peaks = maps.max(axis=(1, 2), keepdims=True)
            maps = torch.from_numpy(maps / np.maximum(peaks, 1e-30))
            for refiner, sweep in zip(self.refiners, sweeps):
                sweep.update(getattr(self, f"refine_{refiner}")(image, maps), class_ids, mask)
        return sweeps

    def refine_none(self, image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
        """Enlarge the maps, and divide each by its maximum."""
        return normalise(resize_maps(maps[None], image.shape[:2])[0]).numpy()

    def refine_pamr(self, image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
        """Refine the maps with PAMR, and divide each by its maximum."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        return normalise(pamr(pixels, maps[None], **self.pamr)[0]).numpy()

    def refine_crf(self, image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
        """Refine the maps with dense CRF. The background score is 1 minus the strongest map."""
        enlarged = self.refine_none(image, maps)
        scores = np.concatenate([1 - enlarged.max(0, keepdims=True), enlarged])
        return dense_crf(image, scores / scores.sum(0), **self.crf)[1:].clip(0, 1)


def _table(job: Job, rows: Sequence[dict[str, Any]], images: int) -> str:
    """The best mIoU and its threshold: one row per method, one column per refiner."""
    refiners = job.config.compare.refiners
    cells = {
        (row["method"], row["refiner"]): f"{percent(row['mIoU'])} @ {row['best threshold']:.2f}"
        for row in rows
    }
    body = [[m, *(cells[m, r] for r in refiners)] for m in job.config.compare.methods]
    title = f"mIoU @ best threshold, split {job.config.data.train}, {images} images"
    return f"{title}\n{text_table(['method', *refiners], body)}\n"
