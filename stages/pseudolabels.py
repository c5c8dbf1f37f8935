"""pseudolabels: maps, refined and completed, become one label per pixel.

needs   maps; saliency maps from the data folder, an ONNX model or the foreground stage, unless none
makes   labels/ID.png: VOC palette, 0 background, 1..C, 255 ignore
        --workers dask://host:port has them made by a Dask cluster that sees the same paths
costs   PAMR about half a second per photo of 500 x 375 and core, dense CRF as much again
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch

from getam.cache import atomic_write
from getam.completion import complete_labels, completion_options
from getam.crf import dense_crf
from getam.data.images import read_image, read_saliency, read_scores
from getam.data.palette import write_label_png
from getam.data.transforms import resize_maps
from getam.foreground import unstacked
from getam.mapfile import MapFile
from getam.refinement import balance, normalise, pamr
from getam.saliency import SaliencyModel
from stages.common import batches, check_saliency, open_data
from stages.processes import OncePerProcess, processes

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import Record

CHUNK = 8  # images a worker takes at a time
TINY = 1e-12


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.pseudolabels, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    check_saliency(settings, records, context.saliency or data.root / "saliency")

    folder = job.folder.absolute() / "labels"  # workers elsewhere stand in another folder
    folder.mkdir(exist_ok=True)
    todo = [r for r in records if not (folder / f"{r.id}.png").exists()]
    labeller = Labeller(
        MapFile(job.inputs["maps"].absolute() / "maps.h5"),
        settings,
        context.file("pseudolabels.saliency_model", settings.saliency_model or ""),
        folder,
        job.inputs["foreground"].absolute() if "foreground" in job.inputs else None,
    )
    label = OncePerProcess(labeller)
    with processes(context) as parallel:
        done = parallel(joblib.delayed(label)(chunk) for chunk in batches(todo, CHUNK))
        chunks = -(-len(todo) // CHUNK)
        for _ in context.track(done, total=chunks, unit=f"chunk of {CHUNK} image"):
            pass
    return {"images": len(records), "saliency": settings.saliency}


def label_probabilities(labels: np.ndarray, values: np.ndarray, confidence: float) -> np.ndarray:
    """Labels (H, W) as probabilities (K, H, W) of ``values``; uniform where the label is none.

    The given label has probability ``confidence``, the others share the rest.
    """
    given = labels == values[:, None, None]
    other = (1 - confidence) / max(len(values) - 1, 1)
    probabilities = np.where(given, np.float32(confidence), np.float32(other))
    return np.where(given.any(0), probabilities, np.float32(1 / len(values)))


class Labeller:
    """Makes and writes the pseudo labels of some images; travels to worker processes."""

    def __init__(
        self,
        maps: MapFile,
        settings: Any,
        saliency_model: str,
        folder: Path,
        foreground: Path | None = None,
    ) -> None:
        self.maps, self.settings, self.folder = maps, settings, folder
        self.foreground = foreground
        self.own_classes = foreground is not None and (foreground / "classes").is_dir()
        self.saliency_model = SaliencyModel(saliency_model) if saliency_model else None

    def __call__(self, records: Sequence[Record]) -> None:
        for record in records:
            with atomic_write(self.folder / f"{record.id}.png") as temporary:
                write_label_png(temporary, self.label(record))

    def label(self, record: Record) -> np.ndarray:
        """The pseudo label (H, W) uint8 of one image."""
        image = read_image(record.image)
        class_ids, maps, _ = self.maps.read(record.id)
        if self.own_classes and len(class_ids):
            own = read_scores(self.foreground / "classes" / f"{record.id}.png")
            maps = unstacked(own, len(class_ids))
        maps, foreground = self.enlarge(image, maps, self.foreground_scores(record))
        soft = [*foreground, *self.saliency(record, image)]
        salient = np.mean(soft, axis=0) > self.settings.saliency_threshold if soft else None
        labels = self.complete(self.normalised(maps), class_ids, salient)
        if self.settings.crf.enabled and len(class_ids):
            labels = self.smooth(image, labels, class_ids)
        return labels

    def enlarge(self, image: np.ndarray, *stacks: np.ndarray) -> list[np.ndarray]:
        """Each (K, h, w) to (K, H, W), along the edges of the image with PAMR."""
        masks = [resize_maps(torch.from_numpy(maps)[None], image.shape[:2]) for maps in stacks]
        refined, settings = torch.cat(masks, dim=1), self.settings.pamr
        if settings.enabled:
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
            refined = pamr(pixels, refined, settings.iterations, tuple(settings.dilations))
        return [part.numpy() for part in refined[0].split([len(maps) for maps in stacks])]

    def normalised(self, maps: np.ndarray) -> np.ndarray:
        """(K, H, W) in [0, 1]."""
        if self.own_classes:  # shares of one whole, which already compete
            return maps / max(maps.max(initial=0), TINY)
        found = normalise(torch.from_numpy(maps))
        return (balance(found) if self.settings.balance else found).numpy()

    def foreground_scores(self, record: Record) -> np.ndarray:
        """Of the foreground stage: (1, h, w) in [0, 1], or (0, 1, 1) where it is not asked."""
        if self.foreground is None:
            return np.empty((0, 1, 1), np.float32)
        return read_scores(self.foreground / "foreground" / f"{record.id}.png")[None]

    def saliency(self, record: Record, image: np.ndarray) -> Iterator[np.ndarray]:
        """Of the data folder or the ONNX model, where it is asked: (H, W) in [0, 1]."""
        if "onnx" in self.settings.saliency:
            yield self.saliency_model(image)
        if "folder" in self.settings.saliency:
            yield read_saliency(record.saliency, image.shape[:2])

    def complete(
        self, maps: np.ndarray, class_ids: np.ndarray, salient: np.ndarray | None
    ) -> np.ndarray:
        return complete_labels(maps, class_ids, salient, **completion_options(self.settings))

    def smooth(self, image: np.ndarray, labels: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Dense CRF over background and the image's own classes; decides ignored pixels too."""
        values = np.concatenate([[0], class_ids]).astype(np.uint8)
        probabilities = label_probabilities(labels, values, self.settings.crf_confidence)
        crf = {k: v for k, v in dict(self.settings.crf).items() if k != "enabled"}
        return values[dense_crf(image, probabilities, **crf).argmax(0)]
