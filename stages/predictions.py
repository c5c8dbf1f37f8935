"""predictions: what the trained network makes of photos that it did not learn from.

needs   deeplab, or the end-to-end network; images of the val split, and of data.test
makes   predictions/ID.png (predictions_crf/ID.png with dense CRF): VOC palette, 0 background, 1..C
        of data.test also results/: what its evaluation server takes
costs   scales x flips forward passes per photo; dense CRF about half a second each and core
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
    """Write the predictions of each image; those of an interrupted run are kept."""
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
    """The final predictions, in the mask values of the data set, where its server wants them."""
    made = job.folder / (SMOOTHED if job.config.predictions.crf.enabled else PLAIN)
    folder = job.folder / data.results
    folder.mkdir(parents=True, exist_ok=True)
    for record in distributed.share(records):
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
