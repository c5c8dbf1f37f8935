"""compare: measures map methods, refiners and thresholds on the same network and photos.

needs   the classifier or the end-to-end network; train photos with labels. With masks of some of
        them it measures the mIoU, the pointing game and the energy; insertion and deletion need
        none
makes   table.txt; comparison.json (the mIoU at every threshold, the figures of each photo);
        curves.png (mIoU over threshold); insertion_deletion.png
costs   for compare.images photos: each method as long as the stage maps, each refiner as long as
        the stage pseudolabels; for compare.curve_images of them: 2 (compare.curve_steps - 1)
        forward passes per class and 2 per photo, for each method and for the two controls
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch

from getam.data.sampling import evenly
from getam.errors import UserError
from getam.labels.refined_maps import Figures, Refine, Seeds
from getam.metrics.controls import CONTROLS, as_good, beside_controls
from getam.metrics.faithfulness import Curves, PhotoCurves, insertion_deletion
from getam.metrics.segmentation import ThresholdSweep
from getam.networks.build import load_classifier, network_build, normalisation
from getam.networks.precision import autocast
from getam.running.processes import workers
from getam.view.comparison import comparison_table
from getam.view.plot import perturbation_curves, threshold_curves
from stages.maps import Explainer
from stages.shared import batches, explained, multi_hot, open_data, square_batches

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

CHUNK = 32  # photos measured at a time


def check(job: Job) -> None:
    from getam.running.preflight import check_maps, check_masks, data_of

    check_maps(job, job.config.compare.methods)
    data, split = data_of(job), job.config.data.train
    if data is None:
        return
    chosen = _chosen(job, data)
    if not chosen:
        raise UserError(
            f"{data.root}: compare measures maps of labelled photos, but no photo of split "
            f"{split!r} is labelled with a class. Add classes to their lines in the label table."
        )
    if chosen[0].mask is None and not job.config.compare.curve_images:
        raise UserError(
            f"{data.root}: compare measures against masks, but got no labelled photo of split "
            f"{split!r} that has a mask. Add masks/ID.png for some of them, or set "
            f"compare.curve_images above 0 to measure insertion and deletion, which need no masks."
        )
    check_masks(data, data.split(split))


def run(job: Job) -> dict[str, Any]:
    data = open_data(job)
    records = _chosen(job, data)
    bench = Bench(job, data, records)
    measured = {}
    for name in (*job.config.compare.methods, *CONTROLS):
        kept = job.scratch / f"{name.replace(' ', '_')}.json"
        if not job.pieces.has(kept):
            of_name = bench.measure(name)
            with job.pieces.write(kept) as temporary:
                temporary.write_text(json.dumps(of_name))
        measured[name] = json.loads(kept.read_text())

    report = _report(job, records, measured)
    (job.folder / "comparison.json").write_text(json.dumps(report, indent=1))
    (job.folder / "table.txt").write_text(comparison_table(report))
    if rows := report["rows"]:
        threshold_curves(job.folder / "curves.png", rows, f"{len(records)} images")
    if curves := report["curves"]:
        title = f"{report['curve images']} images"
        perturbation_curves(job.folder / "insertion_deletion.png", curves, title)
    return {"images": len(records), **_best(report)}


def _chosen(job: Job, data: DataIndex) -> list[Record]:
    """At most ``compare.images`` photos with classes, at equal distances in the split.

    They are photos with a mask, unless no photo has one.
    """
    records = [record for record in data.labelled(job.config.data.train) if record.labels]
    records = [record for record in records if record.mask is not None] or records
    return evenly(records, job.config.compare.images)


def _report(
    job: Job, records: Sequence[Record], measured: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What table.txt and the plots show, as comparison.json has it."""
    settings = job.config.compare
    return {
        "split": job.config.data.train,
        "images": len(records),
        "curve images": len(evenly(records, settings.curve_images)),
        "curve steps": settings.curve_steps,
        "refiners": [*settings.refiners] if records[0].mask is not None else [],
        "rows": [row for found in measured.values() for row in found["rows"]],
        "maps": beside_controls({name: found["figures"] for name, found in measured.items()}),
        "curves": {name: found["curves"] for name, found in measured.items() if found["curves"]},
    }


def _best(report: Mapping[str, Any]) -> dict[str, Any]:
    """The best method by mIoU. Without masks, by insertion, among those that beat the controls."""
    if report["rows"]:
        best = max(report["rows"], key=lambda row: row["mIoU"])
        return {"best": f"{best['method']}, {best['refiner']}", "mIoU": best["mIoU"]}
    methods = [row for row in report["maps"] if row["map"] not in CONTROLS]
    clear = [row for row in methods if not as_good(row, "insertion")]
    if not clear:
        return {"best": "none is clearly better than the controls"}
    best = max(clear, key=lambda row: (row["means"].get("insertion", 0.0), row["map"]))
    return {"best": best["map"], "insertion": best["means"].get("insertion", 0.0)}


class Bench:
    """Measures one map method, or one control, after the other on the same photos."""

    def __init__(self, job: Job, data: DataIndex, records: Sequence[Record]) -> None:
        self.job, self.data, self.records = job, data, records
        self.for_curves = {r.id for r in evenly(records, job.config.compare.curve_images)}

    @cached_property
    def network(self) -> torch.nn.Module:
        return load_classifier(explained(self.job), self.job.context.device)

    @cached_property
    def side(self) -> int:
        return network_build(explained(self.job))["image_size"]

    def measure(self, name: str) -> dict[str, Any]:
        """The rows of the refiners, the figures of each photo, and the mean curves."""
        explain = self.explainer(name)
        chunks = [(chunk, [*explain(chunk)]) for chunk in batches(self.records, CHUNK)]
        rows, inside = [], {}
        if self.records[0].mask is not None:
            refiners = () if name in CONTROLS else self.job.config.compare.refiners
            rows, inside = self.against_masks(name, chunks, refiners)
        curves = self.curves(name, chunks)
        return {"rows": rows, "figures": {**curves.areas(), **inside}, "curves": curves.means()}

    def explainer(self, name: str) -> Callable[[Sequence[Record]], Iterator[Seeds]]:
        """What computes the maps of a method, or gives each class the map of a control."""
        settings = self.job.config.maps
        first = settings.start_block if name == settings.method else None
        how = SimpleNamespace(**{**settings, "method": name, "start_block": first})
        explain = Explainer(self.network, self.side, how, len(self.data.classes))
        if name not in CONTROLS:
            return explain
        control = partial(CONTROLS[name], explain.grid)
        return lambda records: (
            (r.id, np.uint8(r.labels), np.stack([control(r.id)] * len(r.labels))) for r in records
        )

    def against_masks(
        self, name: str, chunks: Sequence[tuple], refiners: Sequence[str]
    ) -> tuple[list[dict[str, Any]], Figures]:
        """One row per refiner; the pointing game and the energy of each photo."""
        context, settings = self.job.context, self.job.config
        thresholds = np.arange(settings.compare.thresholds) / settings.compare.thresholds
        refine = Refine(refiners, settings.pseudolabels, thresholds, self.data.without_records())
        sweeps = [ThresholdSweep(len(self.data.classes) + 1, thresholds) for _ in refiners]
        figures: Figures = {"pointing": {}, "energy": {}}
        done = workers(context.workers)(joblib.delayed(refine)(*chunk) for chunk in chunks)
        total, unit = len(self.records), f"{name} photo"
        tracked = context.track(
            zip(chunks, done), total=total, unit=unit, size=lambda pair: len(pair[0][0])
        )
        for _, (found, inside) in tracked:
            sweeps = [whole + part for whole, part in zip(sweeps, found)]
            for measure, of_photos in inside.items():
                figures[measure].update(of_photos)
        if not all(sweep.has_classes for sweep in sweeps):
            raise UserError(
                f"compare: the masks of {len(self.records)} photos of {settings.data.train} show "
                f"nothing but background, so nothing can be compared. 'data --deep' says what is "
                f"wrong with them."
            )
        known = {  # in the order of the photos, whichever process was first
            measure: {r.id: of_photos[r.id] for r in self.records if r.id in of_photos}
            for measure, of_photos in figures.items()
            if of_photos
        }
        return [_row(name, *pair) for pair in zip(refiners, sweeps)], known

    def curves(self, name: str, chunks: Sequence[tuple]) -> PhotoCurves:
        """Insertion and deletion of at most ``compare.curve_images`` photos."""
        parts = [(r, s) for chunk in chunks for r, s in zip(*chunk) if r.id in self.for_curves]
        found = PhotoCurves()
        for part in self.job.context.track(
            [*batches(parts, CHUNK)], total=len(parts), unit=f"{name} curve photo", size=len
        ):
            found.update([record.id for record, _ in part], self.curves_of(part))
        return found

    def curves_of(self, part: Sequence[tuple[Record, Seeds]]) -> Curves:
        settings, records = self.job.config, [record for record, _ in part]
        targets = multi_hot(records, len(self.data.classes))
        maps = np.zeros((*targets.shape, *part[0][1][2].shape[1:]), np.float32)
        maps[targets] = np.concatenate([of_photo for _, (_, _, of_photo) in part])
        context, statistics = self.job.context, normalisation(self.network)
        ((_, photos),) = square_batches(records, self.side, len(records), statistics, context)
        with autocast(settings.maps.precision, context.device):
            return insertion_deletion(
                self.network,
                photos,
                torch.from_numpy(maps),
                torch.from_numpy(targets),
                steps=settings.compare.curve_steps,
                batch_size=settings.maps.batch_size,
            )


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
