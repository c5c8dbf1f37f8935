"""pseudolabels: turns the maps of each train photo into one label per pixel.

needs   maps; saliency maps (from the data folder, an ONNX model or the stage foreground) unless
        pseudolabels.saliency is none
makes   labels/ID.png: VOC palette, 0 background, 1..C, 255 ignore
costs   per photo of 500 x 375 pixels and core: PAMR about half a second, dense CRF as much again.
        Photos with a side above pseudolabels.longest_side are labelled at that size: 1 megapixel

With --workers dask://host:port a Dask cluster does the work; it must see the same paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch

from getam.data.images import read_photo, read_scores
from getam.data.palette import write_label_png
from getam.data.transforms import enlarged_labels, reduced
from getam.labels.crf import dense_crf
from getam.labels.patch_classes import unstacked
from getam.labels.saliency import Saliency, open_saliency
from getam.labels.steps import label_images
from getam.maps.file import MapFile
from getam.running.processes import OncePerProcess, processes
from stages.shared import batches, open_data

if TYPE_CHECKING:
    from getam.cache import Job, Pieces
    from getam.data.index import DataIndex, Record

CHUNK = 8  # photos that a worker gets at a time


def check(job: Job) -> None:
    from getam.running.preflight import check_saliency, data_of

    data = data_of(job)
    if data is not None:
        records = data.split(job.config.data.train)
        check_saliency(_open_saliency(job, data, records), records)


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.pseudolabels, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    saliency = _open_saliency(job, data, records)

    folder = job.folder.absolute() / "labels"  # a Dask worker has another current folder
    todo = [r for r in records if not job.pieces.has(folder / f"{r.id}.png")]
    labeller = Labeller(
        MapFile(job.inputs["maps"].absolute() / "maps.h5"),
        settings,
        saliency,
        folder,
        job.pieces,
    )
    label = OncePerProcess(labeller)
    with processes(context) as parallel:
        done = parallel(joblib.delayed(label)(chunk) for chunk in batches(todo, CHUNK))
        for _ in context.track(
            done, total=len(records), initial=len(records) - len(todo), size=int
        ):
            pass
    return {"images": len(records), "saliency": settings.saliency}


def _open_saliency(job: Job, data: DataIndex, records: Sequence[Record]) -> Saliency:
    return open_saliency(
        job.config.pseudolabels,
        records,
        job.context.saliency or data.root / "saliency",
        job.context.file("pseudolabels.saliency_model", job.config.pseudolabels.saliency_model),
        job.inputs.get("foreground"),
    )


def label_probabilities(labels: np.ndarray, values: np.ndarray, confidence: float) -> np.ndarray:
    """Labels (H, W) as probabilities (K, H, W) of the K label values in ``values``.

    The label of a pixel gets the probability ``confidence``; the other values share the rest. A
    pixel whose label is not in ``values`` (255) gets equal probabilities.
    """
    given = labels == values[:, None, None]
    other = (1 - confidence) / max(len(values) - 1, 1)
    probabilities = np.where(given, np.float32(confidence), np.float32(other))
    return np.where(given.any(0), probabilities, np.float32(1 / len(values)))


class Labeller:
    """Makes and writes the pseudo labels of some photos. Can be sent to worker processes."""

    def __init__(
        self,
        maps: MapFile,
        settings: Any,
        saliency: Saliency,
        folder: Path,
        pieces: Pieces,
    ) -> None:
        self.maps, self.settings, self.saliency = maps, settings, saliency
        self.folder, self.pieces = folder, pieces
        self.longest = settings.longest_side
        foreground = saliency.foreground
        self.classes = foreground and foreground.with_name("classes")
        self.own_classes = bool(self.classes and self.classes.is_dir())

    def __call__(self, records: Sequence[Record]) -> int:
        """Their number."""
        for record in records:
            with self.pieces.write(self.folder / f"{record.id}.png") as temporary:
                write_label_png(temporary, self.label(record))
        return len(records)

    def label(self, record: Record) -> np.ndarray:
        """The pseudo label (H, W) uint8 of one photo."""
        photo = read_photo(record)
        size = photo.shape[:2]
        image = photo if self.longest is None else reduced(photo, self.longest)
        class_ids, maps, _ = self.maps.read(record.id)
        if self.own_classes and len(class_ids):
            own = read_scores(self.classes / f"{record.id}.png")
            maps = unstacked(own, len(class_ids))
        labels = label_images(
            torch.from_numpy(maps)[None],
            torch.from_numpy(class_ids)[None],
            torch.from_numpy(image).permute(2, 0, 1)[None].float(),
            self.saliency.of(record, image, size),
            self.settings,
            shares=self.own_classes,
        )[0].numpy()
        if self.settings.crf.enabled and len(class_ids):
            labels = self.smooth(image, labels, class_ids)
        return enlarged_labels(labels, size)

    def smooth(self, image: np.ndarray, labels: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Smooth labels by dense CRF over background and the photo's own classes.

        Pixels with 255 (ignore) get a label too.
        """
        values = np.concatenate([[0], class_ids]).astype(np.uint8)
        probabilities = label_probabilities(labels, values, self.settings.crf_confidence)
        crf = {k: v for k, v in dict(self.settings.crf).items() if k != "enabled"}
        return values[dense_crf(image, probabilities, **crf).argmax(0)]
