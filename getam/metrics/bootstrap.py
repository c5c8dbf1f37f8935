"""How far the mIoU of a random sample of photos can be from the mIoU of all photos.

The photos are the units, not the pixels: the pixels of one photo are right or wrong together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from getam.metrics.segmentation import ConfusionMatrix, mean_over_known, ratio

__all__ = ["Interval", "class_areas", "miou_interval"]

CHUNK = 1 << 22  # numbers that are summed at a time


class Interval(NamedTuple):
    """The mIoU of the sample, and the ends of the interval; shares from 0 to 1."""

    value: float
    low: float
    high: float


def class_areas(confusion: ConfusionMatrix) -> np.ndarray:
    """The pixels (3, num_classes) int64 that the IoU of each class is made of.

    The rows are: pixels that are right, pixels of the target, pixels of the prediction. They can be
    summed over photos. Predictions of 255 do not count, as in :meth:`ConfusionMatrix.iou`.

    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([0, 1, 1]), np.array([0, 1, 0]))
    >>> class_areas(confusion).tolist()
    [[1, 1], [2, 1], [1, 2]]
    """
    answered = confusion.matrix[:, :-1]
    return np.stack([np.diagonal(answered), answered.sum(axis=1), answered.sum(axis=0)])


def miou_interval(
    areas: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mIoU of photos that were drawn at random, with a percentile bootstrap interval.

    A resample draws as many photos from the sample as it has, with repetition. Its mIoU comes from
    the summed pixels of these photos, and is a mean over the classes that occur in them. The ends
    of the interval are quantiles of the mIoU of all resamples (B. Efron, Annals of Statistics 7,
    1979).

    Args:
        areas: (N, 3, num_classes), of each photo its :func:`class_areas`.
        level: share of the resamples whose mIoU is inside the interval.

    Raises:
        ValueError: there is no photo, or no pixel.

    >>> whole, half = [[10, 10], [10, 10], [10, 10]], [[5, 5], [10, 10], [10, 10]]
    >>> [round(number, 2) for number in miou_interval(np.array([whole, half] * 20))]
    [0.6, 0.51, 0.7]
    """
    areas = np.asarray(areas, dtype=np.int64)
    if areas.ndim != 3 or areas.shape[1] != 3 or not areas[:, 1:].any():
        raise ValueError(
            f"Got areas of shape {areas.shape}, expected (photos, 3, classes) with at least one "
            f"photo and one pixel."
        )
    count = len(areas)
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=resamples)
    flat = areas.reshape(count, -1).astype(np.float64)  # exact up to 2 ** 53 pixels
    step = max(1, CHUNK // flat.shape[1])
    found = [
        _miou((drawn[start : start + step] @ flat).reshape(-1, *areas.shape[1:]))
        for start in range(0, resamples, step)
    ]
    rest = (1 - level) / 2
    low, high = np.quantile(np.concatenate(found), [rest, 1 - rest])
    return Interval(float(_miou(areas.sum(axis=0))), float(low), float(high))


def _miou(areas: np.ndarray) -> np.ndarray:
    """(..., 3, num_classes) -> (...)."""
    right, target, predicted = np.moveaxis(areas, -2, 0)
    return mean_over_known(ratio(right, target + predicted - right))
