"""pseudolabels: turns the maps of each train photo into one label per pixel.

needs   maps; saliency maps (from the data folder, an ONNX model or the stage foreground) unless
        pseudolabels.saliency is none
makes   labels/ID.png: VOC palette, 0 background, 1..C, 255 ignore
costs   per photo of 500 x 375 pixels and core: PAMR 0.15 to 0.5 s, dense CRF 0.3 s.
        Photos with a side above pseudolabels.longest_side are labelled at that size: 1 megapixel

On a GPU the photos of one size are labelled together, and --workers threads read and write them.
The dense CRF is computed on the CPU. The labels differ from those of a CPU in rare pixels.
With --workers dask://host:port a Dask cluster does the work; it must see the same paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from getam.data.images import read_scores
from getam.data.palette import write_label_png
from getam.data.transforms import enlarged_labels
from getam.labels.crf import dense_crf
from getam.labels.patch_classes import unstacked
from getam.labels.photo_batch import Photo, PhotoInputs, label_batch, read_reduced
from getam.maps.file import MapFile
from getam.running.photo_work import written
from getam.running.run_saliency import saliency_of
from getam.training import distributed
from stages.shared import open_data

if TYPE_CHECKING:
    from getam.cache import Job, Pieces
    from getam.data.index import Record
    from getam.labels.saliency import Saliency


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.pseudolabels, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    saliency = saliency_of(job, data, records)

    folder = job.folder.absolute() / "labels"  # a Dask worker has another current folder
    own = distributed.share(records)
    todo = [r for r in own if not job.pieces.has(folder / f"{r.id}.png")]
    labeller = Labeller(
        MapFile(job.inputs["maps"].absolute() / "maps.h5"),
        settings,
        saliency,
        folder,
        job.pieces,
    )
    done = written(labeller, todo, context)
    for _ in context.track(done, total=len(own), initial=len(own) - len(todo), size=int):
        pass
    distributed.wait()
    if distributed.rank():
        return {}
    return {"images": len(records), "saliency": settings.saliency}


def label_probabilities(labels: np.ndarray, values: np.ndarray, confidence: float) -> np.ndarray:
    """Labels (H, W) as probabilities (K, H, W) of the K label values in ``values``.

    The label of a pixel gets the probability ``confidence``; the other values share the rest. A
    pixel whose label is not in ``values`` (255) gets equal probabilities.
    """
    given = labels == values[:, None, None]
    other = (1 - confidence) / max(len(values) - 1, 1)
    probabilities = np.where(given, np.float32(confidence), np.float32(other))
    return np.where(given.any(0), probabilities, np.float32(1 / len(values)))


class Labelled(NamedTuple):
    """The labels (h, w) of a photo of ``size`` (H, W), with what the dense CRF needs, if any."""

    record: Record
    size: tuple[int, int]
    labels: np.ndarray
    class_ids: np.ndarray
    pixels: np.ndarray | None


class Labeller:
    """Makes and writes pseudo labels: a ``getam.running.photo_work.Work``."""

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
        self.longest, self.dilations = settings.longest_side, settings.pamr.dilations
        self.slow_to_write = settings.crf.enabled
        foreground = saliency.foreground
        self.classes = foreground and foreground.with_name("classes")
        self.own_classes = bool(self.classes and self.classes.is_dir())

    def label(self, record: Record) -> np.ndarray:
        """The pseudo label (H, W) uint8 of one photo."""
        return self.finished(self.compute([self.read(record)])[0])

    def read(self, record: Record) -> Photo:
        image, size = read_reduced(record, self.longest)
        class_ids, maps, _ = self.maps.read(record.id)
        if self.own_classes and len(class_ids):
            own = read_scores(self.classes / f"{record.id}.png")
            maps = unstacked(own, len(class_ids))
        saliency = self.saliency.of(record, image, size)
        return Photo(record, size, PhotoInputs(image, class_ids, maps, saliency))

    def compute(
        self, photos: Sequence[Photo], device: str = "cpu", at_once: bool | None = None
    ) -> list[Labelled]:
        """All steps except the dense CRF, for photos of one kind."""
        inputs = [photo.inputs for photo in photos]
        labels = label_batch(
            inputs, self.settings, shares=self.own_classes, device=device, at_once=at_once
        )
        crf = self.slow_to_write
        return [
            Labelled(p.record, p.size, own, p.inputs.class_ids, p.inputs.pixels if crf else None)
            for p, own in zip(photos, labels)
        ]

    def write(self, photo: Labelled) -> None:
        with self.pieces.write(self.folder / f"{photo.record.id}.png") as temporary:
            write_label_png(temporary, self.finished(photo))

    def finished(self, photo: Labelled) -> np.ndarray:
        """The labels (H, W) after the dense CRF, if it is wanted, in the size of the photo."""
        labels = photo.labels
        if photo.pixels is not None and len(photo.class_ids):
            labels = self.smooth(photo.pixels, labels, photo.class_ids)
        return enlarged_labels(labels, photo.size)

    def smooth(self, image: np.ndarray, labels: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Smooth labels by dense CRF over background and the photo's own classes.

        Pixels with 255 (ignore) get a label too.
        """
        values = np.concatenate([[0], class_ids]).astype(np.uint8)
        probabilities = label_probabilities(labels, values, self.settings.crf_confidence)
        crf = {k: v for k, v in dict(self.settings.crf).items() if k != "enabled"}
        return values[dense_crf(image, probabilities, **crf).argmax(0)]
