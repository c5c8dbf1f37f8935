"""predictions: labels every pixel of the val photos (and of data.test) with the trained network.

needs   deeplab or the end-to-end network; photos of the val split, and of data.test if it is set
makes   predictions/ID.png: VOC palette, 0 background, 1..C
        predictions_crf/ID.png: the same after dense CRF, with predictions.crf.enabled
        results/: with data.test, the files for the evaluation server of the data set
costs   scales x flips forward passes per photo; dense CRF about half a second per photo and core
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from getam.cache import atomic_write
from getam.data.images import read_mask, read_photo
from getam.data.palette import write_label_png
from getam.labels.crf import dense_crf
from getam.networks.build import load_network, network_build
from getam.networks.inference import Segmenter, segment
from getam.training import distributed
from stages.shared import batches, open_data

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record

PLAIN, SMOOTHED = "predictions", "predictions_crf"


def check(job: Job) -> None:
    from getam.running.preflight import data_of

    data, names = data_of(job), job.config.data
    for name in (names.val, names.test) if data is not None else ():
        if name:
            data.split(name)


def run(job: Job) -> dict[str, Any]:
    data = open_data(job)
    photos = data.split(job.config.data.val)
    _predict(job, photos)
    if job.config.data.test:
        test = data.split(job.config.data.test)
        _predict(job, test)
        _write_results(job, data, test)
    distributed.wait()
    return {"images": len(photos)}


def _predict(job: Job, records: Sequence[Record]) -> None:
    """Write the predictions of each photo. Those of an interrupted run are kept."""
    settings, context = job.config.predictions, job.context
    folder = job.inputs["deeplab" if "deeplab" in job.inputs else "endtoend"]
    network, side = load_network(folder, context.device), network_build(folder)["image_size"]
    segmenter = Segmenter(network, side, settings.scales, settings.flip, settings.precision)
    write = Writer(job.folder, dict(settings.crf))
    own = [
        r for batch in distributed.share([*batches(records, settings.batch_size)]) for r in batch
    ]
    todo = [r for r in own if not write.last(r.id).exists()]
    images: Iterator = ((r.id, read_photo(r)) for r in todo)
    probabilities = segment(segmenter, images, settings.batch_size)
    parallel = joblib.Parallel(n_jobs=context.workers, return_as="generator_unordered")
    done = parallel(joblib.delayed(write)(*one) for one in probabilities)
    for _ in context.track(done, total=len(own), initial=len(own) - len(todo)):
        pass
    distributed.wait()


def _write_results(job: Job, data: DataIndex, records: Sequence[Record]) -> None:
    """Write the final predictions for the evaluation server: in its mask values and its folder."""
    made = job.folder / (SMOOTHED if job.config.predictions.crf.enabled else PLAIN)
    folder = job.folder / data.results
    folder.mkdir(parents=True, exist_ok=True)
    for record in distributed.share(records):
        labels = read_mask(made / f"{record.id}.png")
        write_label_png(folder / f"{record.id}.png", data.mask_values(labels))


class Writer:
    """Writes predictions without and with dense CRF. Can be sent to worker processes."""

    def __init__(self, folder: Path, crf: dict[str, Any]) -> None:
        self.folder, self.smooths = folder, crf["enabled"]
        self.crf = {name: value for name, value in crf.items() if name != "enabled"}
        for name in (PLAIN, SMOOTHED) if self.smooths else (PLAIN,):
            (folder / name).mkdir(exist_ok=True)

    def last(self, image_id: str) -> Path:
        """The file of a photo that is written last: if it exists, the photo is done."""
        return self.folder / (SMOOTHED if self.smooths else PLAIN) / f"{image_id}.png"

    def __call__(self, image_id: str, image: np.ndarray, probabilities: np.ndarray) -> None:
        labels = probabilities.argmax(0).astype(np.uint8)
        self._write(self.folder / PLAIN / f"{image_id}.png", labels)
        if self.smooths:
            # Only background and the classes that win somewhere: more classes take longer.
            present = np.union1d(0, np.unique(labels)).astype(np.uint8)
            smooth = dense_crf(image, probabilities[present], **self.crf)
            self._write(self.last(image_id), present[smooth.argmax(0)])

    @staticmethod
    def _write(path: Path, labels: np.ndarray) -> None:
        with atomic_write(path) as temporary:
            write_label_png(temporary, labels)
