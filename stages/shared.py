"""Functions that several stages use: opening the data of a run, and running a network on photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from getam.data.ahead import batches, read_ahead
from getam.data.images import read_photo
from getam.data.transforms import Statistics, normalise_images, on_device, to_square
from getam.running.datasets import open_index
from getam.training import distributed

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record
    from getam.running.context import Context


def open_data(job: Job) -> DataIndex:
    """The data set of this run: the user's, or the one that the data stage made."""
    return open_index(job.context, job.inputs.get("data"), job.config.data.classes)


def explained(job: Job) -> Path:
    """The artifact of the network whose class scores the maps explain."""
    return job.inputs["endtoend" if "endtoend" in job.inputs else "classifier"]


def encoder_of(job: Job) -> dict[str, Any]:
    """The arguments of :func:`getam.networks.build.build_deeplab` for the encoder."""
    settings = job.config.deeplab
    if settings.weights == "classifier":
        weights = str(explained(job) / "network.safetensors")
    else:
        weights = job.context.file("deeplab.weights", settings.weights)
    return {
        "encoder": settings.encoder,
        "image_size": settings.image_size,
        "args": dict(settings.encoder_args),
        "blocks": None if settings.blocks is None else list(settings.blocks),
        "weights": weights,
    }


def teaches(job: Job, record: Record) -> bool:
    """Whether a network learns from a corrected mask of this photo."""
    if record.correction is None:
        return False
    return not record.in_sample or job.config.data.learn_from_sample


def multi_hot(records: Sequence[Record], classes: int) -> np.ndarray:
    """Image-level labels as (N, C) bool; column c is class id c + 1."""
    labels = np.zeros((len(records), classes), bool)
    for row, record in enumerate(records):
        labels[row, [c - 1 for c in record.labels or ()]] = True
    return labels


def shared_batches(records: Sequence[Record], size: int) -> list[Record]:
    """The records for this process. Its batches are some of those that a single process has."""
    return [r for batch in distributed.share([*batches(records, size)]) for r in batch]


def square_batches(
    records: Sequence[Record], side: int, batch_size: int, statistics: Statistics, context: Context
) -> Iterator[tuple[list[Record], torch.Tensor]]:
    """Batches of photos, stretched to squares and normalised: (B, 3, side, side) on the device.

    Threads read the photos of the next batch meanwhile.
    """

    def square(record: Record) -> torch.Tensor:
        return to_square(read_photo(record), side)

    read = read_ahead(square, records, batch_size, context.readers)
    for batch in batches(read, batch_size):
        some, images = zip(*batch)
        on = on_device(torch.stack(images), context.device)
        yield [*some], normalise_images(on, statistics)


def scaled_side(network: nn.Module, image_size: int, scale: float) -> int:
    """The side in pixels nearest to ``scale * image_size`` that is a whole number of patches."""
    patch = network.patch_embed.feat_ratio()
    return max(1, round(image_size * scale / patch)) * patch


def class_scores(network: nn.Module, images: Iterator[torch.Tensor]) -> np.ndarray:
    """Class probabilities (N, C) float32 of batches of normalised images."""
    with torch.inference_mode():
        scores = [torch.sigmoid(network(batch).float()).cpu().numpy() for batch in images]
    return np.concatenate(scores)


def per_class(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    """Class name -> value; None for a class that could not be measured (nan)."""
    return {name: None if np.isnan(v) else float(v) for name, v in zip(names, values)}
