"""What the stages share: opening the data, and running a network over images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from getam.data.folder import read_folder
from getam.data.images import read_image
from getam.data.transforms import normalise_images, to_square

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record


@dataclass
class Context:
    """What a run brings along that no result depends on: places, device, workers, progress.

    ``files`` maps a setting such as ``classifier.weights`` to the local file it names; the
    setting itself then holds the file's content digest.
    """

    root: Path | None = None
    device: str = "cpu"
    workers: int = 1
    loader_workers: int = 0
    files: Mapping[str, Path] = field(default_factory=dict)
    track: Callable[..., Any] = lambda iterable, **_: iterable

    def file(self, name: str, setting: str) -> str:
        """The file that a setting names, or the setting itself where it names none."""
        return str(self.files.get(name, setting))


def open_data(job: Job) -> DataIndex:
    """The data set of this run: the generated one, or the user's folder."""
    return read_folder(job.inputs.get("data", job.context.root))


def multi_hot(records: Sequence[Record], classes: int) -> np.ndarray:
    """Image-level labels as (N, C) bool; column c is class id c + 1."""
    labels = np.zeros((len(records), classes), bool)
    for row, record in enumerate(records):
        labels[row, [c - 1 for c in record.labels or ()]] = True
    return labels


def batches(records: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    """Slices of at most ``size`` records."""
    for start in range(0, len(records), size):
        yield records[start : start + size]


def square_batch(
    records: Sequence[Record], side: int, statistics: Any, device: str
) -> torch.Tensor:
    """Images stretched to squares, normalised: (B, 3, side, side) on the device."""
    images = torch.stack([to_square(read_image(r.image), side) for r in records])
    return normalise_images(images.to(device), statistics)


def class_scores(network: nn.Module, images: Iterator[torch.Tensor]) -> np.ndarray:
    """Class probabilities (N, C) float32 of batches of normalised images."""
    with torch.inference_mode():
        scores = [torch.sigmoid(network(batch).float()).cpu().numpy() for batch in images]
    return np.concatenate(scores)
