"""Where objects are in an image, of whatever class: what ``pseudolabels.saliency`` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from getam.data.images import read_saliency, read_scores
from getam.errors import UserError
from getam.saliency import SaliencyModel

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import Record


class Saliency:
    """Of single images: that of the data folder, an ONNX model, the foreground stage, or the mean
    of two. Travels to worker processes.

    Raises:
        UserError: a record has no saliency map, or no model is named, where they are asked for.
    """

    def __init__(self, job: Job, records: Sequence[Record], folder: Path) -> None:
        settings = job.config.pseudolabels
        self.sources = settings.saliency.split("+")
        self.threshold = settings.saliency_threshold
        self.model, self.foreground = None, None
        if "folder" in self.sources:
            _check_files(records, job.context.saliency or folder)
        if "onnx" in self.sources:
            if not settings.saliency_model:
                raise UserError(
                    f"pseudolabels.saliency_model: got none, expected an ONNX file, as "
                    f"pseudolabels.saliency is {settings.saliency}. Set it to the path of one."
                )
            path = job.context.file("pseudolabels.saliency_model", settings.saliency_model)
            self.model = SaliencyModel(path)
        if "features" in self.sources:
            self.foreground = job.inputs["foreground"].absolute() / "foreground"

    def on_grid(self, record: Record) -> np.ndarray:
        """Of the foreground stage: (1, h, w) in [0, 1], or (0, 1, 1) where it is not asked."""
        if self.foreground is None:
            return np.empty((0, 1, 1), np.float32)
        return read_scores(self.foreground / f"{record.id}.png")[None]

    def salient(
        self, record: Record, image: np.ndarray, enlarged: Sequence[np.ndarray]
    ) -> np.ndarray | None:
        """Where the mean is above ``pseudolabels.saliency_threshold``: (H, W) bool, or None without
        any; ``enlarged`` is what :meth:`on_grid` gave, at the size of the ``image``."""
        soft = [*enlarged]
        if self.model is not None:
            soft.append(self.model(image))
        if "folder" in self.sources:
            soft.append(read_saliency(record.saliency, image.shape[:2]))
        return np.mean(soft, axis=0) > self.threshold if soft else None


def _check_files(records: Sequence[Record], folder: Path) -> None:
    missing = [r.id for r in records if r.saliency is None]
    if missing:
        raise UserError(
            f"{folder}: got no saliency map for {len(missing)} of {len(records)} "
            f"images, {missing[0]!r} first; expected ID.png for each. Add them, or set "
            f"pseudolabels.saliency to onnx, features or none."
        )
